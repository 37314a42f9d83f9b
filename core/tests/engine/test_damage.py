"""Every object of a repository is damaged in every way that comes to mind; nothing of it may go unnoticed."""

import json
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from core.tests.repository.forging import NOW, end_of, put_notice
from core.tests.repository.lab import CHEAP, KIB, PASSPHRASE, BytesSource, Lab, noise

from penstock.api import (
    DamagedObject,
    KeyMissing,
    MissingObject,
    PenstockError,
    RepositoryMissing,
    Secret,
    UnsupportedFormat,
    WrongKey,
)
from penstock.engine import check
from penstock.format.documents import encode_document
from penstock.format.encoding import new_id
from penstock.format.notice import Action, Deletion, Notice, Things, Tombstone
from penstock.format.pack import TRAILER_BYTES, Trailer
from penstock.format.part import Key
from penstock.format.session import LeaseDocument
from penstock.repository import Access, Repository
from penstock.repository.domain import Domain
from penstock.repository.layout import DomainLayout
from penstock.repository.read.content import each_row, parts_of
from penstock.repository.read.ends import PackEnd
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke
from penstock.testing import MemorySink

pytestmark = pytest.mark.slow

#: What is pinned or needed, and what is not.
KINDS = ["penstock.json", "grants", "slots", "sessions", "packs", "index", "parts", "snapshots"]
OTHERS = ["leases", "notices", "tombstones", "deletions"]
OTHER_PASSPHRASE = Secret("another one")
PIECE = 256 * KIB


def kind_of(key: str) -> str:
    parts = key.split("/")
    return parts[2] if parts[0] == "d" else parts[0]


@dataclass(frozen=True)
class Scene:
    """A repository of three snapshots by two writers, with a revoked key, and another that was made the same way."""

    contents: dict[str, bytes]
    strange: dict[str, bytes]
    owner: Access
    writer: Access
    maintainer: Access
    at: DomainLayout
    latest: str
    #: The owner's log, oldest first.
    log: tuple[str, ...]
    #: What a restore of the latest snapshot needs beside the log, and what it gives.
    needed: frozenset[str]
    content: dict[str, bytes]

    def keys(self, kind: str) -> list[str]:
        return sorted(key for key in self.contents if kind_of(key) == kind)

    def with_object(self, key: str, data: bytes | None) -> dict[str, bytes]:
        changed = dict(self.contents)
        if data is None:
            del changed[key]
        else:
            changed[key] = data
        return changed


def put_others(domain: Domain, session: bytes) -> None:
    """Two of each kind of object that no snapshot needs, none of which says anything about what is there."""
    for number in (1, 2):
        none = new_id()
        put_notice(domain, Notice(NOW, {none: "a test"}))
        put_notice(domain, Tombstone(NOW, Things(packs=(none,))))
        put_notice(domain, Deletion(NOW, Action.FORGET, {none: none + none}))
        key = domain.at.lease_key(session, number)
        domain.sink.put(key, encode_document(key, LeaseDocument(session, number).to_json(), domain.access.signing))


