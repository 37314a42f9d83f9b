"""Parts: signed, pinned, in sections under their own keys; references and rows have one spelling."""

import contextlib
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged, every_damage, flipped
from core.tests.format.examples import (
    DATA,
    DOMAIN,
    IDS,
    LAYOUT,
    NAME,
    OTHER_PACK,
    OTHER_WRITER,
    PACK,
    REFS,
    REPOSITORY,
    ROWS,
    SCOPE,
    SESSIONS,
    SIGNER,
    WRITER,
    secret,
)
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.format.codec import RAW
from penstock.format.encoding import Malformed, encode_varints
from penstock.format.keys import SigningKey, VerifyingKey
from penstock.format.part import (
    MAX_PLAIN,
    SECTION_OVERHEAD,
    Key,
    Kind,
    PartRef,
    Row,
    decode_refs,
    decode_rows,
    decode_sessions,
    encode_part,
    encode_refs,
    encode_rows,
    encode_sessions,
    open_part,
    verify_part,
)
from penstock.format.sealing import Sealer, message

KINDS = {Key.LAYOUT: [Kind.TABLE, Kind.SESSIONS], Key.DATA: [Kind.MANIFEST, Kind.RECIPE], Key.REFS: [Kind.REFS]}
SEALERS = {Key.LAYOUT: LAYOUT, Key.DATA: DATA, Key.REFS: LAYOUT}
WRITERS: dict[bytes, VerifyingKey] = {WRITER: SIGNER.public, OTHER_WRITER: SigningKey(b"\3" * 32).public}


def sections_of(ref: PartRef, data: bytes, sealer: Sealer) -> list[tuple[Kind, bytes]]:
    return [(kind, bytes(content)) for kind, content in open_part(ref, data, sealer, SCOPE)]


@st.composite
def parts(draw: st.DrawFn) -> tuple[Key, list[tuple[Kind, bytes]]]:
    key = draw(st.sampled_from(Key))
    return key, draw(st.lists(st.tuples(st.sampled_from(KINDS[key]), st.binary(max_size=60)), max_size=6))


@EFFORT
@given(parts())
def test_parts_round_trip(part: tuple[Key, list[tuple[Kind, bytes]]]) -> None:
    key, sections = part
    data, ref = encode_part(NAME, sections, key, SEALERS[key], SCOPE, writer=WRITER, signer=SIGNER)

    assert ref == PartRef(NAME, len(data), blake3(data).digest(), key)
    assert sections_of(ref, data, SEALERS[key]) == sections
    assert verify_part(NAME, data, WRITERS.get, SCOPE) == WRITER
    for other in (DATA, LAYOUT, IDS):
        if other is not SEALERS[key]:
            with pytest.raises(Malformed):
                sections_of(ref, data, other)


DATA_PART, DATA_REF = encode_part(
    NAME, [(Kind.MANIFEST, b"{}"), (Kind.RECIPE, bytes(9))], Key.DATA, DATA, SCOPE, writer=WRITER, signer=SIGNER
)


def test_a_part_that_is_not_what_was_pinned_is_refused() -> None:
    for other in every_damage(DATA_PART):
        with pytest.raises(Malformed, match="pins"):
            sections_of(DATA_REF, other, DATA)
    # Sealed again, for the same place and with the same content.
    again, _ = encode_part(
        NAME, [(Kind.MANIFEST, b"{}"), (Kind.RECIPE, bytes(9))], Key.DATA, DATA, SCOPE, writer=WRITER, signer=SIGNER
    )
    with pytest.raises(Malformed, match="pins"):
        sections_of(DATA_REF, again, DATA)


@pytest.mark.parametrize("change", [{"size": 4183}, {"size": 0}, {"digest": bytes(32)}, {"digest": secret("part")}])
def test_a_part_of_another_pin_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match="pins"):
        sections_of(replace(DATA_REF, **change), DATA_PART, DATA)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("key", Key)
