"""Four models in plain torch, and how they are trained."""
