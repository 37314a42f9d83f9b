"""Tables that change from night to night, and how little a night of them stores."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from core.tests.repository.forging import end_of, keys
from core.tests.repository.lab import BytesSource, Lab

from penstock.api import Dump


class Nightly(BytesSource):
    """Streams whose records end with this separator."""

    def __init__(self, streams: Mapping[str, bytes], separator: bytes = b"\n") -> None:
        super().__init__(streams)
        self._separator = separator

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        with super().dump() as whole:
            specs = tuple(replace(spec, record_separator=self._separator) for spec in whole.plan.streams)
            yield Dump(replace(whole.plan, streams=specs), self.attach)


def rows(count: int, seed: int = 0) -> list[bytes]:
    """Rows that do not compress well."""
    chance = random.Random(seed)
    return [b"%d\t%s\n" % (number, chance.randbytes(40).hex().encode()) for number in range(count)]


def changed(before: list[bytes], places: list[int], seed: int) -> list[bytes]:
    chance = random.Random(seed)
    after = list(before)
    for place in places:
        after[place] = b"%d\t%s\n" % (place, chance.randbytes(40).hex().encode())
    return after


def joined(table: list[bytes]) -> Nightly:
    return Nightly({"d": b"".join(table)})


def after(table: list[bytes], night: int) -> list[bytes]:
    """The table so many nights later."""
    for number in range(1, night + 1):
        table = changed(table, [number * 97, number * 331 + 2000], number)
    return table


def segments_of(lab: Lab, pack: str) -> int:
    """Bytes of the sealed segments of a pack: without its ends, and without what fills it up."""
    return sum(place.sealed_length for place in end_of(lab.domain, pack).places.places)


def stored_in_segments(lab: Lab, source: Nightly, **more: Any) -> int:
    """A night, and how many bytes of segments it puts into the sink."""
    before = set(keys(lab, "packs"))
    lab.backup(source, **more)
    assert lab.restored() == source.streams
    return sum(segments_of(lab, pack) for pack in set(keys(lab, "packs")) - before)
