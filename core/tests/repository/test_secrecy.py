"""No secret appears in a repr, an error, an event, the cache or an object's bytes."""

import pickle
import traceback
from pathlib import Path

import pytest
from core.tests.repository.lab import CHEAP, PASSPHRASE, BytesSource, Lab

from penstock.api import PenstockError, Secret
from penstock.engine import Finding
from penstock.format.keys import IndexSecret
from penstock.format.sealing import Sealer
from penstock.format.trust import Role
from penstock.repository import Access
from penstock.repository.sessions import data_sealer, read_session
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_key, entries
from penstock.testing import MemorySink

MARK = "a row that is nobody's business"


def shapes(secret: bytes) -> list[str]:
    """The forms in which bytes can appear in text."""
    return [secret.hex(), repr(secret)[2:-1], str(list(secret))[1:-1], secret.hex().upper()]


def secrets(access: Access) -> list[str]:
    found = [*shapes(access.index.secret), *shapes(access.index.index_key), *shapes(access.index.id_key)]
    found.append(str(access.index.chunker_seed))
    if access.signing is not None:
        found += shapes(access.signing.seed)
    if access.recipient is not None:
        found += [*shapes(access.recipient.mlkem768), *shapes(access.recipient.x25519)]
    return found


def assert_silent(text: str, *accesses: Access) -> None:
    for access in accesses:
        for secret in secrets(access):
            assert secret not in text
    assert PASSPHRASE.reveal() not in text


def test_objects_that_hold_a_secret_do_not_show_it(lab: Lab) -> None:
    writer = add_key(lab.repository, Role.WRITER, "host")
    lab.backup({"d": b"1"})
    repository = lab.open()
    (entry,) = list_snapshots(repository)
    sealer = data_sealer(repository, entry.sealed.session)
    holders: list[object] = [
        lab.owner,
        writer,
        lab.owner.owner_secret,
        lab.owner.index,
        lab.owner.signing,
        lab.owner.recipient,
        writer.signing,
        IndexSecret(lab.owner.index.secret, repository.id),
        Sealer(lab.owner.index.index_key),
        sealer,
        PASSPHRASE,
        repository,
        repository.grants,
        list(repository.grants),
        entries(repository),
        entry,
        read_session(repository, entry.sealed.session),
    ]
    for holder in holders:
        for text in (repr(holder), str(holder), f"{holder}", repr([holder]), repr({"x": holder})):
            assert_silent(text, lab.owner, writer)


def test_a_passphrase_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("x"))


def findings(lab: Lab) -> tuple[Finding, ...]:
    """What a check finds, if the repository can be opened for it."""
    try:
        return lab.check().findings
    except PenstockError:
        return ()


def test_errors_show_no_secret(lab: Lab, tmp_path: Path) -> None:
    assert isinstance(lab.sink, MemorySink)
    writer = add_key(lab.repository, Role.WRITER, "host")
    lab.backup({"d": MARK.encode()})
    other = Lab(tmp_path / "other")
    raised = []

    def fails(call: object, *arguments: object, **named: object) -> None:
        assert callable(call)
        try:
            call(*arguments, **named)
        except PenstockError as error:
            raised.append("".join(traceback.format_exception(error)) + repr(error) + str(vars(error)))
        else:
            pytest.fail("nothing was raised")

    fails(lab.open, Secret(PASSPHRASE.reveal()[:-1]))
    fails(lab.open, other.owner)
    fails(lab.restore, by=lab.open(writer))
    fails(add_key, lab.open(writer), Role.WRITER, "x")
    for key, data in lab.sink.contents().items():
        lab.sink.put(key, data[: len(data) // 2])
        # A restore needs neither index objects nor, when it is opened by a key, slots.
        if not key.startswith(("index/", "slots/")):
            fails(lab.restore, into=BytesSource({}))
        if not key.startswith("index/"):
            fails(lambda: lab.restore(by=lab.open(PASSPHRASE)))
        raised += [finding.problem for finding in findings(lab)]
        lab.sink.put(key, data)
    for access in (lab.owner, writer):
        file = access.to_key_file()
        for broken in (
            file[:-9],
            file.replace(b"penstock_key", b"penstock"),
            file.replace(b'":"', b'":"0', 1),
            file * 2,
        ):
            fails(Access.from_key_file, broken, "x.key")
    for text in raised:
        assert_silent(text, lab.owner, writer, other.owner)
        assert MARK not in text


def test_stored_objects_show_neither_content_nor_names_nor_keys(lab: Lab) -> None:
    assert isinstance(lab.sink, MemorySink)
    writer = add_key(lab.repository, Role.WRITER, "host")
    lab.repository.add_slot(Secret("a further passphrase"), "second", CHEAP)
    for by in (lab.open(), lab.open(writer)):
        lab.backup({"customers.sql": MARK.encode() * 3, "orders.sql": MARK.encode() * 5000}, name="webshop", by=by)
    kept = b"".join(lab.sink.contents().values())
    kept += b"".join(path.read_bytes() for path in lab.cache.rglob("*") if path.is_file())
    for text in (MARK, "customers.sql", "orders.sql", "webshop", PASSPHRASE.reveal(), "a further passphrase"):
        assert text.encode() not in kept
    for access in (lab.owner, writer):
        for secret in secrets(access):
            assert secret.encode() not in kept
        for raw in (access.index.secret, access.index.index_key, access.index.id_key):
            assert raw not in kept


def test_events_show_no_secret(lab: Lab) -> None:
    lab.backup({"d": MARK.encode()})
    lab.restore()
    lab.check()
    assert lab.events
    text = repr(lab.events)
    assert_silent(text, lab.owner)
    assert MARK not in text


def test_the_cache_is_private_to_its_user(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    (folder,) = lab.cache.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
