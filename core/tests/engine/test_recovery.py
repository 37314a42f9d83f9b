"""After any damage, the next backup is whole without help: it relies on nothing that is not what was written."""

import shutil
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import pytest
from core.tests.repository.forging import NOW, copied, keys, put_notice
from core.tests.repository.lab import CHEAP, KIB, MIB, Lab, noise

from penstock.api import DamagedObject, MissingObject, Secret, SinkDenied
from penstock.format.documents import encode_document
from penstock.format.encoding import new_id
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.format.session import LeaseDocument
from penstock.repository import Access, layout
from penstock.repository.known.sparse_index import SparseIndex
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock.testing import Fail, FaultySink, MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

NIGHTS = [{"d": noise(300 * KIB) + noise(night * 100 * KIB, 1)} for night in range(1, 4)]
TONIGHT = {"d": NIGHTS[-1]["d"] + noise(50 * KIB, 2), "e": b"small"}
KINDS = ["sessions", "packs", "index", "parts", "snapshots"]
HARMS = ["flipped at the start", "flipped in the middle", "flipped at the end", "truncated", "deleted", "swapped"]


class Scene:
    """A host whose cache knows the nights of two writers, and a maintainer elsewhere. `lab` is a copy for one test."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.writer = add_writer(lab.repository, "host", domain="main")
        self.maintainer = add_maintainer(lab.repository, "operations")
        for night, by in zip(NIGHTS, (self.writer, lab.owner, self.writer), strict=True):
            lab.backup(night, by=lab.open(by))

    def copied(self, folder: Path) -> "Scene":
        other = copy(self)
        other.lab = copied(self.lab, folder)
        return other

    def harm(self, key: str, how: str) -> None:
        sink = self.lab.sink
        data = bytearray(sink.get(key))
        match how:
            case "flipped at the start":
                data[10] ^= 1
            case "flipped in the middle":
                data[len(data) // 2] ^= 1
            case "flipped at the end":
                data[-10] ^= 1
            case "truncated":
                del data[len(data) // 2 :]
            case "deleted":
                sink.delete(key)
                return
            case "swapped":
                kind = key.split("/")[2]
                others = [one for one in keys(self.lab, kind) if one != key]
                data = bytearray(sink.get(others[0]))
        sink.put(key, bytes(data))

    def assert_recovers(self, cache: Path, *, by: Access | None = None, told_late: bool = False) -> None:
        """With `told_late`, the damage to a pack is found when tonight's snapshot relies on it already, as it may."""
        lab = self.lab
        result = lab.backup(TONIGHT, by=lab.open(by or self.writer), cache=cache)
        assert lab.restored("latest:shop") == TONIGHT
        # A snapshot that is gone is missed by the one that follows it, as it should be.
        problems = [one.problem for one in lab.check().findings if not one.key.startswith(lab.at.snapshots)]
        assert not any(result.snapshot.hex()[:8] in problem for problem in problems)
        if told_late:
            # What it holds is stored once more.
            assert lab.backup(TONIGHT, by=lab.open(self.writer), cache=cache).stored < MIB
            assert lab.restored("latest:shop") == TONIGHT
        # And so does the one after, which finds all of it.
        assert lab.backup(TONIGHT, by=lab.open(self.writer), cache=cache).stored < 64 * KIB
        assert lab.restored("latest:shop") == TONIGHT


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(Lab(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def copies(original: Scene, tmp_path: Path) -> Iterator[Scene]:
    """As many as one likes, each with a cache of its own."""
    return (original.copied(tmp_path / f"cache-{number}") for number in range(1000))


def each_harmed(copies: Iterator[Scene], kind: str, how: str) -> Iterator[Scene]:
    """A copy for each object of a kind, in which that object is harmed."""
    for number in range(len(keys(next(copies).lab, kind))):
        scene = next(copies)
        scene.harm(keys(scene.lab, kind)[number], how)
        yield scene


def needs_reading(kind: str, how: str) -> bool:
    """Whether nothing but reading the segments of packs shows it."""
    return kind == "packs" and how in ("flipped at the start", "flipped in the middle")


CASES = [(kind, how) for kind in KINDS for how in HARMS if not needs_reading(kind, how)]


@pytest.mark.parametrize("host", ["a host with a cache", "a fresh host"])
@pytest.mark.parametrize(("kind", "how"), CASES)
def test_the_next_backup_does_without_what_is_damaged(
    copies: Iterator[Scene], tmp_path: Path, kind: str, how: str, host: str
) -> None:
    for number, scene in enumerate(each_harmed(copies, kind, how)):
        fresh = tmp_path / f"fresh-{number}"
        # Of a pack of the night before, only the places are read at first.
        told_late = (kind, how, host) == ("packs", "flipped at the end", "a host with a cache")
        scene.assert_recovers(scene.lab.cache if host == "a host with a cache" else fresh, told_late=told_late)


#: What no backup needs.
OTHERS = ["slots", "leases", "notices", "tombstones", "deletions"]


@pytest.mark.parametrize("host", ["a host with a cache", "a fresh host"])
@pytest.mark.parametrize("how", HARMS)
@pytest.mark.parametrize("kind", OTHERS)
def test_the_next_backup_does_not_mind_what_it_does_not_need(
    copies: Iterator[Scene], tmp_path: Path, kind: str, how: str, host: str
) -> None:
    scene = next(copies)
    lab = scene.lab
    lab.repository.add_slot(Secret("another one"), "second", CHEAP)
    session, none = lab.find("latest").session, new_id()
    for number in (1, 2):
        put_notice(lab.domain, Notice(NOW, {none: "a test"}))
        put_notice(lab.domain, Tombstone(NOW, Things(packs=(none,))))
        put_notice(lab.domain, Deletion(NOW, Action.FORGET, {none: none + none}))
        lease = lab.at.lease_key(session, number)
        document = encode_document(lease, LeaseDocument(session, number).to_json(), lab.owner.signing)
        lab.sink.put(lease, document)
    prefix = layout.SLOTS if kind == "slots" else f"{lab.at.prefix}{kind}/"
    one, other, *_ = sorted(lab.keys(prefix))
    if how == "swapped":
        lab.sink.put(one, lab.sink.get(other))
    else:
        scene.harm(one, how)
    if how != "deleted":
        for access in (lab.owner, scene.writer, scene.maintainer):
            assert one in {finding.key for finding in lab.check(by=lab.open(access)).findings}
    scene.assert_recovers(lab.cache if host == "a host with a cache" else tmp_path / "fresh")


@pytest.mark.parametrize("checked_by", ["owner", "maintainer", "writer"])
@pytest.mark.parametrize("host", ["a host with a cache", "a fresh host"])
@pytest.mark.parametrize("how", ["flipped at the start", "flipped in the middle"])
def test_what_only_reading_shows_is_done_without_after_a_check_anywhere(
    copies: Iterator[Scene], tmp_path: Path, how: str, host: str, checked_by: str
) -> None:
    for number, scene in enumerate(each_harmed(copies, "packs", how)):
        lab = scene.lab
        access = {"owner": lab.owner, "maintainer": scene.maintainer, "writer": scene.writer}[checked_by]
        report = lab.check(by=lab.open(access), read_data=True)
        assert report.distrusted == 1
        fresh = tmp_path / f"fresh-{number}"
        scene.assert_recovers(lab.cache if host == "a host with a cache" else fresh)
        # Told once: the next checks find it again, and say nothing new.
        assert len(keys(lab, "notices")) == 1
        assert lab.check(by=lab.open(access), read_data=True).distrusted == 1
        assert len(keys(lab, "notices")) == 1


def test_what_a_writer_finds_damaged_it_tells_to_all(copies: Iterator[Scene], tmp_path: Path) -> None:
    """Others may have the end of the pack in no cache, and still never use it."""
    for number, scene in enumerate(each_harmed(copies, "packs", "flipped at the end")):
        lab = scene.lab
        # One that it does not remember is looked for in all packs.
        lab.backup(TONIGHT, by=lab.open(scene.writer), name="another")
        (notice,) = keys(lab, "notices")
        scene.assert_recovers(tmp_path / f"fresh-{number}", by=lab.owner)
        assert keys(lab, "notices") == [notice]


def test_a_check_that_cannot_tell_others_tells_its_own_host(copies: Iterator[Scene]) -> None:
    for scene in each_harmed(copies, "packs", "flipped in the middle"):
        lab = scene.lab
        reading = FaultySink(lab.sink, Fail("put", times=None, error=SinkDenied))
        assert lab.check(by=lab.open(sink=reading), cache=lab.cache).distrusted == 0
        assert keys(lab, "notices") == []
        scene.assert_recovers(lab.cache)


def test_a_pack_that_was_put_back_stays_distrusted_and_its_snapshots_come_out(copies: Iterator[Scene]) -> None:
    scene = next(copies)
    lab = scene.lab
    key = keys(lab, "packs")[0]
    whole = lab.sink.get(key)
    scene.harm(key, "flipped in the middle")
    assert lab.check().distrusted == 1
    lab.sink.put(key, whole)
    assert lab.check().findings == ()
    scene.assert_recovers(lab.cache)
    assert lab.restored(lab.find("latest").id.hex()) == TONIGHT


def test_a_pack_that_is_harmed_during_the_dump_is_in_no_snapshot_that_lacks_it(copies: Iterator[Scene]) -> None:
    """It is looked for once more before the commit; what then is gone fails the backup, and the next one is whole."""
    scene = next(copies)
    lab = scene.lab
    assert isinstance(lab.sink, MemorySink)
    (pack, *_) = keys(lab, "packs")

    with pytest.raises(MissingObject, match=pack):
        lab.backup(TONIGHT, by=lab.open(scene.writer, sink=LosingSink(lab.sink, pack)))
    scene.assert_recovers(lab.cache)


class LosingSink(FaultySink):
    """Loses an object as soon as it was read."""

    def __init__(self, inner: MemorySink, lost: str) -> None:
        super().__init__(inner)
        self._lost = lost

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        data = super().get(key, start=start, length=length)
        if key == self._lost:
            self.inner.delete(key)
        return data


@pytest.mark.parametrize("harm", ["flipped in the middle", "truncated", "deleted"])
def test_without_its_foundations_a_repository_takes_no_backup(copies: Iterator[Scene], harm: str) -> None:
    """Nothing is committed that nobody could open; and it goes on where it was as soon as they are back."""
    grants = sorted(info.key for info in next(copies).lab.sink.list(layout.GRANTS))
    for number in range(1 + len(grants)):
        scene = next(copies)
        lab = scene.lab
        key = [layout.CONFIG, *sorted(info.key for info in lab.sink.list(layout.GRANTS))][number]
        whole = lab.sink.get(key)
        before = keys(lab, "snapshots")
        if harm == "deleted":
            lab.sink.delete(key)
        else:
            lab.sink.put(
                key, whole[: len(whole) // 2] + (b"#" + whole[len(whole) // 2 + 1 :] if "flip" in harm else b"")
            )
        try:
            lab.backup(TONIGHT, by=lab.open(scene.writer))
        except (DamagedObject, MissingObject):
            assert keys(lab, "snapshots") == before
            lab.sink.put(key, whole)
        else:
            # The last entry of the log, the maintainer's grant, which is missed by a session, and stops nobody.
            assert lab.check().finding_count > 0
            lab.sink.put(key, whole)
        scene.assert_recovers(lab.cache)
        assert lab.check().findings == ()


@pytest.mark.parametrize("remembered", [True, False])
def test_a_damaged_pack_costs_no_more_than_what_it_held(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    monkeypatch.setattr(SparseIndex, "warm_up", lambda index: None)
    content = noise(3 * MIB, 5) + noise(MIB, 6)
    lab.backup({"d": content[: 3 * MIB]})
    (large,) = keys(lab, "packs")
    lab.backup({"d": content})
    (small,) = (key for key in keys(lab, "packs") if key != large)
    size = lab.sink.stat(small).size
    lab.sink.put(small, lab.sink.get(small)[: size // 2])
    if not remembered:
        # Then the sparse index alone finds what is known.
        for folder in [*lab.cache.rglob("past")]:
            shutil.rmtree(folder)
    result = lab.backup({"d": content})
    assert result.stored < size + 100 * KIB < 2 * MIB
    assert lab.restored() == {"d": content}