def test_a_section_is_refused_under_another_key_than_its_own(kind: Kind, key: Key) -> None:
    # The page: references under 2, the table and sessions under 0, everything for the owner alone under 1.
    own = {0: 2, 1: 0, 2: 1, 3: 1, 4: 0}[kind]
    sections = [(own_kind, b"") for own_kind in KINDS[key]] + [(kind, b"content")]
    plain = b"".join(struct.pack("<BI", number, len(content)) + content for number, content in sections)

    assert kind.key == own
    if key == own:
        data, ref = encode_part(NAME, sections, key, SEALERS[key], SCOPE, writer=WRITER, signer=SIGNER)
        assert sections_of(ref, data, SEALERS[key]) == opened(plain, key) == sections
    else:
        with pytest.raises(Malformed, match="key"):
            opened(plain, key)
        with pytest.raises(ValueError, match="another key"):
            encode_part(NAME, sections, key, SEALERS[key], SCOPE, writer=WRITER, signer=SIGNER)


@pytest.mark.parametrize("key", Key)
def test_the_key_of_a_reference_is_not_a_matter_of_belief(key: Key) -> None:
    if key is not Key.DATA:
        with pytest.raises(Malformed):
            sections_of(replace(DATA_REF, key=key), DATA_PART, DATA)


def part_of(plain: bytes, key: Key = Key.DATA) -> bytes:
    """A part with any plaintext, signed."""
    payload = bytes((RAW,)) + plain
    sealed = SEALERS[key].seal(struct.pack("<I", len(payload)) + payload, message("part", SCOPE, NAME))
    return resigned(b"PSPART\1\0" + WRITER + sealed)


def resigned(unsigned: bytes) -> bytes:
    return unsigned + SIGNER.sign(b"penstock/1 part\0" + SCOPE + NAME + unsigned)


def opened(plain: bytes, key: Key = Key.DATA) -> list[tuple[Kind, bytes]]:
    data = part_of(plain, key)
    return sections_of(PartRef(NAME, len(data), blake3(data).digest(), key), data, SEALERS[key])


@pytest.mark.parametrize(
    "plain",
    [
        b"\2",
        b"\2\0\0\0",
        b"\2\1\0\0\0",
        b"\2\0\0\0\0\2",
        b"\2\0\0\0\0\3\1\0\0\0",
        b"\2\xff\xff\xff\xff",
        b"\4\0\0\0\0",
        b"\xff\0\0\0\0",
        b"\2\0\0\0\0\4\0\0\0\0",
        b"\1\0\0\0\0",
        b"\0\0\0\0\0",
        b"\2\0\0\0\0\1\0\0\0\0",
    ],
)
def test_truncated_and_unknown_sections_are_refused(plain: bytes) -> None:
    with pytest.raises(Malformed):
        opened(plain)


def test_sections_may_be_empty_and_a_part_may_have_none() -> None:
    assert opened(b"") == []
    assert opened(b"\2\0\0\0\0\3\0\0\0\0") == [(Kind.MANIFEST, b""), (Kind.RECIPE, b"")]


@EFFORT
@given(damaged(b"\2\3\0\0\0abc\3\4\0\0\0defg") | st.binary(max_size=30))
def test_any_plaintext_is_refused_or_sections_without_a_rest(plain: bytes) -> None:
    try:
        found = opened(plain)
    except Malformed:
        return
    assert b"".join(struct.pack("<BI", kind, len(data)) + data for kind, data in found) == plain


def test_a_part_holds_four_mebibytes_at_most() -> None:
    most = MAX_PLAIN - SECTION_OVERHEAD
    data, ref = encode_part(NAME, [(Kind.RECIPE, bytes(most))], Key.DATA, DATA, SCOPE, writer=WRITER, signer=SIGNER)

    assert MAX_PLAIN == 4 * 1024 * 1024
    assert len(sections_of(ref, data, DATA)[0][1]) == most
    with pytest.raises(ValueError, match="4 MiB"):
        encode_part(NAME, [(Kind.RECIPE, bytes(most + 1))], Key.DATA, DATA, SCOPE, writer=WRITER, signer=SIGNER)
    with pytest.raises(Malformed, match="larger"):
        opened(struct.pack("<BI", Kind.RECIPE, most + 1) + bytes(most + 1))


