"""The tree of secrets, signatures, wrapped data keys and the cost of a passphrase."""

import contextlib
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged
from core.tests.format.examples import CHEAP, DATA_KEY, DOMAIN, KEYS, NAME, OWNER, REPOSITORY, ROOT, SCOPE, SESSION
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format.encoding import Malformed
from penstock.format.keys import (
    DecapsulationKey,
    DomainKeys,
    EncapsulationKey,
    MaintenanceSecret,
    PassphraseCost,
    RootSecret,
    SigningKey,
    VerifyingKey,
    new_secret,
    unwrap_data_key,
    wrap_data_key,
)

IDS = st.binary(min_size=16, max_size=16)
SECRETS = st.binary(min_size=32, max_size=32)


# --- The tree


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int = 32) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


@EFFORT
@given(SECRETS, IDS, IDS)
def test_each_secret_derives_from_the_one_above_it(root: bytes, repository: bytes, domain: bytes) -> None:
    maintenance = hkdf(root, repository, b"penstock/1 maintenance secret\0")
    layout_key = hkdf(maintenance, repository, b"penstock/1 layout key\0" + domain)
    secret = hkdf(root, repository, b"penstock/1 domain secret\0" + domain)
    seed = hkdf(secret, repository, b"penstock/1 chunker seed\0" + domain, 8)

    keys = RootSecret(root, repository).domain(domain)
    assert RootSecret(root, repository).maintenance == MaintenanceSecret(maintenance, repository)
    assert keys == DomainKeys(repository, domain, layout_key, secret)
    assert keys.chunk_key == hkdf(secret, repository, b"penstock/1 chunk id key\0" + domain)
    assert keys.id_key == hkdf(secret, repository, b"penstock/1 id key\0" + domain)
    assert keys.chunker_seed == int.from_bytes(seed, "little") >> 1 | 1
    assert keys.layout_proof == hkdf(layout_key, repository, b"penstock/1 layout proof\0" + domain, 16)
    assert keys.domain_proof == hkdf(secret, repository, b"penstock/1 domain proof\0" + domain, 16)
    assert keys.scope == repository + domain


def values(keys: DomainKeys) -> list[bytes | int]:
    found = [keys.layout_key, keys.layout_proof, keys.domain_proof, keys.chunk_key, keys.id_key, keys.secret or b""]
    return [*found, keys.chunker_seed]


def test_another_root_repository_or_domain_gives_other_keys() -> None:
    trees = [ROOT.domain(DOMAIN), ROOT.domain(NAME), RootSecret(bytes(32), REPOSITORY).domain(DOMAIN)]
    trees.append(RootSecret(ROOT.secret, NAME).domain(DOMAIN))

    found = [value for keys in trees for value in values(keys)]
    assert len(set(found)) == len(found)


def test_a_maintainer_has_the_layout_key_of_every_domain_and_cannot_hash() -> None:
    for domain in (DOMAIN, NAME):
        keys = ROOT.maintenance.domain(domain)

        assert keys == replace(ROOT.domain(domain), secret=None)
        assert keys.layout_proof == ROOT.domain(domain).layout_proof
        for forbidden in ("chunk_key", "id_key", "chunker_seed", "domain_proof"):
            with pytest.raises(ValueError, match="maintainer"):
                getattr(keys, forbidden)


@EFFORT
@given(SECRETS, IDS)
def test_the_chunkers_seed_is_odd_and_fits_into_63_bits(secret: bytes, domain: bytes) -> None:
    seed = DomainKeys(REPOSITORY, domain, bytes(32), secret).chunker_seed

    assert seed % 2 == 1
    assert 0 < seed < 2**63


def test_new_secrets_and_keys_differ() -> None:
    assert len({new_secret() for _ in range(20)}) == 20
    assert len(new_secret()) == 32
    assert SigningKey.generate() != SigningKey.generate()
    assert DecapsulationKey.generate() != DecapsulationKey.generate()


def test_a_local_tag_is_found_again_with_the_layout_key_alone() -> None:
    tag = KEYS.tag("public.orders")

    assert len(tag) == 16
    assert tag == ROOT.maintenance.domain(DOMAIN).tag("public.orders")
    assert len({tag, KEYS.tag("public.order"), ROOT.domain(NAME).tag("public.orders")}) == 3


