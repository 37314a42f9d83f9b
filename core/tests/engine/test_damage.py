"""Every object of a repository is damaged in every way that comes to mind; nothing of it may go unnoticed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from core.tests.repository.lab import CHEAP, KIB, MIB, PASSPHRASE, BytesSource, Lab, noise

from penstock.api import (
    DamagedObject,
    MissingObject,
    PenstockError,
    RepositoryMissing,
    Secret,
    UnsupportedFormat,
    WrongKey,
)
from penstock.engine import check
from penstock.format.trust import Role
from penstock.repository import Access, Repository
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_key, revoke
from penstock.testing import MemorySink

pytestmark = pytest.mark.slow

KINDS = ["penstock.json", "grants", "slots", "sessions", "packs", "index", "snapshots"]
OTHER_PASSPHRASE = Secret("another one")


@dataclass(frozen=True)
class Scene:
    """A repository of three snapshots by two writers, with a revoked key, and another that was made the same way."""

    contents: dict[str, bytes]
    strange: dict[str, bytes]
    owner: Access
    latest: str
    #: What a restore of the latest snapshot needs and gives.
    sessions: tuple[bytes, ...]
    content: dict[str, bytes]

    def keys(self, kind: str) -> list[str]:
        return sorted(key for key in self.contents if key.split("/")[0] == kind)

    def with_object(self, key: str, data: bytes | None) -> dict[str, bytes]:
        changed = dict(self.contents)
        if data is None:
            del changed[key]
        else:
            changed[key] = data
        return changed


def made(folder: Path) -> Lab:
    lab = Lab(folder)
    lab.repository.add_slot(OTHER_PASSPHRASE, "second", CHEAP)
    writer = add_key(lab.repository, Role.WRITER, "host")
    add_key(lab.repository, Role.MAINTAINER, "operations")
    revoke(lab.repository, add_key(lab.repository, Role.WRITER, "stolen").key)
    content = noise(2 * MIB)
    lab.backup({"d": content}, by=lab.open(writer))
    lab.backup({"d": content + noise(MIB, 1)})
    lab.backup({"d": content + noise(2 * MIB, 1), "e": b"small"}, by=lab.open(writer))
    return lab


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    lab, other = (made(tmp_path_factory.mktemp("cache")) for _ in range(2))
    assert isinstance(lab.sink, MemorySink)
    assert isinstance(other.sink, MemorySink)
    latest = list_snapshots(lab.open())[-1]
    content = {"d": noise(2 * MIB) + noise(2 * MIB, 1), "e": b"small"}
    scene = Scene(
        lab.sink.contents(), other.sink.contents(), lab.owner, latest.id.hex(), latest.catalogue.sessions, content
    )
    # The test is worth something only if the latest snapshot relies on every pack.
    assert len({segment.pack for segment in latest.catalogue.segments}) == len(scene.keys("packs")) == 3
    assert {key.split("/")[0] for key in scene.contents} == set(KINDS)
    return scene


def sink_of(contents: dict[str, bytes]) -> MemorySink:
    sink = MemorySink()
    for key, data in contents.items():
        sink.put(key, data)
    return sink


def findings(sink: MemorySink, owner: Access, *, read_data: bool) -> set[str]:
    """The keys that opening or checking complains of."""
    try:
        repository = Repository.open(sink, owner)
    except (DamagedObject, MissingObject) as error:
        return {error.key}
    return {
        finding.key
        for finding in check(repository, read_data=read_data, cache_dir=None, listener=lambda _: None).findings
    }


def needed(scene: Scene, key: str) -> bool:
    """Whether a restore of the latest snapshot needs the object."""
    kind = key.split("/", maxsplit=1)[0]
    if kind == "snapshots":
        return key.endswith(scene.latest)
    if kind == "sessions":
        return bytes.fromhex(key.split("/")[1]) in scene.sessions
    return kind in ("penstock.json", "grants", "packs")


def assert_noticed(scene: Scene, contents: dict[str, bytes], key: str, *, read_data: bool = False) -> None:
    """A check names the object; a restore that needs it leaves the target alone, and any other is not disturbed."""
    sink = sink_of(contents)
    assert key in findings(sink, scene.owner, read_data=read_data), f"{key}: not noticed"
    changed = {one for one in contents.keys() | scene.contents.keys() if contents.get(one) != scene.contents.get(one)}
    hurt = any(needed(scene, one) for one in changed)
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
        assert not hurt, f"{key}: restored without it"
        assert target.restored == scene.content


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def directory_begins(pack: bytes) -> int:
    """Where a pack's sealed segments end: what is in front takes `read_data` to be looked at."""
    return len(pack) - 8 - int.from_bytes(pack[-8:-4], "little")