# --- Signatures


def test_a_part_is_laid_out_and_signed_as_the_page_says() -> None:
    assert DATA_PART[:24] == b"PSPART\1\0" + WRITER
    # Magic, writer and signature around what is sealed.
    assert len(DATA_PART) == 4096 + 88
    assert SIGNER.public.verify(DATA_PART[-64:], b"penstock/1 part\0" + SCOPE + NAME + DATA_PART[:-64])
    assert resigned(DATA_PART[:-64]) == DATA_PART


@pytest.mark.parametrize("at", [*range(24), *range(len(DATA_PART) - 64, len(DATA_PART))])
def test_every_changed_bit_of_who_signed_a_part_is_refused(at: int) -> None:
    for bit in range(8):
        with pytest.raises(Malformed):
            verify_part(NAME, flipped(DATA_PART, at, bit), WRITERS.get, SCOPE)


@pytest.mark.slow
def test_the_signature_of_a_part_covers_every_byte() -> None:
    assert verify_part(NAME, DATA_PART, WRITERS.get, SCOPE) == WRITER
    for other in every_damage(DATA_PART):
        with pytest.raises(Malformed):
            verify_part(NAME, other, WRITERS.get, SCOPE)


@EFFORT
@given(damaged(DATA_PART) | st.binary(max_size=200))
def test_any_damage_to_a_part_is_refused_by_its_signature(data: bytes) -> None:
    with pytest.raises(Malformed):
        verify_part(NAME, data, WRITERS.get, SCOPE)


def verified(data: bytes, part: bytes = NAME, scope: bytes = SCOPE) -> bytes:
    return verify_part(part, data, WRITERS.get, scope)


ELSEWHERE: dict[str, Callable[[], bytes]] = {
    "another part": lambda: verified(DATA_PART, part=PACK),
    "another repository": lambda: verified(DATA_PART, scope=NAME + DOMAIN),
    "another domain": lambda: verified(DATA_PART, scope=REPOSITORY + NAME),
    "another writer": lambda: verified(DATA_PART[:8] + OTHER_WRITER + DATA_PART[24:]),
    "another signer": lambda: verified(
        DATA_PART[:-64] + SigningKey(b"\3" * 32).sign(message("part", SCOPE, NAME, DATA_PART[:-64]))
    ),
    "a signature of a head": lambda: verified(
        DATA_PART[:-64] + SIGNER.sign(message("head", SCOPE, NAME, DATA_PART[:-64]))
    ),
}


@pytest.mark.parametrize("misplaced", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_part_is_not_valid_elsewhere(misplaced: Callable[[], bytes]) -> None:
    with pytest.raises(Malformed, match="signature"):
        misplaced()


def test_a_part_of_nobody_who_may_write_is_refused_whatever_its_signature() -> None:
    for data in (DATA_PART, DATA_PART[:-64] + bytes(64)):
        with pytest.raises(Malformed, match="never granted"):
            verify_part(NAME, data, {OTHER_WRITER: SIGNER.public}.get, SCOPE)


def test_other_objects_and_short_ones_are_no_parts_although_they_are_signed() -> None:
    for length in range(24 + 64):
        short = DATA_PART[:length]
        with pytest.raises(Malformed, match="not a part"):
            verify_part(NAME, short, WRITERS.get, SCOPE)
        with pytest.raises(Malformed, match="not a part"):
            sections_of(PartRef(NAME, length, blake3(short).digest(), Key.DATA), short, DATA)
    for magic in (b"PSHEAD\1\0", b"PSPART\2\0", b"PSPART\1\1"):
        with pytest.raises(Malformed, match="not a part"):
            verify_part(NAME, resigned(magic + DATA_PART[8:-64]), WRITERS.get, SCOPE)
    assert verify_part(NAME, resigned(b"PSPART\1\0" + WRITER), WRITERS.get, SCOPE) == WRITER, "whatever is in it"


def test_who_relies_on_the_pin_needs_no_signature() -> None:
    unsigned = DATA_PART[:-64] + bytes(64)
    pinned = PartRef(NAME, len(unsigned), blake3(unsigned).digest(), Key.DATA)

    assert sections_of(pinned, unsigned, DATA) == sections_of(DATA_REF, DATA_PART, DATA)


# --- References


A_REF = st.builds(
    PartRef,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=32),
    st.sampled_from(Key),
)


