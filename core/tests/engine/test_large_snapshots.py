"""Snapshots that do not fit into one block, one part or one head: limits are made small here, not dumps large."""

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from core.tests.repository.forging import keys, put_session
from core.tests.repository.lab import KIB, MIB, BytesSource, BytesStream, Lab, noise

from penstock.api import StreamSpec
from penstock.engine import cat, show
from penstock.format.head import MAX_REFS
from penstock.format.keys import new_secret
from penstock.format.part import Key
from penstock.repository import SnapshotEntry
from penstock.repository.read.content import Content, parts_of
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import list_snapshots
from penstock.repository.write.session import Session

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

STREAM = "penstock.repository.write.stream"
PARTS = "penstock.repository.write.parts"
SESSION = "penstock.repository.write.session"


def scattered(size: int, changes: int) -> tuple[bytes, bytes]:
    """Content, and the same with bytes changed in many places: a recipe of many extents."""
    chance = random.Random(5)
    before = noise(size, 3)
    after = bytearray(before)
    for _ in range(changes):
        at = chance.randrange(size - 8)
        after[at : at + 8] = chance.randbytes(8)
    return before, bytes(after)


def content_of(entry: SnapshotEntry) -> Content:
    return Content(entry, partial(data_sealer, entry.domain))


def given_out(entry: SnapshotEntry, names: Iterator[str]) -> dict[str, bytes]:
    found = {}
    for name in names:
        out = bytearray()
        cat(entry, name, out=out.extend, listener=lambda _: None)
        found[name] = bytes(out)
    return found


def test_many_small_streams_come_back(lab: Lab) -> None:
    """Some empty, some alike, some longer than others, as the tables of a schema are."""
    streams = {
        f"data/{number:04d}": noise(number % 50 * number % 3000, number // 2) if number % 3 else b""
        for number in range(1200)
    }
    first = lab.backup(streams)
    assert first.head.streams == len(streams)
    entry = lab.find("latest")
    assert lab.restored() == streams
    some = random.Random(1).sample(sorted(streams), 20)
    assert given_out(entry, iter(some)) == {name: streams[name] for name in some}
    assert lab.check().findings == ()
    assert lab.backup(streams).packs == 0
    assert lab.restored() == streams


@pytest.mark.parametrize("count", [1, 3])
def test_a_dump_of_nothing_but_empty_streams_comes_back(lab: Lab, count: int) -> None:
    streams = {f"empty-{number}": b"" for number in range(count)}
    for _ in range(2):
        result = lab.backup(streams)
        assert (result.read, result.packs) == (0, 0)
        assert lab.restored() == streams
    assert (keys(lab, "packs"), keys(lab, "index")) == ([], [])
    manifest = show(lab.find("latest")).manifest
    assert manifest is not None
    assert {record.recipe for record in manifest.streams} == {((),)}
    assert lab.check().findings == ()


@pytest.mark.parametrize("extents", [1, 3, 7])
@pytest.mark.parametrize("enough", [0, 300, 10_000])
def test_a_recipe_of_many_blocks_and_parts_comes_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, enough: int, extents: int
) -> None:
    monkeypatch.setattr("penstock.repository.write.recipes.EXTENTS_A_BLOCK", extents)
    monkeypatch.setattr(f"{STREAM}.ENOUGH", enough)
    # A part holds little: many of them after each batch.
    monkeypatch.setattr(f"{PARTS}.MAX_PLAIN", 4096)
    monkeypatch.setattr(f"{SESSION}.MAX_PLAIN", 4096)
    before, after = scattered(9 * MIB, 300)
    streams = {"first": b"small", "d": after, "again": after[5 * MIB :], "empty": b"", "last": before[:MIB]}
    lab.backup({"d": before})
    lab.backup(streams)
    entry = lab.find("latest")
    content = content_of(entry)
    blocks = {record.name: sum(1 for _ in content.extents(record)) for record in content.manifest.streams}
    assert blocks["d"] > 100
    assert len(content.manifest.streams[1].recipe[0]) > 1
    assert lab.restored() == streams
    assert given_out(entry, reversed(streams)) == streams
    assert lab.check().findings == ()
    target = BytesSource({})
    lab.restore(into=target, streams=["again"])
    assert target.restored == {"again": streams["again"]}


def test_a_segment_table_of_many_sections_and_parts_comes_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{STREAM}._ROWS", 2)
    monkeypatch.setattr(f"{STREAM}.ENOUGH", 0)
    monkeypatch.setattr(f"{PARTS}.MAX_PLAIN", 300)
    monkeypatch.setattr(f"{SESSION}.MAX_PLAIN", 300)
    content = b""
    for night in range(11):
        content += noise(100 * KIB, night)
        lab.backup({"d": content})
    entry = lab.find("latest")
    tables = [ref for ref in parts_of(entry) if ref.key is Key.LAYOUT]
    assert len(tables) > 2
    assert lab.restored() == {"d": content}
    assert lab.check().findings == ()


