"""Objects that are larger than any of their kind, or that grow when they are opened: no memory and no time is lost.

A stranger needs nothing but the bucket for the first; for the others, an attacker needs a writer's key.
"""

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from core.tests.repository.forging import (
    Hostile,
    SparseSink,
    keys,
    put_notice,
)
from core.tests.repository.lab import KIB, MIB, PASSPHRASE, BytesSource, Lab, noise

from penstock.api import DamagedObject, MissingObject, PenstockError
from penstock.engine import cat
from penstock.format.encoding import encode_varints, new_id
from penstock.format.head import Base
from penstock.format.notice import Notice
from penstock.format.part import Kind, encode_refs
from penstock.format.recipe import Extent, encode_block
from penstock.repository import layout
from penstock.repository.read.content import SegmentTable
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke
from penstock.testing import FaultySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

HUGE = 3 * 1024 * MIB
CONTENT = {"d": noise(300 * KIB)}
#: What a run may take here beside its buffers, which are not of Python's memory: an object of the largest kind, opened.
LITTLE = 24 * MIB


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails where much memory is taken, even for a moment, or kept until Python's collector comes."""
    tracemalloc.start()
    gc.disable()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        gc.enable()
        tracemalloc.stop()
    assert peak < LITTLE


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path / "cache", SparseSink())
    lab.backup(CONTENT)
    return lab


def sparse(lab: Lab) -> SparseSink:
    assert isinstance(lab.sink, SparseSink)
    return lab.sink


FOLDERS = [
    "sessions", "packs", "index", "parts", "snapshots", "leases", "notices", "tombstones", "deletions"
]  # fmt: skip


def folder_of(lab: Lab, folder: str) -> str:
    return f"{folder}/" if folder in ("grants", "slots") else f"{lab.at.prefix}{folder}/"


@pytest.mark.parametrize("folder", [*FOLDERS, "grants", "slots"])
def test_a_huge_object_of_a_stranger_stops_nothing_and_takes_nothing(lab: Lab, tmp_path: Path, folder: str) -> None:
    name = "ff" * 16
    key = folder_of(lab, folder) + (f"ff/{name}" if folder == "packs" else name)
    writer, maintainer = add_writer(lab.repository, "host", domain="main"), add_maintainer(lab.repository, "operations")
    sparse(lab).sparse[key] = HUGE
    with little_memory():
        for unlock in (lab.owner, PASSPHRASE, writer, maintainer):
            lab.open(unlock)
        for cache in (lab.cache, tmp_path / "fresh"):
            lab.backup(CONTENT, by=lab.open(writer), cache=cache)
        assert lab.restored() == CONTENT
        assert len(list_snapshots(lab.open(), lambda _: None)) == 3
        for access in (lab.owner, maintainer, writer):
            assert [finding.key for finding in lab.check(by=lab.open(access)).findings] == [key]
        revoke(lab.open(), writer.key)
    # Never more of it at once than an object of its kind may have.
    assert sparse(lab).most.get(key, 0) <= layout.limit_of(key) + 1


@pytest.mark.parametrize("folder", ["sessions", "packs", "index", "parts", "snapshots"])
def test_a_huge_object_in_the_place_of_another_is_damage_like_any_other(lab: Lab, tmp_path: Path, folder: str) -> None:
    first = lab.find("latest").id
    for key in keys(lab, folder):
        sparse(lab).sparse[key] = HUGE
        with little_memory():
            assert key in {finding.key for finding in lab.check().findings}
            target = BytesSource({})
            if folder != "index":
                with pytest.raises((DamagedObject, MissingObject)):
                    lab.restore(first.hex(), into=target)
                assert target.touched == []
            for cache in (lab.cache, tmp_path / "fresh"):
                name = lab.backup(CONTENT, cache=cache).snapshot.hex()
                assert lab.restored(name) == CONTENT
        del sparse(lab).sparse[key]


# what grows when it is opened


@pytest.fixture
def hostile(lab: Lab) -> Hostile:
    return Hostile(lab.repository.domain, add_writer(lab.repository, "mallory", domain="main"))


