"""docs/format.md suffices to restore: a program written from the page alone reads what penstock.format writes."""

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, flipped
from core.tests.format.examples import (
    PASSPHRASE,
    Again,
    Domain,
    Made,
    Pack,
    Repository,
    Session,
    Signer,
    Small,
    Stream,
    Use,
    ident,
    make_small,
    rows_of_text,
    secret,
    small,
    whole,
)
from core.tests.format.independent_reader import Refused
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format.documents import encode_document
from penstock.format.encoding import encode_json
from penstock.format.grants import Granted, Kept, Revoked
from penstock.format.head import Head
from penstock.format.keys import SigningKey
from penstock.format.notice import Action, Things, Tombstone
from penstock.format.pack import SegmentId
from penstock.format.part import Key, Kind, PartRef, Row, encode_refs, encode_rows
from penstock.format.recipe import Extent, encode_block
from penstock.format.trust import Role

READER = Path(independent_reader.__file__)
GOLDEN = Path(__file__).parent / "golden" / "v1"


def opened(repository: Repository, objects: Mapping[str, bytes] | None = None) -> independent_reader.Repository:
    """With the owner's key file."""
    return independent_reader.Repository(
        repository.objects if objects is None else objects, key_file=repository.key_file
    )


def listed(repository: Repository, objects: Mapping[str, bytes] | None = None) -> set[bytes]:
    """The snapshots that count."""
    return {head.id for head in opened(repository, objects).snapshots()}


def restored(repository: Repository, made: Made, objects: Mapping[str, bytes] | None = None) -> None:
    """Every byte of a snapshot."""
    assert opened(repository, objects).restored(made.id) == made.streams


