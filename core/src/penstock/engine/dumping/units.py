"""Units: the streams of a dump, in the portions that workers are given."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from penstock.api.models import LeftOut, StreamSpec
from penstock.api.source import DumpStream
from penstock.engine.dumping.streams import FinishedStream, store_stream
from penstock.repository.write.stream import StreamWriter, Written

__all__ = ["FinishedUnit", "Unit", "units_of", "write_unit"]

MIB = 1024 * 1024

#: A unit costs a pack and an index object, which for less than this (bytes) would be much.
_LEAST = 16 * MIB
#: A process takes a second to start, in which one alone stores as much (bytes).
_WORTH = 64 * MIB
#: Units for each worker, as far as there is enough: the last ones to end should not leave the others idle for long.
_A_WORKER = 8


@dataclass(frozen=True, slots=True)
class Unit:
    """Streams that one worker writes, one after another, each with its number in the plan. Plain data."""

    streams: tuple[tuple[int, StreamSpec], ...]

    @property
    def first(self) -> int:
        """The number of its first stream, which no other unit of the plan has."""
        return self.streams[0][0]

    def __str__(self) -> str:
        """For people: the first stream, and how many others."""
        more = len(self.streams) - 1
        return self.streams[0][1].name + (f" and {more} more streams" if more else "")


@dataclass(frozen=True, slots=True)
class FinishedUnit:
    """A unit that is stored: plain data for the commit.

    `left_out` is what the source said of objects meanwhile, if it said it to the worker alone; `spent` is what the
    worker used of the store, for whoever counts that.
    """

    streams: tuple[FinishedStream, ...]
    written: Written
    left_out: tuple[LeftOut, ...] = ()
    spent: object = None

    def each_left_out(self) -> Iterator[LeftOut]:
        """All that is missing in its streams, and was not told yet."""
        yield from self.left_out
        for one in self.streams:
            yield from one.left_out


def units_of(streams: Sequence[StreamSpec], workers: int) -> tuple[Unit, ...]:
    """All streams of a plan: large ones alone, small ones together with their neighbours; the largest first.

    The size of a stream is what the source estimates. Those of which it says nothing are shared out by their number. A
    dump that is known to be small is one unit.
    """
    total = sum(spec.size_estimate or 0 for spec in streams)
    unknown = sum(spec.size_estimate is None for spec in streams)
    if workers == 1 or (not unknown and total < _WORTH):
        return (Unit(tuple(enumerate(streams))),)
    enough = max(_LEAST, total // (workers * _A_WORKER))

    def share(spec: StreamSpec) -> float:
        """Of a unit."""
        if spec.size_estimate is None:
            return min(1.0, workers * _A_WORKER / unknown)
        return spec.size_estimate / enough

    grouped = sorted(_grouped(streams, share), key=lambda one: -one[0])
    return tuple(unit for _, unit in grouped)


def _grouped(streams: Sequence[StreamSpec], share: Callable[[StreamSpec], float]) -> Iterator[tuple[float, Unit]]:
    """Units, and how large each is; streams of a whole unit and more stay alone."""
    some: list[tuple[int, StreamSpec]] = []
    size = 0.0
    for number, spec in enumerate(streams):
        own = share(spec)
        if own >= 1:
            yield own, Unit(((number, spec),))
            continue
        some.append((number, spec))
        size += own
        if size >= 1:
            yield size, Unit(tuple(some))
            some, size = [], 0.0
    if some:
        yield size, Unit(tuple(some))


def write_unit(
    unit: Unit,
    begin: Callable[[StreamSpec], DumpStream],
    writer: StreamWriter,
    on_progress: Callable[[str, int], None],
) -> FinishedUnit:
    """Store all streams of a unit with a writer of its own; returns when all of them are durable."""
    with writer:
        streams = tuple(store_stream(begin, number, spec, writer, on_progress) for number, spec in unit.streams)
        return FinishedUnit(streams, writer.finish())
