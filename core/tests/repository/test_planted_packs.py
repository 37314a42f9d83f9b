"""A writer relies on nothing but packs that an unrevoked writer of its own domain signed, whatever points at others.

Each attacker here knows true ids and lengths of the chunks that the next honest night will store, and the name of an
honest session: more than any of these keys reveals. What he plants opens, fits together and has good digests; only its
segments are garbage, and its signature is not that of a writer who may.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from core.tests.repository.forging import (
    ForgedSegment,
    Hand,
    Planted,
    encode_pack,
    pack_object,
    put_index,
    put_pack,
    resign,
)
from core.tests.repository.lab import KIB, MIB, BytesSource, BytesStream, Lab, noise

from penstock.api import DamagedObject
from penstock.engine import BackupResult
from penstock.format.chunker import Chunker
from penstock.format.encoding import new_id
from penstock.format.ids import chunk_ids
from penstock.format.keys import SigningKey, new_secret, wrap_data_key
from penstock.format.pack import SegmentId
from penstock.repository import Access, layout
from penstock.repository.known.known_pack import KnownPack, Lender
from penstock.repository.read.content import each_row
from penstock.repository.read.ends import TAIL, PackEnd, read_end, read_known_end
from penstock.repository.read.verify import verify_pack
from penstock.repository.sessions import data_sealer
from penstock.repository.snapshots import find_snapshot
from penstock.repository.trust.keyring import add_maintainer, add_writer, revoke
from penstock.testing import FaultySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

CONTENT = noise(2 * MIB, 11)


@dataclass
class Scene:
    """An honest writer's domain, with a backup of something else, and everybody who is up to something."""

    lab: Lab
    honest: Access
    revoked: Access
    maintainer: Access
    foreign: Access
    session: bytes
    cache: Path

    def backup(self, content: bytes, cache: Path | None = None) -> BackupResult:
        return self.lab.backup({"d": content}, by=self.lab.open(self.honest), cache=cache or self.cache)

    def used(self, result: BackupResult) -> set[bytes]:
        """The packs that a snapshot needs."""
        entry = find_snapshot(self.lab.open(), result.snapshot.hex())
        return {row.pack for row in each_row(entry) if row.used}

    def restored(self, result: BackupResult) -> bytes:
        target = BytesSource({})
        self.lab.restore(result.snapshot.hex(), into=target)
        return target.restored["d"]


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Scene:
    honest = add_writer(lab.repository, "host", domain="main")
    stolen = add_writer(lab.repository, "stolen", domain="main")
    maintainer, foreign = add_maintainer(lab.repository, "operations"), add_writer(lab.repository, "web")
    revoke(lab.repository, stolen.key)
    cache = tmp_path / "the honest host"
    lab.backup({"d": noise(MIB, 12)}, by=lab.open(honest), cache=cache)
    return Scene(lab, honest, stolen, maintainer, foreign, lab.sessions()[0], cache)


ATTACKERS: dict[str, Callable[[Scene], Hand]] = {
    "a revoked writer": lambda scene: Hand.of(scene.revoked),
    "a revoked writer as another": lambda scene: Hand.of(scene.revoked).as_if(scene.honest),
    "a maintainer": lambda scene: Hand.of(scene.maintainer),
    "a maintainer as a writer": lambda scene: Hand.of(scene.maintainer).as_if(scene.honest),
    "a maintainer as the owner": lambda scene: Hand.of(scene.maintainer).as_if(scene.lab.owner),
    "a writer of another domain": lambda scene: Hand.of(scene.foreign),
    "a writer of another domain as one of this": lambda scene: Hand.of(scene.foreign).as_if(scene.honest),
    "somebody unknown": lambda scene: Hand(new_id(), SigningKey.generate()),
}
POINTERS: dict[str, Callable[[Scene, Planted, Hand], str | None]] = {
    "no index object": lambda scene, planted, by: None,
    "the attacker's index object": lambda scene, planted, by: put_index(scene.lab.domain, [planted.summary], by),
    "an honest index object": lambda scene, planted, by: put_index(
        scene.lab.domain, [planted.summary], Hand.of(scene.honest)
    ),
}


