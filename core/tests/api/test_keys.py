import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api import SinkError, validate_key, validate_prefix

_ALPHABET = "abz09-_./"


@pytest.mark.parametrize(
    "key", ["a", "0", "penstock.json", "packs/00/a-b_c.d", ".a", "...", "..a", "a..", "a/.../b", "x" * 200]
)
def test_valid_keys_pass(key: str) -> None:
    validate_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "a/./b",
        "A",
        "a b",
        "é",
        "a\\b",
        "a\n",
        "a\0",
        "a~",
        "x" * 201,
    ],
)
def test_invalid_keys_are_refused(key: str) -> None:
    with pytest.raises(SinkError, match="not a valid key"):
        validate_key(key)


@pytest.mark.slow
@given(st.text(_ALPHABET, max_size=12))
def test_a_key_is_valid_exactly_when_every_part_is(key: str) -> None:
    expected = all(part not in {"", ".", ".."} for part in key.split("/"))
    try:
        validate_key(key)
    except SinkError:
        assert not expected
    else:
        assert expected


@pytest.mark.parametrize("prefix", ["", "a", "packs/", "packs/0", ".", "..", "a/..", "x" * 199, "x" * 200])
def test_prefixes_of_valid_keys_pass(prefix: str) -> None:
    validate_prefix(prefix)


@pytest.mark.parametrize("prefix", ["/", "../", "a//", "a/../b", "A", "x" * 199 + "/", "x" * 201])
def test_prefixes_of_no_valid_key_are_refused(prefix: str) -> None:
    with pytest.raises(SinkError):
        validate_prefix(prefix)
