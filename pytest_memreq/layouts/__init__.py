"""Ways to lay a transformer out over a number of cards: which fit, and with how much left over.

First all of them by the formulas of `estimate`, then the best by `simulate`.
"""
