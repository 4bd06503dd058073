"""The trials of a study: what they share is computed once, and those that enter the network at one place advance together."""