def test_a_manifest_of_many_parts_comes_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{PARTS}.MAX_PLAIN", 3000)
    monkeypatch.setattr(f"{SESSION}.MAX_PLAIN", 3000)
    streams = {f"table-{number}": b"%d" % number for number in range(100)}
    lab.backup(streams)
    assert lab.restored() == streams
    assert lab.check().findings == ()


def with_parts(lab: Lab, count: int, monkeypatch: pytest.MonkeyPatch) -> tuple[SnapshotEntry, dict[str, bytes]]:
    """A snapshot of so many parts: one for each stream; one each for segment table, sessions, manifest."""
    monkeypatch.setattr(f"{STREAM}.ENOUGH", 0)
    streams = {f"{number:03d}": noise(1000, number) for number in range(count - 3)}
    lab.backup(streams)
    return lab.find("latest"), streams


@pytest.mark.parametrize("count", [MAX_REFS - 1, MAX_REFS, MAX_REFS + 1, 3 * MAX_REFS, 200])
def test_a_head_that_needs_more_references_than_it_may_have_puts_them_into_parts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    entry, streams = with_parts(lab, count, monkeypatch)
    direct = [ref for ref in parts_of(entry) if ref.key is not Key.REFS]
    assert len(direct) == count
    assert len(entry.head.parts) == (count if count <= MAX_REFS else 1)
    assert lab.restored() == streams
    assert given_out(entry, reversed(streams)) == streams
    report = lab.check()
    assert report.findings == ()
    assert len(lab.sink.get(lab.at.snapshot_key(entry.id))) <= 8 * KIB


def test_references_fill_several_parts(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{PARTS}.MAX_PLAIN", 1500)
    monkeypatch.setattr(f"{SESSION}.MAX_PLAIN", 1500)
    entry, streams = with_parts(lab, 100, monkeypatch)
    assert len(entry.head.parts) > 1
    assert {ref.key for ref in entry.head.parts} == {Key.REFS}
    assert lab.restored() == streams
    assert lab.check().findings == ()


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_each_part_of_a_large_snapshot_is_missed(lab: Lab, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    entry, streams = with_parts(lab, 20, monkeypatch)
    parts = keys(lab, "parts")
    assert len(parts) == 21
    for key in parts:
        whole = lab.sink.get(key)
        lab.sink.delete(key)
        if harm == "damaged":
            lab.sink.put(key, whole[:-1] + bytes((whole[-1] ^ 1,)))
        found = {finding.key for finding in lab.check().findings}
        assert key in found
        target = BytesSource({})
        with pytest.raises(Exception, match=key):
            lab.restore(entry.id.hex(), into=target)
        assert target.touched == []
        lab.sink.put(key, whole)
    assert lab.restored() == streams


def test_all_parts_that_are_gone_are_findings(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with_parts(lab, 12, monkeypatch)
    gone = keys(lab, "parts")[::2]
    for key in gone:
        lab.sink.delete(key)
    assert {finding.key for finding in lab.check().findings if finding.gone} >= set(gone)


def test_a_backup_that_is_given_up_halfway_leaves_parts_that_nobody_minds(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{STREAM}.ENOUGH", 0)
    lab.backup({"d": b"1"})
    before = len(keys(lab, "parts"))

    class Broken(BytesStream):
        def readinto(self, buffer: memoryview, /) -> int:
            raise OSError("a defect")

    source = BytesSource({"a": noise(KIB), "b": noise(KIB, 2), "c": b"broken"})
    source._opener = lambda data: Broken(data) if data == b"broken" else BytesStream(data)
    with pytest.raises(OSError, match="a defect"):
        lab.backup(source)
    assert len(keys(lab, "parts")) == before + 1
    assert lab.check(cache=lab.cache).findings == ()
    assert lab.restored() == {"d": b"1"}


@pytest.mark.parametrize("sessions", [100, 5000])
def test_a_snapshot_that_needs_the_keys_of_many_runs_is_listed(lab: Lab, sessions: int) -> None:
    """A table that grows by a little every hour takes each night's new rows from another run: 8760 a year."""
    domain = lab.repository.domain
    many = tuple(put_session(domain, new_secret(), by=lab.owner) for _ in range(sessions))
    session = Session(
        lab.open(),
        "shop",
        cache_folder=lab.cache,
        memory=64 * MIB,
        level=1,
        on_damage=lambda error: pytest.fail(str(error)),
        on_trouble=pytest.fail,
    )
    with session, session.writer() as writer:
        spec = StreamSpec("d", "raw")
        stored = writer.store(0, spec, BytesStream(b"rows"), lambda _: None)
        written = replace(writer.finish(), sessions=many)
        done = session.commit(
            source="bytes",
            consistency="one",
            inspection={},
            streams=[(spec, stored)],
            written=[written],
        )
    assert [entry.id for entry in list_snapshots(lab.open())] == [done.head.snapshot]
    assert lab.restored() == {"d": b"rows"}
    gone = lab.at.session_key(many[50])
    lab.sink.delete(gone)
    assert [one.key for one in lab.check().findings] == [gone]
    assert lab.restored() == {"d": b"rows"}, "none of its rows is of that run"
