"""What input, disk or memory can cause. The message names the file or field, and the limit."""


class UserError(Exception):
    """Ends a command with exit code 64 (usage, recipe) and its message on standard error."""


class DataError(UserError):
    """A file that is damaged or not what it should be: exit code 65."""
