"""Ways to run a study elsewhere than in this process. Knows commands and files, never networks."""
