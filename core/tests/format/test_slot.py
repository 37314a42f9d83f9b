"""Slots: one length, committed to their key, and no hint about what is wrong with one."""

from collections.abc import Callable
from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, with_one_value_replaced
from core.tests.format.examples import CHEAP, NAME, OWNER, PASSPHRASE, REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format import slot as slots
from penstock.format.encoding import Malformed, encode_json
from penstock.format.keys import DecapsulationKey, PassphraseCost, SigningKey
from penstock.format.sealing import Sealer, message
from penstock.format.slot import open_slot, seal_slot
from penstock.format.trust import OwnerSecret

SLOT = seal_slot(OWNER, PASSPHRASE, CHEAP, REPOSITORY, NAME)
IDS = st.binary(min_size=16, max_size=16)
KEYS = CHEAP.derive(PASSPHRASE, NAME)
PLAIN = b"".join((OWNER.signing.seed, OWNER.root, OWNER.recipient.mlkem768, OWNER.recipient.x25519))


def made(
    plain: bytes = PLAIN, key: bytes = KEYS[0], commitment: bytes = KEYS[1], place: bytes = REPOSITORY + NAME
) -> dict[str, Any]:
    """A slot as a forger, or another program, would write it."""
    sealed = Sealer(key).seal(plain, message("slot", place))
    return {
        "commitment": commitment.hex(),
        "kdf": CHEAP.to_json(NAME),
        "sealed": sealed.hex(),
        "slot": NAME.hex(),
    }


@pytest.mark.slow
@settings(EFFORT, max_examples=examples(6))
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=64, max_size=64),
    IDS,
    IDS,
)
def test_slots_round_trip(passphrase: str, secret: bytes, mlkem: bytes, repository: bytes, slot: bytes) -> None:
    owner = OwnerSecret(SigningKey(secret), DecapsulationKey(mlkem, secret[::-1]), secret)
    content = seal_slot(owner, passphrase, CHEAP, repository, slot)

    assert open_slot(content, passphrase, repository, slot) == owner
    other = independent_reader.owner_in(content, passphrase, repository, slot)
    assert (other.root, other.mlkem768, other.public) == (secret, mlkem, owner.public.to_json())


def test_a_slot_has_the_fields_and_lengths_of_the_page() -> None:
    assert SLOT.keys() == {"slot", "kdf", "commitment", "sealed"}
    assert len(bytes.fromhex(SLOT["sealed"])) == 188
    assert len(bytes.fromhex(SLOT["commitment"])) == 32
    assert SLOT["kdf"].keys() == {"name", "iterations", "memory_kib", "lanes", "salt"}
    assert len(encode_json(SLOT)) < 16 * 1024
    assert open_slot(made(), PASSPHRASE, REPOSITORY, NAME) == OWNER


def test_two_slots_of_one_passphrase_have_nothing_in_common() -> None:
    other = seal_slot(OWNER, PASSPHRASE, CHEAP, REPOSITORY, NAME)

    assert other["kdf"]["salt"] != SLOT["kdf"]["salt"]
    assert other["commitment"] != SLOT["commitment"]
    assert other["sealed"] != SLOT["sealed"]


def flipped(text: str, at: int) -> str:
    data = bytearray.fromhex(text)
    data[at] ^= 1
    return data.hex()


