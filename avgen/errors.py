"""The one exception that says whose mistake it is."""


class UserError(ValueError):
    """A mistake in what a user gave: a file, a value, an option.

    The message is one line that names the file, the value and the rule. The command line prints
    it and exits with code 2; any other exception is a fault of avgen's and keeps its traceback.

    Args:
        message: The line.
        field: Of `GenerateRequest`, where one of them is wrong.
    """

    def __init__(self, message: object = "", field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