def made(folder: Path) -> tuple[Lab, Access, Access]:
    lab = Lab(folder)
    lab.repository.add_slot(OTHER_PASSPHRASE, "second", CHEAP)
    writer = add_writer(lab.repository, "host", domain="main")
    maintainer = add_maintainer(lab.repository, "operations")
    revoke(lab.repository, add_writer(lab.repository, "stolen", domain="main").key)
    content = noise(PIECE)
    lab.backup({"d": content}, by=lab.open(writer))
    lab.backup({"d": content + noise(PIECE, 1)})
    lab.backup({"d": content + noise(2 * PIECE, 1), "e": b"small"}, by=lab.open(writer))
    put_others(lab.repository.domain, list_snapshots(lab.open())[1].session)
    return lab, writer, maintainer


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    with pytest.MonkeyPatch.context() as monkeypatch:
        # Parts of every kind: so few references fit into a head that they are in parts themselves.
        monkeypatch.setattr("penstock.repository.write.session.MAX_REFS", 1)
        (lab, writer, maintainer), (other, _, _) = (made(tmp_path_factory.mktemp("cache")) for _ in range(2))
    assert isinstance(lab.sink, MemorySink)
    assert isinstance(other.sink, MemorySink)
    latest = list_snapshots(lab.open())[-1]
    contents = lab.sink.contents()
    content = {"d": noise(PIECE) + noise(2 * PIECE, 1), "e": b"small"}
    at = lab.at
    log = sorted(
        (key for key in contents if kind_of(key) == "grants"),
        key=lambda key: json.loads(contents[key].split(b"\n")[0])["number"],
    )
    needed = {
        "penstock.json",
        at.snapshot_key(latest.id),
        *map(at.session_key, lab.sessions()),
        *(at.part_key(ref.part) for ref in parts_of(latest)),
        *(at.pack_key(row.pack) for row in each_row(latest)),
    }
    # The strange one under the names of this domain: all that a stranger can do.
    strange = {key.replace(other.at.prefix, at.prefix): data for key, data in other.sink.contents().items()}
    scene = Scene(
        contents,
        strange,
        lab.owner,
        writer,
        maintainer,
        at,
        latest.id.hex(),
        tuple(log),
        frozenset(needed),
        content,
    )
    # The test is worth something only if the latest snapshot relies on every pack.
    assert len(scene.keys("packs")) == 3
    assert set(scene.keys("packs")) < needed
    assert {kind_of(key) for key in contents} == {*KINDS, *OTHERS}
    assert {ref.key for ref in parts_of(latest)} == set(Key)
    return scene


def sink_of(contents: dict[str, bytes]) -> MemorySink:
    sink = MemorySink()
    for key, data in contents.items():
        sink.put(key, data)
    return sink


def findings(sink: MemorySink, access: Access, *, read_data: bool) -> dict[str, str]:
    """What opening or checking complains of, by key."""
    try:
        repository = Repository.open(sink, access)
    except (DamagedObject, MissingObject) as error:
        return {error.key: error.reason, **dict(detail.split(": ", 1) for detail in error.details)}
    report = check(repository, read_data=read_data, cache_dir=None, listener=lambda _: None)
    return {finding.key: finding.problem for finding in report.findings}


def whole(log: Sequence[str], changed: Collection[str]) -> bool:
    """Whether no entry of the log is left that names one that was changed: its end can go, and nobody can tell."""
    there = [key not in changed for key in log]
    return there == sorted(there, reverse=True)


def assert_noticed(
    scene: Scene, contents: dict[str, bytes], key: str, *, read_data: bool = False, pinned: bool | None = True
) -> None:
    """A check names the object; a restore that needs it leaves the target alone, and any other is not disturbed.

    A change that is not `pinned` is in what no restore needs of an object; None for one that it may stumble over.
    """
    sink = sink_of(contents)
    found = findings(sink, scene.owner, read_data=read_data)
    if kind_of(key) == "grants" and key not in contents:
        # Others tell that it is gone, and know no name of it.
        assert any("log was cut" in problem or "log has a gap" in problem for problem in found.values()), key
    else:
        assert key in found, f"{key}: not noticed"
    changed = {one for one in contents.keys() | scene.contents.keys() if contents.get(one) != scene.contents.get(one)}
    hurt = pinned is not False and not (changed.isdisjoint(scene.needed) and whole(scene.log, changed))
    target = BytesSource({})
    lab = object.__new__(Lab)
    lab.events = []
    try:
        lab.restore(scene.latest, into=target, by=Repository.open(sink, scene.owner))
    except PenstockError as error:
        assert error.exit_code in (13, 14), f"{key}: {error!r}"  # noqa: PT017 - both outcomes are looked at
        assert target.touched == []
        assert hurt, f"{key}: {error!r}"  # noqa: PT017
    else:
        assert not hurt or pinned is None, f"{key}: restored without it"
        assert target.restored == scene.content


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def ends_begin(pack: bytes) -> int:
    """Where the sealed ends of a pack begin: what is in front takes `read_data` to be looked at."""
    trailer = Trailer.decode(pack[-TRAILER_BYTES:], len(pack))
    return len(pack) - TRAILER_BYTES - trailer.ids_length - trailer.places_length


