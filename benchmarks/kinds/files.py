"""Files without the structure of a database: measurements in a CSV, and random bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO

from benchmarks.kinds.kind import Changing
from benchmarks.kinds.words import Chance

__all__ = ["blocks", "lines", "measurements", "noise"]

_LINES = 1_700_000
_CHANGED_LINES = 1_500
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_BLOCK = 1_000
_BLOCKS = 150_000
#: Places that change in a day, and how many blocks of each.
_PLACES = 50
_CHANGED_BLOCKS = _BLOCKS // 100 // _PLACES


@contextmanager
def measurements() -> Iterator[Changing]:
    """Lines with a time, three numbers of a normal distribution, and a random key; every day 1,500 change."""
    yield _Measurements()


@contextmanager
def noise() -> Iterator[Changing]:
    """Random bytes, of which every day 1 % change, in 50 places."""
    yield _Noise()


def lines(dump: BinaryIO) -> Iterator[bytes]:
    """The lines of a file."""
    return iter(dump)


def blocks(dump: BinaryIO) -> Iterator[bytes]:
    """The blocks of random bytes."""
    return iter(partial(dump.read, _BLOCK), b"")


class _Measurements(Changing):
    def __init__(self) -> None:
        chance = Chance(1)
        self._lines = [_line(chance, number) for number in range(_LINES)]

    def change(self, night: int) -> None:
        chance = Chance(night)
        for number in chance.sample(range(_LINES), _CHANGED_LINES):
            self._lines[number] = _line(chance, number)

    def dump(self, place: Path) -> bytes:
        with place.open("wb") as file:
            file.writelines(self._lines)
        return b"\n"


def _line(chance: Chance, number: int) -> bytes:
    moment = _BEGINNING + timedelta(milliseconds=250 * number + chance.randrange(250))
    numbers = ",".join(f"{chance.gauss(0, 100):.5f}" for _ in range(3))
    return f"{moment.isoformat()},{numbers},{chance.hexadecimal(24)}\n".encode()


class _Noise(Changing):
    def __init__(self) -> None:
        chance = Chance(1)
        self._bytes = bytearray().join(chance.randbytes(_BLOCK) for _ in range(_BLOCKS))

    def change(self, night: int) -> None:
        chance = Chance(night)
        for number in chance.sample(range(0, _BLOCKS, _CHANGED_BLOCKS), _PLACES):
            size = _CHANGED_BLOCKS * _BLOCK
            self._bytes[number * _BLOCK : number * _BLOCK + size] = chance.randbytes(size)

    def dump(self, place: Path) -> bytes:
        place.write_bytes(self._bytes)
        return b""
