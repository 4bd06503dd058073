"""A study in parts: which trials go together, who runs them, and how that survives every kind of failure."""