def is_pinned(end: PackEnd, at: int) -> bool | None:
    """Whether a snapshot pins the byte of a pack, or a reader needs it to find the places.

    The others are the padding, the ids of chunks, and who signed: a restore goes by the pin alone. With another length
    of the ids, the padding does not fit, unless it is in the same class of sizes.
    """
    trailer_at = end.size - TRAILER_BYTES
    places_at = trailer_at - end.trailer.places_length
    if trailer_at <= at < trailer_at + 4:
        return None
    return at < end.end_of_segments or places_at <= at < trailer_at + 8 or at >= end.size - 4


def bits(key: str, data: bytes) -> Iterator[int]:
    """The first byte, the last, the middle, and a sample."""
    last = 8 * len(data) - 1
    yield from (0, 7, last, last - 7, last // 2)
    chance = random.Random(key[-8:])
    yield from (chance.randrange(last) for _ in range(10))
    if kind_of(key) == "packs":
        start = 8 * ends_begin(data)
        yield from (start, *(chance.randrange(start, last) for _ in range(10)))
        # The last of the padding; the trailer: lengths, writer, signature, end mark.
        yield from (start - 8, *(last - 8 * back for back in (TRAILER_BYTES - 1, TRAILER_BYTES - 5, 80, 40, 3)))


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_a_flipped_bit_is_noticed(scene: Scene, kind: str) -> None:
    domain = Repository.open(sink_of(scene.contents), scene.owner).domain
    for key in scene.keys(kind):
        data = scene.contents[key]
        for bit in bits(key, data):
            inside = kind == "packs" and bit // 8 < ends_begin(data)
            pinned = kind != "packs" or is_pinned(end_of(domain, key), bit // 8)
            changed = scene.with_object(key, flipped(data, bit))
            assert_noticed(scene, changed, key, read_data=inside, pinned=pinned)


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_a_truncated_object_is_noticed(scene: Scene, kind: str) -> None:
    for key in scene.keys(kind):
        data = scene.contents[key]
        for size in (0, 1, len(data) // 2, len(data) - 1):
            assert_noticed(scene, scene.with_object(key, data[:size]), key)


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_an_appended_byte_is_noticed(scene: Scene, kind: str) -> None:
    for key in scene.keys(kind):
        for more in (b"\0", b"\n", b" "):
            assert_noticed(scene, scene.with_object(key, scene.contents[key] + more), key)
            assert_noticed(scene, scene.with_object(key, more + scene.contents[key]), key)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "snapshots"])
def test_a_deleted_object_is_noticed(scene: Scene, kind: str) -> None:
    for key in scene.keys(kind):
        assert_noticed(scene, scene.with_object(key, None), key)


def test_a_deleted_snapshot_is_noticed_by_those_after_it(scene: Scene) -> None:
    for key in scene.keys("snapshots"):
        if not key.endswith(scene.latest):
            assert_noticed(scene, scene.with_object(key, None), key)


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_objects_that_changed_places_are_noticed(scene: Scene, kind: str) -> None:
    for key, other in pairwise(scene.keys(kind)):
        swapped = scene.with_object(key, scene.contents[other])
        swapped[other] = scene.contents[key]
        assert_noticed(scene, swapped, key)
        assert_noticed(scene, swapped, other)


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_an_object_in_place_of_another_is_noticed(scene: Scene, kind: str) -> None:
    keys = scene.keys(kind)
    for key, other in zip(keys, [*keys[1:], keys[0]], strict=True):
        if key != other:
            assert_noticed(scene, scene.with_object(key, scene.contents[other]), key)


@pytest.mark.parametrize("kind", [kind for kind in (*KINDS, *OTHERS) if kind != "penstock.json"])
def test_an_object_of_another_repository_is_noticed(scene: Scene, kind: str) -> None:
    strange = next(data for key, data in scene.strange.items() if kind_of(key) == kind)
    for key in scene.keys(kind):
        assert_noticed(scene, scene.with_object(key, strange), key)


@pytest.mark.parametrize("kind", [kind for kind in (*KINDS, *OTHERS) if kind not in ("penstock.json", "parts")])
def test_a_further_object_of_another_repository_is_noticed(scene: Scene, kind: str) -> None:
    further = [key for key in scene.strange if kind_of(key) == kind and key not in scene.contents]
    assert further
    for key in further:
        sink = sink_of(scene.with_object(key, scene.strange[key]))
        assert list(findings(sink, scene.owner, read_data=False)) == [key]


def test_a_repository_under_the_name_of_another_is_refused(scene: Scene) -> None:
    with pytest.raises(WrongKey, match="another repository"):
        Repository.open(sink_of(scene.strange), scene.owner)
    replaced = sink_of(scene.with_object("penstock.json", scene.strange["penstock.json"]))
    with pytest.raises(WrongKey, match="another repository"):
        Repository.open(replaced, scene.owner)
    # None of the entries of the log is signed by that owner, so no slot is even tried.
    with pytest.raises(KeyMissing):
        Repository.open(replaced, PASSPHRASE)


def test_damage_that_looks_like_a_later_format_says_where_it_looked(scene: Scene) -> None:
    data = scene.contents["penstock.json"].replace(b'"format":1', b'"format":3')
    with pytest.raises(UnsupportedFormat, match=r"penstock\.json") as raised:
        Repository.open(sink_of(scene.with_object("penstock.json", data)), scene.owner)
    assert raised.value.exit_code == 12


def test_a_place_without_its_penstock_json_is_not_taken_for_empty(scene: Scene) -> None:
    contents = {key: data for key, data in scene.contents.items() if kind_of(key) != "packs"}
    del contents["penstock.json"]
    with pytest.raises(MissingObject, match=r"penstock\.json"):
        Repository.open(sink_of(contents), scene.owner)
    with pytest.raises(RepositoryMissing):
        Repository.open(MemorySink(), scene.owner)


@pytest.mark.parametrize("damage", ["deleted", "flipped", "swapped"])
def test_the_other_passphrase_opens_despite_a_damaged_slot(scene: Scene, damage: str) -> None:
    opened = refused = 0
    one, two = scene.keys("slots")
    for key, other in ((one, two), (two, one)):
        data = {"deleted": None, "flipped": flipped(scene.contents[key], 999), "swapped": scene.contents[other]}[damage]
        sink = sink_of(scene.with_object(key, data))
        for passphrase in (PASSPHRASE, OTHER_PASSPHRASE):
            try:
                Repository.open(sink, passphrase)
                opened += 1
            except PenstockError as error:
                refused += 1
                assert error.exit_code == 22  # noqa: PT017 - both outcomes are counted
    assert (opened, refused) == (2, 2)


@pytest.mark.parametrize("role", ["writer", "maintainer"])
@pytest.mark.parametrize("harm", ["flipped", "truncated", "deleted", "another's", "of another repository"])
@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_damage_is_noticed_by_those_who_cannot_read(scene: Scene, kind: str, harm: str, role: str) -> None:
    access = scene.writer if role == "writer" else scene.maintainer
    for key in scene.keys(kind):
        if harm == "deleted" and (kind in OTHERS or key.endswith(scene.latest)):
            continue  # nothing tells of it
        data = scene.contents[key]
        others = [one for one in scene.keys(kind) if one != key]
        if harm == "another's" and not others:
            continue
        harmed = {
            "flipped": flipped(data, 4 * len(data)),
            "truncated": data[: len(data) // 2],
            "deleted": None,
            "another's": scene.contents[others[0]] if others else None,
            "of another repository": next(data for one, data in scene.strange.items() if kind_of(one) == kind),
        }[harm]
        try:
            found = findings(sink_of(scene.with_object(key, harmed)), access, read_data=kind == "packs")
        except WrongKey:
            # Its own grant, or its domain, which then nobody knows of; or the whole repository is another.
            assert kind == "grants" or (kind, harm) == ("penstock.json", "of another repository")
            continue
        if kind == "grants" and harm == "deleted":
            assert any("log" in problem for problem in found.values())
        else:
            assert key in found


def test_damaged_data_is_refused_while_restoring_when_it_was_not_looked_at_before(scene: Scene) -> None:
    lab = object.__new__(Lab)
    lab.events = []
    for key in scene.keys("packs"):
        sink = sink_of(scene.with_object(key, flipped(scene.contents[key], 8 * 100 * KIB)))
        with pytest.raises(DamagedObject, match=key):
            lab.restore(scene.latest, by=Repository.open(sink, scene.owner), verify_first=False)


@pytest.mark.parametrize("kind", ["grants", "sessions", "packs", "index", "parts", "snapshots", "notices", "deletions"])
def test_a_host_misses_whatever_it_has_seen_of_what_lasts(lab: Lab, kind: str) -> None:
    lab.backup({"d": noise(PIECE)})
    put_others(lab.repository.domain, lab.find("latest").session)
    add_writer(lab.repository, "host", domain="main")
    assert lab.check(cache=lab.cache).findings == ()
    assert isinstance(lab.sink, MemorySink)
    contents = lab.sink.contents()
    for key in (key for key in contents if kind_of(key) == kind):
        if kind == "grants" and b'"label":"host"' not in contents[key]:
            continue  # the log is cut without it, and nothing opens
        lab.sink.delete(key)
        (finding,) = (finding for finding in lab.check(cache=lab.cache).findings if finding.key == key)
        assert finding.gone
        lab.sink.put(key, contents[key])
    assert lab.check(cache=lab.cache).findings == ()


def test_a_host_misses_the_latest_snapshot_that_it_has_seen(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    latest = lab.backup({"d": b"2"})
    key = lab.at.snapshot_key(latest.snapshot)
    lab.sink.delete(key)
    (finding,) = lab.check(cache=lab.cache).findings
    assert (finding.key, finding.gone) == (key, True)
    target = BytesSource({})
    lab.restore(into=target, cache=lab.cache)
    assert target.restored == {"d": b"1"}
    (warning,) = lab.warnings
    assert key in warning
    assert "may be a later one" in warning
    # It is not forgotten by having been told once.
    assert lab.check(cache=lab.cache).findings == (finding,)


def test_a_host_that_only_ever_checked_misses_it_too(lab: Lab, tmp_path: Path) -> None:
    latest = lab.backup({"d": b"2"})
    other = tmp_path / "other host"
    assert lab.check(cache=other).findings == ()
    lab.sink.delete(lab.at.snapshot_key(latest.snapshot))
    assert [finding.key for finding in lab.check(cache=other).findings] == [lab.at.snapshot_key(latest.snapshot)]


def test_a_fresh_host_cannot_know_of_a_latest_snapshot_that_nobody_saw(lab: Lab) -> None:
    """The limit of what a repository can tell of itself: nothing in it refers to its last snapshot."""
    lab.backup({"d": b"1"})
    latest = lab.backup({"d": b"2"})
    lab.sink.delete(lab.at.snapshot_key(latest.snapshot))
    assert lab.check().findings == ()
    assert lab.restored() == {"d": b"1"}


def test_a_fresh_host_cannot_know_of_a_last_grant_that_no_session_saw(lab: Lab) -> None:
    """The same limit for the owner's log: a session pins it, an entry after the last session nobody misses."""
    lab.backup({"d": b"1"})
    before = {info.key for info in lab.sink.list("grants/")}
    add_writer(lab.repository, "host", domain="main")
    (last,) = {info.key for info in lab.sink.list("grants/")} - before
    lab.check(cache=lab.cache)
    lab.sink.delete(last)
    assert lab.check().findings == ()
    assert [finding.key for finding in lab.check(cache=lab.cache).findings] == [last]


def test_a_log_that_was_cut_is_missed_as_soon_as_a_session_saw_it(lab: Lab) -> None:
    before = {info.key for info in lab.sink.list("grants/")}
    add_writer(lab.repository, "host", domain="main")
    (last,) = {info.key for info in lab.sink.list("grants/")} - before
    lab.backup({"d": b"1"})
    lab.sink.delete(last)
    (finding,) = lab.check().findings
    assert finding.key.startswith(lab.at.sessions)
    assert "the log was cut" in finding.problem
    # It stops nobody.
    assert lab.restored() == {"d": b"1"}
    lab.backup({"d": b"2"})
    assert lab.restored() == {"d": b"2"}