@EFFORT
@given(st.lists(A_REF, max_size=20))
def test_references_round_trip(refs: list[PartRef]) -> None:
    data = encode_refs(refs)

    assert len(data) == 53 * len(refs)
    assert decode_refs(data) == refs
    assert [tuple(ref) for ref in independent_reader.refs_of(data)] == [
        (ref.part, ref.size, ref.digest, int(ref.key)) for ref in refs
    ]


def test_truncated_references_are_refused_at_every_length() -> None:
    data = encode_refs(REFS)
    for length in range(len(data)):
        if length % 53:
            with pytest.raises(Malformed):
                decode_refs(data[:length])


@pytest.mark.parametrize("size", [-1, 2**32])
def test_a_size_that_does_not_fit_is_not_written(size: int) -> None:
    with pytest.raises((ValueError, struct.error)):
        encode_refs([replace(REFS[0], size=size)])


@pytest.mark.parametrize("key", [3, 4, 0x80, 0xFF])
def test_a_reference_with_an_unknown_key_is_refused(key: int) -> None:
    data = bytearray(encode_refs(REFS))
    data[52] = key

    with pytest.raises(Malformed, match="key"):
        decode_refs(bytes(data))
    with pytest.raises(independent_reader.Refused):
        independent_reader.refs_of(bytes(data))


# --- Rows of the segment table


@st.composite
def rows(draw: st.DrawFn) -> Row:
    segments = draw(st.integers(0, 40) | st.integers(0, 4096))
    used = draw(st.frozensets(st.integers(0, segments - 1), max_size=50)) if segments else frozenset()
    number = draw(st.integers(0, 300) | st.integers(0, 2**51 - 1))
    pack, pin = draw(st.binary(min_size=16, max_size=16)), draw(st.binary(min_size=32, max_size=32))
    return Row(number, pack, pin, segments, used)


def as_row(number: int, row: independent_reader.Row) -> Row:
    return Row(number, row.pack, row.pin, row.segments, row.used)


@pytest.mark.slow
@EFFORT
@given(st.lists(rows(), max_size=6))
def test_rows_round_trip(table: list[Row]) -> None:
    data = encode_rows(table)

    assert list(decode_rows(data)) == table
    assert list(decode_rows(memoryview(data))) == table
    assert [as_row(*one) for one in independent_reader.rows_of(data)] == table


def test_a_row_is_laid_out_as_the_page_says() -> None:
    row = Row(300, PACK, secret("pin"), 10, frozenset({0, 3, 9}))

    assert encode_rows([row]) == b"\xac\x02" + PACK + secret("pin") + b"\x0a" + b"\x09\x02"


def row(number: bytes = b"\0", segments: bytes = b"\1", bits: bytes = b"\1") -> bytes:
    return number + PACK + secret("pin") + segments + bits


