"""A sweep in which what cannot win any more is stopped, on validation alone."""
