"""What the author of a source writes for the kit: a database, places to restore to, and ways to look at both."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from penstock.api import Source
from penstock.testing.kit import NotApplicable

__all__ = ["ChildProgram", "Differences", "SourceLab", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """An empty place to restore to: a source whose settings name it, and what looks at it.

    `content` gives what `SourceLab.content` gives, of this place; also where the place does not exist.
    """

    source: Source
    content: Callable[[], object]


@dataclass(frozen=True, slots=True)
class ChildProgram:
    """The program that a source dumps with.

    `probes` are arguments that make a call of it a mere question, such as `--version`: stand-ins answer those as the
    program does. `unmarked`, where it is given, says why the end of its output cannot be told from a beginning.
    """

    path: Path
    probes: tuple[str, ...] = ("--version",)
    unmarked: NotApplicable | None = None


@dataclass(frozen=True, slots=True)
class Differences:
    """How much two dumps of unchanged data may differ: bytes of the second that are in no 64-byte block of the first.

    `reason` names what it is. A few blocks of a time stamp are fine; what grows with the data would not deduplicate.
    """

    at_most: int
    reason: str


class SourceLab(ABC):
    """One seeded database, and the source under test on it.

    The seed has what the engine is known to get wrong. Its largest stream (as `StreamSpec.size_estimate` says, or the
    first) has some 100 KB at least, since dumps break off after 50,000 bytes of it; more only takes time. What the lab
    opens itself, it closes again before a method returns.
    """

    #: How much two dumps of the same content may differ in each stream; None: not at all.
    differences: Differences | None = None
    #: None: the restore of a stream that fails leaves the target as it was before; else why it cannot.
    undoes: NotApplicable | None = None

    @property
    @abstractmethod
    def source(self) -> Source:
        """The source under test, on the seeded database: the same instance each time."""

    @property
    @abstractmethod
    def secrets(self) -> tuple[str, ...] | NotApplicable:
        """The texts of the secrets that `source` uses, and that must show nowhere."""

    @property
    @abstractmethod
    def program(self) -> ChildProgram | NotApplicable:
        """The program that dumps; not applicable to a source that dumps without a child process."""

    @abstractmethod
    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> Source:
        """The source under test again, on the same database, with another program or another stall timeout (seconds).

        `program` has the name of the real one and is in a folder of its own. Called only where `program` applies.
        """

    @abstractmethod
    def unreachable(self) -> Source:
        """The source under test with the settings, and secrets, of a server that is not there."""

    @abstractmethod
    def content(self) -> object:
        """All that the database holds, as values that compare: found without the source."""

    @abstractmethod
    def change(self) -> None:
        """Change the content, as a writer would; may be called during a dump."""

    @abstractmethod
    def target(self) -> Target:
        """A new, empty place to restore to. One is in use at a time."""
