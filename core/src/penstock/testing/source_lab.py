"""What the author of a source writes for the kit: a database, places to restore to, and ways to look at both."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.api import Source, StreamSpec
from penstock.testing.kit import NotApplicable

__all__ = ["BadObject", "ChildProgram", "Differences", "SourceLab", "Target"]


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
    program does. `unmarked`, where it is given, says why a complete output cannot be told from one that breaks off.
    """

    path: Path
    probes: tuple[str, ...] = ("--version",)
    unmarked: NotApplicable | None = None


@dataclass(frozen=True, slots=True)
class Differences:
    """How much two dumps of unchanged data may differ: bytes of either that are in no 64-byte block of the other.

    `reason` names what it is. A few blocks of a time stamp are fine; what grows with the data would not deduplicate.
    """

    at_most: int
    reason: str


@dataclass(frozen=True, slots=True)
class BadObject:
    """A dump with one object that no target takes, such as an index or an account, beside what every target takes.

    `dump` has the bytes of its streams by their names, as `dump_all` gives them; what a server cannot be brought to
    hold, the lab writes into these bytes. `name` is a part of the name, and of the error, that tell which object it is.
    `rest` is what `Target.content` gives when everything else was restored. `foreseen`: a target that is asked before
    the restore can tell it, so the plan names it. `secrets` are texts in the object that nobody may be shown, such as
    the hash of a password; best ones that the server's refusal repeats.
    """

    dump: Mapping[str, tuple[StreamSpec, bytes]]
    name: str
    rest: object
    foreseen: bool = False
    secrets: tuple[str, ...] = ()


class SourceLab(ABC):
    """One seeded database, and the source under test on it.

    The seed has what the engine is known to get wrong. Its largest stream (as `StreamSpec.size_estimate` says, or the
    first) has at least 100 KB, because dumps break off after 50,000 bytes of it; more only takes time. Most of the seed
    can be compressed. What the lab opens itself, it closes again before a method returns.
    """

    #: How much two dumps of the same content may differ in each stream; None: not at all.
    differences: Differences | None = None
    #: The program that restores, where its settings are secrets; `restoring_with` gives a target that uses another.
    restore_program: ChildProgram | NotApplicable = NotApplicable("the lab names no program that restores")
    #: None: a restore that fails leaves the target as it was; otherwise why it cannot.
    undoes: NotApplicable | None = None
    #: None: a restore whose `finish` was not called leaves the target as it was; otherwise why it cannot.
    unfinished: NotApplicable | None = None

    @property
    @abstractmethod
    def source(self) -> Source:
        """The source under test, on the seeded database: the same instance each time."""

    @property
    @abstractmethod
    def secrets(self) -> tuple[str, ...] | NotApplicable:
        """The texts of the secrets that `source` uses, none of which may show anywhere."""

    @property
    @abstractmethod
    def program(self) -> ChildProgram | NotApplicable:
        """The program that dumps; not applicable to a source that dumps without a child process."""

    @abstractmethod
    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> Source:
        """The source under test again, on the same database, with another program or another stall timeout (seconds).

        `program` has the name of the real one and is in a folder of its own. Called only where `program` applies.
        """

    def restoring_with(self, program: Path) -> Target:
        """What `target` gives, with another program to restore with. Called only where `restore_program` applies.

        `program` has the name of the real one and is in a folder of its own.
        """
        raise NotImplementedError("a lab with a restore_program has a method restoring_with(program)")

    @abstractmethod
    def unreachable(self) -> Source:
        """The source under test with the settings, and secrets, of a server that is not there."""

    def silent(self, host: str, port: int) -> Source | NotApplicable:
        """The source under test with a server that takes connections and never answers; with short deadlines.

        Not applicable to a database without a server.
        """
        raise NotImplementedError(
            "the lab has a method silent(host, port), which gives the source with its server there, "
            "or NotApplicable where a database has no server"
        )

    @abstractmethod
    def content(self) -> object:
        """All that the database holds, as values that compare: found without the source."""

    @abstractmethod
    def change(self) -> None:
        """Change a little of the content, such as a row, as a writer would.

        May be called during a dump, in another thread. Where the engine locks writers out, it waits or raises.
        """

    @property
    def change_command(self) -> tuple[str, ...] | NotApplicable:
        """A command that changes the content as `change` does, from a process of its own.

        Not applicable where `change` has another process do it anyway, as the client of a server does. An engine that
        runs inside this process shares its locks with everything else in here, which shows nothing about others.
        """
        raise NotImplementedError(
            "the lab of a CONSISTENT source has a property change_command: what changes the data from another process, "
            "or NotApplicable where the change is made by a server"
        )

    def rows(self) -> Mapping[str, int] | NotApplicable:
        """How many rows the database has, found without the source: by the names that the inventory uses."""
        return NotApplicable("the lab counts no rows")

    def bad_objects(self) -> Sequence[BadObject] | NotApplicable:
        """Dumps that each have an object which no target takes.

        Not applicable where a database comes back as a whole or not at all, as an image of a file does.
        """
        return NotApplicable("the lab makes no object that a target refuses (SourceLab.bad_objects)")

    @abstractmethod
    def target(self) -> Target:
        """A new, empty place to restore to. One is in use at a time."""
