"""Varints, canonical JSON, records, identifiers: one value, one encoding."""

from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.format.encoding import (
    Malformed,
    decode_json,
    decode_record,
    decode_varints,
    digest_from_hex,
    encode_json,
    encode_record,
    encode_varints,
    id_from_hex,
    integer,
    text,
)

VARINTS = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 300), max_size=30)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=5)


@EFFORT
@given(VARINTS)
def test_varints_round_trip(values: list[int]) -> None:
    encoded = encode_varints(values)

    assert decode_varints(encoded) == values
    assert list(independent_reader.varints(encoded)) == values


@EFFORT
@given(st.binary(max_size=40))
@example(b"\x80\x00")
@example(b"\xff" * 8 + b"\x7f")
@example(b"\xff" * 9 + b"\x01")
def test_varints_have_one_spelling(data: bytes) -> None:
    try:
        values = decode_varints(data)
    except Malformed:
        return
    assert encode_varints(values) == data
    assert all(value < 2**63 for value in values)


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x80\x00", b"\x80\x80\x00", b"\x00\x80", b"\xff" * 9 + b"\x00", b"\xff" * 9 + b"\x01"]
)
def test_a_truncated_or_overlong_varint_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_varints(data)


@EFFORT
@given(OBJECTS)
def test_json_round_trips(value: dict[str, Any]) -> None:
    encoded = encode_json(value)

    assert decode_json(encoded) == value
    assert independent_reader.from_json(encoded) == value


@EFFORT
@given(OBJECTS.map(encode_json).flatmap(damaged) | st.binary(max_size=60))
def test_json_has_one_spelling(data: bytes) -> None:
    try:
        value = decode_json(data)
    except Malformed:
        return
    assert encode_json(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        b" {}",
        b"[]",
        b"1",
        b"null",
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":01}',
        b'{"a":-0}',
        b'{"a":1.0e5}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\u00e9"}',
        b'{"a":"\\/"}',
        b'{"a":"\\u000a"}',
        b'{"a":"\\u001F"}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-32-le"),
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b"[" * 200_000,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_non_canonical_json_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_json(data)


@EFFORT
@given(OBJECTS, st.lists(st.binary(max_size=20), max_size=3))
def test_records_round_trip(header: dict[str, Any], parts: list[bytes]) -> None:
    encoded = encode_record(header, parts)
    found, body = decode_record(encoded)

    assert found == header
    assert bytes(body) == b"".join(parts)
    assert independent_reader.record(encoded) == (header, b"".join(parts))


@EFFORT
@given(st.binary(max_size=60) | st.builds(encode_record, OBJECTS, st.lists(st.binary(max_size=9))).flatmap(damaged))
@example(b"\xff\xff\xff\xff{}")
@example(b"\x03\0\0\0{}")
def test_any_bytes_as_a_record_are_refused_or_have_one_meaning(data: bytes) -> None:
    try:
        header, body = decode_record(data)
    except Malformed:
        return
    assert encode_record(header, [body]) == data


@EFFORT
@given(st.binary(min_size=16, max_size=16))
def test_identifiers_round_trip(value: bytes) -> None:
    assert id_from_hex(value.hex()) == value
    assert digest_from_hex(value.hex() * 2) == value * 2


NOT_HEX: list[object] = [
    "",
    "0" * 31,
    "0" * 33,
    "A" * 32,
    "g" * 32,
    " " + "0" * 31,
    "0 " * 16,
    "é" * 32,
    "\u0660" * 32,
    None,
    5,
    [],
    b"0" * 32,
]


@pytest.mark.parametrize("value", NOT_HEX)
def test_an_invalid_identifier_is_refused(value: object) -> None:
    with pytest.raises(Malformed):
        id_from_hex(value)
    with pytest.raises(Malformed):
        digest_from_hex(value * 2 if isinstance(value, str) else value)


@pytest.mark.parametrize("value", [None, True, False, -1, 1.0, 2**63, 10**400, "1", [1], {}])
def test_anything_but_an_integer_of_63_bits_is_refused(value: object) -> None:
    with pytest.raises(Malformed):
        integer({"a": value}, "a")


def test_integers_of_63_bits_are_accepted() -> None:
    assert integer({"a": 0}, "a") == 0
    assert integer({"a": 2**63 - 1}, "a") == 2**63 - 1
    with pytest.raises(Malformed):
        integer({}, "a")


@pytest.mark.parametrize("value", [None, True, 1, ["a"], {}])
def test_anything_but_a_string_is_refused(value: object) -> None:
    with pytest.raises(Malformed):
        text({"a": value}, "a")
