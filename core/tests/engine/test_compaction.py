"""Compaction: what is needed of packs that are mostly dead moves to new ones, by somebody who reads none of it."""

from pathlib import Path

import pytest
from core.tests.engine.test_prune import let_go, night, pruned, used
from core.tests.repository.forging import end_of, put_index
from core.tests.repository.lab import KIB, MIB, Lab, noise
from core.tests.repository.virtual import VirtualStore

from penstock.engine.check import CheckReport
from penstock.format.encoding import new_id
from penstock.format.index import PackEnds, PackSummary
from penstock.repository import Repository
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke
from penstock.testing import FaultySink

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("store")]

#: A stream of five parts, each of some segments.
PARTS = [noise(3 * MIB, seed) for seed in range(5)]


@pytest.fixture
def maintainer(lab: Lab) -> Repository:
    return lab.open(add_maintainer(lab.open(), "operations"))


def sound(lab: Lab, cache: Path | None = None) -> CheckReport:
    report = lab.check(cache=cache)
    assert report.findings == ()
    return report


def emptied(lab: Lab, store: VirtualStore) -> str:
    """A snapshot that needs two fifths of the pack that it shares with one that was forgotten: its id."""
    first = night(lab, store, b"".join(PARTS))
    second = night(lab, store, b"".join(PARTS[:2]))
    assert used(lab, second) & used(lab, first)
    let_go(lab, first)
    return second


def days_of(lab: Lab, store: VirtualStore, by: Repository, count: int) -> None:
    for _ in range(count):
        pruned(lab, by)
        store.passes(days=1)


def largest(lab: Lab) -> str:
    return max(lab.sink.list(lab.at.packs), key=lambda info: info.size).key


def size_of_packs(lab: Lab) -> int:
    return sum(info.size for info in lab.sink.list(lab.at.packs))


def test_what_is_needed_moves_and_the_rest_is_freed(lab: Lab, store: VirtualStore, maintainer: Repository) -> None:
    kept = emptied(lab, store)
    before, packs = size_of_packs(lab), set(lab.keys(lab.at.packs))
    found = pruned(lab, maintainer)
    assert found.doom.compacted == 1
    assert found.doom.copied < 0.6 * before
    (copies,) = set(lab.keys(lab.at.packs)) - packs
    assert lab.restored(kept) == {"d": b"".join(PARTS[:2])}
    sound(lab)
    store.passes(days=1)
    days_of(lab, store, maintainer, 2)
    assert largest(lab) == copies
    assert size_of_packs(lab) < 0.6 * before
    assert lab.restored(kept) == {"d": b"".join(PARTS[:2])}
    sound(lab)
    assert pruned(lab, maintainer).doom.compacted == 0


@pytest.mark.parametrize("host", ["the same", "a fresh one", "one that was there before"])
def test_the_next_night_finds_what_has_moved(
    lab: Lab, store: VirtualStore, maintainer: Repository, tmp_path: Path, host: str
) -> None:
    content = b"".join(PARTS[:2])
    emptied(lab, store)
    if host == "one that was there before":
        lab.backup({"e": noise(KIB, 99)}, name="other", cache=tmp_path / "another")
    days_of(lab, store, maintainer, 3)
    cache = {"the same": None, "a fresh one": tmp_path / "fresh"}.get(host, tmp_path / "another")
    changed = content[:-1000] + noise(1000, 98)
    result = lab.backup({"d": changed}, cache=cache)
    assert result.stored < 200 * KIB
    assert lab.restored(result.snapshot.hex()) == {"d": changed}
    again = lab.backup({"d": changed + noise(1000, 97)}, cache=cache)
    assert again.stored < 200 * KIB
    assert lab.restored(again.snapshot.hex()) == {"d": changed + noise(1000, 97)}
    sound(lab)


def test_a_backup_beside_the_tombstone_uses_the_copies(lab: Lab, store: VirtualStore, maintainer: Repository) -> None:
    content = b"".join(PARTS[:2])
    emptied(lab, store)
    pruned(lab, maintainer)
    result = lab.backup({"d": content + noise(1000, 98)})
    assert result.stored < 200 * KIB
    days_of(lab, store, maintainer, 3)
    assert lab.restored(result.snapshot.hex()) == {"d": content + noise(1000, 98)}
    sound(lab)


def test_what_a_session_still_relied_on_stays(
    lab: Lab, store: VirtualStore, maintainer: Repository, tmp_path: Path
) -> None:
    """It began before the tombstone, and needs of the old pack what nobody needed when that was compacted."""
    from core.tests.engine.test_nights import session_of

    kept = emptied(lab, store)
    with session_of(lab.open(), tmp_path / "other"):
        pruned(lab, maintainer)
    # As if that session had been this backup.
    undo = lab.sink.get(next(iter(lab.keys(lab.at.tombstones))))
    key = next(iter(lab.keys(lab.at.tombstones)))
    lab.sink.delete(key)
    late = lab.backup({"d": b"".join(PARTS[:3])}, cache=tmp_path / "late")
    lab.sink.put(key, undo)
    days_of(lab, store, maintainer, 4)
    for snapshot, count in ((kept, 2), (late.snapshot.hex(), 3)):
        assert lab.restored(snapshot) == {"d": b"".join(PARTS[:count])}
    sound(lab)