def assert_attack_failed(scene: Scene, result: BackupResult, pack: bytes) -> None:
    assert result.stored > 2 * MIB, "stored anew"
    assert pack not in scene.used(result)
    assert scene.restored(result) == CONTENT


@pytest.mark.parametrize("cache", ["kept", "lost"])
@pytest.mark.parametrize("pointer", POINTERS)
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_nobody_deduplicates_against_a_planted_pack(
    scene: Scene, tmp_path: Path, attacker: str, pointer: str, cache: str
) -> None:
    by = ATTACKERS[attacker](scene)
    planted = put_pack(scene.lab.domain, CONTENT, scene.session, by)
    index = POINTERS[pointer](scene, planted, by)
    result = scene.backup(CONTENT, scene.cache if cache == "kept" else tmp_path / "new")
    assert_attack_failed(scene, result, planted.pack)
    again = scene.backup(CONTENT, scene.cache if cache == "kept" else tmp_path / "new")
    assert again.packs == 0, "what was stored anew is used"
    assert again.stored < 64 * KIB

    # The owner's check opens segments, so it names what a revoked writer signed too.
    found = {finding.key for finding in scene.lab.check().findings}
    key = scene.lab.at.pack_key(planted.pack)
    # Index objects are maintainers' too, who merge them: that one of theirs is signed says nothing of packs.
    trusted = attacker in {"a revoked writer", "a maintainer"} or pointer == "an honest index object"
    assert found == {key} | ({index} if index is not None and not trusted else set())


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_an_honest_pack_is_not_replaced_under_its_name(scene: Scene, tmp_path: Path, attacker: str) -> None:
    """The honest index object and every cache point at it, and its size is as it was."""
    first = scene.backup(CONTENT)
    pack = next(iter(scene.used(first)))
    key = scene.lab.at.pack_key(pack)
    size = scene.lab.sink.stat(key).size
    forged = pack_object(scene.lab.domain, CONTENT, scene.session, ATTACKERS[attacker](scene), pack=pack)
    assert len(forged.data) == size
    scene.lab.sink.put(key, forged.data)
    for cache in (scene.cache, tmp_path / "new"):
        result = scene.backup(CONTENT, cache)
        assert pack not in scene.used(result)
        assert scene.restored(result) == CONTENT
    # What needs the old pack is not restored, and not a byte of the forged one comes out.
    target = BytesSource({})
    with pytest.raises(DamagedObject, match="not the pack that the snapshot pins"):
        scene.lab.restore(first.snapshot.hex(), into=target)
    assert target.touched == []
    assert key in {finding.key for finding in scene.lab.check(read_data=False).findings}


def test_a_pack_that_is_sound_but_for_its_signature_is_no_better(scene: Scene) -> None:
    """Not even if its segments hold what they should: nobody knows that without the owner's key."""
    sealer = data_sealer(scene.lab.domain, scene.session)
    by = Hand.of(scene.maintainer)
    planted = put_pack(scene.lab.domain, CONTENT, scene.session, by, sealer=sealer)
    put_index(scene.lab.domain, [planted.summary], Hand.of(scene.honest))
    assert_attack_failed(scene, scene.backup(CONTENT), planted.pack)


def test_the_same_pack_with_a_good_signature_is_used(scene: Scene) -> None:
    """The tests above prove nothing if a planted pack is refused for another reason."""
    sealer = data_sealer(scene.lab.domain, scene.session)
    planted = put_pack(scene.lab.domain, CONTENT, scene.session, Hand.of(scene.honest), sealer=sealer)
    result = scene.backup(CONTENT)
    assert result.packs == 0
    assert scene.used(result) == {planted.pack}
    assert scene.restored(result) == CONTENT
    assert scene.lab.check().findings == ()