def bits(key: str, data: bytes) -> Iterator[int]:
    """The first byte, the last, the middle, and a sample."""
    last = 8 * len(data) - 1
    yield from (0, 7, last, last - 7, last // 2)
    chance = random.Random(key[:8])
    yield from (chance.randrange(last) for _ in range(20))
    if key.startswith("packs/"):
        start = 8 * directory_begins(data)
        yield from (start, *(chance.randrange(start, last) for _ in range(20)), last - 8 * 4, last - 8 * 7)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "packs" else ()) for kind in KINDS]
)
def test_a_flipped_bit_is_noticed(scene: Scene, kind: str) -> None:
    for key in scene.keys(kind):
        data = scene.contents[key]
        for bit in bits(key, data):
            inside = kind == "packs" and bit // 8 < directory_begins(data)
            assert_noticed(scene, scene.with_object(key, flipped(data, bit)), key, read_data=inside)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_object_is_noticed(scene: Scene, kind: str) -> None:
    for key in scene.keys(kind):
        data = scene.contents[key]
        for size in (0, 1, len(data) // 2, len(data) - 1):
            assert_noticed(scene, scene.with_object(key, data[:size]), key)


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_objects_that_changed_places_are_noticed(scene: Scene, kind: str) -> None:
    keys = scene.keys(kind)
    for key, other in pairwise(keys):
        swapped = scene.with_object(key, scene.contents[other])
        swapped[other] = scene.contents[key]
        assert_noticed(scene, swapped, key)
        if kind != "grants":  # the first that does not fit ends the reading of the log
            assert_noticed(scene, swapped, other)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_in_place_of_another_is_noticed(scene: Scene, kind: str) -> None:
    keys = scene.keys(kind)
    for key, other in zip(keys, [*keys[1:], keys[0]], strict=True):
        if key != other:
            assert_noticed(scene, scene.with_object(key, scene.contents[other]), key)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "penstock.json"])
def test_an_object_of_another_repository_is_noticed(scene: Scene, kind: str) -> None:
    strange = next(data for key, data in scene.strange.items() if key.startswith(kind))
    for key in scene.keys(kind):
        assert_noticed(scene, scene.with_object(key, scene.strange.get(key, strange)), key)


@pytest.mark.parametrize("kind", ["sessions", "packs", "index", "snapshots", "grants"])
def test_a_further_object_of_another_repository_is_noticed(scene: Scene, kind: str) -> None:
    for key in (key for key in scene.strange if key.startswith(f"{kind}/") and key not in scene.contents):
        sink = sink_of(scene.with_object(key, scene.strange[key]))
        assert key in findings(sink, scene.owner, read_data=False)


@pytest.mark.parametrize("kind", ["sessions", "packs", "index", "snapshots", "grants"])
def test_an_object_that_no_penstock_wrote_is_noticed(scene: Scene, kind: str) -> None:
    for name in ("x", "00" * 16, "zz/" + "00" * 16):
        key = f"{kind}/{name}"
        sink = sink_of(scene.with_object(key, b"something"))
        assert key in findings(sink, scene.owner, read_data=False)


def test_a_repository_under_the_name_of_another_is_refused(scene: Scene) -> None:
    with pytest.raises(WrongKey, match="another repository"):
        Repository.open(sink_of(scene.strange), scene.owner)
    replaced = sink_of(scene.with_object("penstock.json", scene.strange["penstock.json"]))
    with pytest.raises(WrongKey, match="another repository"):
        Repository.open(replaced, scene.owner)
    with pytest.raises(DamagedObject):
        Repository.open(replaced, PASSPHRASE)


