"""What a source says to the host in the middle of its work, remembered for a test to look at."""

from dataclasses import dataclass, field

from penstock.api import LeftOut, RestorePlan

__all__ = ["Heard", "Told"]


@dataclass
class Heard:
    """A `Report` that remembers everything; set as the `report` of a source."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    objects: list[LeftOut] = field(default_factory=list)

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
        """Remember it."""
        self.objects.append(one)

    @property
    def lost(self) -> list[LeftOut]:
        """What was left out and is missed afterwards."""
        return [one for one in self.objects if one.lost]

    @property
    def messages(self) -> dict[str, str]:
        """All that was said, by how it was said."""
        said = {"a note": self.notes, "a warning": self.warnings, "a retry": self.retries}
        return {what: "\n".join(lines) for what, lines in said.items()}


@dataclass
class Told:
    """What one restore has told: its plan, its report, and its error, if it came to that."""

    heard: Heard = field(default_factory=Heard)
    plan: RestorePlan | None = None
    error: BaseException | None = None

    @property
    def foreseen(self) -> tuple[LeftOut, ...]:
        """What the plan leaves out."""
        return self.plan.left_out if self.plan else ()

    @property
    def left_out(self) -> list[LeftOut]:
        """What is left out and missed afterwards: of the plan, and of the report."""
        return [*(one for one in self.foreseen if one.lost), *self.heard.lost]
