from collections.abc import Callable

import pytest
from core.tests.repository.lab import CHEAP, PASSPHRASE, Lab

from penstock.api import KeyMissing, RepositoryExists, Secret, UsageError, WrongKey, WrongPassphrase
from penstock.repository import Repository, layout
from penstock.repository.trust.keyring import revoke
from penstock.testing import MemorySink


def slots(lab: Lab) -> list[str]:
    return [info.key for info in lab.sink.list(layout.SLOTS)]


def test_the_passphrase_opens_everything(lab: Lab) -> None:
    lab.backup({"d": b"text"}, by=lab.open(PASSPHRASE))
    assert lab.open(PASSPHRASE).access == lab.owner
    assert lab.restored() == {"d": b"text"}


@pytest.mark.parametrize("wrong", ["", "wrong", PASSPHRASE.reveal() + " ", PASSPHRASE.reveal().upper()])
def test_a_wrong_passphrase_is_refused(lab: Lab, wrong: str) -> None:
    with pytest.raises(WrongPassphrase) as raised:
        lab.open(Secret(wrong))
    assert raised.value.exit_code == 22


def test_a_passphrase_is_the_same_however_its_letters_are_composed(lab: Lab) -> None:
    lab.repository.add_slot(Secret("Gr\u00fc\u00dfe"), "umlaut", CHEAP)
    assert lab.open(Secret("Gru\u0308\u00dfe")).access == lab.owner


def test_a_second_passphrase_also_opens(lab: Lab) -> None:
    lab.repository.add_slot(Secret("second"), "second", CHEAP)
    assert lab.open(Secret("second")).access == lab.open(PASSPHRASE).access
    assert len(slots(lab)) == 2


def test_a_revoked_passphrase_no_longer_opens_even_with_its_slot_restored(lab: Lab) -> None:
    (first,) = slots(lab)
    stolen = lab.sink.get(first)
    lab.repository.add_slot(Secret("second"), "second", CHEAP)
    revoke(lab.open(), layout.id_of(first))
    assert first not in slots(lab)
    with pytest.raises(WrongPassphrase):
        lab.open(PASSPHRASE)
    lab.sink.put(first, stolen)
    with pytest.raises(WrongKey, match="revoked"):
        lab.open(PASSPHRASE)
    assert lab.open(Secret("second")).access == lab.owner


@pytest.mark.parametrize("first", [b"\0" * 16, b"\xff" * 16], ids=["tried-first", "tried-last"])
def test_a_slot_never_granted_does_not_block_another_with_the_same_passphrase(
    lab: Lab, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        # As if adding it had been interrupted between the slot and its grant.
        patched.setattr("penstock.repository.repository.new_id", lambda: first)
        patched.setattr(Repository, "append_grant", lambda *_, **__: None)
        lab.repository.add_slot(PASSPHRASE, "cut short", CHEAP)
    assert len(slots(lab)) == 2
    assert lab.open(PASSPHRASE).access == lab.owner
    (granted,) = [slot for slot in slots(lab) if slot != layout.slot_key(first)]
    lab.sink.delete(granted)
    with pytest.raises(WrongKey, match="never granted"):
        lab.open(PASSPHRASE)


def test_the_last_passphrase_cannot_be_revoked(lab: Lab) -> None:
    (first,) = slots(lab)
    with pytest.raises(UsageError, match="last passphrase"):
        revoke(lab.open(), layout.id_of(first))
    lab.open(PASSPHRASE)


def test_only_active_keys_can_be_revoked(lab: Lab) -> None:
    second = lab.repository.add_slot(Secret("second"), "second", CHEAP)
    revoke(lab.repository, second)
    for key in (second, bytes(16)):
        with pytest.raises(KeyMissing):
            revoke(lab.repository, key)


def test_a_repository_without_passphrases_opens_only_with_a_key() -> None:
    sink = MemorySink()
    owner = Repository.create(sink, passphrase=None).access
    assert Repository.open(sink, owner).access == owner
    with pytest.raises(KeyMissing, match="no passphrase slot"):
        Repository.open(sink, PASSPHRASE)


def test_no_second_repository_is_created_in_the_same_place(lab: Lab) -> None:
    with pytest.raises(RepositoryExists, match="already holds a repository"):
        Repository.create(lab.sink, passphrase=PASSPHRASE, cost=CHEAP)
    stray = MemorySink()
    stray.put("x", b"")
    with pytest.raises(RepositoryExists, match="already holds objects"):
        Repository.create(stray, passphrase=PASSPHRASE, cost=CHEAP)


def test_a_passphrase_that_is_not_utf8_is_refused_without_being_shown(lab: Lab) -> None:
    unreadable = Secret("hunter\udcff2")
    attempts: tuple[Callable[[], Repository], ...] = (
        lambda: Repository.open(lab.sink, unreadable),
        lambda: Repository.create(MemorySink(), passphrase=unreadable, cost=CHEAP),
    )
    for attempt in attempts:
        with pytest.raises(WrongPassphrase, match="not valid UTF-8") as raised:
            attempt()
        assert "hunter" not in repr(raised.value.__context__) + str(raised.value)
