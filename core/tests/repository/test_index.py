"""What a writer deduplicates against, and what it avoids."""

from pathlib import Path

import pytest
from core.tests.repository.lab import KIB, MIB, BytesSource, BytesStream, Lab, noise

from penstock.api import DamagedObject, DumpFailed, MissingObject, UnsupportedFormat
from penstock.format.index import open_index
from penstock.repository import layout
from penstock.testing import FaultySink, MemorySink


def keys(lab: Lab, prefix: str) -> set[str]:
    return {info.key for info in lab.sink.list(prefix)}


def flip(lab: Lab, key: str, at: int) -> None:
    data = bytearray(lab.sink.get(key))
    data[at] ^= 1
    lab.sink.put(key, bytes(data))


class BreaksOff(BytesStream):
    def close(self) -> None:
        super().close()
        raise DumpFailed("the child exited with 1")


def test_a_fresh_host_finds_everything_others_stored(lab: Lab, tmp_path: Path) -> None:
    content = noise(6 * MIB)
    lab.backup({"d": content})
    for host in "ab":
        assert lab.backup({"d": content}, cache=tmp_path / host).stored < 32 * KIB


def test_every_pack_of_a_run_is_listed_by_its_index_objects(lab: Lab) -> None:
    result = lab.backup({"d": noise(40 * MIB)})
    repository = lab.open()
    listed = set()
    for index in result.catalogue.index:
        data = lab.sink.get(layout.index_key(index))
        listed |= {layout.pack_key(one.pack) for one in open_index(data, repository.index_sealer, repository.id, index)}
    assert listed == keys(lab, "packs/")
    assert len(listed) == 3


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_packs_of_a_failed_dump_are_used_by_the_next(lab: Lab, tmp_path: Path, cache: str) -> None:
    content = noise(40 * MIB)
    with pytest.raises(DumpFailed):
        lab.backup(BytesSource({"d": content}, opener=BreaksOff))
    landed = sum(len(lab.sink.get(key)) for key in keys(lab, "packs/"))
    assert landed > 30 * MIB
    result = lab.backup({"d": content}, cache=lab.cache if cache == "kept" else tmp_path / "new")
    assert result.stored < 42 * MIB - landed
    assert lab.restored() == {"d": content}
    assert lab.check().findings == ()


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_packs_are_found_without_index_objects(lab: Lab, tmp_path: Path, cache: str) -> None:
    content = noise(20 * MIB)
    lab.backup({"d": content})
    for key in keys(lab, "index/"):
        lab.sink.delete(key)
    assert lab.backup({"d": content}, cache=lab.cache if cache == "kept" else tmp_path / "new").packs == 0


def test_a_damaged_index_object_is_reported_and_skipped(lab: Lab, tmp_path: Path) -> None:
    content = noise(2 * MIB)
    lab.backup({"d": content})
    (index,) = keys(lab, "index/")
    flip(lab, index, 40)
    result = lab.backup({"d": content}, cache=tmp_path / "new")
    assert result.packs == 0
    assert [index in warning for warning in result.warnings] == [True]


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_chunks_of_a_damaged_pack_are_stored_again(lab: Lab, tmp_path: Path, cache: str) -> None:
    content = noise(2 * MIB)
    first = lab.backup({"d": content}).snapshot
    (pack,) = keys(lab, "packs/")
    flip(lab, pack, -100)
    result = lab.backup({"d": content}, cache=lab.cache if cache == "kept" else tmp_path / "new")
    assert result.stored > 2 * MIB
    assert any(pack in warning for warning in result.warnings)
    # The new snapshot does not depend on the damaged pack; the old one is refused, and told apart.
    assert lab.restored() == {"d": content}
    with pytest.raises(DamagedObject, match=pack):
        lab.restored(first.hex())
    assert {finding.key for finding in lab.check().findings} == {pack}


@pytest.mark.parametrize("cache", ["kept", "lost"])
def test_chunks_of_a_missing_pack_are_stored_again(lab: Lab, tmp_path: Path, cache: str) -> None:
    content = noise(2 * MIB)
    first = lab.backup({"d": content}).snapshot
    (pack,) = keys(lab, "packs/")
    lab.sink.delete(pack)
    assert lab.backup({"d": content}, cache=lab.cache if cache == "kept" else tmp_path / "new").stored > 2 * MIB
    assert lab.restored() == {"d": content}
    with pytest.raises(MissingObject, match=pack):
        lab.restored(first.hex())


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_chunks_of_packs_without_their_session_are_stored_again(lab: Lab, tmp_path: Path, damage: str) -> None:
    content = noise(2 * MIB)
    lab.backup({"d": content})
    (session,) = keys(lab, "sessions/")
    if damage == "gone":
        lab.sink.delete(session)
    else:
        flip(lab, session, 100)
    assert lab.backup({"d": content}, cache=tmp_path / "new").stored > 2 * MIB
    target = BytesSource({})
    lab.restore(into=target)
    assert target.restored == {"d": content}
    assert {finding.key for finding in lab.check().findings} == {session}


def test_a_repository_that_is_being_pruned_is_left_alone(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    lab.sink.put(layout.TOMBSTONES + "00" * 16, b"of a later version")
    with pytest.raises(UnsupportedFormat, match="later version") as raised:
        lab.backup({"d": b"2"})
    assert raised.value.exit_code == 12
    assert lab.restored() == {"d": b"1"}


def test_foreign_objects_do_not_stop_a_backup(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    strays = ("packs/x", "packs/zz/" + "00" * 16, "packs/00/" + "00" * 16, "index/x", "sessions/x")
    for key in strays:
        lab.sink.put(key, b"stray")
    result = lab.backup({"d": b"2"})
    assert len(result.warnings) == 5
    assert {finding.key for finding in lab.check().findings} == set(strays)


def test_a_pack_that_vanishes_between_its_use_and_the_commit_leaves_no_snapshot(lab: Lab) -> None:
    content = noise(2 * MIB)
    lab.backup({"d": content})
    (pack,) = keys(lab, "packs/")
    before = keys(lab, "snapshots/")

    class Meanwhile(BytesStream):
        def close(self) -> None:
            super().close()
            lab.sink.delete(pack)

    with pytest.raises(MissingObject, match=pack) as raised:
        lab.backup(BytesSource({"d": content + b"more"}, opener=Meanwhile))
    assert raised.value.exit_code == 14
    assert "Run the backup again" in str(raised.value.hint)
    assert keys(lab, "snapshots/") == before
    lab.backup({"d": content + b"more"})
    assert lab.restored() == {"d": content + b"more"}


def test_known_chunks_are_found_with_few_reads(lab: Lab, tmp_path: Path) -> None:
    assert isinstance(lab.sink, MemorySink)
    content = noise(48 * MIB)
    lab.backup({"d": content})
    sink = FaultySink(lab.sink)
    assert lab.backup({"d": content}, by=lab.open(sink=sink), cache=tmp_path / "new").packs == 0
    assert sum(call == ("get", key) for key in keys(lab, "packs/") for call in sink.calls) <= 2 * len(
        keys(lab, "packs/")
    )
