"""Linear classifiers on every tap and the profile of the data, both from one pass over the images."""