def lying(scene: Scene, by: Access, lengths: Callable[[list[int]], list[int]], *, large: bool = False) -> Planted:
    """A pack whose ids are those of `CONTENT`, with other lengths; put beside an index object that names it.

    A `large` one claims to have more than 4 GiB before them.
    """
    domain = scene.lab.domain
    true = Chunker(domain.made.chunker, domain.keys.chunker_seed).cut(memoryview(CONTENT), last=True)
    ids = chunk_ids(domain.keys.chunk_key, memoryview(CONTENT), true)
    pack = new_id()
    filling = [[(b"%d:%d" % (at, number)).ljust(12) for number in range(127)] for at in range(600 if large else 0)]
    segments = [*((names, [65535] * len(names)) for names in filling), (ids, lengths(true))]
    forged = [
        ForgedSegment(SegmentId(pack, number), scene.session, b"garbage!" * 4, made, names)
        for number, (names, made) in enumerate(segments)
    ]
    planted = encode_pack(domain, pack, forged, by)
    domain.sink.put(domain.at.pack_key(pack), planted.data)
    put_index(domain, [planted.summary], by)
    return planted


LIES: dict[str, Callable[[list[int]], list[int]]] = {
    "shorter": lambda lengths: [length - 1 for length in lengths],
    "longer": lambda lengths: [length + 1 for length in lengths],
    "nothing": lambda lengths: [0] * len(lengths),
    "the first": lambda lengths: [lengths[0] + 7, *lengths[1:]],
}


@pytest.mark.parametrize("how", LIES)
def test_a_pack_that_lies_about_lengths_is_not_used_and_told(scene: Scene, how: str) -> None:
    """Whoever may write may fill a pack with garbage, which `verify` finds; but he makes no backup fail."""
    stolen = add_writer(scene.lab.repository, "not revoked yet", domain="main")
    planted = lying(scene, stolen, LIES[how])
    result = scene.backup(CONTENT)
    assert any(planted.pack.hex() in warning for warning in result.warnings)
    assert planted.pack not in scene.used(result)
    assert scene.restored(result) == CONTENT
    # The past that this night left is as sound.
    again = scene.backup(CONTENT + noise(MIB, 13))
    assert not again.warnings
    assert planted.pack not in scene.used(again)
    assert scene.restored(again) == CONTENT + noise(MIB, 13)


@pytest.mark.parametrize("revoked", [False, True])
def test_a_pack_that_claims_to_be_huge_fails_no_backup(scene: Scene, revoked: bool) -> None:
    stolen = add_writer(scene.lab.repository, "not revoked yet", domain="main")
    planted = lying(scene, stolen, lambda lengths: lengths, large=True)
    if revoked:
        revoke(scene.lab.repository, stolen.key)
    result = scene.backup(CONTENT)
    # Its lengths are right, so it is found out when the data is verified.
    assert (planted.pack in scene.used(result)) == (not revoked)
    if revoked:
        assert scene.restored(result) == CONTENT


