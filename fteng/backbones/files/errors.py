"""What a reader says of a file it cannot read; `read` puts the path before it and makes it a UserError."""


class DamagedFileError(Exception):
    """Not a whole file of its format; the text says what is wrong, and to fetch it again is the advice."""


class RefusedFileError(Exception):
    """A file that is not read, whole or not; the text says why, and what to do."""