# --- Signatures


@EFFORT
@given(SECRETS, st.binary(max_size=50))
def test_signatures_verify_for_their_key_and_message_alone(seed: bytes, message: bytes) -> None:
    signer = SigningKey(seed)
    signature = signer.sign(message)

    assert len(signature) == 64
    assert signer.public.verify(signature, message)
    assert not signer.public.verify(signature, message + b"x")
    assert not signer.public.verify(signature[:-1], message)
    assert not OWNER.signing.public.verify(signature, message)
    assert VerifyingKey.from_hex(signer.public.raw.hex()) == signer.public
    assert SigningKey.from_hex(seed.hex()) == signer


@pytest.mark.parametrize("public", [bytes(32), b"\xff" * 32, b"", bytes(31)])
@pytest.mark.parametrize("signature", [bytes(64), b"\1" + bytes(63), b"\xff" * 64, b""])
def test_an_invalid_public_key_verifies_nothing(public: bytes, signature: bytes) -> None:
    assert not VerifyingKey(public).verify(signature, b"another message")


@pytest.mark.parametrize(
    "value", ["", "00" * 31, "00" * 33, "AB" * 32, "zz" * 32, " " + "0" * 63, "00 " * 32, None, 5, []]
)
def test_an_invalid_key_in_hexadecimal_is_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        VerifyingKey.from_hex(value)
    with pytest.raises(Malformed):
        SigningKey.from_hex(value)
    for content in ({"mlkem768": "00" * 64, "x25519": value}, {"mlkem768": value, "x25519": "00" * 32}, value):
        with pytest.raises(Malformed):
            DecapsulationKey.from_json(content)
        with pytest.raises(Malformed):
            EncapsulationKey.from_json(content)


# --- HPKE


@settings(EFFORT, max_examples=examples(30))
@given(SECRETS, IDS, IDS, IDS, st.binary(min_size=64, max_size=64), SECRETS)
def test_data_keys_round_trip(
    data_key: bytes, repository: bytes, domain: bytes, session: bytes, mlkem: bytes, x25519: bytes
) -> None:
    private = DecapsulationKey(mlkem, x25519)
    wrapped = wrap_data_key(data_key, private.public, repository + domain, session)

    assert len(wrapped) == 1120 + 48
    assert unwrap_data_key(wrapped, private, repository + domain, session) == data_key
    other = bytes([repository[0] ^ 1]) + repository[1:]
    for scope, name in ((other + domain, session), (domain + other, session), (repository + domain, other)):
        with pytest.raises(Malformed):
            unwrap_data_key(wrapped, private, scope, name)
    with pytest.raises(Malformed):
        unwrap_data_key(wrapped, OWNER.recipient, repository + domain, session)


WRAPPED = wrap_data_key(DATA_KEY, OWNER.recipient.public, SCOPE, SESSION)


@pytest.mark.slow
@settings(EFFORT, max_examples=examples(120))
@given(damaged(WRAPPED) | st.binary(max_size=50) | st.binary(min_size=8).map(lambda part: (part * 200)[:1168]))
def test_a_damaged_wrapped_key_is_refused(wrapped: bytes) -> None:
    with pytest.raises(Malformed):
        unwrap_data_key(wrapped, OWNER.recipient, SCOPE, SESSION)


@pytest.mark.parametrize("length", [0, 1, 31, 1119, 1120, 1136, 1167, 1169])
def test_a_wrapped_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Malformed):
        unwrap_data_key((WRAPPED * 2)[:length], OWNER.recipient, SCOPE, SESSION)


def test_wrapping_is_not_deterministic() -> None:
    assert wrap_data_key(DATA_KEY, OWNER.recipient.public, SCOPE, SESSION) != WRAPPED