def test_damage_that_looks_like_a_later_format_says_where_it_looked(scene: Scene) -> None:
    data = scene.contents["penstock.json"].replace(b'"format":1', b'"format":3')
    with pytest.raises(UnsupportedFormat, match=r"penstock\.json") as raised:
        Repository.open(sink_of(scene.with_object("penstock.json", data)), scene.owner)
    assert raised.value.exit_code == 12


def test_a_place_without_its_penstock_json_is_not_taken_for_empty(scene: Scene) -> None:
    contents = {key: data for key, data in scene.contents.items() if not key.startswith("packs/")}
    del contents["penstock.json"]
    with pytest.raises(MissingObject, match=r"penstock\.json"):
        Repository.open(sink_of(contents), scene.owner)
    with pytest.raises(RepositoryMissing):
        Repository.open(MemorySink(), scene.owner)


@pytest.mark.parametrize("damage", ["deleted", "flipped"])
def test_the_other_passphrase_opens_despite_a_damaged_slot(scene: Scene, damage: str) -> None:
    opened = refused = 0
    for key in scene.keys("slots"):
        data = None if damage == "deleted" else flipped(scene.contents[key], 999)
        sink = sink_of(scene.with_object(key, data))
        for passphrase in (PASSPHRASE, OTHER_PASSPHRASE):
            try:
                Repository.open(sink, passphrase)
                opened += 1
            except PenstockError as error:
                refused += 1
                assert error.exit_code == (22 if damage == "deleted" else 13)  # noqa: PT017 - both outcomes are counted
    assert (opened, refused) == (2, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed_by_those_who_cannot_read(scene: Scene, tmp_path: Path, kind: str) -> None:
    lab = made(tmp_path)
    assert isinstance(lab.sink, MemorySink)
    maintainer = add_key(lab.repository, Role.MAINTAINER, "night shift")
    contents = lab.sink.contents()
    for key in (key for key in contents if key.startswith(kind)):
        data = contents[key]
        changed = sink_of(contents | {key: flipped(data, 4 * len(data))})
        assert key in findings(changed, maintainer, read_data=kind == "packs")


def test_damaged_data_is_refused_while_restoring_when_it_was_not_looked_at_before(scene: Scene) -> None:
    lab = object.__new__(Lab)
    lab.events = []
    for key in scene.keys("packs"):
        middle = 8 * (directory_begins(scene.contents[key]) - 100 * KIB)
        sink = sink_of(scene.with_object(key, flipped(scene.contents[key], middle)))
        with pytest.raises(DamagedObject, match=key):
            lab.restore(scene.latest, by=Repository.open(sink, scene.owner), verify_first=False)


def test_a_host_misses_the_latest_snapshot_that_it_has_seen(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    latest = lab.backup({"d": b"2"})
    key = f"snapshots/{latest.snapshot.hex()}"
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
    lab.sink.delete(f"snapshots/{latest.snapshot.hex()}")
    assert [finding.key for finding in lab.check(cache=other).findings] == [f"snapshots/{latest.snapshot.hex()}"]


def test_a_fresh_host_cannot_know_of_a_latest_snapshot_that_was_deleted(lab: Lab) -> None:
    """The limit of what a repository can tell of itself: nothing in it refers to its last snapshot."""
    lab.backup({"d": b"1"})
    latest = lab.backup({"d": b"2"})
    lab.sink.delete(f"snapshots/{latest.snapshot.hex()}")
    assert lab.check().findings == ()
    assert lab.restored() == {"d": b"1"}


def test_a_fresh_host_cannot_know_of_a_last_grant_that_no_session_saw(lab: Lab) -> None:
    """The same limit for the owner's log: a session pins it, an entry after the last session nobody misses."""
    lab.backup({"d": b"1"})
    add_key(lab.repository, Role.WRITER, "host")
    lab.check(cache=lab.cache)
    lab.sink.delete("grants/00000002")
    assert lab.check().findings == ()
    assert [finding.key for finding in lab.check(cache=lab.cache).findings] == ["grants/00000002"]
