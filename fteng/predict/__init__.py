"""A study's model put to work on images it has never seen: which files, what it says of them, and the file of answers."""
