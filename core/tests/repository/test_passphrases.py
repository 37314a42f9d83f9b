from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from core.tests.repository.lab import CHEAP, KIB, PASSPHRASE, Lab

from penstock.api import DamagedObject, KeyMissing, RepositoryExists, Secret, UsageError, WrongPassphrase
from penstock.format.documents import decode_document, encode_document
from penstock.format.encoding import new_id
from penstock.format.grants import Granted
from penstock.format.keys import DecapsulationKey, PassphraseCost, SigningKey
from penstock.format.slot import MOST_SLOTS
from penstock.format.trust import OwnerPublic, Role
from penstock.repository import Repository, layout
from penstock.repository.trust.keyring import revoke
from penstock.repository.trust.log import OwnerLog
from penstock.testing import MemorySink


def slots(lab: Lab) -> list[str]:
    return [info.key for info in lab.sink.list(layout.SLOTS)]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passphrases for which a key was derived."""
    found: list[str] = []
    derive = PassphraseCost.derive

    def counted(cost: PassphraseCost, passphrase: str, salt: bytes) -> tuple[bytes, bytes]:
        found.append(passphrase)
        return derive(cost, passphrase, salt)

    monkeypatch.setattr(PassphraseCost, "derive", counted)
    return found


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
    with pytest.raises(WrongPassphrase):
        lab.open(PASSPHRASE)
    assert lab.open(Secret("second")).access == lab.owner


@pytest.mark.parametrize("first", [b"\0" * 16, b"\xff" * 16], ids=["before", "behind"])
def test_a_slot_that_was_never_granted_is_not_even_tried(
    lab: Lab, first: bytes, monkeypatch: pytest.MonkeyPatch, tried: list[str]
) -> None:
    with monkeypatch.context() as patched:
        # As if adding it had been interrupted between the slot and its grant.
        patched.setattr("penstock.repository.repository.new_id", lambda: first)
        patched.setattr(Repository, "append", lambda *_, **__: None)
        lab.repository.add_slot(PASSPHRASE, "cut short", CHEAP)
    assert len(slots(lab)) == 2
    tried.clear()
    assert lab.open(PASSPHRASE).access == lab.owner
    assert len(tried) == 1
    (granted,) = [slot for slot in slots(lab) if slot != layout.slot_key(first)]
    lab.sink.delete(granted)
    with pytest.raises(WrongPassphrase):
        lab.open(PASSPHRASE)
    assert len(tried) == 1


def test_no_more_slots_are_tried_than_anybody_needs(lab: Lab, tried: list[str]) -> None:
    for number in range(MOST_SLOTS + 5):
        lab.repository.append(Granted(new_id(), Role.SLOT, f"slot {number}"))
    beyond = lab.repository.add_slot(Secret("beyond"), "the last", CHEAP)
    assert lab.open(PASSPHRASE).access == lab.owner
    tried.clear()
    with pytest.raises(WrongPassphrase):
        lab.open(Secret("beyond"))
    assert len(tried) == 1, "of those that are there and not beyond the limit"
    assert layout.slot_key(beyond) in slots(lab)


def _signed(lab: Lab, key: str, content: dict[str, Any], signing: SigningKey | None = None) -> bytes:
    return encode_document(key, content, signing or lab.owner.signing)


def _content(lab: Lab, key: str) -> dict[str, Any]:
    return decode_document(key, lab.sink.get(key)).claimed


SPOILT: dict[str, Callable[[Lab, str], bytes | None]] = {
    "gone": lambda lab, key: None,
    "empty": lambda lab, key: b"",
    "cut": lambda lab, key: lab.sink.get(key)[:-9],
    "too large": lambda lab, key: lab.sink.get(key) + bytes(16 * KIB),
    "signed by another": lambda lab, key: _signed(lab, key, _content(lab, key), SigningKey.generate()),
    "without its entries": lambda lab, key: _signed(lab, key, {}),
    "sealed bytes changed": lambda lab, key: _signed(lab, key, {**_content(lab, key), "sealed": "00" * 188}),
    "sealed bytes of another length": lambda lab, key: _signed(lab, key, {**_content(lab, key), "sealed": "00" * 187}),
    "sealed bytes that are no text": lambda lab, key: _signed(lab, key, {**_content(lab, key), "sealed": 7}),
    "another commitment": lambda lab, key: _signed(lab, key, {**_content(lab, key), "commitment": "00" * 32}),
    "no commitment": lambda lab, key: _signed(lab, key, {**_content(lab, key), "commitment": None}),
    "too cheap": lambda lab, key: _signed(lab, key, _with_cost(_content(lab, key), memory_kib=19455)),
    "too few passes": lambda lab, key: _signed(lab, key, _with_cost(_content(lab, key), iterations=1)),
    "endless": lambda lab, key: _signed(lab, key, _with_cost(_content(lab, key), iterations=11)),
    "too much memory": lambda lab, key: _signed(lab, key, _with_cost(_content(lab, key), memory_kib=1048577)),
}


#: What somebody without the owner's signing key can bring about.
UNSIGNED = ("gone", "empty", "cut", "too large", "signed by another")


def _with_cost(content: dict[str, Any], **cost: int) -> dict[str, Any]:
    return {**content, "kdf": {**content["kdf"], **cost}}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_whatever_is_wrong_with_a_slot_the_error_is_that_of_a_wrong_passphrase(lab: Lab, spoilt: str) -> None:
    with pytest.raises(WrongPassphrase) as usual:
        lab.open(Secret("wrong"))
    (slot,) = slots(lab)
    data = SPOILT[spoilt](lab, slot)
    lab.sink.delete(slot)
    if data is not None:
        lab.sink.put(slot, data)
    with pytest.raises(WrongPassphrase) as raised:
        lab.open(PASSPHRASE)
    assert vars(raised.value) == vars(usual.value)
    assert str(raised.value) == str(usual.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


@pytest.mark.parametrize("cost", ["too cheap", "too few passes", "endless", "too much memory"])
def test_no_work_is_done_for_a_slot_whose_cost_nobody_honest_chooses(lab: Lab, tried: list[str], cost: str) -> None:
    (slot,) = slots(lab)
    lab.sink.put(slot, SPOILT[cost](lab, slot) or b"")
    tried.clear()
    with pytest.raises(WrongPassphrase):
        lab.open(PASSPHRASE)
    assert tried == []


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_spoilt_slot_is_in_nobody_elses_way(lab: Lab, spoilt: str) -> None:
    (slot,) = slots(lab)
    lab.repository.add_slot(Secret("second"), "second", CHEAP)
    data = SPOILT[spoilt](lab, slot)
    lab.sink.delete(slot)
    if data is not None:
        lab.sink.put(slot, data)
    assert lab.open(Secret("second")).access == lab.owner
    findings = [finding.key for finding in lab.check().findings]
    assert findings == ([slot] if spoilt in UNSIGNED else [])


def test_all_slots_have_one_length_whatever_the_passphrase(lab: Lab) -> None:
    lengths = set()
    for text in ("", "x", "x" * 1000):
        slot = layout.slot_key(lab.repository.add_slot(Secret(text), "one", CHEAP))
        lengths.add(len(_content(lab, slot)["sealed"]))
    assert lengths == {2 * 188}


def test_a_repository_whose_owner_was_exchanged_is_told_by_its_passphrase(lab: Lab) -> None:
    """Whoever can write to the bucket signs everything anew; the sealed slot alone is the owner's."""
    (slot,) = slots(lab)
    thief = SigningKey.generate()
    forged = replace(lab.repository.config, owner=OwnerPublic(thief.public, DecapsulationKey.generate().public))
    document = _signed(lab, layout.CONFIG, forged.to_json(), thief)
    log = OwnerLog(thief.public, blake3(document).digest())
    entry = layout.grant_key(new_id())
    granted = log.next("2026-01-31T12:00:00.000000Z", Granted(layout.id_of(slot), Role.SLOT, "first passphrase"))
    contents = {
        layout.CONFIG: document,
        slot: _signed(lab, slot, _content(lab, slot), thief),
        entry: _signed(lab, entry, granted.to_json(), thief),
    }
    for key in lab.keys(layout.GRANTS):
        lab.sink.delete(key)
    for key, data in contents.items():
        lab.sink.put(key, data)
    for unlock in (PASSPHRASE, lab.owner):
        with pytest.raises(DamagedObject, match=r"penstock\.json: .*may be forged"):
            lab.open(unlock)


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
