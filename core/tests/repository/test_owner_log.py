"""The owner's log: what was written at once is all in force, a gap stops everybody, and a stranger's entry nobody."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from core.tests.repository.forging import Hand, resign
from core.tests.repository.lab import CHEAP, PASSPHRASE, BytesSource, Lab

from penstock.api import MissingObject, Secret, UsageError, WrongKey
from penstock.format.documents import decode_document, encode_document
from penstock.format.encoding import new_id
from penstock.format.grants import Content, Entry, Granted, Kept, Revoked
from penstock.format.keys import SigningKey
from penstock.format.trust import OWNER_ID, Role
from penstock.repository import Access, Repository, layout
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, entries, find_domain, revoke
from penstock.repository.trust.log import OwnerLog
from penstock.testing import FaultySink, MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

NOW = "2026-01-31T12:00:00.000000Z"


def read_entries(lab: Lab) -> dict[str, Entry]:
    return {
        key: Entry.from_json(decode_document(key, lab.sink.get(key)).verified(lab.owner.signing.public))
        for key in lab.open().log.keys
    }


def digest(lab: Lab, key: str) -> bytes:
    return blake3(lab.sink.get(key)).digest()


# what is written


def test_entries_follow_one_another_from_the_creation_on(lab: Lab) -> None:
    add_writer(lab.repository, "host")
    add_maintainer(lab.repository, "operations")
    found = list(read_entries(lab).items())
    assert [type(entry.content).__name__ for _, entry in found] == [
        "Granted", "MadeDomain", "MadeDomain", "Granted", "Granted",
    ]  # fmt: skip
    assert [entry.number for _, entry in found] == [1, 2, 3, 4, 5]
    before = layout.CONFIG
    for key, entry in found:
        assert entry.previous == {digest(lab, before)}
        assert layout.id_of(key)
        before = key
    assert lab.open().log.newest == {digest(lab, before)}


def test_the_log_of_a_repository_that_is_read_is_that_of_the_one_that_wrote_it(lab: Lab) -> None:
    writer = add_writer(lab.repository, "host")
    add_maintainer(lab.repository, "operations")
    revoke(lab.repository, writer.key)
    read, written = lab.open().log, lab.repository.log
    assert (read.newest, read.digests, read.number) == (written.newest, written.digests, written.number)
    assert (read.keys, read.domains, list(read)) == (written.keys, written.domains, list(written))


def test_entries_have_random_names(lab: Lab) -> None:
    names = [layout.id_of(key) for key in lab.repository.log.keys]
    another = [layout.id_of(key) for key in Lab(lab.cache).repository.log.keys]
    assert len({*names, *another}) == 4
    assert not any(name.startswith(bytes(8)) for name in names)


# written at once


def test_of_two_key_changes_at_once_both_are_in_force(lab: Lab) -> None:
    one, other = lab.open(), lab.open()
    first, second = add_writer(one, "first", domain="main"), add_writer(other, "second", domain="main")
    numbers = [entry.number for entry in read_entries(lab).values()]
    assert numbers == [1, 2, 3, 3]
    for access in (first, second):
        assert lab.open(access).access == access
        lab.backup({"d": access.label.encode()}, name=access.label, by=lab.open(access))
    assert {entry.label for entry in entries(lab.open())} >= {"first", "second"}
    assert lab.check().findings == ()


def test_the_next_entry_names_all_that_were_written_at_once(lab: Lab) -> None:
    programs = [lab.open() for _ in range(3)]
    for number, program in enumerate(programs):
        add_maintainer(program, f"number {number}")
    after = lab.open()
    newest = after.log.newest
    assert len(newest) == 3
    add_maintainer(after, "the next")
    last = read_entries(lab)[lab.open().log.keys[-1]]
    assert (last.number, last.previous) == (4, newest)
    assert len(lab.open().log.newest) == 1
    # From now on none of the three can be taken away.
    for key in lab.open().log.keys[2:5]:
        data = lab.sink.get(key)
        lab.sink.delete(key)
        with pytest.raises(MissingObject, match="the owner's log has a gap"):
            lab.open()
        lab.sink.put(key, data)


def test_a_grant_and_a_revocation_at_once_are_both_in_force(lab: Lab) -> None:
    stolen = add_writer(lab.repository, "stolen")
    one, other = lab.open(), lab.open()
    revoke(one, stolen.key)
    fresh = add_writer(other, "fresh")
    with pytest.raises(WrongKey, match="revoked"):
        lab.open(stolen)
    assert lab.open(fresh).domain.label == "fresh"


def test_of_two_revocations_at_once_both_are_in_force(lab: Lab) -> None:
    """What either of them keeps is kept, as if the owner had thought of it later."""
    writer = add_writer(lab.repository, "host", domain="main")
    made = [lab.backup({"d": b"%d" % number}, by=lab.open(writer)).snapshot for number in range(3)]
    one, other = lab.open(), lab.open()
    revoke(one, writer.key, without=made[1:])
    revoke(other, writer.key, without=[*made[:1], made[2]])
    assert [entry.id for entry in list_snapshots(lab.open(), lambda _: None)] == made[:2]


def test_two_domains_made_at_once_are_two(lab: Lab) -> None:
    one, other = lab.open(), lab.open()
    first, second = add_writer(one, "same"), add_writer(other, "same")
    assert lab.open(first).domain.id != lab.open(second).domain.id
    assert [domain.label for domain in lab.open().domains] == ["main", "same", "same"]
    lab.backup({"d": b"1"}, by=lab.open(first))
    lab.backup({"d": b"2"}, by=lab.open(second))
    assert lab.check().findings == ()
    # Their label alone no longer says which: the beginning of an id does.
    with pytest.raises(Exception, match="no domain same"):
        find_domain(lab.open(), "same")
    wanted = lab.open(second).domain.id
    assert find_domain(lab.open(), wanted.hex()[:12]).id == wanted


@pytest.mark.parametrize("seed", range(3))
def test_whoever_writes_with_an_old_view_of_the_log_loses_nothing(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    programs = [lab.open() for _ in range(3)]
    keys = {}
    for number in range(30):
        at = chance.randrange(len(programs))
        if chance.random() < 0.3:
            programs[at] = lab.open()
        key = new_id()
        keys[key] = f"number {number}"
        programs[at].append(Granted(key, Role.MAINTAINER, keys[key], SigningKey.generate().public))
    log = lab.open().log
    assert {grantee.grant.key: grantee.grant.label for grantee in log if grantee.grant.role is Role.MAINTAINER} == keys
    assert len(log.keys) == 32
    assert log.newest | set().union(*(entry.previous for entry in read_entries(lab).values())) == log.digests


# gaps


@pytest.fixture
def long(lab: Lab) -> Lab:
    """With an entry of each kind, a key of each kind, and a backup."""
    writer = add_writer(lab.repository, "host", domain="main")
    add_maintainer(lab.repository, "operations")
    lab.backup({"d": b"1"}, by=lab.open(writer))
    revoke(lab.repository, add_writer(lab.repository, "stolen").key)
    return lab


REPLACED: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda data: None,
    "emptied": lambda data: b"",
    "cut": lambda data: data[:-9],
    "changed": lambda data: data.replace(b'"number":', b'"number":1', 1),
    "overwritten": lambda data: b"a stranger's",
}


@pytest.mark.parametrize("how", REPLACED)
@pytest.mark.parametrize("number", range(6))
def test_an_entry_that_a_later_one_names_must_be_there(long: Lab, number: int, how: str) -> None:
    maintainer = add_maintainer(long.repository, "another")
    key = long.repository.log.keys[number]
    data = REPLACED[how](long.sink.get(key))
    long.sink.delete(key)
    if data is not None:
        long.sink.put(key, data)
    target = BytesSource({})
    for unlock in (long.owner, PASSPHRASE, maintainer):
        with pytest.raises(MissingObject, match="the owner's log has a gap") as raised:
            long.restore(by=long.open(unlock), into=target)
        assert raised.value.exit_code == 14
        assert any(key in detail for detail in raised.value.details) == (data is not None)
    assert target.touched == []


def test_the_first_entry_names_penstock_json(lab: Lab) -> None:
    """Of two that the owner signed, only the one that the log began with is right."""
    resign(lab.domain, layout.CONFIG, Hand.of(lab.owner), created=NOW)
    for unlock in (lab.owner, PASSPHRASE):
        with pytest.raises(MissingObject, match="the owner's log has a gap"):
            lab.open(unlock)


def test_a_log_that_was_cut_is_noticed_once_a_session_has_seen_its_end(long: Lab) -> None:
    stolen = add_writer(long.repository, "another", domain="main")
    revoke(long.repository, stolen.key)
    long.backup({"d": b"after the revocation"})
    (session,) = long.sessions()
    long.sink.delete(long.repository.log.keys[-1])
    # The revoked key opens the repository again: that alone is indistinguishable from the past. But ...
    long.open(stolen)
    (finding,) = long.check().findings
    assert finding.key == long.at.session_key(session)
    assert "the log was cut" in finding.problem
    # ... and it stops nobody.
    assert long.restored() == {"d": b"after the revocation"}


def test_a_host_that_has_seen_the_end_of_the_log_says_that_it_is_gone(long: Lab) -> None:
    stolen = add_writer(long.repository, "another", domain="main")
    revoke(long.repository, stolen.key)
    long.backup({"d": b"after the revocation"})
    gone = long.open().log.keys[-1]
    long.sink.delete(gone)
    for _ in range(2):
        (warning,) = long.backup({"d": b"again"}).warnings
        assert gone in warning
        assert "log was cut" in warning
    assert gone in {finding.key for finding in long.check(cache=long.cache).findings}


def test_another_host_hears_of_it_from_a_session(long: Lab, tmp_path: Path) -> None:
    for number in range(3):
        stolen = add_writer(long.repository, f"another {number}", domain="main")
        revoke(long.repository, stolen.key)
        long.backup({"d": b"%d" % number})
    sessions = long.keys(long.at.sessions)
    long.sink.delete(long.open().log.keys[-1])
    (warning,) = long.backup({"d": b"again"}, cache=tmp_path / "another host").warnings
    assert "log was cut" in warning
    assert any(session in warning for session in sessions)
    assert long.restored() == {"d": b"again"}


def test_a_log_that_grows_while_a_repository_is_open_was_not_cut(long: Lab, tmp_path: Path) -> None:
    opened_before = long.open()
    writer = add_writer(long.open(), "another", domain="main")
    long.backup({"d": b"2"}, by=long.open(writer))
    # Of this writer's session it has no key yet, and says that; of the owner's, which saw the grant, it says nothing.
    long.backup({"d": b"3"}, by=long.open(), cache=tmp_path / "another host")
    warnings = long.backup({"d": b"4"}, by=opened_before).warnings
    assert warnings
    assert not any("log was cut" in warning for warning in warnings)
    assert not any("log was cut" in finding.problem for finding in long.check(by=opened_before).findings)


def test_what_a_revoked_writer_saw_of_the_log_is_not_believed(long: Lab) -> None:
    stolen = add_writer(long.repository, "another", domain="main")
    long.backup({"d": b"1"}, by=long.open(stolen))
    (session,) = {key for key in long.keys(long.at.sessions) if stolen.key.hex() in long.sink.get(key).decode()}
    forged = long.at.session_key(new_id())
    long.sink.put(forged, long.sink.get(session))
    resign(long.domain, forged, Hand.of(stolen), session=forged[-32:], log=[bytes(32).hex()])
    assert ["log was cut" in finding.problem for finding in long.check().findings] == [True]
    revoke(long.repository, stolen.key)
    assert long.check().findings == ()


# strangers


def put_entry(lab: Lab, content: Content, signing: SigningKey, *, name: bytes | None = None) -> str:
    key = layout.grant_key(name or new_id())
    entry = lab.open().log.next(NOW, content)
    lab.sink.put(key, encode_document(key, entry.to_json(), signing))
    return key


def copied(lab: Lab) -> str:
    key = layout.grant_key(new_id())
    lab.sink.put(key, lab.sink.get(lab.repository.log.keys[-1]))
    return key


def another_owners(lab: Lab) -> str:
    return put_entry(lab, Granted(new_id(), Role.SLOT, "x"), SigningKey.generate())


def put(name: str, data: bytes) -> Callable[[Lab], str]:
    def put_it(lab: Lab) -> str:
        lab.sink.put(layout.GRANTS + name, data)
        return layout.GRANTS + name

    return put_it


STRANGERS: dict[str, Callable[[Lab], str]] = {
    "empty": put("00" * 16, b""),
    "seven bytes": put("00" * 16, b"1234567"),
    "under the name of an older draft": put("00000099", b"{}"),
    "in a folder": put(f"x/{'00' * 16}", b"{}"),
    "another owner's": another_owners,
    "a copy under another name": copied,
    "with the greatest name": put("ff" * 16, b"{}\n{}\n"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_strangers_entry_stops_nobody_and_a_check_names_it(long: Lab, stranger: str) -> None:
    key = STRANGERS[stranger](long)
    for unlock in (long.owner, PASSPHRASE):
        assert [error.key for error in long.open(unlock).log.strangers] == [key]
    writer = add_writer(long.open(), "new", domain="main")
    long.backup({"d": b"2"}, by=long.open(writer))
    revoke(long.open(), writer.key)
    assert long.restored() == {"d": b"2"}
    assert [finding.key for finding in long.check().findings] == [key]


#: What no version of today understands: an action that it does not know, or a content that it does not.
NOT_UNDERSTOOD: dict[str, Callable[[Access], dict[str, object]]] = {
    "an unknown action": lambda writer: {"action": "archive", "key": writer.key.hex()},
    "a revocation of another form": lambda writer: {"action": "revoke", "key": writer.key.hex(), "kept": ["all"]},
    "a revocation of nobody": lambda writer: {"action": "revoke", "kept": {}},
    "a grant of an unknown role": lambda writer: {"action": "grant", "key": writer.key.hex(), "role": "reader"},
    "a domain with an unknown chunker": lambda writer: {"action": "domain", "chunker": {"algorithm": "later"}},
}


@pytest.mark.parametrize("what", NOT_UNDERSTOOD)
def test_an_entry_of_the_owner_that_is_not_understood_counts_as_there_and_has_no_effect(lab: Lab, what: str) -> None:
    writer = add_writer(lab.repository, "host", domain="main")
    log = lab.open().log
    key = layout.grant_key(new_id())
    fields = {"created": NOW, "number": log.number + 1, "previous": sorted(map(bytes.hex, log.newest))}
    document = encode_document(key, {**fields, **NOT_UNDERSTOOD[what](writer)}, lab.owner.signing)
    lab.sink.put(key, document)

    found = lab.open().log
    assert found.strangers == []
    assert found.newest == {blake3(document).digest()}
    assert found.number == log.number + 1
    assert len(found.domains) == 1
    lab.backup({"d": b"1"}, by=lab.open(writer))
    # Later entries name it as their predecessor, and without it the log has a gap.
    add_maintainer(lab.open(), "operations")
    assert lab.check().findings == ()
    assert lab.restored() == {"d": b"1"}
    lab.sink.delete(key)
    with pytest.raises(MissingObject):
        lab.open()


def test_an_entry_that_lacks_what_every_entry_has_is_as_a_strangers(lab: Lab) -> None:
    key = copied(lab)
    content = decode_document(key, lab.sink.get(key)).claimed
    lab.sink.put(key, encode_document(key, {**content, "previous": []}, lab.owner.signing))
    assert [error.key for error in lab.open().log.strangers] == [key]


# what is in force


def log_of(*contents: Content) -> OwnerLog:
    log = OwnerLog(SigningKey.generate().public, bytes(32))
    for number, content in enumerate(contents):
        log.take([(f"grants/{number}", log.next(NOW, content), bytes([number + 1]) * 32)])
    return log


HOST = Granted(b"w" * 16, Role.WRITER, "host", SigningKey.generate().public, b"d" * 16, ("shop", "web-*"))
OPERATIONS = Granted(b"m" * 16, Role.MAINTAINER, "operations", SigningKey.generate().public)
SLOT = Granted(b"s" * 16, Role.SLOT, "a passphrase")


def test_signatures_are_verified_by_role_and_domain() -> None:
    log = log_of(HOST, OPERATIONS, SLOT)
    writers, all_roles = (Role.WRITER,), (Role.WRITER, Role.MAINTAINER)
    assert log.signer(HOST.key, writers, b"d" * 16) == HOST.signing
    assert log.signer(HOST.key, writers, b"e" * 16) is None
    assert log.signer(HOST.key, writers) == HOST.signing
    assert log.signer(HOST.key, (Role.MAINTAINER,), b"d" * 16) is None
    assert log.signer(OPERATIONS.key, writers, b"d" * 16) is None
    assert log.signer(OPERATIONS.key, all_roles, b"d" * 16) == OPERATIONS.signing
    assert log.signer(OPERATIONS.key, all_roles, b"e" * 16) == OPERATIONS.signing
    assert log.signer(SLOT.key, (Role.SLOT,)) is None
    assert log.signer(b"?" * 16, all_roles) is None
    assert log.signer(OWNER_ID, ()) is not None


def test_a_key_is_granted_once() -> None:
    """The first entry about a key is the one that counts, whatever the owner's programs wrote at once."""
    log = log_of(HOST, replace(HOST, label="again", names=("*",), domain=b"e" * 16))
    grantee = log.find(HOST.key)
    assert grantee is not None
    assert grantee.grant == HOST


