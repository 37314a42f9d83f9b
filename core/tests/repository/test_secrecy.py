"""No secret appears in a repr, an error, an event, the cache or an object's bytes."""

import pickle
import traceback
from pathlib import Path

import pytest
from core.tests.repository.lab import CHEAP, PASSPHRASE, BytesSource, Lab

from penstock.api import PenstockError, Secret
from penstock.engine import Finding
from penstock.format.keys import DomainKeys, MaintenanceSecret, RootSecret
from penstock.format.sealing import Sealer
from penstock.repository import Access
from penstock.repository.read.reader import SnapshotReader
from penstock.repository.sessions import data_sealer, read_session
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer, entries
from penstock.repository.write.handing_over import HandedOver
from penstock.testing import MemorySink

MARK = "a row that is nobody's business"


def shapes(secret: bytes) -> list[str]:
    """The forms in which bytes can appear in text."""
    return [secret.hex(), repr(secret)[2:-1], str(list(secret))[1:-1], secret.hex().upper()]


def raw_secrets(access: Access, *domains: bytes) -> list[bytes]:
    """What a role holds, and what derives from it for these domains."""
    found = [access.signing.seed]
    if isinstance(access.branch, RootSecret | MaintenanceSecret):
        found.append(access.branch.secret)
    if isinstance(access.branch, RootSecret):
        found.append(access.branch.maintenance.secret)
    for keys in filter(None, map(access.domain, domains)):
        found.append(keys.layout_key)
        if keys.secret is not None:
            found += [keys.secret, keys.chunk_key, keys.id_key, keys.chunker_seed.to_bytes(8, "little")]
    if access.recipient is not None:
        found += [access.recipient.mlkem768, access.recipient.x25519]
    return found


def secrets(access: Access, *domains: bytes) -> list[str]:
    found = [shape for secret in raw_secrets(access, *domains) for shape in shapes(secret)]
    known = filter(None, map(access.domain, domains))
    return found + [str(keys.chunker_seed) for keys in known if keys.secret is not None]


def assert_silent(lab: Lab, text: str, *accesses: Access) -> None:
    domains = [domain.id for domain in lab.repository.domains]
    for access in accesses:
        for secret in secrets(access, *domains):
            assert secret not in text
    assert PASSPHRASE.reveal() not in text


def shown(holder: object) -> tuple[str, ...]:
    return repr(holder), str(holder), f"{holder}", repr([holder]), repr({"x": holder})


def test_objects_that_hold_a_secret_do_not_show_it(lab: Lab) -> None:
    writer = add_writer(lab.repository, "host")
    maintainer = add_maintainer(lab.repository, "operations")
    lab.backup({"d": b"1"})
    repository = lab.open()
    (entry,) = list_snapshots(repository)
    root = lab.owner.root
    data_key = read_session(lab.domain, entry.session).unwrap(lab.owner.require_owner("this"), lab.domain.scope)
    handed_over = HandedOver(entry.session, 1, entry.head.started, data_key, renewed=None, past=entry.id, first_row=0)
    sealed = handed_over.sealed(lab.domain)
    assert not any(part in sealed for part in (data_key, data_key.hex().encode(), entry.session))
    holders: list[object] = [
        *(lab.owner, writer, maintainer),
        *(access.branch for access in (lab.owner, writer, maintainer)),
        *(access.signing for access in (lab.owner, writer, maintainer)),
        lab.owner.owner_secret,
        lab.owner.recipient,
        root,
        root.maintenance,
        root.domain(lab.domain.id),
        root.maintenance.domain(lab.domain.id),
        DomainKeys(repository.id, lab.domain.id, lab.domain.keys.layout_key, lab.domain.keys.secret),
        Sealer(lab.domain.keys.id_key),
        lab.domain.layout_sealer,
        lab.domain.id_sealer,
        data_sealer(lab.domain, entry.session),
        handed_over,
        PASSPHRASE,
        repository,
        repository.log,
        list(repository.log),
        repository.domains,
        *repository.domains,
        entries(repository),
        entry,
        read_session(lab.domain, entry.session),
    ]
    with SnapshotReader(entry) as reader:
        texts = [text for holder in [*holders, reader, reader.manifest] for text in shown(holder)]
    for text in texts:
        assert_silent(lab, text, lab.owner, writer, maintainer)
        assert not any(shape in text for shape in shapes(data_key))