def assert_harmless(lab: Lab, tmp_path: Path, key: str, *, checked: bool = True) -> None:
    """Nobody else is disturbed by the snapshot, and whoever restores it is told that it is none."""
    with little_memory():
        report = lab.check()
        assert report.finding_count > 0 or not checked
        target = BytesSource({})
        with pytest.raises(PenstockError) as raised:
            lab.restore(key.removeprefix(lab.at.snapshots), into=target)
        assert raised.value.exit_code in (13, 14)
        assert target.touched == []
        for cache in (lab.cache, tmp_path / "fresh"):
            name = lab.backup(CONTENT, cache=cache).snapshot.hex()
            assert lab.restored(name) == CONTENT


ZEROES = bytes(64 * MIB)


def test_a_segment_that_grows_is_never_opened(
    lab: Lab, tmp_path: Path, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.format.pack.MAX_SEGMENT", 1 << 40)
    pack, pin = hostile.segment(ZEROES, says=bytes(MIB))
    monkeypatch.undo()
    row = encode_varints((0,)) + pack + pin + encode_varints((1,)) + b"\1"
    parts = [
        hostile.part((Kind.TABLE, row)),
        hostile.blocks(encode_block(0, [Extent(0, 0, MIB)])),
        hostile.manifest(MIB, [[1]]),
    ]
    assert_harmless(lab, tmp_path, hostile.commit(MIB, parts))


@pytest.mark.parametrize("kind", [Kind.TABLE, Kind.MANIFEST, Kind.RECIPE, Kind.REFS])
def test_a_part_that_grows_is_never_opened(
    lab: Lab, tmp_path: Path, hostile: Hostile, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.format.part.MAX_PLAIN", 1 << 40)
    bomb = hostile.part((kind, ZEROES))
    monkeypatch.undo()
    assert bomb.size < MIB
    key = hostile.commit(1, [bomb, hostile.manifest(1, [[0]])])
    assert_harmless(lab, tmp_path, key)


@pytest.mark.parametrize("kind", [Kind.MANIFEST, Kind.RECIPE])
def test_a_part_of_many_sections_takes_little_memory(lab: Lab, tmp_path: Path, hostile: Hostile, kind: Kind) -> None:
    bomb = hostile.part(*[(kind, b"")] * 150_000)
    assert bomb.size < 8 * KIB
    assert_harmless(lab, tmp_path, hostile.commit(1, [bomb, hostile.manifest(1, [[0]])]))


def test_a_head_that_grows_is_none(lab: Lab, tmp_path: Path, hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.format.head._LIMIT", 1 << 40)
    key = hostile.commit(1, [], backup="x" * 8 * MIB)
    monkeypatch.undo()
    assert len(lab.sink.get(key)) <= 64 * KIB
    assert_harmless(lab, tmp_path, key)


def test_a_notice_that_grows_is_none(
    lab: Lab, tmp_path: Path, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.format.notice._LIMIT", 1 << 40)
    key = put_notice(lab.repository.domain, Notice("x" * 64 * MIB), by=hostile.access)
    monkeypatch.undo()
    with little_memory():
        assert [finding.key for finding in lab.check().findings] == [key]
        for cache in (lab.cache, tmp_path / "fresh"):
            lab.backup(CONTENT, cache=cache)
        assert lab.restored() == CONTENT


def test_rows_of_many_segments_take_little_memory(lab: Lab, tmp_path: Path, hostile: Hostile) -> None:
    """A row of 600 bytes lists 4096 segments, and compresses to next to nothing."""
    rows = b"".join(
        encode_varints((number,)) + number.to_bytes(16, "big") + bytes(32) + encode_varints((4096,)) + b"\xff" * 512
        for number in range(300)
    )
    parts = [
        hostile.part((Kind.TABLE, rows)),
        hostile.blocks(encode_block(0, [Extent(0, 0, 1)])),
        hostile.manifest(1, [[1]]),
    ]
    assert sum(part.size for part in parts) < 32 * KIB
    assert_harmless(lab, tmp_path, hostile.commit(1, parts))


@pytest.mark.parametrize("times", [2, 20_000])
def test_a_part_that_is_named_again_and_again_ends(
    lab: Lab, tmp_path: Path, hostile: Hostile, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """References to parts compress too: a few of them could name a table so often that no check would ever end."""
    rows = b"".join(
        encode_varints((number,)) + number.to_bytes(16, "big") + bytes(32) + encode_varints((1,)) + b"\1"
        for number in range(100)
    )
    table = hostile.part((Kind.TABLE, rows))
    refs = hostile.part((Kind.REFS, encode_refs([table] * times)))
    assert refs.size < MIB
    counting = FaultySink(lab.sink)
    key = hostile.commit(1, [refs, hostile.manifest(1, [[]])])
    lab.check(by=lab.open(sink=counting))
    assert counting.calls.count(("get", lab.at.part_key(table.part))) < 1000
    assert_harmless(lab, tmp_path, key, checked=False)


def test_an_extent_that_is_longer_than_any_segment_ends_at_once(lab: Lab, tmp_path: Path, hostile: Hostile) -> None:
    pack, pin = hostile.segment(b"GRANT")
    row = encode_varints((0,)) + pack + pin + encode_varints((1,)) + b"\1"
    size = 1 << 60
    parts = [
        hostile.part((Kind.TABLE, row)),
        hostile.blocks(encode_block(0, [Extent(0, 0, size)])),
        hostile.manifest(size, [[1]]),
    ]
    assert_harmless(lab, tmp_path, hostile.commit(size, parts))


@pytest.mark.parametrize("of_base", [False, True])
def test_a_recipe_that_ends_before_its_stream_is_damage(
    lab: Lab, tmp_path: Path, hostile: Hostile, of_base: bool
) -> None:
    pack, pin = hostile.segment(b"GRANT")
    row = encode_varints((0,)) + pack + pin + encode_varints((1,)) + b"\1"
    size = 1 << 60
    extents = [Extent(None, 0, size)] if of_base else [Extent(0, 0, 5)]
    base = Base(new_id(), hostile.session, (hostile.blocks(encode_block(0, [Extent(0, 0, 5)])),))
    parts = [
        hostile.part((Kind.TABLE, row)),
        hostile.blocks(encode_block(0, extents)),
        hostile.manifest(size, [[1], [0]]),
    ]
    assert_harmless(lab, tmp_path, hostile.commit(size, parts, bases=[base]))


def test_a_check_of_recipes_that_multiply_ends(lab: Lab, hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen bases, each of which names the next a thousand times: a recipe of a few kilobytes without an end."""
    pack, pin = hostile.segment(b"GRANT")
    row = encode_varints((0,)) + pack + pin + encode_varints((1,)) + b"\1"
    times, layers = 1000, 4
    refs = []
    size = 5
    blocks = [encode_block(0, [Extent(0, 0, 5)])]
    for _ in range(layers):
        blocks.append(encode_block(0, [Extent(None, 0, size)] * times))
        size *= times
    refs = [hostile.blocks(block) for block in blocks]
    bases = [Base(new_id(), hostile.session, (ref,)) for ref in refs[-2::-1]]
    parts = [hostile.part((Kind.TABLE, row)), refs[-1], hostile.manifest(size, [[1], *[[0]] * layers])]
    hostile.commit(size, parts, bases=bases)
    find = SegmentTable.find
    found = 0

    def counted(table: SegmentTable, number: int) -> object:
        nonlocal found
        found += 1
        assert found < 100_000
        return find(table, number)

    monkeypatch.setattr(SegmentTable, "find", counted)
    assert lab.check().findings == ()


def test_a_stream_that_multiplies_is_given_out_in_little_memory(lab: Lab, hostile: Hostile) -> None:
    """It ends at the size that is recorded for it, and so does memory: nothing of it is kept."""
    pack, pin = hostile.segment(noise(KIB))
    row = encode_varints((0,)) + pack + pin + encode_varints((1,)) + b"\1"
    times = 200
    refs = [
        hostile.blocks(encode_block(0, [Extent(0, 0, KIB)])),
        hostile.blocks(encode_block(0, [Extent(None, 0, KIB)] * times)),
        hostile.blocks(encode_block(0, [Extent(None, 0, KIB * times)] * times)),
    ]
    size = KIB * times * times
    bases = [Base(new_id(), hostile.session, (refs[1],)), Base(new_id(), hostile.session, (refs[0],))]
    parts = [hostile.part((Kind.TABLE, row)), refs[2], hostile.manifest(size, [[1], [0], [0]])]
    key = hostile.commit(size, parts, bases=bases)
    given = 0

    def out(block: memoryview) -> None:
        nonlocal given
        given += len(block)

    with little_memory(), pytest.raises(DamagedObject, match="digest"):
        cat(lab.find(key.removeprefix(lab.at.snapshots)), "d", out=out, listener=lambda _: None)
    assert given == size
