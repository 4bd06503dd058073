"""The one exception for what a user can mend."""


class UserError(Exception):
    """Bad input: its text is one line that says what, got, allowed and what to do next.

    `fteng.main` prints it without a traceback and exits with status 2; everything else that escapes is a defect of fteng.
    """
