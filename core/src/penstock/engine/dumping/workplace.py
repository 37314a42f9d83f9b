"""What a worker is given: where it works, and at what. Plain data, so that it may be another process or machine."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from penstock.api.errors import RepositoryError
from penstock.api.models import LeftOut
from penstock.api.source import Source
from penstock.api.stopping import StopToken
from penstock.repository import Repository

__all__ = ["Opened", "Order", "Told", "Workplace"]


class Told(Protocol):
    """Takes what a worker says in the middle of its work; also the `Report` of its sink. Thread-safe."""

    def note(self, message: str) -> None:
        """Something worth knowing."""

    def warn(self, message: str) -> None:
        """Something that deserves attention but stops nothing."""

    def retry(self, message: str) -> None:
        """Something is being retried."""

    def left_out(self, one: LeftOut) -> None:
        """An object is left out."""

    def progress(self, stream: str, done: int) -> None:
        """`done` bytes of a stream were processed."""

    def damage(self, error: RepositoryError) -> None:
        """An object was found damaged in the search for duplicates, and is not used."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A repository and a source that a worker has opened for itself.

    `spent` gives what was used of the store since it was asked last: plain data, for the `note_spent` of `Jobs`.
    """

    repository: Repository
    source: Source
    spent: Callable[[], object] = lambda: None


class Workplace(Protocol):
    """How a worker comes to a repository and a source of its own: picklable, secrets are references."""

    def open(self, stop: StopToken) -> AbstractContextManager[Opened]:
        """Open both, in whichever process; `stop` stops them."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker needs to write streams of one session. Plain data; the data key in `handed_over` is sealed.

    `memory` is the worker's share in bytes, the others are those of `backup`.
    """

    backup: str
    handed_over: bytes
    cache_folder: Path
    cache_size: int | None
    pack_size: int | None
    memory: int
    level: int | None
    #: How many workers there are.
    workers: int