def test_a_passphrase_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("x"))


def findings(lab: Lab) -> tuple[Finding, ...]:
    """What a check finds, if the repository can be opened for it."""
    try:
        return lab.check().findings
    except PenstockError:
        return ()


@pytest.mark.slow
def test_errors_show_no_secret(lab: Lab, tmp_path: Path) -> None:
    assert isinstance(lab.sink, MemorySink)
    writer = add_writer(lab.repository, "host")
    maintainer = add_maintainer(lab.repository, "operations")
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
    fails(lab.restore, by=lab.open(maintainer))
    fails(add_writer, lab.open(writer), "x")
    fails(add_maintainer, lab.open(maintainer), "x")
    fails(lambda: lab.open(maintainer).domains[0].id_sealer)
    fails(lambda: lab.open(maintainer).domain)
    end_of_log = lab.repository.log.keys[-1]
    for key, data in lab.sink.contents().items():
        lab.sink.put(key, data[: len(data) // 2])
        # A restore needs no index objects and no leases, nor, if opened by a key, slots, nor the end of the log.
        if not key.startswith((lab.at.index, lab.at.leases, "slots/", end_of_log)):
            fails(lab.restore, into=BytesSource({}))
        if not key.startswith((lab.at.index, lab.at.leases, end_of_log)):
            fails(lambda: lab.restore(by=lab.open(PASSPHRASE)))
        raised += [finding.problem for finding in findings(lab)]
        lab.sink.put(key, data)
    for access in (lab.owner, writer, maintainer):
        file = access.to_key_file()
        for broken in (
            file[:-9],
            file.replace(b"penstock_key", b"penstock"),
            file.replace(b'":"', b'":"0', 1),
            file * 2,
        ):
            fails(Access.from_key_file, broken, "x.key")
    for text in raised:
        assert_silent(lab, text, lab.owner, writer, maintainer, other.owner)
        assert MARK not in text


@pytest.mark.slow
def test_stored_objects_show_neither_content_nor_names_nor_keys(lab: Lab) -> None:
    assert isinstance(lab.sink, MemorySink)
    accesses = [
        lab.owner,
        add_writer(lab.repository, "host"),
        add_writer(lab.repository, "another", domain="main"),
        add_maintainer(lab.repository, "operations"),
    ]
    lab.repository.add_slot(Secret("a further passphrase"), "second", CHEAP)
    for by in map(lab.open, accesses[:3]):
        lab.backup({"customers.sql": MARK.encode() * 3, "orders.sql": MARK.encode() * 5000}, name="webshop", by=by)
    kept = b"".join(lab.sink.contents().values())
    kept += b"".join(path.read_bytes() for path in lab.cache.rglob("*") if path.is_file())
    for text in (MARK, "customers.sql", "orders.sql", "webshop", PASSPHRASE.reveal(), "a further passphrase"):
        assert text.encode() not in kept
    domains = [domain.id for domain in lab.repository.domains]
    assert len(domains) == 2
    for access in accesses:
        for secret in secrets(access, *domains):
            assert secret.encode() not in kept
        for raw in raw_secrets(access, *domains):
            assert raw not in kept


def test_events_show_no_secret(lab: Lab) -> None:
    lab.backup({"d": MARK.encode()})
    lab.restore()
    lab.check()
    assert lab.events
    text = repr(lab.events)
    assert_silent(lab, text, lab.owner)
    assert MARK not in text


def test_the_cache_is_private_to_its_user(lab: Lab) -> None:
    lab.backup({"d": b"1"})
    writer = add_writer(lab.repository, "host")
    lab.backup({"d": b"1"}, by=lab.open(writer))
    files = list(lab.cache.rglob("*.sqlite3"))
    assert len(files) == 2
    for file in files:
        assert file.parent.stat().st_mode & 0o077 == 0
