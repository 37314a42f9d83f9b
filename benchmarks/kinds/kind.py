"""What nightly dumps are of: a database or a file that changes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from penstock.api import Source

__all__ = ["Changing", "Kind", "write_dump"]

_MIB = 1024 * 1024


class Changing(ABC):
    """A database or a file as it was left by the last change."""

    @abstractmethod
    def change(self, night: int) -> None:
        """Make the changes of a day; the number of the night that follows, from 2 on, chooses them."""

    @abstractmethod
    def dump(self, place: Path) -> bytes:
        """Write all of it to `place`; returns what ends a record there, as a source says."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of data: how it begins, for how many nights it is dumped by default, and the pieces that its dumps have.

    What a night changed are the pieces that the dump before did not have: rows, documents, pages.
    """

    opened: Callable[[], AbstractContextManager[Changing]]
    pieces: Callable[[BinaryIO], Iterator[bytes]]
    nights: int = 4


def write_dump(source: Source, place: Path) -> bytes:
    """Write the one stream that one of Penstock's sources dumps to `place`; returns what ends a record in it."""
    with source.dump() as held, place.open("wb") as file:
        (spec,) = held.plan.streams
        stream = held.open(spec)
        buffer = memoryview(bytearray(_MIB))
        try:
            while count := stream.readinto(buffer):
                file.write(buffer[:count])
        # An interrupt as well: whoever stops here leaves the program that dumps alive otherwise.
        except BaseException:
            stream.abort()
            raise
        stream.close()
    return spec.record_separator
