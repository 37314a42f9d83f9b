"""A report that remembers what a plugin says."""

from penstock.api import LeftOut


class Said:
    """What `Plugin.report` is set to."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.retries: list[str] = []
        self.lost: list[LeftOut] = []

    def note(self, message: str) -> None:
        """Remember it."""
        self.notes.append(message)

    def warn(self, message: str) -> None:
        """Remember it."""
        self.warnings.append(message)

    def retry(self, message: str) -> None:
        """Remember it."""
        self.retries.append(message)

    def left_out(self, one: LeftOut) -> None:
        """Remember it, if something is missing then."""
        if one.lost:
            self.lost.append(one)
