"""Memory over time as (event, bytes) points, with fewer of them and every extreme kept."""

from __future__ import annotations

from collections.abc import Sequence

Timeline = tuple[tuple[int, int], ...]
MOST_POINTS = 2000
REPORTED_POINTS = 120  # a report has ten thousand tests, and a plot of one some hundred pixels


def extremes(sizes: Sequence[int], most: int) -> tuple[int, ...]:
    """The positions of at most `most` sizes, which is at least 4: of each stretch both extremes.

    The first of the largest is always among them, and so are the ends.
    """
    if len(sizes) <= most:
        return tuple(range(len(sizes)))
    width = -(-len(sizes) // ((most - 2) // 2))
    kept: set[int] = {0, len(sizes) - 1}
    for start in range(0, len(sizes), width):
        stretch = range(start, min(start + width, len(sizes)))
        kept |= {max(stretch, key=sizes.__getitem__), min(stretch, key=sizes.__getitem__)}
    return tuple(sorted(kept))


def thin_out(points: Sequence[tuple[int, int]], most: int = MOST_POINTS) -> Timeline:
    """At most `most` of the points, with the peak and the ends."""
    return tuple(points[at] for at in extremes([size for _, size in points], most))