@settings(EFFORT, max_examples=examples(60))
@given(st.sampled_from([0, 1, 0xFF]) | st.integers(0, 255), st.sampled_from([0, 1, 0xFF]) | st.integers(0, 255))
def test_an_invalid_public_key_wraps_nothing(mlkem: int, x25519: int) -> None:
    public = EncapsulationKey(bytes([mlkem]) * 1184, bytes([x25519]) * 32)
    with contextlib.suppress(Malformed):
        assert len(wrap_data_key(DATA_KEY, public, SCOPE, SESSION)) == 1168


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_a_point_of_small_order_wraps_nothing(point: bytes) -> None:
    with pytest.raises(Malformed):
        wrap_data_key(DATA_KEY, EncapsulationKey(OWNER.recipient.public.mlkem768, point), SCOPE, SESSION)


@settings(EFFORT, max_examples=examples(15))
@given(st.binary(min_size=64, max_size=64), SECRETS)
def test_recipients_round_trip(mlkem: bytes, x25519: bytes) -> None:
    private = DecapsulationKey(mlkem, x25519)

    assert DecapsulationKey.from_json(private.to_json()) == private
    assert EncapsulationKey.from_json(private.public.to_json()) == private.public


# --- Passphrases


def test_a_key_and_a_commitment_derive_from_a_passphrase() -> None:
    key, commitment = CHEAP.derive("corrèct", NAME)

    assert len(key) == len(commitment) == 32
    assert key != commitment
    assert CHEAP.derive("corrèct", bytes(16)) != (key, commitment)
    assert CHEAP.derive("correct", NAME) != (key, commitment)
    assert replace(CHEAP, iterations=3).derive("corrèct", NAME) != (key, commitment)


@pytest.mark.parametrize("passphrase", ["corrèct", "größte Sorgfalt", "パスワード", "Å"])
def test_composed_and_decomposed_passphrases_are_the_same(passphrase: str) -> None:
    composed, decomposed = (unicodedata.normalize(form, passphrase) for form in ("NFC", "NFD"))

    assert composed != decomposed
    assert CHEAP.derive(composed, NAME) == CHEAP.derive(decomposed, NAME)


@pytest.mark.parametrize(
    "change",
    [
        {"memory_kib": 19455},
        {"memory_kib": 1048577},
        {"memory_kib": 2**62},
        {"memory_kib": 0},
        {"iterations": 1},
        {"iterations": 0},
        {"iterations": 11},
        {"iterations": 2**62},
        {"lanes": 0},
        {"lanes": 17},
        {"lanes": True},
        {"name": "argon2i"},
        {"name": "argon2d"},
        {"name": None},
        {"salt": "00" * 15},
        {"salt": "00" * 17},
        {"salt": "AB" * 16},
        {"salt": None},
    ],
)
def test_a_cost_that_is_too_cheap_or_too_expensive_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        PassphraseCost.from_json({**CHEAP.to_json(bytes(16)), **change})


@pytest.mark.parametrize("cost", [(2, 19456, 1), (10, 1048576, 16), (3, 65536, 4)])
def test_the_limits_of_the_cost_are_allowed(cost: tuple[int, int, int]) -> None:
    assert PassphraseCost.from_json(PassphraseCost(*cost).to_json(NAME)) == (PassphraseCost(*cost), NAME)


def test_the_usual_cost_is_the_second_recommended_option_of_the_rfc() -> None:
    assert PassphraseCost() == PassphraseCost(iterations=3, memory_kib=64 * 1024, lanes=4)


# --- Secrecy


SHOWN: list[Callable[[], object]] = [
    lambda: OWNER,
    lambda: OWNER.signing,
    lambda: OWNER.recipient,
    lambda: ROOT,
    lambda: ROOT.maintenance,
    lambda: KEYS,
]


@pytest.mark.parametrize("value", SHOWN)
def test_no_repr_shows_a_secret(value: Callable[[], object]) -> None:
    shown = repr(value())
    secrets = [OWNER.root, OWNER.signing.seed, OWNER.recipient.mlkem768, OWNER.recipient.x25519]
    secrets += [ROOT.maintenance.secret, KEYS.layout_key, KEYS.secret or b"", KEYS.chunk_key, KEYS.id_key]

    for secret in secrets:
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_the_independent_reader_derives_the_same_keys() -> None:
    assert independent_reader.derived(ROOT.secret, REPOSITORY, "domain secret", DOMAIN) == KEYS.secret
    assert independent_reader.derived(KEYS.layout_key, REPOSITORY, "layout proof", DOMAIN, 16) == KEYS.layout_proof