WRONG: dict[str, Callable[[], tuple[dict[str, Any], str, bytes, bytes]]] = {
    "another passphrase": lambda: (SLOT, "correct", REPOSITORY, NAME),
    "no passphrase": lambda: (SLOT, "", REPOSITORY, NAME),
    "another salt": lambda: (
        {**SLOT, "kdf": {**SLOT["kdf"], "salt": flipped(SLOT["kdf"]["salt"], 3)}},
        PASSPHRASE,
        REPOSITORY,
        NAME,
    ),
    "another cost": lambda: ({**SLOT, "kdf": {**SLOT["kdf"], "iterations": 3}}, PASSPHRASE, REPOSITORY, NAME),
    "a changed commitment": lambda: (
        {**SLOT, "commitment": flipped(SLOT["commitment"], 31)},
        PASSPHRASE,
        REPOSITORY,
        NAME,
    ),
    "a changed nonce": lambda: ({**SLOT, "sealed": flipped(SLOT["sealed"], 0)}, PASSPHRASE, REPOSITORY, NAME),
    "a changed secret": lambda: ({**SLOT, "sealed": flipped(SLOT["sealed"], 50)}, PASSPHRASE, REPOSITORY, NAME),
    "a changed tag": lambda: ({**SLOT, "sealed": flipped(SLOT["sealed"], 187)}, PASSPHRASE, REPOSITORY, NAME),
    "another slot": lambda: (SLOT, PASSPHRASE, REPOSITORY, REPOSITORY),
    "another repository": lambda: (SLOT, PASSPHRASE, NAME, NAME),
    "sealed for another kind of place": lambda: (made(place=NAME), PASSPHRASE, REPOSITORY, NAME),
    "a key without its commitment": lambda: (made(commitment=KEYS[0]), PASSPHRASE, REPOSITORY, NAME),
    "a commitment without its key": lambda: (made(key=KEYS[1]), PASSPHRASE, REPOSITORY, NAME),
    "nothing sealed": lambda: ({**SLOT, "sealed": ""}, PASSPHRASE, REPOSITORY, NAME),
    "one byte less": lambda: (made(PLAIN[:-1]), PASSPHRASE, REPOSITORY, NAME),
    "one byte more": lambda: (made(PLAIN + b"\0"), PASSPHRASE, REPOSITORY, NAME),
    "no hexadecimal": lambda: ({**SLOT, "sealed": "zz" * 188}, PASSPHRASE, REPOSITORY, NAME),
    "upper case": lambda: ({**SLOT, "sealed": SLOT["sealed"].upper()}, PASSPHRASE, REPOSITORY, NAME),
    "white space": lambda: ({**SLOT, "sealed": " " + SLOT["sealed"]}, PASSPHRASE, REPOSITORY, NAME),
    "a cost that is too cheap": lambda: (
        seal_slot(OWNER, PASSPHRASE, PassphraseCost(1, 8, 1), REPOSITORY, NAME),
        PASSPHRASE,
        REPOSITORY,
        NAME,
    ),
    "a cost without end": lambda: (
        {**SLOT, "kdf": {**SLOT["kdf"], "memory_kib": 2**40}},
        PASSPHRASE,
        REPOSITORY,
        NAME,
    ),
    "another function": lambda: ({**SLOT, "kdf": {**SLOT["kdf"], "name": "scrypt"}}, PASSPHRASE, REPOSITORY, NAME),
    "no cost": lambda: ({**SLOT, "kdf": None}, PASSPHRASE, REPOSITORY, NAME),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_with_a_slot_is_refused(case: Callable[[], tuple[dict[str, Any], str, bytes, bytes]]) -> None:
    with pytest.raises(Malformed):
        open_slot(*case())
    with pytest.raises(independent_reader.BROKEN):
        independent_reader.owner_in(*case())


@pytest.mark.slow
def test_a_wrong_passphrase_and_a_damaged_slot_raise_the_same_error() -> None:
    # An answer that told them apart would help whoever forges slots.
    told = {}
    for name, case in WRONG.items():
        with pytest.raises(Malformed) as refused:
            open_slot(*case())
        told[name] = (refused.type, str(refused.value), refused.value.__cause__)

    expected = told["another passphrase"]
    assert {name: one for name, one in told.items() if one != expected} == {}


def test_the_commitment_is_compared_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    forged = made(commitment=bytes(32))
    opened: list[bytes] = []

    class Watched(Sealer):
        def open(self, sealed: bytes | memoryview, bound_to: bytes) -> bytes:
            opened.append(bytes(sealed))
            return super().open(sealed, bound_to)

    monkeypatch.setattr(slots, "Sealer", Watched)
    for content, passphrase in ((forged, PASSPHRASE), (SLOT, "correct")):
        with pytest.raises(Malformed):
            open_slot(content, passphrase, REPOSITORY, NAME)
    assert opened == []
    assert open_slot(SLOT, PASSPHRASE, REPOSITORY, NAME) == OWNER
    assert len(opened) == 1


@pytest.mark.slow
@settings(EFFORT, max_examples=examples(25))
@given(with_one_value_replaced({name: value for name, value in SLOT.items() if name != "kdf"}))
def test_a_damaged_slot_is_refused_or_gives_the_owners_secret(changed: dict[str, Any]) -> None:
    content = {**changed, "kdf": SLOT["kdf"]}
    try:
        assert open_slot(content, PASSPHRASE, REPOSITORY, NAME) == OWNER
    except Malformed:
        return
    assert {**content, "slot": None} == {**SLOT, "slot": None}


def test_a_reader_tries_as_many_slots_as_the_page_says() -> None:
    assert slots.MOST_SLOTS == 64
