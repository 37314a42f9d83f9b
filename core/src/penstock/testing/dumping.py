"""Reads dumps and feeds restores as the engine does, and as an unkind engine might."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest

from penstock.api import (
    Dump,
    DumpStream,
    PluginSettings,
    Restore,
    RestorePlan,
    RestoreTarget,
    Source,
    SourceError,
    StreamSpec,
)

__all__ = [
    "Dumped",
    "blocks_of",
    "dump_all",
    "novel_bytes",
    "open_and_read",
    "read_all",
    "read_quietly",
    "restore_all",
    "restore_one",
    "within",
    "write_all",
    "write_streams",
]

T = TypeVar("T")
#: The streams of one dump and their bytes, by name.
Dumped = dict[str, tuple[StreamSpec, bytes]]

_BLOCK = 64


def read_all(stream: DumpStream, sizes: Sequence[int] = (1 << 20,)) -> bytes:
    """Everything that a stream gives, closed; reads ask for `sizes` bytes, over and over. Buffers are watched."""
    data = bytearray()
    room = bytearray(max(sizes) + 1)
    asked = itertools.cycle(sizes)
    try:
        while True:
            size = next(asked)
            room[size] = 0xA5
            with memoryview(room) as whole, whole[:size] as buffer:
                count = stream.readinto(buffer)
            assert 0 <= count <= size, f"readinto gave {count} for a buffer of {size} bytes"
            assert room[size] == 0xA5, "readinto wrote past its buffer"
            if count == 0:
                break
            data += room[:count]
        try:
            room.append(0)
        except BufferError:
            pytest.fail("readinto keeps the buffer that it was given, which belongs to the caller when it returns")
    except BaseException:
        stream.abort()
        raise
    stream.close()
    return bytes(data)


def read_quietly(stream: DumpStream) -> None:
    """Read until the end, or until an error."""
    buffer = memoryview(bytearray(65_536))
    try:
        while stream.readinto(buffer):
            pass
    except SourceError:
        return


def open_and_read(plugin: type[Source], settings: PluginSettings, spec: StreamSpec) -> bytes:
    """One stream of a plan, as another process reads it: all that it has crosses the border as plain data."""
    return read_all(plugin(settings).attach(spec))


def dump_all(source: Source) -> Dumped:
    """All streams of one dump."""
    with source.dump() as dump:
        return {spec.name: _dump_one(dump, spec) for spec in dump.plan.streams}


def _dump_one(dump: Dump, spec: StreamSpec) -> tuple[StreamSpec, bytes]:
    stream = dump.open(spec)
    data = read_all(stream)
    return replace(spec, attributes={**spec.attributes, **stream.outcome().attributes}), data


def blocks_of(data: bytes, look: Callable[[], object] = lambda: None) -> Iterator[memoryview]:
    """The data in blocks of 0, 1, 2, 4, … 65536 bytes and so on, each overwritten when the next is asked for."""
    size = start = 0
    while start < len(data) or size == 0:
        block = bytearray(data[start : start + size])
        start += size
        size = min(size * 2 or 1, 65_536)
        yield memoryview(block)
        look()
        block[:] = b"\xff" * len(block)


def restore_all(
    source: Source, dump: Dumped, target: RestoreTarget | None = None, look: Callable[[], object] = lambda: None
) -> None:
    """Check the target, and restore the streams in the order of their phases; `look` is called between the blocks."""
    chosen = target or RestoreTarget()
    streams = sorted(dump.values(), key=lambda one: one[0].phase)
    plan = source.plan_restore([spec for spec, _ in streams], chosen)
    with source.restore(plan) as restoring:
        write_streams(restoring, streams, look)
        restoring.finish()


def restore_one(
    source: Source, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget | None = None
) -> None:
    """A restore of a single stream, from begin to finish; the target is not checked before."""
    with source.restore(RestorePlan((spec,), target or RestoreTarget())) as restoring:
        write_all(restoring, spec, blocks)
        restoring.finish()


def write_streams(
    restoring: Restore, streams: Iterable[tuple[StreamSpec, bytes]], look: Callable[[], object] = lambda: None
) -> None:
    """Write streams one after another, all blocks of each; `look` is called between the blocks."""
    for spec, data in streams:
        write_all(restoring, spec, blocks_of(data, look))


def write_all(restoring: Restore, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
    """Write one stream, all of which must be taken: the engine knows only at its end that it is whole."""
    left = iter(blocks)
    restoring.write(spec, left)
    if next(left, None) is not None:
        pytest.fail(
            f"write() returned before it had taken all blocks of {spec.name}: whether a stream is whole is known at "
            "the end of the iteration, not at the engine's end marker"
        )


def novel_bytes(first: bytes, second: bytes) -> int:
    """How many bytes of `second` are in none of the 64-byte blocks that `first` is cut into.

    So as a deduplicating repository sees it: what is only moved is not new.
    """
    blocks = {first[at : at + _BLOCK] for at in range(0, len(first), _BLOCK)}
    count = at = 0
    while at < len(second):
        if second[at : at + _BLOCK] in blocks:
            at += _BLOCK
        else:
            count += 1
            at += 1
    return count


def within(seconds: float, doing: str, call: Callable[[], T], rescue: Callable[[], object] = lambda: None) -> T:
    """What `call` gives or raises, in a thread of its own; a failed test when that takes too long.

    `doing` names the call, for the message; `rescue` is called then, to end the thread.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        with contextlib.suppress(Exception):
            rescue()
        pytest.fail(f"{doing} took more than {seconds:g} seconds: every wait has a deadline")
    if errors:
        raise errors[0]
    return results[0]
