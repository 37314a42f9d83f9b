import os
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.api import DumpFailed, DumpStream, RestoreFailed, RestoreTarget, StreamSpec, UsageError
from penstock.plugins import PluginHost
from penstock.testing import SyntheticSettings, SyntheticSource
from penstock.testing.dumping import restore_one
from penstock.testing.memory_source import content

_BLOCK = 4096


def _specs(**chosen: object) -> tuple[StreamSpec, ...]:
    source = SyntheticSource(SyntheticSettings.model_validate({"size": 100 * _BLOCK, "block": _BLOCK, **chosen}))
    with source.dump() as held:
        return held.plan.streams


def _blocks(data: bytes) -> list[bytes]:
    return [data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)]


def _read(stream: DumpStream, size: int) -> bytes:
    data, buffer = bytearray(), bytearray(size)
    while count := stream.readinto(memoryview(buffer)):
        data += buffer[:count]
    return bytes(data)


def _cut(data: bytes, size: int) -> Iterator[memoryview]:
    buffer = bytearray(size)
    for at in range(0, len(data), size):
        part = data[at : at + size]
        buffer[: len(part)] = part  # each block is valid until the next only
        yield memoryview(buffer)[: len(part)]


@pytest.mark.slow
@settings(max_examples=examples(50), deadline=None)
@given(st.integers(0, 50_000), st.integers(1, 20_000), st.sampled_from([16, 1000, 4096, 65536]))
def test_a_stream_is_the_same_however_it_is_read_and_restored(size: int, step: int, block: int) -> None:
    source = SyntheticSource(SyntheticSettings(size=size, block=block, generation=2, changed=0.2))
    with source.dump() as held:
        (spec,) = held.plan.streams
        stream = held.open(spec)
        data = _read(stream, step)
        stream.close()
    assert len(data) == size
    assert data == content(spec)
    restore_one(SyntheticSource(), spec, _cut(data, step), RestoreTarget())


def test_the_bytes_are_the_same_on_every_machine() -> None:
    (spec,) = _specs(size=10_000, seed=7, generation=3, changed=0.5)
    assert zlib.crc32(content(spec)) == 0x9CC359A6


def test_no_block_occurs_twice() -> None:
    contents = [content(spec) for seed in (0, 1) for spec in _specs(streams=2, seed=seed, generation=0)]
    blocks = [block for data in contents for block in _blocks(data)]
    assert len(set(blocks)) == len(blocks) == 400


def test_exactly_the_share_of_blocks_changes_each_night() -> None:
    nights = [_blocks(content(_specs(generation=night, changed=0.05)[0])) for night in range(4)]
    for before, after in pairwise(nights):
        assert sum(old != new for old, new in zip(before, after, strict=True)) == 5
    assert content(_specs(generation=9, changed=0)[0]) == b"".join(nights[0])


def test_the_compressible_part_compresses() -> None:
    sizes = {share: len(zlib.compress(content(_specs(compressible=share)[0]), 1)) for share in (0.0, 0.5, 1.0)}
    assert sizes[0.0] > 100 * _BLOCK * 0.99
    assert 0.7 < sizes[0.5] / sizes[0.0] < 0.9
    assert 0.45 < sizes[1.0] / sizes[0.0] < 0.65


@pytest.mark.parametrize("damage", ["bit", "short", "long", "other stream"])
def test_a_restore_notices_every_difference(damage: str) -> None:
    first, second = _specs(streams=2)
    data = bytearray(content(first))
    if damage == "bit":
        data[123_456] ^= 1
    elif damage == "short":
        del data[-1:]
    elif damage == "long":
        data += b"x"
    else:
        data = bytearray(content(second))
    source = SyntheticSource()
    with pytest.raises(RestoreFailed) as caught:
        restore_one(source, first, _cut(bytes(data), 10_000), RestoreTarget())
    if damage == "bit":
        assert "from byte 123456 on" in caught.value.message
    assert source.taken == {}


def test_a_restore_can_collect_instead() -> None:
    (spec,) = _specs()
    source = SyntheticSource(SyntheticSettings(collect=True))
    data = os.urandom(1000)
    restore_one(source, spec, _cut(data, 99), RestoreTarget())
    assert source.restored == {spec.name: data}
    assert source.taken == {spec.name: 1000}


def test_a_stream_that_breaks_off_says_so_at_its_end() -> None:
    source = SyntheticSource(SyntheticSettings(size=10_000, fail_after=3000))
    with source.dump() as held:
        stream = held.open(held.plan.streams[0])
        assert len(_read(stream, 1024)) == 3000
        with pytest.raises(DumpFailed, match="broke off after 3000 bytes"):
            stream.close()
        stream.close()


def test_a_stream_closed_before_its_end_has_failed_and_an_aborted_one_has_not() -> None:
    source = SyntheticSource()
    with source.dump() as held:
        stream = held.open(held.plan.streams[0])
        stream.readinto(memoryview(bytearray(10)))
        with pytest.raises(DumpFailed, match="closed before its end"):
            stream.close()
        aborted = held.open(held.plan.streams[0])
        aborted.abort()
        aborted.close()


def test_inspect_tells_what_the_dump_will_hold() -> None:
    found = SyntheticSource(SyntheticSettings(size=10, streams=3)).inspect()
    assert found.size_estimate == 30
    assert [item.name for item in found.inventory] == [f"synthetic/{number}.bin" for number in range(3)]


def test_the_host_takes_it_as_an_extra_class() -> None:
    host = PluginHost(installed=(), extra=(SyntheticSource,))
    source = host.make_source_from_url("synthetic:?size=10&streams=2")
    assert source.inspect().size_estimate == 20
    assert [info.name for info in host.plugins()] == ["synthetic"]


def test_what_is_not_its_own_is_refused() -> None:
    source = SyntheticSource()
    with pytest.raises(UsageError, match="is not a stream of the synthetic source"):
        source.plan_restore([StreamSpec("main.dump", "sql")], RestoreTarget())
    with pytest.raises(UsageError, match="unknown option owners"):
        source.plan_restore([], RestoreTarget(options={"owners": "no"}))
    with pytest.raises(UsageError):
        SyntheticSource.settings_from_url("synthetic://host/")
    source.plan_restore(_specs(), RestoreTarget())
