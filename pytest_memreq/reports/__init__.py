"""Tell people: one module a form, each a function from results to text."""