@pytest.mark.slow
def test_the_independent_reader_imports_nothing_of_penstock() -> None:
    modules = set()
    for node in ast.walk(ast.parse(READER.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").partition(".")[0])

    assert modules - set(sys.stdlib_module_names) == {"blake3", "cryptography", "zstandard"}
    assert "importlib" not in modules


# --- What there is to restore


def test_it_restores_every_byte_of_every_snapshot_with_the_owners_key() -> None:
    one = small()
    reader = opened(one.repository)

    assert {head.id for head in reader.snapshots()} == {one.first.id, one.second.id}
    assert reader.restored(one.first.id) == one.first.streams
    assert reader.restored(one.second.id.hex()) == one.second.streams
    assert reader.warnings == []
    assert len(one.second.streams["orders"]) > len(one.first.streams["orders"]) > 3000


def test_it_restores_with_a_passphrase() -> None:
    reader = independent_reader.Repository(small().objects, passphrase="corre\u0300ct")

    assert reader.restored(small().second.id) == small().second.streams


def test_it_finds_nothing_wrong_with_what_penstock_writes() -> None:
    assert opened(small().repository).check() == {}


def test_streams_are_restored_in_the_order_of_their_phases() -> None:
    snapshot = opened(small().repository).open(small().first.id)

    assert [stream["name"] for _, stream in snapshot.in_phases()] == ["schema", "empty", "orders", "blobs/größe"]


def test_a_recipe_goes_on_from_a_base_that_was_forgotten() -> None:
    objects = small().objects
    del objects[small().domain.key("snapshots", small().first.id)]

    assert listed(small().repository, objects) == {small().second.id}
    restored(small().repository, small().second, objects)


@pytest.fixture
def own() -> Small:
    """One that a test may change."""
    return make_small("another repository")


def third_night(one: Small, **options: Any) -> Made:
    """A snapshot that goes back over two bases."""
    session = one.domain.session("third night", one.writer)
    size = len(one.second.streams["orders"])
    orders = [Again(1, size - 2), Again(0, 1), Again(size - 66, 66)]
    streams = [Stream("orders", [(1, orders)]), Stream("schema", [(0, [Again(0, 8)])])]
    return one.domain.snapshot("third snapshot", session, *streams, base=one.second, **options)


def test_a_recipe_goes_back_over_several_bases(own: Small) -> None:
    third = third_night(own)
    objects = own.objects
    for made in (own.first, own.second):
        del objects[own.domain.key("snapshots", made.id)]

    assert len(third.bases) == 2
    restored(own.repository, third, objects)
    assert opened(own.repository).check() == {}


def test_references_may_be_in_parts_of_their_own(own: Small) -> None:
    third = third_night(own, nested=True)
    session = own.domain.session("fourth night", own.writer)
    size = len(third.streams["orders"])
    streams = [Stream("again", [(1, [Again(0, 8)]), (0, [Again(5, size - 5)])])]
    fourth = own.domain.snapshot("fourth snapshot", session, *streams, base=third, nested=True)

    for made in (third, fourth):
        restored(own.repository, made)
    assert opened(own.repository).check() == {}


def test_a_snapshot_without_streams_is_restored_to_nothing(own: Small) -> None:
    made = own.domain.snapshot("nothing", own.domain.session("a run", own.writer))

    restored(own.repository, made)
    assert made.streams == {}


def test_several_domains_keep_apart(own: Small) -> None:
    other = own.repository.domain("another domain")
    writer = other.writer("another writer")
    session = other.session("a run", writer)
    pack = other.pack("a pack", session, rows_of_text(0, 30))
    made = other.snapshot("a snapshot", session, Stream("orders", [(0, whole(pack))]))

    assert listed(own.repository) == {own.first.id, own.second.id, made.id}
    for snapshot in (own.first, made):
        restored(own.repository, snapshot)
    assert opened(own.repository).check() == {}


def test_the_owner_may_write_anywhere_under_any_name(own: Small) -> None:
    session = own.domain.session("the owner's run", own.repository.as_owner)
    pack = own.domain.pack("the owner's pack", session, [b"a row"])
    made = own.domain.snapshot("the owner's", session, Stream("a", [(0, whole(pack))]), backup="anything at all")

    restored(own.repository, made)


@pytest.mark.slow
@pytest.mark.parametrize("passphrase", [None, "the golden passphrase", "größte Sorgfalt"])
def test_it_restores_the_golden_repository(passphrase: str | None) -> None:
    key_file = (GOLDEN / "owner.key").read_bytes() if passphrase is None else None
    reader = independent_reader.Repository(
        independent_reader.Folder(GOLDEN / "repository"), key_file=key_file, passphrase=passphrase
    )

    found = {}
    for head in reader.snapshots():
        streams = reader.restored(head.id).items()
        found[head.id.hex()] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in streams
        }
    assert found == json.loads((GOLDEN / "expected.json").read_text("utf-8"))
    assert sorted(len(head.bases) for head in reader.snapshots()) == [0, 0, 0, 1, 2]
    assert reader.check() == {}
    assert reader.warnings == []


# --- Compaction


def test_it_finds_segments_that_were_copied_to_another_pack(own: Small) -> None:
    compacted = own.domain.compact("compacted", own.writer, own.packs[0])
    own.repository.objects.pop(own.domain.key("index", own.repository.name("first index")))
    own.domain.index("new index", own.writer, compacted)

    for made in (own.first, own.second):
        restored(own.repository, made)
    assert opened(own.repository).check() == {}


def test_it_finds_segments_of_packs_that_were_compacted_together_and_again(own: Small) -> None:
    both = own.domain.compact("both", own.writer, own.packs[0], own.packs[2])
    assert both.places.carried.keys() == {own.packs[0].id, own.packs[2].id}
    for made in (own.first, own.second):
        restored(own.repository, made)

    own.domain.compact("again", own.repository.as_owner, both, own.packs[1])
    for made in (own.first, own.second):
        restored(own.repository, made)


def test_it_finds_segments_of_one_pack_in_several(own: Small) -> None:
    pack = own.packs[0]
    half = {SegmentId(pack.id, 0), SegmentId(pack.id, 2)}
    data = own.repository.objects[own.domain.key("packs", pack.id)]
    own.domain.compact("one half", own.writer, pack, without=half)
    own.repository.put(own.domain.key("packs", pack.id), data)
    own.domain.compact("other half", own.writer, pack, without={SegmentId(pack.id, 1)})

    for made in (own.first, own.second):
        restored(own.repository, made)


def test_what_compaction_left_out_is_missing(own: Small) -> None:
    own.domain.compact("compacted", own.writer, own.packs[0], without={SegmentId(own.packs[0].id, 1)})

    refuses_before_a_byte(own.repository, own.first)


def test_a_pack_that_is_there_twice_is_read(own: Small) -> None:
    data = own.repository.objects[own.domain.key("packs", own.packs[0].id)]
    own.domain.compact("compacted", own.writer, own.packs[0])
    for old in (data, b"junk in its place", data[:-1], b""):
        restored(own.repository, own.second, {**own.objects, own.domain.key("packs", own.packs[0].id): old})


def test_new_snapshots_refer_to_copied_segments_as_before(own: Small) -> None:
    own.domain.compact("compacted", own.writer, own.packs[0], own.packs[1])
    session = own.domain.session("a run", own.writer)
    made = own.domain.snapshot("a snapshot", session, Stream("orders", [(0, whole(own.packs[0]))]))

    restored(own.repository, made)


# --- Who may write


def foreign_snapshot(one: Small, signer: Signer, backup: str = "shop") -> Made:
    session = one.domain.session("a foreign run", signer)
    pack = one.domain.pack("a foreign pack", session, [b"a row\n"])
    return one.domain.snapshot("a foreign snapshot", session, Stream("a", [(0, whole(pack))]), backup=backup)


@pytest.mark.slow
def test_a_name_must_match_the_grant(own: Small) -> None:
    for number, (backup, allowed) in enumerate(
        {
            "other": True,
            "shop": True,
            "sh": True,
            "sh/o p\n": True,
            "others": False,
            "s": False,
            "Shop": False,
            "an shop": False,
            "": False,
        }.items()
    ):
        session = own.domain.session(f"run {number}", own.writer)
        made = own.domain.snapshot(f"snapshot {number}", session, backup=backup)
        assert (made.id in listed(own.repository)) == allowed
        assert (own.domain.key("snapshots", made.id) in opened(own.repository).check()) != allowed


@pytest.mark.parametrize("pattern", ["sh?p", "[s]hop", "sho.", "shop|x", "shop\\"])
def test_a_star_alone_stands_for_other_characters(own: Small, pattern: str) -> None:
    writer = own.domain.writer("strict", pattern)

    assert foreign_snapshot(own, writer).id not in listed(own.repository)
    session = own.domain.session("a run", writer)
    assert own.domain.snapshot("by its name", session, backup=pattern).id in listed(own.repository)


def test_a_head_of_a_stranger_is_none(own: Small) -> None:
    stranger = Signer(ident("stranger"), SigningKey(secret("stranger")))

    made = foreign_snapshot(own, stranger)
    assert listed(own.repository) == {own.first.id, own.second.id}
    assert own.domain.key("snapshots", made.id) in opened(own.repository).check()


def test_a_head_of_a_maintainer_or_of_another_domains_writer_is_none(own: Small) -> None:
    outsider = own.repository.domain("another domain").writer("outsider")
    for number, signer in enumerate((own.maintainer, outsider)):
        session = own.domain.session(f"run {number}", signer)
        made = own.domain.snapshot(f"snapshot {number}", session)
        assert made.id not in listed(own.repository)


def test_a_head_under_the_id_of_another_writer_is_none(own: Small) -> None:
    impostor = Signer(own.writer.id, SigningKey(secret("impostor")))
    session = own.domain.session("a run", own.writer)

    made = own.domain.snapshot("a snapshot", Session(session.id, session.data_key, impostor))
    assert made.id not in listed(own.repository)


def test_a_head_in_the_session_of_another_writer_is_refused(own: Small) -> None:
    other = own.domain.writer("another writer")
    made = own.domain.snapshot("a snapshot", Session(own.sessions[0].id, own.sessions[0].data_key, other))

    with pytest.raises(Refused, match="another writer"):
        opened(own.repository).open(made.id)


# --- Revoked writers


def test_of_a_revoked_writer_only_what_is_kept_counts(own: Small) -> None:
    own.repository.revoke(own.writer.id, own.second)
    reader = opened(own.repository)

    assert {head.id for head in reader.snapshots()} == {own.second.id}
    assert reader.restored(own.second.id) == own.second.streams, "its sessions and packs stay readable"
    assert reader.warnings == []
    with pytest.raises(Refused, match="no snapshot"):
        reader.open(own.first.id)


def test_what_is_kept_later_counts_again(own: Small) -> None:
    own.repository.revoke(own.writer.id)
    assert listed(own.repository) == set()

    own.repository.entry(Kept(own.writer.id, {own.first.id: own.first.digest}))
    assert listed(own.repository) == {own.first.id}
    restored(own.repository, own.first)


def test_a_head_that_was_written_after_the_revocation_does_not_take_the_place_of_a_kept_one(own: Small) -> None:
    own.repository.revoke(own.writer.id, own.second)
    del own.repository.objects[own.domain.key("snapshots", own.second.id)]
    for part in ("table", "manifest", "recipes"):
        del own.repository.objects[own.domain.key("parts", own.repository.name(f"second snapshot, {part}"))]
    session = own.domain.session("a thief's run", own.writer)
    made = own.domain.snapshot("second snapshot", session, Stream("orders"))

    assert made.id == own.second.id
    assert listed(own.repository) == set()


def test_a_revoked_writer_voids_nothing_and_its_later_snapshots_do_not_count(own: Small) -> None:
    own.repository.revoke(own.writer.id, own.first, own.second)
    own.domain.void("notice", own.writer, own.first)
    foreign_snapshot(own, own.writer)

    assert listed(own.repository) == {own.first.id, own.second.id}


def test_what_a_revoked_writer_signed_is_no_damage_but_heads_that_are_not_kept(own: Small) -> None:
    own.domain.void("a notice", own.writer, own.first)
    assert opened(own.repository).check() == {}
    own.repository.revoke(own.writer.id, own.second)

    assert opened(own.repository).check().keys() == {own.domain.key("snapshots", own.first.id)}


def test_what_a_revoked_maintainer_signed_is_no_damage_and_does_not_count(own: Small) -> None:
    own.domain.delete("forget", own.maintainer, Action.FORGET, own.first)
    own.domain.notice("tombstones", "tombstone", Tombstone(own.repository.now(), Things()), own.maintainer)
    assert listed(own.repository) == {own.second.id}
    own.repository.revoke(own.maintainer.id)

    assert listed(own.repository) == {own.first.id, own.second.id}
    assert opened(own.repository).check() == {}


def test_snapshots_of_others_use_what_a_revoked_writer_stored(own: Small) -> None:
    other = own.domain.writer("another writer")
    session = own.domain.session("another run", other)
    made = own.domain.snapshot("another snapshot", session, Stream("orders", [(0, whole(own.packs[0]))]))
    own.repository.revoke(own.writer.id)

    assert listed(own.repository) == {made.id}
    restored(own.repository, made)


# --- Void, forgotten, deleted


def test_a_writer_voids_its_own_snapshots_alone(own: Small) -> None:
    other = own.domain.writer("another writer")
    own.domain.void("a notice of another", other, own.first)
    assert listed(own.repository) == {own.first.id, own.second.id}

    own.domain.void("a notice of its own", own.writer, own.first)
    assert listed(own.repository) == {own.second.id}
    restored(own.repository, own.second)


def test_a_maintainer_voids_nothing(own: Small) -> None:
    own.domain.void("a notice", own.maintainer, own.first, own.second)

    assert listed(own.repository) == {own.first.id, own.second.id}
    restored(own.repository, own.second)
    assert opened(own.repository).check() == {}, "it may speak of packs"


def test_the_owner_voids_any_snapshot(own: Small) -> None:
    own.domain.void("a notice", own.repository.as_owner, own.second)

    assert listed(own.repository) == {own.first.id}
    with pytest.raises(Refused, match="no snapshot"):
        opened(own.repository).open(own.second.id)


def other_digest(made: Made) -> Made:
    return Made(made.id, made.session, bytes(32), {}, (), {}, (), (), ())


def test_what_is_void_or_forgotten_is_a_head_and_not_an_id(own: Small) -> None:
    own.domain.void("a notice", own.repository.as_owner, other_digest(own.first))
    own.domain.delete("a record", own.maintainer, Action.FORGET, other_digest(own.second))

    assert listed(own.repository) == {own.first.id, own.second.id}


@pytest.mark.parametrize("owner", [True, False])
def test_what_was_forgotten_is_not_listed_until_it_is_taken_back(own: Small, owner: bool) -> None:
    signer = own.repository.as_owner if owner else own.maintainer
    forgotten = bytes.fromhex(own.domain.delete("forget", signer, Action.FORGET, own.first, own.second)[-32:])
    assert listed(own.repository) == set()

    own.domain.delete("undelete", own.maintainer, Action.UNDELETE, own.first, lifts=(forgotten,))
    assert listed(own.repository) == {own.first.id}
    restored(own.repository, own.first)

    own.domain.delete("forget again", signer, Action.FORGET, own.first)
    assert listed(own.repository) == set()
    assert opened(own.repository).check() == {}


def test_a_writer_forgets_nothing(own: Small) -> None:
    key = own.domain.delete("forget", own.writer, Action.FORGET, own.first)

    assert listed(own.repository) == {own.first.id, own.second.id}
    assert key in opened(own.repository).check()


def test_what_was_deleted_is_gone_without_harm_to_the_rest(own: Small) -> None:
    parts = [own.repository.name(f"first snapshot, {what}") for what in ("table", "manifest")]
    things = Things(parts=tuple(parts), index=(own.repository.name("first index"),))
    own.domain.notice("tombstones", "tombstone", Tombstone(own.repository.now(), things), own.maintainer)
    own.domain.delete("delete", own.maintainer, Action.DELETE, own.first, things=things)
    for part in parts:
        del own.repository.objects[own.domain.key("parts", part)]
    assert listed(own.repository) == {own.second.id}

    del own.repository.objects[own.domain.key("snapshots", own.first.id)]
    restored(own.repository, own.second)
    assert opened(own.repository).check() == {}


# --- The owner's log


def grants(one: Small) -> list[str]:
    return [key for key in one.repository.objects if key.startswith("grants/")]


def test_a_log_with_a_gap_is_refused() -> None:
    for key in grants(small())[:-1]:
        objects = small().objects
        del objects[key]
        with pytest.raises(Refused, match="log was cut"):
            opened(small().repository, objects)


def test_a_log_that_was_cut_at_its_end_is_said_and_stops_nobody(own: Small) -> None:
    maintainer = own.repository.maintainer("another maintainer")
    made = foreign_snapshot(own, own.writer)
    objects = own.objects
    del objects[grants(own)[-1]]
    reader = opened(own.repository, objects)

    assert reader.restored(made.id) == made.streams
    assert len(reader.warnings) == 1
    assert "log was cut" in reader.warnings[0]
    assert maintainer.id not in reader.grants


def test_a_revoked_writers_word_on_the_log_does_not_count(own: Small) -> None:
    own.repository.newest = frozenset({secret("an entry that never was")})
    made = foreign_snapshot(own, own.writer)
    own.repository.newest = frozenset({blake3(own.repository.objects[grants(own)[-1]]).digest()})
    assert opened(own.repository).restored(made.id) == made.streams
    own.repository.revoke(own.writer.id, made)
    reader = opened(own.repository)

    assert reader.restored(made.id) == made.streams
    assert reader.warnings == []


def test_entries_that_were_written_at_once_are_all_in_force(own: Small) -> None:
    other = own.domain.writer("another writer")
    made = foreign_snapshot(own, other)
    third = Signer(ident("third"), SigningKey(secret("third")))
    domain = own.domain.keys.domain
    own.repository.at_once(
        Revoked(own.writer.id, {own.first.id: own.first.digest}),
        Granted(third.id, Role.WRITER, "third", third.key.public, domain, ("*",)),
        Revoked(other.id),
    )
    # Which names all three.
    own.repository.maintainer("another maintainer")
    mine = own.domain.snapshot("a third's", own.domain.session("a third's run", third))

    assert listed(own.repository) == {own.first.id, mine.id}
    assert made.id not in listed(own.repository)
    for key in grants(own)[-4:-1]:
        objects = own.objects
        del objects[key]
        with pytest.raises(Refused, match="log was cut"):
            opened(own.repository, objects)


def test_an_entry_of_a_stranger_is_passed_over(own: Small) -> None:
    content = json.loads(own.repository.objects[grants(own)[-1]].split(b"\n")[0])
    changes: list[dict[str, Any]] = [{}, {"number": 99}, {"action": "revoke", "since": None, "kept": {}}]
    for number, change in enumerate(changes):
        key = f"grants/{ident(f'stranger {number}').hex()}"
        own.repository.put(key, encode_document(key, {**content, **change}, SigningKey(secret("stranger"))))
        copied = f"grants/{ident(f'copy {number}').hex()}"
        own.repository.put(copied, own.repository.objects[grants(own)[2]])

    assert listed(own.repository) == {own.first.id, own.second.id}
    assert len(opened(own.repository).check()) == 6


def later(one: Small, **change: Any) -> str:
    """An entry of a later version, that the owner signed; returns its key."""
    repository = one.repository
    repository.number += 1
    key = f"grants/{repository.name(f'entry {repository.number}').hex()}"
    content = {
        "action": "archive",
        "created": repository.now(),
        "number": repository.number,
        "previous": sorted(digest.hex() for digest in repository.newest),
        **change,
    }
    data = repository.put_document(key, content, repository.as_owner)
    repository.newest = frozenset({blake3(data).digest()})
    return key


STRANGE: dict[str, dict[str, Any]] = {
    "an unknown action": {},
    "an unknown action with fields of others": {"key": None, "kept": [], "role": 5},
    "a role that does not exist yet": {"action": "grant", "role": "auditor", "key": "00" * 16},
    "a domain that is described otherwise": {"action": "domain", "domain": "00" * 16, "proof": "00" * 16},
    "a revocation of nobody": {"action": "revoke", "key": "00" * 16, "since": None, "kept": {}},
    "a revocation that keeps by other means": {"action": "revoke", "key": "00" * 16, "kept": "all"},
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_an_entry_that_is_not_understood_counts_as_there_and_has_no_effect(own: Small, change: dict[str, Any]) -> None:
    before = opened(own.repository)
    key = later(own, **change)
    reader = opened(own.repository)
    assert reader.grants == before.grants
    assert reader.domains == before.domains

    # Which names it, and a session that saw both.
    other = own.domain.writer("another writer")
    made = foreign_snapshot(own, other)
    reader = opened(own.repository)
    assert {head.id for head in reader.snapshots()} == {own.first.id, own.second.id, made.id}
    assert reader.restored(made.id) == made.streams
    assert reader.warnings == []
    assert reader.check() == {}
    assert independent_reader.Repository(own.objects, passphrase=PASSPHRASE).domains == reader.domains
    objects = own.objects
    del objects[key]
    with pytest.raises(Refused, match="log was cut"):
        opened(own.repository, objects)


@pytest.mark.parametrize(
    "change",
    [{"number": 0}, {"number": None}, {"previous": {}}, {"previous": ["00"]}, {"created": 5}, {"action": None}],
    ids=str,
)
def test_what_lacks_a_field_of_every_entry_is_none(own: Small, change: dict[str, Any]) -> None:
    key = later(own, **change)

    assert listed(own.repository) == {own.first.id, own.second.id}
    assert opened(own.repository).check().keys() == {key}


# --- Who may read


def test_a_wrong_passphrase_opens_nothing() -> None:
    with pytest.raises(Refused, match="opens no slot"):
        independent_reader.Repository(small().objects, passphrase="wrong")
    with pytest.raises(Refused):
        independent_reader.Repository(small().objects)


def passphrase_refused(one: Small, objects: Mapping[str, bytes] | None = None, passphrase: str = PASSPHRASE) -> None:
    with pytest.raises(Refused, match="opens no slot"):
        independent_reader.Repository(one.repository.objects if objects is None else objects, passphrase=passphrase)


@pytest.mark.slow
def test_a_slot_must_be_granted_and_not_revoked(own: Small) -> None:
    own.repository.slot("not granted", "another passphrase", granted=False)
    passphrase_refused(own, passphrase="another passphrase")
    own.repository.slot("revoked", "a third passphrase")
    assert independent_reader.Repository(own.objects, passphrase="a third passphrase").domains
    own.repository.revoke(own.repository.name("revoked"))
    passphrase_refused(own, passphrase="a third passphrase")
    assert opened(own.repository).check().keys() == {f"slots/{own.repository.name('not granted').hex()}"}

    assert independent_reader.Repository(own.objects, passphrase=PASSPHRASE).domains


def test_a_slot_of_another_owner_opens_nothing() -> None:
    other = Repository("a stranger's")
    key = other.slot("slot", "known to a stranger")
    passphrase_refused(small(), {**small().objects, key: other.objects[key]}, "known to a stranger")


def test_a_slot_under_another_id_opens_nothing() -> None:
    objects = small().objects
    key = next(key for key in objects if key.startswith("slots/"))
    objects[f"slots/{ident('elsewhere').hex()}"] = objects.pop(key)

    passphrase_refused(small(), objects)


def test_every_changed_bit_of_a_slot_gives_the_same_answer() -> None:
    key = next(key for key in small().objects if key.startswith("slots/"))
    data = small().objects[key]
    told = set()
    for at in range(0, len(data), 40):
        with pytest.raises(Refused) as refused:
            independent_reader.Repository({**small().objects, key: flipped(data, at, at % 8)}, passphrase=PASSPHRASE)
        told.add(str(refused.value))
    with pytest.raises(Refused) as refused:
        independent_reader.Repository(small().objects, passphrase="wrong")

    assert told == {str(refused.value)}


def test_slots_that_are_not_granted_are_no_tries(own: Small) -> None:
    junk = {f"slots/{number:032x}": encode_document("slots/x", {}, SigningKey(bytes(32))) for number in range(100)}
    granted = next(key for key in own.objects if key.startswith("slots/"))
    # With the same passphrase: whoever tries them in the order of their ids meets some before the one that is granted.
    left = [own.repository.slot(f"left {number}", PASSPHRASE, granted=False) for number in range(4)]
    assert min(left) < granted
    assert independent_reader.Repository({**junk, **own.objects}, passphrase=PASSPHRASE).domains

    del own.repository.objects[granted]
    passphrase_refused(own)


def key_file(change: dict[str, Any]) -> bytes:
    return encode_json({**json.loads(small().repository.key_file), **change}) + b"\n"


def test_another_key_file_is_refused() -> None:
    wrong = [
        Repository("a stranger's").key_file,
        small().repository.key_file[:-1],
        small().repository.key_file + b"\n",
        b"",
        b"{}\n",
        key_file({"role": "writer"}),
        key_file({"penstock_key": 2}),
        key_file({"repository": "00" * 16}),
        key_file({"key": "01" * 16}),
        key_file({"ed25519": "00" * 32}),
        key_file({"owner": json.loads(Repository("a stranger's").key_file)["owner"]}),
        key_file({"secrets": {"maintenance": "00" * 32}}),
        key_file({"secrets": {**json.loads(small().repository.key_file)["secrets"], "root": "00" * 32}}),
        key_file({"secrets": {**json.loads(small().repository.key_file)["secrets"], "x25519": "00" * 32}}),
    ]
    for data in wrong:
        with pytest.raises(Refused):
            independent_reader.Repository(small().objects, key_file=data)


def test_a_later_format_is_refused_before_anything_is_looked_at() -> None:
    later = encode_document("penstock.json", {"format": 2, "new": "fields"}, SigningKey(bytes(32)))
    with pytest.raises(Refused, match="another format"):
        independent_reader.Repository({"penstock.json": later}, key_file=small().repository.key_file)


# --- Junk


def junk(one: Small) -> dict[str, bytes]:
    """Of many kinds, under every prefix."""
    objects, prefix = one.objects, f"d/{one.domain.keys.domain.hex()}/"
    name, other = ident("junk").hex(), ident("other junk").hex()
    found = {
        "README": b"",
        "penstock.json.bak": objects["penstock.json"],
        "d/readme": b"",
        f"d/{name}/snapshots/{name}": objects[one.domain.key("snapshots", one.first.id)],
        f"{prefix}unknown/{name}": b"",
        f"{prefix}{name}": b"",
        f"{prefix}leases/{one.sessions[0].id.hex()}-1": b"",
        f"{prefix}leases/{one.sessions[0].id.hex()}-00000000": b"",
        f"{prefix}packs/00/{name}": b"not its first two digits",
        f"{prefix}packs/{name}": objects[one.domain.key("packs", one.packs[0].id)],
    }
    for folder in ("grants", "slots"):
        key = next(key for key in objects if key.startswith(folder))
        found |= {f"{folder}/{name}": b"junk", f"{folder}/{other}": objects[key], f"{folder}/{name}.tmp": b""}
        found[f"{folder}/{name.upper()}"] = objects[key]
    one_of = {
        "sessions": one.sessions[0].id,
        "packs": one.packs[0].id,
        "index": one.repository.name("first index"),
        "snapshots": one.first.id,
    }
    for folder, own in one_of.items():
        data = objects[one.domain.key(folder, own)]
        for label, content in {"copy": data, "cut": data[:-1], "empty": b"", "random": secret("junk", 5000)}.items():
            found[one.domain.key(folder, ident(label))] = content
        found[one.domain.key(folder, own) + ".tmp"] = data
        found[one.domain.key(folder, ident("large"))] = data + bytes(70 * 1024)
    for folder in ("notices", "tombstones", "deletions", "parts"):
        for label, content in {
            "magic": b"PSNOTE\1\0" + bytes(200),
            "empty": b"",
            "random": secret("junk", 500),
        }.items():
            found[one.domain.key(folder, ident(label))] = content
    # As a stranger would write it, who knows the layout key.
    stranger = Signer(one.writer.id, SigningKey(secret("stranger")))
    before = set(objects)
    one.domain.void("a stranger's notice", stranger, one.first)
    one.domain.delete("a stranger's record", stranger, Action.FORGET, one.second)
    one.domain.notice("tombstones", "a stranger's tombstone", Tombstone("", Things()), stranger)
    return found | {key: one.repository.objects.pop(key) for key in set(one.repository.objects) - before}


def test_junk_under_every_prefix_is_passed_over_and_named_by_a_check(own: Small) -> None:
    rubbish = junk(own)
    objects = {**own.objects, **rubbish}

    assert len(objects) == len(own.objects) + len(rubbish)
    assert listed(own.repository, objects) == {own.first.id, own.second.id}
    for made in (own.first, own.second):
        restored(own.repository, made, objects)
    assert independent_reader.Repository(objects, passphrase=PASSPHRASE).domains
    assert opened(own.repository, objects).check().keys() == rubbish.keys()


def test_objects_of_another_repository_are_junk(own: Small) -> None:
    other = make_small("another owner's repository")
    foreign = {key: data for key, data in other.objects.items() if key != "penstock.json"}
    objects = {**foreign, **own.objects}

    assert listed(own.repository, objects) == {own.first.id, own.second.id}
    restored(own.repository, own.second, objects)
    assert opened(own.repository, objects).check().keys() == foreign.keys()


def test_what_is_larger_than_allowed_is_passed_over(own: Small) -> None:
    key = own.domain.key("snapshots", own.first.id)
    reader = opened(own.repository, {**own.objects, key: bytes(64 * 1024 + 1)})

    assert "larger" in reader.check()[key]
    assert {head.id for head in reader.snapshots()} == {own.second.id}


# --- Parts: a restore relies on their pins, a check on their signatures


def a_part(one: Small) -> str:
    return one.domain.key("parts", one.repository.name("second snapshot, table"))


@pytest.mark.slow
def test_a_check_sees_every_changed_byte_of_a_part() -> None:
    one = small()
    reader, key = opened(one.repository), a_part(one)
    data = one.objects[key]

    reader.examine(key)
    for at in [*range(88), *range(88, len(data) - 64, 7), *range(len(data) - 64, len(data))]:
        reader = opened(one.repository, {**one.objects, key: flipped(data, at, at % 8)})
        with pytest.raises(independent_reader.BROKEN):
            reader.examine(key)
    for other in (data[:-1], data + b"\0", data[:87], data[:24], b""):
        with pytest.raises(independent_reader.BROKEN):
            opened(one.repository, {**one.objects, key: other}).examine(key)


def test_a_part_of_whoever_may_not_write_there_is_named(own: Small) -> None:
    outsider = own.repository.domain("another domain").writer("outsider")
    stranger = Signer(ident("stranger"), SigningKey(secret("stranger")))
    impostor = Signer(own.writer.id, SigningKey(secret("impostor")))
    named = set()
    for number, signer in enumerate((outsider, stranger, impostor, own.maintainer)):
        session = Session(own.sessions[0].id, own.sessions[0].data_key, signer)
        part = own.domain.part(f"part {number}", session, Key.REFS, (Kind.REFS, b""))
        named.add(own.domain.key("parts", part.part))
    for number, signer in enumerate((own.repository.as_owner, own.domain.writer("another writer"))):
        session = Session(own.sessions[0].id, own.sessions[0].data_key, signer)
        own.domain.part(f"good part {number}", session, Key.REFS, (Kind.REFS, b""))

    assert opened(own.repository).check().keys() == named


def test_a_pinned_part_is_read_whoever_signed_it(own: Small) -> None:
    class Unsigned(Domain):
        def part(self, label: str, session: Session, key: Key, *sections: tuple[Kind, bytes]) -> PartRef:
            stranger = Signer(ident("stranger"), SigningKey(secret("stranger")))
            return super().part(label, Session(session.id, session.data_key, stranger), key, *sections)

    domain = Unsigned(own.repository, own.domain.keys)
    session = own.domain.session("a run", own.writer)
    made = domain.snapshot("a snapshot", session, Stream("a", [(0, whole(own.packs[1]))]))

    restored(own.repository, made)
    parts = {own.repository.name(f"a snapshot, {what}") for what in ("table", "manifest", "recipes")}
    assert opened(own.repository).check().keys() == {own.domain.key("parts", part) for part in parts}


# --- Damage


def needed(one: Small, made: Made) -> list[str]:
    """The objects without which that snapshot is not restored."""
    keys = ["penstock.json", one.domain.key("snapshots", made.id), *grants(one)]
    sessions = one.sessions[:1] if made is one.first else one.sessions
    keys += [one.domain.key("sessions", session.id) for session in sessions]
    keys += [one.domain.key("packs", pack.id) for pack in one.packs[: 2 if made is one.first else 3]]
    label = "first" if made is one.first else "second"
    parts = [f"{label} snapshot, {what}" for what in ("table", "manifest", "recipes")]
    parts += [] if made is one.first else ["first snapshot, recipes"]
    return [*keys, *(one.domain.key("parts", one.repository.name(part)) for part in parts)]


def emitted(repository: Repository, made: Made, objects: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Everything that a restore of all streams emits until it ends or is refused."""
    snapshot = opened(repository, objects).open(made.id)
    for number, stream in snapshot.in_phases():
        for piece in snapshot.read(number):
            yield stream["name"], piece


def outcome(repository: Repository, made: Made, objects: Mapping[str, bytes]) -> tuple[str | None, int]:
    """What it was refused for, if it was, and how many bytes were emitted before; all of them right."""
    found: dict[str, bytes] = {}
    refusal = None
    try:
        for name, piece in emitted(repository, made, objects):
            found[name] = found.get(name, b"") + piece
    except Refused as error:
        refusal = str(error)
    for name, data in found.items():
        assert made.streams[name].startswith(data), "never a wrong byte, not even before a refusal"
    if refusal is None:
        assert {name: data for name, data in made.streams.items() if data} == found
    return refusal, sum(map(len, found.values()))


def refuses_before_a_byte(repository: Repository, made: Made, objects: Mapping[str, bytes] | None = None) -> str:
    refusal, size = outcome(repository, made, repository.objects if objects is None else objects)
    assert refusal is not None
    assert size == 0
    return refusal


def test_all_that_a_snapshot_needs_must_be_there() -> None:
    one = small()
    for made in (one.first, one.second):
        for key in needed(one, made):
            objects = one.objects
            del objects[key]
            if key == grants(one)[-1]:
                assert "no snapshot" in refuses_before_a_byte(one.repository, made, objects), "its writer's grant"
            else:
                refuses_before_a_byte(one.repository, made, objects)


def test_nothing_else_must_be_there() -> None:
    one = small()
    for made in (one.first, one.second):
        assert outcome(one.repository, made, {key: one.objects[key] for key in needed(one, made)})[0] is None


def unseen(one: Small, pack: Pack) -> set[int]:
    """Where a restore does not look in a pack: the magic, zeroes, the ids, and who signed it."""
    size = len(one.objects[one.domain.key("packs", pack.id)])
    last = pack.places.places[-1]
    places = size - 92 - len(pack.sealed_places)
    return {*range(8), *range(last.offset + last.sealed_length, places), *range(size - 84, size - 4)}


@pytest.mark.slow
def test_a_changed_bit_in_any_object_that_a_snapshot_needs_is_refused_or_harmless() -> None:
    one = small()
    packs = {one.domain.key("packs", pack.id): unseen(one, pack) for pack in one.packs}
    for key in needed(one, one.second):
        data = one.objects[key]
        for at in {*range(0, len(data), max(1, len(data) // 9)), len(data) - 1}:
            refusal, _ = outcome(one.repository, one.second, {**one.objects, key: flipped(data, at, at % 8)})
            assert (refusal is None) == (at in packs.get(key, ())), (key, at)


@pytest.mark.slow
@settings(EFFORT, max_examples=examples(40))
@given(st.data())
def test_any_changed_bit_in_any_object_is_refused_or_harmless(data: st.DataObject) -> None:
    one = small()
    key = data.draw(st.sampled_from(sorted(one.objects)))
    at = data.draw(st.integers(0, len(one.objects[key]) - 1))
    damaged = flipped(one.objects[key], at, data.draw(st.integers(0, 7)))

    refusal, _ = outcome(one.repository, one.second, {**one.objects, key: damaged})
    if key not in needed(one, one.second):
        assert refusal is None


@settings(EFFORT, max_examples=examples(25))
@given(st.data())
def test_an_object_that_was_cut_is_refused(data: st.DataObject) -> None:
    one = small()
    key = data.draw(st.sampled_from(sorted(needed(one, one.second))))
    length = data.draw(st.integers(0, len(one.objects[key]) - 1))

    assert outcome(one.repository, one.second, {**one.objects, key: one.objects[key][:length]})[0] is not None


def swapped(one: Small, first: str, second: str) -> dict[str, bytes]:
    return {**one.objects, first: one.objects[second], second: one.objects[first]}


def test_swapped_packs_are_refused_before_a_byte_is_emitted() -> None:
    one = small()
    keys = [one.domain.key("packs", pack.id) for pack in one.packs]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert "missing" in refuses_before_a_byte(one.repository, one.second, swapped(one, keys[first], keys[second]))


def test_swapped_segments_of_one_pack_are_refused(own: Small) -> None:
    key, places = own.domain.key("packs", own.packs[0].id), own.packs[0].places.places
    data = own.objects[key]
    one, other = (data[place.offset : place.offset + place.sealed_length] for place in places[:2])
    changed = data[:8] + other + one + data[8 + len(one) + len(other) :]

    refusal, size = outcome(own.repository, own.first, {**own.objects, key: changed})
    assert "damaged" in str(refusal)
    assert size == 8, "of the schema, which has a pack of its own"


@pytest.mark.parametrize("folder", ["sessions", "parts", "snapshots", "grants"])
def test_swapped_objects_of_other_kinds_are_refused_before_a_byte_is_emitted(folder: str) -> None:
    one = small()
    keys = [key for key in needed(one, one.second) if folder in key]
    keys += [one.domain.key("snapshots", one.first.id)] if folder == "snapshots" else []

    refuses_before_a_byte(one.repository, one.second, swapped(one, *keys[:2]))


def test_a_pack_that_was_written_again_is_not_what_was_pinned(own: Small) -> None:
    # The same segments in the same session by the same writer, sealed anew.
    key = own.domain.key("packs", own.packs[0].id)
    del own.repository.objects[key]
    own.domain.pack("tables", own.sessions[0], rows_of_text(0, 30), rows_of_text(30, 40), rows_of_text(40, 90))

    assert own.objects[key] != b""
    refuses_before_a_byte(own.repository, own.first)


# --- Writers that break the rules


class Odd(Domain):
    """A domain with a writer that does not follow the page."""

    change: Callable[[list[Row]], list[Row]] | None = None
    recipe: Sequence[Extent] | None = None
    sessions: Callable[[dict[bytes, bytes]], dict[bytes, bytes]] | None = None
    manifest: int = 1
    end: bytes = b""

    def table(self, pieces: Any, numbers: Mapping[bytes, int], half: int) -> bytes:
        rows = list(independent_reader.rows_of(super().table(pieces, numbers, half)))
        plain = [Row(number, *row) for number, row in rows]
        return encode_rows(plain if self.change is None else self.change(plain)) + self.end

    def pinned(self, sessions: Iterable[bytes]) -> dict[bytes, bytes]:
        pinned = super().pinned(sessions)
        return pinned if self.sessions is None else self.sessions(pinned)

    def commit(self, head: Head, session: Session) -> bytes:
        return super().commit(replace(head, manifest=self.manifest), session)

    def blocks(self, stream: Stream, numbers: Mapping[bytes, int]) -> list[bytes]:
        return super().blocks(stream, numbers) if self.recipe is None else [encode_block(0, self.recipe)]


def odd(one: Small, **changes: Any) -> Made:
    """A snapshot of eight bytes, by such a writer."""
    domain = Odd(one.domain.repository, one.domain.keys)
    for name, value in changes.items():
        setattr(domain, name, value)
    session = domain.session("an odd run", one.writer)
    pack = domain.pack("an odd pack", session, [b"12345678"], [b"abcdefgh"])
    return domain.snapshot("an odd snapshot", session, Stream("odd", [(0, [Use(pack, 0, 0, 8)])]))


def test_an_odd_writer_may_follow_the_page(own: Small) -> None:
    restored(own.repository, odd(own))


ODD: dict[str, dict[str, Any]] = {
    "an extent behind the end of a segment": {"recipe": [Extent(1000 * 4096, 1, 8)]},
    "a segment that the table does not need": {"recipe": [Extent(1000 * 4096 + 1, 0, 8)]},
    "a segment that the pack does not have": {"recipe": [Extent(1000 * 4096 + 2, 0, 8)]},
    "a row that is not there": {"recipe": [Extent(999 * 4096, 0, 8)]},
    "a base that is not there": {"recipe": [Extent(None, 0, 8)]},
    "a recipe that is too short": {"recipe": [Extent(1000 * 4096, 0, 7)]},
    "a recipe that is too long": {"recipe": [Extent(1000 * 4096, 0, 8), Extent(1000 * 4096, 0, 1)]},
    "other bytes of the same length": {"recipe": [Extent(1000 * 4096, 1, 7), Extent(1000 * 4096, 0, 1)]},
    "another pin": {"change": lambda rows: [row._replace(pin=bytes(32)) for row in rows]},
    "another pack": {"change": lambda rows: [row._replace(pack=bytes(16)) for row in rows]},
    "two packs in one row": {"change": lambda rows: [*rows, *(row._replace(pack=bytes(16)) for row in rows)]},
    "two pins in one row": {"change": lambda rows: [*rows, *(row._replace(pin=bytes(32)) for row in rows)]},
    "another number of segments": {"change": lambda rows: [row._replace(segments=3) for row in rows]},
    "another digest of a session": {"sessions": lambda pinned: dict.fromkeys(pinned, bytes(32))},
    "no sessions": {"sessions": lambda pinned: {}},
    "a manifest that begins later": {"manifest": 2},
    "a manifest behind all parts": {"manifest": 3},
    "no rows": {"change": lambda rows: []},
    "a table that is cut": {"end": b"\0"},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD)
def test_a_snapshot_that_contradicts_itself_is_refused(own: Small, changes: dict[str, Any]) -> None:
    made = odd(own, **changes)

    with pytest.raises(Refused):
        opened(own.repository).restored(made.id)


def test_the_refusals_leave_other_snapshots_alone(own: Small) -> None:
    odd(own, change=lambda rows: [])

    restored(own.repository, own.second)


def test_references_to_references_are_refused(own: Small) -> None:
    class Deep(Domain):
        def refs(self, label: str, session: Session, *refs: PartRef) -> PartRef:
            inner = super().refs(label, session, *refs)
            return self.part(f"{label}, again", session, Key.REFS, (Kind.REFS, encode_refs([inner])))

    domain = Deep(own.repository, own.domain.keys)
    made = domain.snapshot("deep", domain.session("a run", own.writer), Stream("empty"), nested=True)

    assert "references to references" in refuses_before_a_byte(own.repository, made)


# --- As a program


def read(folder: Path, output: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", READER, folder, output, *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small repository in a folder."""
    for key, data in small().objects.items():
        (tmp_path / "repository" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repository" / key).write_bytes(data)
    (tmp_path / "owner.key").write_bytes(small().repository.key_file)
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n", "utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("option", [("--key-file", "owner.key"), ("--passphrase-file", "passphrase")])
def test_the_program_restores_a_repository_in_a_folder(folder: Path, option: tuple[str, str]) -> None:
    done = read(folder / "repository", folder / "out", option[0], folder / option[1])

    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, bytes]] = {}
    for row in json.loads(done.stdout):
        data = (folder / "out" / row["snapshot"] / row["file"]).read_bytes()
        found.setdefault(row["snapshot"], {})[row["stream"]] = data
    assert found == {made.id.hex(): made.streams for made in (small().first, small().second)}


@pytest.mark.slow
def test_the_program_says_what_it_refuses(folder: Path) -> None:
    (folder / "passphrase").write_text("wrong", "utf-8")
    done = read(folder / "repository", folder / "out", "--passphrase-file", folder / "passphrase")

    assert done.returncode == 1
    assert done.stderr == "refused: the passphrase opens no slot\n"
