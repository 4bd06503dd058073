"""Sources of labelled images, their honest split, and the prepared array that all trials share."""