def test_nothing_of_a_revoked_writer_is_opened(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = lying(scene, scene.revoked, lambda lengths: lengths)
    of, opened = KnownPack.of, set()

    def noted(end: PackEnd, lenders: Mapping[bytes, Lender]) -> KnownPack:
        opened.add(end.places.pack)
        return of(end, lenders)

    monkeypatch.setattr(KnownPack, "of", noted)
    assert scene.restored(scene.backup(CONTENT)) == CONTENT
    assert planted.pack not in opened


@pytest.mark.parametrize("session", ["unknown", "of a revoked writer", "of another domain"])
def test_a_pack_of_a_session_that_nobody_vouches_for_is_not_used(scene: Scene, session: str) -> None:
    lab, domain = scene.lab, scene.lab.domain
    name = new_id()
    source = lab.sink.get(domain.at.session_key(scene.session))
    if session == "of a revoked writer":
        key = domain.at.session_key(name)
        lab.sink.put(key, source)
        wrapped = wrap_data_key(new_secret(), lab.owner.owner.recipient, domain.scope, name)
        more = {"session": name.hex(), "writer": scene.revoked.key.hex(), "data_key": wrapped.hex()}
        resign(domain, key, Hand.of(scene.revoked), **more)
    elif session == "of another domain":
        lab.backup({"d": b"1"}, by=lab.open(scene.foreign))
        (theirs,) = lab.keys(lab.open(scene.foreign).domain.at.sessions)
        name = layout.id_of(theirs)
    planted = put_pack(domain, CONTENT, name, Hand.of(scene.honest))
    put_index(domain, [planted.summary], Hand.of(scene.honest))
    assert_attack_failed(scene, scene.backup(CONTENT), planted.pack)


def test_a_pack_bound_to_another_domain_is_not_used(scene: Scene) -> None:
    other = scene.lab.open(scene.foreign).domain
    planted = put_pack(scene.lab.domain, CONTENT, scene.session, Hand.of(scene.honest), seen_in=other)
    put_index(scene.lab.domain, [planted.summary], Hand.of(scene.honest))
    assert_attack_failed(scene, scene.backup(CONTENT), planted.pack)


def test_a_pack_under_the_name_of_another_is_not_used(scene: Scene) -> None:
    sealer = data_sealer(scene.lab.domain, scene.session)
    made = pack_object(scene.lab.domain, CONTENT, scene.session, Hand.of(scene.honest), sealer=sealer)
    name = new_id()
    scene.lab.sink.put(scene.lab.at.pack_key(name), made.data)
    assert_attack_failed(scene, scene.backup(CONTENT), name)


@pytest.mark.parametrize("what", ["ids", "places"])
def test_ends_of_two_packs_do_not_make_one(scene: Scene, what: str) -> None:
    """Both were signed by a writer who may, and say the same: but not together."""
    domain = scene.lab.domain
    sealer = data_sealer(domain, scene.session)
    name = new_id()
    one, other = (
        pack_object(domain, CONTENT, scene.session, Hand.of(scene.honest), pack=name, sealer=sealer) for _ in range(2)
    )
    ends = one.summary.ends, other.summary.ends
    assert ends[0].size == ends[1].size
    assert ends[0].offset == ends[1].offset
    begin = ends[0].offset if what == "ids" else ends[0].offset + ends[0].ids_length
    stop = begin + (ends[0].ids_length if what == "ids" else ends[0].places_length)
    mixed = other.data[:begin] + one.data[begin:stop] + other.data[stop:]
    scene.lab.sink.put(domain.at.pack_key(name), mixed)
    assert_attack_failed(scene, scene.backup(CONTENT), name)
    assert {finding.key for finding in scene.lab.check(read_data=False).findings} == {domain.at.pack_key(name)}


# sessions and packs that change after a host has taken note of them


def overwrite(scene: Scene, session: bytes, how: str) -> None:
    domain = scene.lab.domain
    key = domain.at.session_key(session)
    wrapped = wrap_data_key(new_secret(), scene.lab.owner.owner.recipient, domain.scope, session)
    match how:
        case "garbage":
            scene.lab.sink.put(key, b"a stranger's")
        case "gone":
            scene.lab.sink.delete(key)
        case _:
            resign(domain, key, Hand.of(scene.revoked), writer=scene.revoked.key.hex(), data_key=wrapped.hex())


@pytest.mark.parametrize("how", ["garbage", "gone", "a revoked writer's"])
def test_a_session_that_was_overwritten_after_it_was_cached_is_not_relied_on(scene: Scene, how: str) -> None:
    scene.backup(CONTENT)
    (session,) = scene.lab.sessions()
    overwrite(scene, session, how)
    for _ in range(2):
        result = scene.backup(CONTENT)
        assert session not in scene.lab.sessions(result.snapshot.hex())
        assert scene.restored(result) == CONTENT


@pytest.mark.parametrize("how", ["garbage", "gone", "a revoked writer's"])
def test_a_session_that_changes_during_the_dump_fails_the_commit(scene: Scene, how: str) -> None:
    scene.backup(CONTENT)
    (session,) = scene.lab.sessions()
    before = scene.lab.keys(scene.lab.at.snapshots)

    class Meanwhile(BytesStream):
        def close(self) -> None:
            super().close()
            overwrite(scene, session, how)

    repository = scene.lab.open(scene.honest)
    source = BytesSource({"d": CONTENT + b"more"}, opener=Meanwhile)
    with pytest.raises(Exception, match=session.hex()) as raised:
        scene.lab.backup(source, by=repository, cache=scene.cache)
    assert raised.value.exit_code in (13, 14)  # type: ignore[attr-defined]
    assert scene.lab.keys(scene.lab.at.snapshots) == before
    # The next run goes without it.
    result = scene.backup(CONTENT + b"more")
    assert session not in scene.lab.sessions(result.snapshot.hex())
    assert scene.restored(result) == CONTENT + b"more"


# what reading an end proves


def test_an_end_says_whose_word_it_is(scene: Scene) -> None:
    domain = scene.lab.domain
    for hand, good in (
        (Hand.of(scene.honest), True),
        (Hand.of(scene.revoked), True),
        (Hand.of(scene.maintainer), False),
    ):
        planted = put_pack(domain, noise(100 * KIB), scene.session, hand)
        end = read_end(domain, planted.pack, len(planted.data), TAIL)
        assert end.pin == planted.pin
        assert end.summary() == planted.summary
        if good:
            assert end.require_signer() == hand.key
        else:
            with pytest.raises(ValueError, match="never granted to write here"):
                end.require_signer()


@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("most", [92, 4096, 5000, 9000, MIB, 64 * MIB])
def test_an_end_is_read_in_two_requests_at_most(scene: Scene, most: int, with_ids: bool) -> None:
    planted = put_pack(scene.lab.domain, CONTENT, scene.session, Hand.of(scene.honest))
    sink = FaultySink(scene.lab.sink)
    domain = scene.lab.open(sink=sink).domain
    sink.calls.clear()
    end = read_end(domain, planted.pack, len(planted.data), most, with_ids=with_ids)
    assert end.pin == planted.pin
    assert sink.calls in ([("get", domain.at.pack_key(planted.pack))], [("get", domain.at.pack_key(planted.pack))] * 2)
    if with_ids:
        assert end.summary() == planted.summary
        sink.calls.clear()
        assert read_known_end(domain, planted.summary.ends).summary() == planted.summary
        assert len(sink.calls) == 1


def without_zeroes(planted: Planted) -> bytes:
    ends = planted.data[planted.summary.ends.offset :]
    return planted.data[: planted.summary.ends.offset].rstrip(b"\0") + ends


SPOILT: dict[str, Callable[[Planted], bytes]] = {
    "empty": lambda planted: b"",
    "seven bytes": lambda planted: b"1234567",
    "a trailer alone": lambda planted: planted.data[-92:],
    "without its end": lambda planted: planted.data[:-1],
    "without its beginning": lambda planted: planted.data[1:],
    "with another byte behind": lambda planted: planted.data + b"\0",
    "with another mark in front": lambda planted: b"PSINDX\x01\0" + planted.data[8:],
    "of a later version": lambda planted: b"PSPACK\x02\0" + planted.data[8:],
    "without its zeroes": without_zeroes,
    "with lengths that cannot be": lambda planted: planted.data[:-92] + b"\xff" * 8 + planted.data[-84:],
    "with lengths of nothing": lambda planted: planted.data[:-92] + bytes(8) + planted.data[-84:],
    "too large": lambda planted: planted.data + bytes(20 * MIB),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_pack_whose_end_is_not_what_it_should_be_is_refused(scene: Scene, spoilt: str) -> None:
    domain = scene.lab.domain
    planted = put_pack(domain, noise(100 * KIB), scene.session, Hand.of(scene.honest))
    data = SPOILT[spoilt](planted)
    key = domain.at.pack_key(planted.pack)
    scene.lab.sink.put(key, data)
    with pytest.raises(DamagedObject, match=key):
        verify_pack(domain, planted.pack, len(data), lambda _: None)
    assert [finding.key for finding in scene.lab.check(read_data=False).findings] == [key]


def test_a_segment_under_another_data_key_is_told_by_whoever_has_the_key(scene: Scene) -> None:
    domain = scene.lab.domain
    planted = put_pack(domain, noise(100 * KIB), scene.session, Hand.of(scene.honest))
    size = len(planted.data)
    assert verify_pack(domain, planted.pack, size, lambda _: None).pin == planted.pin
    with pytest.raises(DamagedObject, match="cannot be decrypted"):
        verify_pack(domain, planted.pack, size, lambda session: data_sealer(domain, session))