def test_what_is_said_of_an_unknown_key_is_passed_over() -> None:
    log = log_of(Revoked(b"?" * 16), Kept(b"?" * 16, {b"1" * 16: bytes(32)}), HOST)
    assert log.find(b"?" * 16) is None
    assert not log.revoked(HOST.key)
    assert log.kept(b"?" * 16) is None


def test_of_a_revoked_writer_what_is_kept_is_in_force_and_no_more() -> None:
    log = log_of(HOST, Revoked(HOST.key, {b"1" * 16: b"x" * 32}, NOW), Kept(HOST.key, {b"2" * 16: b"y" * 32}))
    assert log.kept(HOST.key) == {b"1" * 16: b"x" * 32, b"2" * 16: b"y" * 32}
    assert log.in_force(HOST.key, b"1" * 16, b"x" * 32)
    assert log.in_force(HOST.key, b"2" * 16, b"y" * 32)
    assert not log.in_force(HOST.key, b"1" * 16, b"y" * 32)
    assert not log.in_force(HOST.key, b"3" * 16, b"x" * 32)
    assert log.in_force(OWNER_ID, b"3" * 16, b"x" * 32)
    assert [grantee.grant for grantee in log.active(Role.WRITER)] == []
    for key, role, match in ((HOST.key, Role.WRITER, "revoked"), (HOST.key, Role.MAINTAINER, "never granted")):
        with pytest.raises(WrongKey, match=match):
            log.require_active(key, role)