def test_copies_are_compacted_in_their_turn(lab: Lab, store: VirtualStore, maintainer: Repository) -> None:
    content = [b"".join(PARTS[:count]) for count in (5, 3, 1)]
    nights = [night(lab, store, one) for one in content]
    for gone in nights[:2]:
        let_go(lab, gone)
        days_of(lab, store, maintainer, 3)
    assert size_of_packs(lab) < 1.5 * len(content[2])
    assert lab.restored(nights[2]) == {"d": content[2]}
    sound(lab)


def test_damaged_copies_are_no_home(lab: Lab, store: VirtualStore, maintainer: Repository) -> None:
    kept = emptied(lab, store)
    old, packs = largest(lab), set(lab.keys(lab.at.packs))
    pruned(lab, maintainer)
    (copies,) = set(lab.keys(lab.at.packs)) - packs
    lab.flip(copies, 1000)
    store.passes(days=1)
    pruned(lab, maintainer)
    assert old in lab.keys(lab.at.packs)
    assert lab.restored(kept) == {"d": b"".join(PARTS[:2])}


def test_copies_of_a_revoked_maintainer_are_made_anew(lab: Lab, store: VirtualStore, maintainer: Repository) -> None:
    """Until then nothing is lost; backups store anew what nobody vouches for."""
    kept = emptied(lab, store)
    days_of(lab, store, maintainer, 3)
    revoke(lab.open(), maintainer.access.key)
    days_of(lab, store, lab.open(), 3)
    assert lab.restored(kept) == {"d": b"".join(PARTS[:2])}
    result = lab.backup({"d": b"".join(PARTS[:2])})
    assert lab.restored(result.snapshot.hex()) == {"d": b"".join(PARTS[:2])}
    sound(lab)


def test_a_copy_is_used_by_nobody_whose_writer_was_revoked(lab: Lab, store: VirtualStore, tmp_path: Path) -> None:
    writer = add_writer(lab.open(), "host", domain="main")
    first, _ = [night_of(lab, store, lab.open(writer), b"".join(PARTS[:count])) for count in (5, 2)]
    let_go(lab, first)
    days_of(lab, store, lab.open(), 3)
    revoke(lab.open(), writer.key)
    result = lab.backup({"d": b"".join(PARTS[:2])})
    assert result.stored > 5 * MIB
    assert lab.restored(result.snapshot.hex()) == {"d": b"".join(PARTS[:2])}


def night_of(lab: Lab, store: VirtualStore, by: Repository, data: bytes) -> str:
    made = lab.backup({"d": data}, by=by).snapshot.hex()
    store.passes(days=1)
    return made


def test_many_small_index_objects_become_one(lab: Lab, store: VirtualStore, maintainer: Repository) -> None:
    nights = [night(lab, store, noise(KIB, seed) * 9) for seed in range(17)]
    before = set(lab.keys(lab.at.index))
    assert len(before) == 17
    assert pruned(lab, maintainer).doom.merged == 17
    (merged,) = set(lab.keys(lab.at.index)) - before
    store.passes(days=1)
    days_of(lab, store, maintainer, 2)
    assert set(lab.keys(lab.at.index)) == {merged}
    assert pruned(lab, maintainer).doom.merged == 0
    sound(lab)
    requests: list[str] = []
    listening = ListeningSink(store, requests)
    result = lab.backup({"d": noise(KIB, 3) * 9}, by=lab.open(sink=listening), cache=lab.cache / "fresh")
    assert result.packs == 0
    assert len([key for key in requests if key.startswith(lab.at.index)]) == 1
    assert lab.restored(nights[3]) == {"d": noise(KIB, 3) * 9}


def test_an_index_object_whose_packs_are_mostly_gone_is_written_anew(
    lab: Lab, store: VirtualStore, maintainer: Repository
) -> None:
    kept = night(lab, store, noise(KIB, 1) * 9)
    (pack,) = lab.keys(lab.at.packs)
    gone = [PackSummary(PackEnds(new_id(), 5000, 300, 4096), 1, ()) for _ in range(70)]
    old = put_index(lab.domain, [end_of(lab.domain, pack).summary(), *gone], lab.owner)
    store.passes(days=1)
    assert pruned(lab, maintainer).doom.merged
    store.passes(days=1)
    days_of(lab, store, maintainer, 2)
    assert old not in lab.keys(lab.at.index)
    assert lab.restored(kept) == {"d": noise(KIB, 1) * 9}
    sound(lab)


class ListeningSink(FaultySink):
    """Notes what is read."""

    def __init__(self, sink: VirtualStore, keys: list[str]) -> None:
        super().__init__(sink)
        self._keys = keys

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._keys.append(key)
        return super().get(key, start=start, length=length)
