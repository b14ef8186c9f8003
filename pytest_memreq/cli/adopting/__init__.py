"""From hand-rolled assertions on torch's counters to markers: syntax trees in, proposals out."""
