"""What tests of a source do more than once: dumps and restores that must fail, and two dumps that must be the same."""

from collections.abc import Iterator, Mapping

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
from penstock.testing.dumping import Dumped, blocks_of, dump_all, novel_bytes, read_all, restore_one, within
from penstock.testing.source_lab import SourceLab, Target
from penstock.testing.traces import Traces

__all__ = ["check_spec", "compare", "main_stream", "must_fail", "restore_broken"]


def must_fail(patience: float, source: Source, kind: type[DumpFailed] = DumpFailed) -> None:
    """Dumped to where the program gives up, which must be told within `patience` seconds; and nothing may be left."""
    traces = Traces()
    streams: list[DumpStream] = []

    def dump() -> None:
        with source.dump() as held:
            stream = held.open(main_stream(held.plan))
            streams.append(stream)
            traces.look()
            read_all(stream)

    with pytest.raises(kind) as caught:
        within(patience, dump, rescue=lambda: [stream.abort() for stream in streams])
    assert caught.value.message
    assert traces.left() == []


def restore_broken(lab: SourceLab, target: Target, share: float) -> object:
    """Restore with a stream that turns out to be damaged after that share of it; that must be told.

    Gives what the target held when that stream's turn came.
    """
    streams = sorted(dump_all(lab.source).values(), key=lambda one: one[0].phase)
    broken, whole = max(streams, key=lambda one: len(one[1]))
    target.source.check_target([spec for spec, _ in streams], RestoreTarget())
    for spec, data in streams:
        if spec is broken:
            break
        restore_one(target.source, spec, blocks_of(data))
    before = target.content()
    with pytest.raises(PenstockError):
        restore_one(target.source, broken, _damaged(whole[: int(len(whole) * share)]))
    return before


def _damaged(data: bytes) -> Iterator[memoryview]:
    yield from blocks_of(data)
    raise DamagedObject("packs/aa/aa", "the conformance kit lets this restore fail")


def main_stream(plan: DumpPlan) -> StreamSpec:
    """The stream that dumps and restores break off in: the one that is said to be the largest."""
    return max(plan.streams, key=lambda spec: spec.size_estimate or 0)


def check_spec(spec: StreamSpec) -> None:
    """A stream is described by plain data that a manifest can hold."""
    assert type(spec) is StreamSpec
    assert spec.format.strip(), spec.name
    assert type(spec.phase) is int
    assert spec.phase >= 0, spec.name
    assert spec.size_estimate is None or spec.size_estimate >= 0, spec.name
    assert isinstance(spec.attributes, Mapping)
    for name, value in spec.attributes.items():
        assert type(name) is str, name
        assert type(value) is str, name
        (name + value).encode()  # what is no Unicode cannot be written into a manifest


def compare(lab: SourceLab, first: Dumped, second: Dumped) -> None:
    """Two dumps of the same content are the same, but for what the lab says differs."""
    assert first.keys() == second.keys()
    for name, (_, data) in second.items():
        if lab.differences is None:
            assert data == first[name][1], f"two dumps of {name} differ, and nothing had changed"
        else:
            novel = novel_bytes(first[name][1], data)
            assert novel <= lab.differences.at_most, f"{name}: {novel} bytes differ, more than {lab.differences}"
