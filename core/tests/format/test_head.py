"""Heads: signed for one place, and they name at most as many parts and bases as a reader looks at."""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, spelled
from core.tests.format.examples import DOMAIN, HEAD, LAYOUT, NAME, REFS, REPOSITORY, SCOPE, SESSION, SIGNER, WRITER
from core.tests.format.test_encoding import TEXTS
from core.tests.format.test_part import A_REF
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.codec import RAW
from penstock.format.encoding import Malformed
from penstock.format.head import MAX_BASES, MAX_REFS, Base, Head, Seen, decode_head, encode_head
from penstock.format.keys import SigningKey
from penstock.format.part import PartRef, encode_refs
from penstock.format.sealing import message

AN_ID = st.binary(min_size=16, max_size=16)
A_DIGEST = st.binary(min_size=32, max_size=32)
SIZES = st.integers(0, 2**63 - 1)
REFERENCES = st.lists(A_REF, max_size=4).map(tuple)
HEADS = st.builds(
    Head,
    snapshot=AN_ID,
    backup=TEXTS,
    source=TEXTS,
    started=TEXTS,
    finished=TEXTS,
    host=TEXTS,
    program=TEXTS,
    parent=st.none() | AN_ID,
    size=SIZES,
    streams=SIZES,
    stored=SIZES,
    sequence=SIZES,
    previous=st.none() | A_DIGEST,
    seen=st.dictionaries(AN_ID, st.builds(Seen, SIZES, A_DIGEST), max_size=3),
    index=st.lists(AN_ID, max_size=3).map(tuple),
    parts=REFERENCES,
    manifest=SIZES,
    bases=st.lists(st.builds(Base, AN_ID, AN_ID, REFERENCES), max_size=4).map(tuple),
)


def encoded(head: Head) -> bytes:
    return encode_head(head, session=SESSION, writer=WRITER, scope=SCOPE, layout_sealer=LAYOUT, signer=SIGNER)


@pytest.mark.slow
@EFFORT
@given(HEADS)
def test_heads_round_trip(head: Head) -> None:
    data = encoded(head)
    sealed = decode_head(head.snapshot, data)

    sealed.verify(SIGNER.public, SCOPE)
    assert (sealed.session, sealed.writer, sealed.digest) == (SESSION, WRITER, blake3(data).digest())
    assert sealed.open(LAYOUT, SCOPE) == head


def test_a_head_holds_what_the_page_says() -> None:
    data = encoded(HEAD)
    header, body = independent_reader.record(
        independent_reader.unpadded(LAYOUT.open(data[40:-64], message("head", SCOPE, NAME)), 1 << 20)
    )

    assert data[:40] == b"PSHEAD\1\0" + SESSION + WRITER
    assert header["bases"] == [[base.snapshot.hex(), base.session.hex(), len(base.parts)] for base in HEAD.bases]
    assert header["seen"] == {writer.hex(): [one.sequence, one.digest.hex()] for writer, one in HEAD.seen.items()}
    assert header["parts"] == len(HEAD.parts) == 3
    assert body == encode_refs(HEAD.parts) + b"".join(encode_refs(base.parts) for base in HEAD.bases)
    names = "backup source started finished host program parent size streams stored sequence previous seen index"
    assert header.keys() == {*names.split(), "tags", "manifest", "parts", "bases"}


ELSEWHERE: dict[str, Callable[[bytes], None]] = {
    "another snapshot": lambda data: decode_head(REPOSITORY, data).verify(SIGNER.public, SCOPE),
    "another repository": lambda data: decode_head(NAME, data).verify(SIGNER.public, NAME + DOMAIN),
    "another domain": lambda data: decode_head(NAME, data).verify(SIGNER.public, REPOSITORY + NAME),
    "another signer": lambda data: decode_head(NAME, data).verify(SigningKey(b"\3" * 32).public, SCOPE),
    "another session": lambda data: decode_head(NAME, data[:8] + WRITER + data[24:]).verify(SIGNER.public, SCOPE),
    "another writer": lambda data: decode_head(NAME, data[:24] + SESSION + data[40:]).verify(SIGNER.public, SCOPE),
}


