"""A report that remembers what a plugin says."""


class Said:
    """What `Plugin.report` is set to."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.retries: list[str] = []

    def note(self, message: str) -> None:
        """Remember it."""
        self.notes.append(message)

    def warn(self, message: str) -> None:
        """Remember it."""
        self.warnings.append(message)

    def retry(self, message: str) -> None:
        """Remember it."""
        self.retries.append(message)
