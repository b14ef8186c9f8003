"""Room on cards for tests that run at once: who holds how much, and who is next. Pure."""
