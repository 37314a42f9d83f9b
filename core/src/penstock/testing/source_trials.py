"""What tests of a source do more than once: dumps and restores that must fail, and dumps that must be the same."""

import contextlib
import math
import socket
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import pytest

from penstock.api import (
    DamagedObject,
    DumpFailed,
    DumpPlan,
    DumpStream,
    PenstockError,
    RestoreTarget,
    Source,
    StreamSpec,
)
from penstock.testing.dumping import Dumped, blocks_of, dump_all, novel_bytes, read_all, within, write_all
from penstock.testing.kit import must_raise
from penstock.testing.source_lab import SourceLab, Target
from penstock.testing.traces import Traces

__all__ = [
    "CUT",
    "SourceTests",
    "check_uncompressed",
    "compare",
    "main_stream",
    "must_fail",
    "restore_broken",
    "restore_unfinished",
    "silent_server",
]

#: Where dumps break off (bytes): within the largest stream, and beyond what a source reads for a start.
CUT = 50_000

_MAGIC = {
    "gzip": b"\x1f\x8b\x08",
    "zstd": b"\x28\xb5\x2f\xfd",
    "xz": b"\xfd7zXZ\0",
    "bzip2": b"BZh",
    "lz4": b"\x04\x22\x4d\x18",
    "zip": b"PK\x03\x04",
    "snappy": b"\xff\x06\0\0sNaPpY",
}
#: Compressed or encrypted bytes are all equally frequent: 8 bits of entropy each. Dumps have 4 to 7.
_MOST_ENTROPY = 7.8
#: Fewer bytes than that do not tell (a few hundred are never equally frequent).
_TELLING = 10_000


class SourceTests:
    """Base of the parts of the kit. `patience` is how many seconds a call may take that should end at once.

    `writers_wait` is how many seconds a dump waits for a writer that may be waiting for the dump.
    """

    patience: ClassVar[float] = 60
    writers_wait: ClassVar[float] = 5


def must_fail(patience: float, source: Source, kind: type[DumpFailed], why: str) -> None:
    """Dumped to where the program gives up, which must be told within `patience` seconds; and nothing may be left."""
    traces = Traces()
    streams: list[DumpStream] = []

    def dump() -> None:
        with source.dump() as held:
            stream = held.open(main_stream(held.plan))
            streams.append(stream)
            traces.look()
            read_all(stream)

    doing = f"the dump by {why}"
    with must_raise(kind, doing) as raised:
        within(patience, doing, dump, rescue=lambda: [stream.abort() for stream in streams])
    assert raised.error.message, f"{doing} fails without a message"
    traces.check(doing)


def restore_broken(lab: SourceLab, target: Target, share: float) -> object:
    """Restore with a stream that turns out to be damaged after that share of it; that must be told.

    Gives what the target held before.
    """
    streams = _in_phases(lab)
    broken, whole = max(streams, key=lambda one: len(one[1]))
    specs = [spec for spec, _ in streams]
    plan = target.source.plan_restore(specs, RestoreTarget())
    before = target.content()
    with (
        must_raise(PenstockError, f"a restore of {broken.name}, which is damaged after {share:.0%} of it,"),
        target.source.restore(plan) as restoring,
    ):
        for spec, data in streams:
            if spec is broken:
                restoring.write(spec, _damaged(whole[: int(len(whole) * share)]))
                pytest.fail(f"write() of {spec.name} returned, although its blocks ended with an error")
            write_all(restoring, spec, blocks_of(data))
    return before


def restore_unfinished(lab: SourceLab, target: Target) -> object:
    """Restore everything, but leave before the end: gives what the target held before."""
    streams = _in_phases(lab)
    specs = [spec for spec, _ in streams]
    plan = target.source.plan_restore(specs, RestoreTarget())
    before = target.content()
    with target.source.restore(plan) as restoring:
        for spec, data in streams:
            write_all(restoring, spec, blocks_of(data))
    return before


def _in_phases(lab: SourceLab) -> list[tuple[StreamSpec, bytes]]:
    return sorted(dump_all(lab.source).values(), key=lambda one: one[0].phase)


def _damaged(data: bytes) -> Iterator[memoryview]:
    yield from blocks_of(data)
    raise DamagedObject("packs/aa/aa", "the conformance kit lets this restore fail")


def main_stream(plan: DumpPlan) -> StreamSpec:
    """The stream that dumps and restores break off in: the one that is said to be the largest."""
    return max(plan.streams, key=lambda spec: spec.size_estimate or 0)


def compare(lab: SourceLab, first: Dumped, second: Dumped, how: str) -> None:
    """Two dumps of the same content are the same, but for what the lab says differs. `how` says what they are."""
    assert first.keys() == second.keys(), f"{how} have streams of different names: {[*first]} and {[*second]}"
    allowed = lab.differences.at_most if lab.differences else 0
    for name, (_, data) in second.items():
        before = first[name][1]
        novel = 0 if data == before else max(novel_bytes(before, data), novel_bytes(data, before), 1)
        assert novel <= allowed, (
            f"{how}: {name} has {len(before)} bytes in one and {len(data)} in the other, and {novel} bytes differ, "
            f"more than {lab.differences or 'none at all'}"
        )


def check_uncompressed(name: str, data: bytes) -> None:
    """A stream is neither compressed nor encrypted: changes of it would be everywhere, and nothing deduplicate."""
    advice = "switch the dump program's own compression off: the repository compresses what it stores"
    for kind, magic in _MAGIC.items():
        assert not data.startswith(magic), f"{name} is compressed, it begins as {kind} does: {advice}"
    if len(data) >= _TELLING:
        entropy = -sum(count / len(data) * math.log2(count / len(data)) for count in Counter(data).values())
        assert entropy < _MOST_ENTROPY, (
            f"{name} is compressed or encrypted, its bytes have {entropy:.2f} of 8 bits of entropy: {advice}"
        )


@contextlib.contextmanager
def silent_server() -> Iterator[tuple[str, int]]:
    """The address of a server that takes connections and never answers."""
    # The system itself takes the connections, and resets them when the listener is closed: whoever still waits ends.
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[:2]
