"""Does it fit? Budgets, and the verdict on a peak."""
