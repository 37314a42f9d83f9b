"""Sealing: bound to a key, a kind and a place; and two kinds or places never have the same binding."""

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged, every_damage
from core.tests.format.examples import DOMAIN, REPOSITORY, SCOPE
from hypothesis import given
from hypothesis import strategies as st

from penstock.format.encoding import Malformed
from penstock.format.sealing import OVERHEAD, Sealer, message

KEY = bytes(range(32))
SEALER = Sealer(KEY)
SEALED = SEALER.seal(b"plain bytes", b"place")
WHATS = ["segment", "places", "ids", "index", "hooks", "part", "head", "notice", "tombstone", "deletion", "slot"]


@pytest.mark.slow
@EFFORT
@given(st.binary(max_size=200), st.binary(max_size=60), st.binary(min_size=32, max_size=32))
def test_sealed_bytes_round_trip(plain: bytes, place: bytes, key: bytes) -> None:
    sealed = Sealer(key).seal(plain, place)

    assert Sealer(key).open(sealed, place) == plain
    for other in (SEALER.open, lambda sealed, place: Sealer(key).open(sealed, place + b"x")):
        with pytest.raises(Malformed):
            other(sealed, place)


def test_sealing_uses_a_fresh_nonce_and_adds_the_stated_overhead() -> None:
    one, other = SEALER.seal(b"x" * 50, b"place"), SEALER.seal(b"x" * 50, b"place")

    assert one[:12] != other[:12]
    assert len(one) == 50 + OVERHEAD
    assert KEY.hex() not in repr(SEALER)


def test_the_slightest_change_is_refused() -> None:
    for other in every_damage(SEALED):
        with pytest.raises(Malformed):
            SEALER.open(other, b"place")


@EFFORT
@given(damaged(SEALED) | st.binary(max_size=60))
def test_any_damage_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        SEALER.open(data, b"place")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_type_can_be_sealed_and_opened(kind: type) -> None:
    assert SEALER.open(memoryview(SEALER.seal(kind(b"abc"), b"place")), b"place") == b"abc"


def test_a_binding_names_kind_repository_domain_and_place() -> None:
    assert message("segment", SCOPE, b"p" * 16, b"\7\0\0\0") == (
        b"penstock/1 segment\0" + REPOSITORY + DOMAIN + b"p" * 16 + b"\7\0\0\0"
    )


@pytest.mark.parametrize("what", WHATS)
def test_the_independent_reader_opens_what_is_sealed_for_a_kind(what: str) -> None:
    sealed = SEALER.seal(b"plain", message(what, SCOPE, b"n" * 16))

    assert independent_reader.unseal(KEY, sealed, what, SCOPE, b"n" * 16) == b"plain"


def test_no_two_kinds_repositories_domains_or_names_share_a_binding() -> None:
    ids = [bytes([number]) * 16 for number in range(3)]
    bindings = [message(what, one + other, name) for what in WHATS for one in ids for other in ids for name in ids]
    bindings += [message(what, one, name) for what in WHATS for one in ids for name in ids]

    assert len(set(bindings)) == len(bindings)