@pytest.mark.parametrize("verify", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_head_is_not_valid_elsewhere(verify: Callable[[bytes], None]) -> None:
    decode_head(NAME, encoded(HEAD)).verify(SIGNER.public, SCOPE)
    with pytest.raises(Malformed, match="signature"):
        verify(encoded(HEAD))


def opened(header: dict[str, Any], body: bytes) -> Head:
    payload = bytes((RAW,)) + spelled(header, body)
    sealed = LAYOUT.seal(struct.pack("<I", len(payload)) + payload, message("head", SCOPE, NAME))
    signed = b"PSHEAD\1\0" + SESSION + WRITER + sealed
    return decode_head(NAME, signed + SIGNER.sign(message("head", SCOPE, NAME, signed))).open(LAYOUT, SCOPE)


def example() -> tuple[dict[str, Any], bytes]:
    plain = LAYOUT.open(encoded(HEAD)[40:-64], message("head", SCOPE, NAME))
    return independent_reader.record(independent_reader.unpadded(plain, 1 << 20))


def many(count: int) -> tuple[PartRef, ...]:
    return (REFS * count)[:count]


@pytest.mark.parametrize("count", [0, 1, MAX_REFS])
def test_as_many_references_as_allowed_are_read(count: int) -> None:
    head = replace(HEAD, parts=many(count), bases=(Base(NAME, SESSION, many(count)),))

    assert MAX_REFS == 16
    assert decode_head(NAME, encoded(head)).open(LAYOUT, SCOPE) == head


@pytest.mark.parametrize("count", [17, 1000])
def test_more_references_than_allowed_are_refused(count: int) -> None:
    header, _ = example()
    ids = [NAME.hex(), SESSION.hex()]

    with pytest.raises(Malformed, match="more parts"):
        opened({**header, "parts": count, "bases": []}, encode_refs(many(count)))
    with pytest.raises(Malformed, match="more parts"):
        opened({**header, "parts": 0, "bases": [[*ids, count]]}, encode_refs(many(count)))


@pytest.mark.parametrize(
    "change",
    [
        {"parts": many(17)},
        {"bases": (Base(NAME, SESSION, many(17)),)},
        {"bases": (Base(NAME, SESSION, ()), Base(NAME, SESSION, many(17)))},
        {"bases": (Base(NAME, SESSION, ()),) * 17},
    ],
    ids=["parts", "parts of a base", "parts of the second base", "bases"],
)
def test_more_references_or_bases_than_allowed_are_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="16 bases at most, and 16 references"):
        encoded(replace(HEAD, **change))


@pytest.mark.parametrize("change", [{"size": 2**63}, {"streams": -1}, {"stored": 2**64}, {"sequence": -1}])
def test_numbers_that_nobody_would_read_are_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="integers"):
        encoded(replace(HEAD, **change))


def test_as_many_bases_as_allowed_are_read_and_no_more() -> None:
    header, _ = example()
    base = [NAME.hex(), SESSION.hex(), 0]

    assert MAX_BASES == 16
    assert len(opened({**header, "parts": 0, "bases": [base] * 16}, b"").bases) == 16
    with pytest.raises(Malformed):
        opened({**header, "parts": 0, "bases": [base] * 17}, b"")


WRONG: dict[str, dict[str, Any]] = {
    "a part less": {"parts": 2},
    "a part more": {"parts": 4},
    "parts without end": {"parts": 2**62},
    "parts that are true": {"parts": True},
    "no bases": {"bases": []},
    "a base that is a number": {"bases": [5]},
    "a base without its number of parts": {"bases": [[NAME.hex(), SESSION.hex()]]},
    "a base with more": {"bases": [[NAME.hex(), SESSION.hex(), 2, 0]]},
    "a base without an id": {"bases": [["00", SESSION.hex(), 2]]},
    "a base without a session": {"bases": [[NAME.hex(), None, 2]]},
    "a base with parts below zero": {"bases": [[NAME.hex(), SESSION.hex(), -1]]},
    "a base with parts without end": {"bases": [[NAME.hex(), SESSION.hex(), 2**62]]},
    "bases that are a dictionary": {"bases": {}},
    "seen that is a list": {"seen": []},
    "seen of no writer": {"seen": {"00": [1, "00" * 32]}},
    "seen without a digest": {"seen": {NAME.hex(): [1]}},
    "seen with another digest": {"seen": {NAME.hex(): [1, "00" * 16]}},
    "seen that is a number": {"seen": {NAME.hex(): 5}},
    "seen with a sequence that is a text": {"seen": {NAME.hex(): ["1", "00" * 32]}},
    "a parent that is no id": {"parent": "00"},
    "a parent that is empty": {"parent": ""},
    "a previous head that is no digest": {"previous": "00" * 16},
    "no sequence": {"sequence": None},
    "a size below zero": {"size": -1},
    "a size of 64 bits": {"size": 2**63},
    "a size that is a fraction": {"size": 101.0},
    "streams that are a list": {"streams": []},
    "a name that is null": {"backup": None},
    "a manifest in no part": {"manifest": None},
    "a manifest in parts that are named": {"manifest": [1]},
    "an index that is no list": {"index": NAME.hex()},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
@pytest.mark.timeout(60)
def test_a_head_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    header, body = example()

    assert opened(header, body) == HEAD
    with pytest.raises(Malformed):
        opened({**header, **change}, body)


@pytest.mark.parametrize(
    "body", [b"", bytes(52), encode_refs(many(3)), encode_refs(many(6)), encode_refs(many(5))[:-1]]
)
def test_another_number_of_references_than_stated_is_refused(body: bytes) -> None:
    header, own = example()

    assert len(own) == 53 * 5
    with pytest.raises(Malformed):
        opened(header, body)


def test_a_head_is_small_even_with_all_its_references() -> None:
    head = replace(HEAD, parts=many(16), bases=(Base(NAME, SESSION, many(16)),) * 16)

    assert len(encoded(head)) < 64 * 1024


def test_what_is_too_short_for_a_head_is_refused() -> None:
    data = encoded(HEAD)
    for length in range(40 + 64):
        with pytest.raises(Malformed, match="truncated"):
            decode_head(NAME, data[:length])