@pytest.mark.parametrize(
    ("pattern", "backup", "may"),
    [
        ("shop", "shop", True),
        ("shop", "Shop", False),
        ("shop", "shop2", False),
        ("shop", "", False),
        ("web-*", "web-", True),
        ("web-*", "web-a/b\nc", True),
        ("web-*", "web", False),
        ("*", "", True),
        ("*", "anything at all", True),
        ("*-*", "a-b", True),
        ("*-*", "ab", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a?", "ab", False),
        ("a?", "a?", True),
        ("!x", "!x", True),
        ("[!x]", "y", False),
        ("größe", "größe", True),
        ("a.c", "abc", False),
        ("\\*", "\\x", True),
        ("\\*", "*", False),
    ],
)
def test_only_an_asterisk_stands_for_other_characters(pattern: str, backup: str, may: bool) -> None:
    log = log_of(replace(HOST, names=(pattern,)))
    assert log.may_store(HOST.key, b"d" * 16, backup) is may


def test_names_belong_to_a_writer_and_its_domain() -> None:
    log = log_of(HOST, OPERATIONS, SLOT)
    assert log.may_store(HOST.key, b"d" * 16, "web-1")
    assert not log.may_store(HOST.key, b"e" * 16, "web-1")
    assert not log.may_store(OPERATIONS.key, b"d" * 16, "web-1")
    assert not log.may_store(SLOT.key, b"d" * 16, "web-1")
    assert not log.may_store(b"?" * 16, b"d" * 16, "web-1")
    assert log.may_store(OWNER_ID, b"e" * 16, "anything")


def test_keys_have_labels_for_people() -> None:
    log = log_of(HOST, OPERATIONS)
    assert [log.label(key) for key in (HOST.key, OPERATIONS.key, OWNER_ID)] == ["host", "operations", "owner"]
    assert log.label(b"?" * 16) == (b"?" * 4).hex()


# the keyring


def test_a_writer_gets_a_domain_of_its_own_unless_it_joins_one(lab: Lab) -> None:
    own, joins = add_writer(lab.repository, "own"), add_writer(lab.repository, "joins", domain="main", names=["shop"])
    also = add_writer(lab.repository, "also", domain=lab.domain.id.hex()[:10])
    shown = [(one.label, one.domain, one.names) for one in entries(lab.open()) if one.role is Role.WRITER]
    assert shown == [("own", "own", ("*",)), ("joins", "main", ("shop",)), ("also", "main", ("*",))]
    assert lab.open(own).domain.id != lab.domain.id
    assert lab.open(joins).domain.id == lab.open(also).domain.id == lab.domain.id


def test_a_label_of_a_domain_is_not_given_twice(lab: Lab) -> None:
    for label in ("main", "host"):
        before = lab.keys()
        if label == "host":
            add_writer(lab.repository, label)
            before = lab.keys()
        with pytest.raises(UsageError, match=f"there is a domain {label} already"):
            add_writer(lab.repository, label)
        assert lab.keys() == before


@pytest.mark.parametrize("domain", ["", "other", "Main", "zz"])
def test_an_unknown_domain_cannot_be_joined(lab: Lab, domain: str) -> None:
    before = lab.keys()
    with pytest.raises(Exception, match="there is no domain"):
        add_writer(lab.repository, "host", domain=domain)
    assert lab.keys() == before


@pytest.mark.parametrize("names", [[], [""], ["shop", ""]])
def test_a_writer_without_a_name_is_not_made(lab: Lab, names: list[str]) -> None:
    before = lab.keys()
    with pytest.raises(UsageError, match="needs the name of a backup"):
        add_writer(lab.repository, "host", names=names)
    assert lab.keys() == before


def test_a_slot_is_there_before_its_grant_promises_it(tmp_path: Path) -> None:
    sink = FaultySink(MemorySink())
    lab = Lab(tmp_path, sink)
    sink.calls.clear()
    slot = lab.repository.add_slot(Secret("second"), "second", CHEAP)
    assert sink.calls == [("put", layout.slot_key(slot)), ("put", lab.repository.log.keys[-1])]


def test_a_repository_is_there_when_all_of_it_is() -> None:
    """penstock.json is written last: whoever finds it finds a slot, a domain and their entries."""
    order: list[str] = []

    class Watched(MemorySink):
        def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
            assert if_absent, "nobody's object is replaced"
            order.append(key)
            super().put(key, data, if_absent=if_absent)

    Repository.create(Watched(), passphrase=PASSPHRASE, cost=CHEAP)
    assert order[-1] == layout.CONFIG
    assert [key.partition("/")[0] for key in order[:-1]] == ["slots", "grants", "grants"]
