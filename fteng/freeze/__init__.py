"""Which parameters train: the freeze plan, and how it splits a parameter tree."""
