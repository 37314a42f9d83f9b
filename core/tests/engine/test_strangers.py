"""What a stranger puts there, and what a key signs that may not say it: named by a check, passed over by all else."""

from collections.abc import Callable
from copy import copy
from pathlib import Path

import pytest
from core.tests.repository.forging import (
    NOW,
    copied,
    end_of,
    keys,
    put_head,
    put_index,
    put_notice,
    put_part,
    put_session,
)
from core.tests.repository.lab import CHEAP, KIB, PASSPHRASE, Lab, noise

from penstock.api import EventKind, PenstockError, Secret
from penstock.format.documents import encode_document
from penstock.format.encoding import new_id
from penstock.format.grants import Revoked
from penstock.format.keys import new_secret
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.format.part import Kind
from penstock.format.session import LeaseDocument
from penstock.repository import Access, layout
from penstock.repository.layout import DomainLayout
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, entries, revoke
from penstock.testing import MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

EARLIER = {"d": noise(300 * KIB, 1)}
TONIGHT = {"d": noise(300 * KIB, 1) + noise(100 * KIB, 2)}
OTHER_PASSPHRASE = Secret("another one")
ZERO = "00" * 16


class Scene:
    """A repository in use, with a key of each kind. `lab` is a copy for one test."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.repository.add_slot(OTHER_PASSPHRASE, "second", CHEAP)
        self.writer = add_writer(lab.repository, "prod-db", domain="main")
        self.colleague = add_writer(lab.repository, "second host", domain="main")
        self.other = add_writer(lab.repository, "another host")
        self.maintainer = add_maintainer(lab.repository, "operations")
        self.revoked = add_writer(lab.repository, "stolen", domain="main")
        self.revoked_maintainer = add_maintainer(lab.repository, "stolen laptop")
        for one in (self.revoked, self.revoked_maintainer):
            revoke(lab.repository, one.key)
        lab.backup(EARLIER, by=lab.open(self.writer))
        self.entry = lab.find("latest")

    def copied(self, folder: Path) -> "Scene":
        other = copy(self)
        other.lab = copied(self.lab, folder)
        other.entry = other.lab.find("latest")
        return other

    def assert_everything_goes_on(self, fresh: Path) -> None:
        """All that people do with a repository, by every key; a stranger's object stops none of it."""
        lab = self.lab
        for unlock in (lab.owner, PASSPHRASE, self.writer, self.maintainer, self.other):
            lab.open(unlock)
        assert lab.find(self.entry.id.hex()).head == self.entry.head
        assert lab.restored() == EARLIER
        for cache in (lab.cache, fresh):
            assert lab.backup(TONIGHT, by=lab.open(self.writer), cache=cache).head.sequence > 1
            assert lab.restored() == TONIGHT
        repository = lab.open()
        kept = revoke(repository, self.writer.key)
        assert len(kept) == 3
        lab.backup(TONIGHT, by=lab.open(self.colleague))
        assert lab.restored() == TONIGHT
        assert [one.revoked_at is not None for one in entries(lab.open()) if one.key == self.writer.key] == [True]
        add_writer(lab.open(), "its successor", domain="main")

    def findings(self, access: Access) -> set[str]:
        return {finding.key for finding in self.lab.check(by=self.lab.open(access)).findings}

    def assert_named(self, strangers: set[str]) -> None:
        """Each is a finding for everybody who can see it, and nothing else is."""
        assert self.findings(self.lab.owner) == strangers
        assert self.findings(self.maintainer) == strangers
        of_owner = {key for key in strangers if key.startswith((layout.GRANTS, layout.SLOTS))}
        assert self.findings(self.other) == of_owner
        in_domain = {key for key in strangers if key.startswith(self.lab.at.prefix)}
        assert self.findings(self.writer) == of_owner | in_domain


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(Lab(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def scene(original: Scene, tmp_path: Path) -> Scene:
    return original.copied(tmp_path / "cache")


# one junk PUT


FOLDERS = [
    "grants",
    "slots",
    *("sessions", "packs", "index", "parts", "snapshots", "leases", "notices", "tombstones", "deletions"),
    "a folder of no kind",
    "a domain that nobody made",
    "the top",
]


def strangers(lab: Lab, folder: str) -> set[str]:
    """Keys in a folder of which Penstock wrote none."""
    match folder:
        case "the top":
            return {"x", "penstock.json.old", "penstock", "d/x", f"d/{ZERO[:-1]}/x", "locks/x"}
        case "a domain that nobody made":
            at = DomainLayout(bytes(16))
            return {at.prefix + "x", at.pack_key(bytes(16)), at.snapshot_key(bytes(16)), at.session_key(bytes(16))}
        case "a folder of no kind":
            return {f"{lab.at.prefix}x", f"{lab.at.prefix}grants/{ZERO}", f"{lab.at.prefix}unknown/{ZERO}"}
    prefix = f"{folder}/" if folder in ("grants", "slots") else f"{lab.at.prefix}{folder}/"
    names = {"x", "00000099", ZERO[:-2], f"{ZERO}0", f"{ZERO}-00000001", "ff" * 16, f"deep/er/{ZERO}"}
    if folder == "packs":
        names |= {f"00/{ZERO}", f"zz/{ZERO}", f"01/{ZERO}"}
    return {prefix + name for name in names}


def body(lab: Lab, folder: str, kind: str) -> bytes:
    match kind:
        case "noise":
            return noise(5000)
        case "nothing":
            return b""
    known = f"{folder}/" if folder in ("grants", "slots") else f"{lab.at.prefix}{folder}/"
    there = [info.key for info in lab.sink.list() if info.key.startswith(known)] or keys(lab, "snapshots")
    return lab.sink.get(min(there))


@pytest.mark.parametrize("kind", ["nothing", "noise", "a copy of what is there"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_stranger_put_there_stops_nothing(scene: Scene, tmp_path: Path, folder: str, kind: str) -> None:
    lab = scene.lab
    data = body(lab, folder, kind)
    put = strangers(lab, folder)
    for key in put:
        lab.sink.put(key, data)
    scene.assert_named(put)
    scene.assert_everything_goes_on(tmp_path / "fresh")


def test_ten_thousand_strangers_are_told_in_a_few_sentences(scene: Scene) -> None:
    lab = scene.lab
    for number in range(100):
        for folder in ("sessions", "packs", "index", "snapshots", "notices", "tombstones"):
            lab.sink.put(f"{lab.at.prefix}{folder}/{number}", b"junk")
    lab.events.clear()
    lab.backup(TONIGHT, by=lab.open(scene.writer))
    assert len([event for event in lab.events if event.kind is EventKind.WARNING]) < 20
    lab.find("latest")
    assert len(lab.warnings) < 20


@pytest.mark.parametrize("body", ["noise", "nothing", "the other slot"])
def test_junk_in_the_place_of_a_passphrase_slot_closes_that_passphrase_alone(scene: Scene, body: str) -> None:
    lab = scene.lab
    slots = sorted(info.key for info in lab.sink.list(layout.SLOTS))
    before = {key: lab.sink.get(key) for key in slots}
    for key, other in (slots, slots[::-1]):
        junk = {"noise": noise(1000), "nothing": b"", "the other slot": before[other]}[body]
        lab.sink.put(key, junk)
        opened = 0
        for passphrase in (PASSPHRASE, OTHER_PASSPHRASE):
            try:
                lab.open(passphrase)
                opened += 1
            except PenstockError as error:
                assert error.exit_code == 22  # noqa: PT017 - both outcomes are counted
        assert opened == 1
        lab.backup(TONIGHT, by=lab.open(scene.writer))
        assert lab.restored() == TONIGHT
        for access in (lab.owner, scene.writer, scene.maintainer):
            assert scene.findings(access) == {key}
        lab.sink.put(key, before[key])
    assert scene.findings(lab.owner) == set()


# what is signed by a key that may not say it


def entry_of_the_log(scene: Scene, by: Access) -> str:
    """A revocation of the honest writer."""
    key = layout.grant_key(new_id())
    content = scene.lab.repository.log.next(NOW, Revoked(scene.writer.key))
    scene.lab.sink.put(key, encode_document(key, content.to_json(), by.signing))
    return key


def session(scene: Scene, by: Access) -> str:
    return scene.lab.at.session_key(put_session(scene.lab.repository.domain, new_secret(), by=by))


def lease(scene: Scene, by: Access) -> str:
    key = scene.lab.at.lease_key(scene.entry.session, 1)
    document = LeaseDocument(scene.entry.session, 1).to_json()
    scene.lab.sink.put(key, encode_document(key, document, by.signing))
    return key


def index(scene: Scene, by: Access) -> str:
    domain = scene.lab.repository.domain
    (pack,) = keys(scene.lab, "packs")
    return put_index(domain, [end_of(domain, pack).summary()], by)


def part(scene: Scene, by: Access) -> str:
    domain = scene.lab.repository.domain
    return domain.at.part_key(put_part(domain, [(Kind.TABLE, b"")], by=by).part)


def head(scene: Scene, by: Access) -> str:
    later = "2030-01-01T00:00:00.000000Z"
    changed = put_head(scene.entry, by, backup="shop", host="prod-db", sequence=99, finished=later)
    return scene.lab.at.snapshot_key(changed.snapshot)


def notice(scene: Scene, by: Access) -> str:
    """All packs are said to be damaged, and the snapshot is void."""
    packs = {layout.id_of(key): "so I say" for key in keys(scene.lab, "packs")}
    void = {scene.entry.id: scene.entry.digest}
    return put_notice(scene.lab.repository.domain, Notice(NOW, packs, void), by=by)


def tombstone(scene: Scene, by: Access) -> str:
    packs = tuple(layout.id_of(key) for key in keys(scene.lab, "packs"))
    return put_notice(scene.lab.repository.domain, Tombstone(NOW, Things(packs=packs)), by=by)


def forgetting(scene: Scene, by: Access) -> str:
    deletion = Deletion(NOW, Action.FORGET, {scene.entry.id: scene.entry.digest})
    return put_notice(scene.lab.repository.domain, deletion, by=by)


def deletion(scene: Scene, by: Access) -> str:
    packs = tuple(layout.id_of(key) for key in keys(scene.lab, "packs"))
    content = Deletion(NOW, Action.DELETE, {scene.entry.id: scene.entry.digest}, Things(packs=packs))
    return put_notice(scene.lab.repository.domain, content, by=by)


FORBIDDEN = {
    entry_of_the_log: ["writer", "other", "maintainer", "revoked", "revoked_maintainer"],
    session: ["other", "maintainer", "revoked_maintainer"],
    lease: ["colleague", "other", "maintainer", "revoked", "revoked_maintainer"],
    index: ["other", "revoked_maintainer"],
    part: ["other", "maintainer", "revoked_maintainer"],
    head: ["other", "maintainer", "revoked", "revoked_maintainer"],
    notice: ["other", "revoked", "revoked_maintainer"],
    tombstone: ["writer", "other", "revoked", "revoked_maintainer"],
    forgetting: ["writer", "other", "revoked", "revoked_maintainer"],
    deletion: ["writer", "other", "revoked", "revoked_maintainer"],
}


@pytest.mark.parametrize(
    ("put", "by"),
    [pytest.param(put, by, id=f"{put.__name__} by {by}") for put, signers in FORBIDDEN.items() for by in signers],
)
def test_what_a_key_signs_that_may_not_say_it_counts_for_nothing(
    scene: Scene, tmp_path: Path, put: Callable[[Scene, Access], str], by: str
) -> None:
    lab = scene.lab
    key = put(scene, getattr(scene, by))
    # What a key says that was good once may have been said then: it has no effect, and is no damage.
    former = (put, by) == (notice, "revoked") or (
        by == "revoked_maintainer" and put in (index, notice, tombstone, forgetting, deletion)
    )
    named = set() if former else {key}
    scene.assert_named(named)
    assert [entry.id for entry in list_snapshots(lab.open(), lambda _: None)] == [scene.entry.id]
    # What was there is still deduplicated against.
    assert lab.backup(EARLIER, by=lab.open(scene.writer), cache=tmp_path / "another").stored < 64 * KIB
    assert lab.restored() == EARLIER
    assert {finding.key for finding in scene.lab.check().findings} == named


def test_a_writer_voids_no_snapshot_of_another(scene: Scene) -> None:
    lab = scene.lab
    notice(scene, scene.colleague)
    assert lab.restored() == EARLIER
    assert lab.check().findings == ()
    notice(scene, scene.writer)
    assert list_snapshots(lab.open()) == []


def test_a_void_snapshot_of_the_owner_cannot_be_taken_back_by_a_writer(scene: Scene) -> None:
    lab = scene.lab
    notice(scene, lab.owner)
    for _ in range(3):
        notice(scene, scene.colleague)
    assert list_snapshots(lab.open()) == []


def test_a_forgotten_snapshot_is_neither_listed_nor_missed(scene: Scene) -> None:
    lab = scene.lab
    parts = keys(lab, "parts")
    lab.backup(TONIGHT, by=lab.open(scene.writer))
    needed = {lab.at.part_key(ref.part) for base in lab.find("latest").head.bases for ref in base.parts}
    assert needed < set(parts)
    forgetting(scene, scene.maintainer)
    assert len(list_snapshots(lab.open())) == 1
    assert lab.check(cache=lab.cache).findings == ()
    # All but what the snapshot after it goes back to.
    parts = [key for key in parts if key not in needed]
    things = Things(parts=tuple(map(layout.id_of, parts)))
    content = Deletion(NOW, Action.DELETE, {scene.entry.id: scene.entry.digest}, things)
    put_notice(lab.repository.domain, content, by=scene.maintainer)
    for key in (lab.at.snapshot_key(scene.entry.id), *parts):
        lab.sink.delete(key)
    for cache in (lab.cache, None):
        assert lab.check(cache=cache).findings == ()
    lab.events.clear()
    lab.backup(TONIGHT, by=lab.open(scene.writer))
    assert [event for event in lab.events if event.kind is EventKind.WARNING] == []
    assert lab.restored() == TONIGHT
    for cache in (lab.cache, None):
        assert lab.check(cache=cache).findings == ()


@pytest.mark.parametrize("digits", [8, 31, 32])
@pytest.mark.parametrize("more", ["0", "-x", "/x", ""])
def test_a_stranger_makes_no_id_ambiguous(scene: Scene, digits: int, more: str) -> None:
    lab = scene.lab
    name = scene.entry.id.hex()
    # One that goes on like the snapshot's, or one that is an id too, as long as that can be.
    stranger = name + more if more else name[:digits] + "".join("1" if one == "0" else "0" for one in name[digits:])
    if stranger != name:
        lab.sink.put(lab.at.snapshots + stranger, b"junk")
    assert lab.find(name[:digits]).id == scene.entry.id


class CarefulSink(MemorySink):
    """Lets nothing be replaced, nor anything be put that would replace what is there."""

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        assert if_absent, key
        super().put(key, data, if_absent=True)


def test_no_put_could_replace_what_is_there(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache", CarefulSink())
    lab.repository.add_slot(OTHER_PASSPHRASE, "second", CHEAP)
    writer, maintainer = add_writer(lab.repository, "host"), add_maintainer(lab.repository, "operations")
    for night in range(40):  # so many that index objects are merged
        lab.backup({"d": EARLIER["d"] + noise(100, night)}, by=lab.open(writer))
    assert isinstance(lab.sink, MemorySink)
    pack = next(key for key in lab.sink.contents() if "/packs/" in key)
    lab.sink.delete(pack)
    lab.sink.put(pack, b"junk", if_absent=True)
    assert lab.check(by=lab.open(maintainer)).distrusted == 1
    lab.backup(EARLIER, by=lab.open(writer))
    revoke(lab.open(), writer.key)
