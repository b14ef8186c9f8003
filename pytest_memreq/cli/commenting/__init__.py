"""The last step of the gate on GitHub: a report's data in, one comment on its pull request out.

It runs where a token may write, so nothing from the run it speaks of is trusted: neither its text
nor a number of a pull request in it.
"""