IMPOSSIBLE = {
    "a bit behind the last segment": row(segments=b"\1", bits=b"\2"),
    "the highest bit of the last byte": row(segments=b"\7", bits=b"\x80"),
    "a bit behind the last of nine segments": row(segments=b"\x09", bits=b"\0\2"),
    "a bit without segments": row(segments=b"\0", bits=b"\1"),
    "more segments than a pack may have": row(segments=encode_varints([4097]), bits=bytes(513)),
    "far more segments": row(segments=encode_varints([2**62]), bits=b""),
    "a row above the largest": row(number=encode_varints([2**51])),
    "a row of 63 bits": row(number=encode_varints([2**63 - 1])),
    "a row of more bits": row(number=b"\xff" * 9 + b"\1"),
    "a number in a longer spelling": row(number=b"\x80\0"),
    "a count in a longer spelling": row(segments=b"\x81\0"),
    "bits that are missing": row(bits=b""),
    "one of two bytes of bits": row(segments=b"\x09", bits=b"\1"),
    "a byte more": row() + b"\0",
}


@pytest.mark.parametrize("data", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.timeout(60)
def test_impossible_rows_are_refused(data: bytes) -> None:
    assert list(decode_rows(row())) == [Row(0, PACK, secret("pin"), 1, frozenset({0}))]
    for table in (data, row() + data):
        with pytest.raises(Malformed):
            list(decode_rows(table))
        with pytest.raises(independent_reader.BROKEN):
            list(independent_reader.rows_of(table))


NEVER = {
    "a number below the first ordinal": Row(0, PACK, secret("pin"), 9, frozenset({-1})),
    "a segment behind the last": Row(0, PACK, secret("pin"), 9, frozenset({9})),
    "a segment behind the last in the last byte": Row(0, PACK, secret("pin"), 9, frozenset({0, 15})),
    "a segment of a pack without any": Row(0, PACK, secret("pin"), 0, frozenset({0})),
    "more segments than a pack may have": Row(0, PACK, secret("pin"), 4097, frozenset()),
    "fewer segments than none": Row(0, PACK, secret("pin"), -1, frozenset()),
    "a row above the largest": Row(2**51, PACK, secret("pin"), 9, frozenset()),
    "a row below the first": Row(-1, PACK, secret("pin"), 9, frozenset()),
}


@pytest.mark.parametrize("row", NEVER.values(), ids=NEVER)
def test_impossible_rows_are_not_written(row: Row) -> None:
    for table in ([row], [*ROWS, row]):
        with pytest.raises(ValueError, match=r"row|varints"):
            encode_rows(table)


def test_truncated_rows_are_refused_at_every_length() -> None:
    data = encode_rows(ROWS[:2])
    whole = {0, len(encode_rows(ROWS[:1])), len(data)}
    for length in range(len(data)):
        if length not in whole:
            with pytest.raises(Malformed):
                list(decode_rows(data[:length]))


def test_the_largest_row_and_the_most_segments_fit() -> None:
    largest = Row(2**51 - 1, OTHER_PACK, secret("pin"), 4096, frozenset(range(4096)))

    assert list(decode_rows(encode_rows([largest]))) == [largest]
    assert 4096 * largest.number + 4095 == 2**63 - 1


@EFFORT
@given(damaged(encode_rows(ROWS[::2])) | st.binary(max_size=120))
@example(b"")
def test_any_bytes_as_rows_are_refused_or_have_one_meaning(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert encode_rows(decode_rows(data)) == data


def test_sessions_have_one_spelling() -> None:
    data = encode_sessions(SESSIONS)

    assert data == b"".join(session + digest for session, digest in SESSIONS.items())
    assert independent_reader.sessions_of(data) == list(SESSIONS.items())
    assert decode_sessions(data) == SESSIONS
    assert decode_sessions(b"") == {}


@pytest.mark.parametrize("length", [1, 16, 47, 49, 95])
def test_truncated_sessions_are_refused(length: int) -> None:
    with pytest.raises(Malformed, match="truncated"):
        decode_sessions(encode_sessions(SESSIONS)[:length])


def test_two_digests_of_one_session_are_refused() -> None:
    session, digest = next(iter(SESSIONS.items()))

    assert decode_sessions((session + digest) * 2) == {session: digest}
    with pytest.raises(Malformed, match="two digests"):
        decode_sessions(session + digest + session + bytes(32))
