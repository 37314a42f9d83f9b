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
    ids_from_hex,
    integer,
    new_id,
    text,
    whole,
)

VARINTS = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 300), max_size=30)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(0, 2**63 - 1) | TEXTS
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


@pytest.mark.parametrize("value", [2**63, 2**63 + 1, 2**64, -1, -(2**63)])
def test_what_no_varint_holds_is_not_written(value: int) -> None:
    for values in ([value], [0, value, 1]):
        with pytest.raises(ValueError, match="63 bits"):
            encode_varints(values)
    assert decode_varints(encode_varints([2**63 - 1])) == [2**63 - 1]


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x80\x00", b"\x80\x80\x00", b"\x00\x80", b"\xff" * 9 + b"\x00", b"\xff" * 9 + b"\x01"]
)
def test_a_truncated_or_overlong_varint_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_varints(data)


@pytest.mark.slow
@EFFORT
@given(OBJECTS)
def test_json_round_trips(value: dict[str, Any]) -> None:
    encoded = encode_json(value)

    assert decode_json(encoded) == value
    assert independent_reader.from_json(encoded) == value


@pytest.mark.slow
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


NO_INTEGERS = ["1.5", "1.0", "-3", "-1", "-0", "1e+22", "1E2", "9223372036854775808", "NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize("number", NO_INTEGERS)
@pytest.mark.parametrize("around", ['{"a":%s}', '{"a":[1,{"b":%s}]}'])
def test_any_number_but_an_integer_of_63_bits_is_refused_in_json(number: str, around: str) -> None:
    with pytest.raises(Malformed):
        decode_json((around % number).encode())
    with pytest.raises(independent_reader.BROKEN):
        independent_reader.from_json((around % number).encode())


@pytest.mark.parametrize("number", [1.5, 1.0, -3, -1, 1e22, -0.0, 2**63, 2**64, float("nan"), float("inf")])
def test_a_number_that_nobody_would_read_again_is_not_written(number: float) -> None:
    for value in ({"a": number}, {"a": [1, {"b": number}]}):
        with pytest.raises(ValueError, match=r"integers|range"):
            encode_json(value)
        with pytest.raises(ValueError, match=r"integers|range"):
            encode_record(value)


def test_the_least_and_the_largest_number_have_one_spelling() -> None:
    assert encode_json({"a": [0, 2**63 - 1]}) == b'{"a":[0,9223372036854775807]}'
    assert decode_json(b'{"a":[0,9223372036854775807]}') == {"a": [0, 2**63 - 1]}


def test_keys_are_sorted_by_code_point_and_little_is_escaped() -> None:
    # In UTF-16, the surrogates of the last key would come before U+FFFF.
    value = {"\U0001f600": '"\\/\x7f', "\uffff": "\b\t\n\f\r\x00\x1f", "Z": "é", "a": None, "": True}
    spelled = (
        '{"":true,"Z":"é","a":null,"\uffff":"\\b\\t\\n\\f\\r\\u0000\\u001f","\U0001f600":"\\"\\\\/\x7f"}'
    ).encode()

    assert encode_json(value) == spelled
    assert decode_json(spelled) == independent_reader.from_json(spelled) == value


@pytest.mark.parametrize("value", [{"a": "\ud800"}, {"\udfff": 1}])
def test_a_lone_surrogate_is_not_written(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        encode_json(value)


@pytest.mark.slow
@EFFORT
@given(OBJECTS, st.lists(st.binary(max_size=20), max_size=3))
def test_records_round_trip(header: dict[str, Any], parts: list[bytes]) -> None:
    encoded = encode_record(header, parts)
    found, body = decode_record(encoded)

    assert found == header
    assert bytes(body) == b"".join(parts)
    assert independent_reader.record(encoded) == (header, b"".join(parts))


def test_a_record_is_refused_at_every_shorter_length_of_its_header() -> None:
    record = encode_record({"label": "größe"})

    for length in range(len(record)):
        with pytest.raises(Malformed):
            decode_record(record[:length])


@pytest.mark.slow
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
        ids_from_hex(["00" * 16, value])
    with pytest.raises(Malformed):
        digest_from_hex(value * 2 if isinstance(value, str) else value)


@pytest.mark.parametrize("value", ["0" * 62, "0" * 66, "0" * 32, "AB" * 32, "ab " * 21 + "a"])
def test_an_invalid_digest_is_refused(value: str) -> None:
    with pytest.raises(Malformed):
        digest_from_hex(value)


@pytest.mark.parametrize("value", [None, "", "00" * 16, {"00" * 16: 1}, 5, ("00" * 16,)])
def test_anything_but_a_list_is_no_list_of_identifiers(value: object) -> None:
    with pytest.raises(Malformed):
        ids_from_hex(value)


def test_new_identifiers_differ() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert len(new_id()) == 16


@pytest.mark.parametrize("value", [None, True, False, -1, 1.0, 2**63, 10**400, "1", [1], {}])
def test_anything_but_an_integer_of_63_bits_is_refused(value: object) -> None:
    with pytest.raises(Malformed):
        integer({"a": value}, "a")
    with pytest.raises(Malformed):
        whole(value)


@pytest.mark.parametrize("limit", [1, 4096, 2**63])
def test_an_integer_of_the_limit_is_refused(limit: int) -> None:
    assert whole(limit - 1, limit) == limit - 1
    with pytest.raises(Malformed):
        whole(limit, limit)


def test_integers_of_63_bits_are_accepted() -> None:
    assert integer({"a": 0}, "a") == 0
    assert integer({"a": 2**63 - 1}, "a") == 2**63 - 1
    with pytest.raises(Malformed):
        integer({}, "a")


@pytest.mark.parametrize("value", [None, True, 1, ["a"], {}])
def test_anything_but_a_string_is_refused(value: object) -> None:
    with pytest.raises(Malformed):
        text({"a": value}, "a")
