"""Documents, slots, wrapped keys and key files round-trip; changes and nonsense are refused."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from core.tests.format.damage import EFFORT, damaged, every_damage, with_one_value_replaced
from core.tests.format.examples import REPOSITORY, SECRET, SNAPSHOT
from core.tests.format.test_encoding import OBJECTS, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.api.errors import KeyProblem
from penstock.format.chunker import ChunkerParameters
from penstock.format.documents import decode_document, encode_document
from penstock.format.encoding import Malformed, decode_json, encode_json
from penstock.format.keys import (
    DecapsulationKey,
    EncapsulationKey,
    IndexSecret,
    PassphraseCost,
    SigningKey,
    VerifyingKey,
    unwrap_data_key,
    wrap_data_key,
)
from penstock.format.sealing import Sealer, binding
from penstock.format.trust import (
    Grant,
    OwnerPublic,
    OwnerSecret,
    RepositoryConfig,
    Role,
    SessionDocument,
    open_slot,
    seal_slot,
)
from penstock.repository import Access

SIGNER = SigningKey(b"\1" * 32)
RECIPIENT = DecapsulationKey(b"\1" * 64, b"\x11" * 32)
OWNER = OwnerSecret(SIGNER, RECIPIENT, SECRET)
CHEAP = PassphraseCost(1, 8, 1)
KEY = "grants/00000001"
IDS = st.binary(min_size=16, max_size=16)
SECRETS = st.binary(min_size=32, max_size=32)


@EFFORT
@given(OBJECTS, TEXTS, SECRETS)
def test_documents_round_trip(content: dict[str, Any], key: str, seed: bytes) -> None:
    data = encode_document(key, content, SigningKey(seed))

    assert decode_document(key, data).verified(SigningKey(seed).public) == content


@EFFORT
@given(OBJECTS, st.sampled_from(["grants/00000002", "grants/0000000", "", "penstock.json"]))
def test_a_document_is_not_valid_under_another_key_or_signer(content: dict[str, Any], key: str) -> None:
    data = encode_document(KEY, content, SIGNER)

    with pytest.raises(Malformed):
        decode_document(key, data).verified(SIGNER.public)
    with pytest.raises(Malformed):
        decode_document(KEY, data).verified(SigningKey(b"\2" * 32).public)


DOCUMENT = encode_document(KEY, {"label": "größe", "number": 1, "role": None}, SIGNER)


def test_the_slightest_change_of_a_document_is_refused() -> None:
    for other in every_damage(DOCUMENT):
        with pytest.raises(Malformed):
            decode_document(KEY, other).verified(SIGNER.public)


@settings(EFFORT, max_examples=examples(150))
@given(damaged(DOCUMENT) | st.binary(max_size=50) | st.binary(max_size=50).map(lambda data: b"{}\n" + data + b"\n"))
def test_any_damage_to_a_document_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_document(KEY, data).verified(SIGNER.public)


@pytest.mark.parametrize(
    "signature", ["", "0" * 127, "0" * 129, "A" * 128, "g" * 128, "0 " * 64, "é" * 128, None, 5, []]
)
def test_an_invalid_signature_is_refused(signature: object) -> None:
    with pytest.raises(Malformed):
        decode_document(KEY, b"{}\n" + encode_json({"signature": signature}) + b"\n")


@pytest.mark.parametrize("public", [bytes(32), b"\xff" * 32, b"", bytes(31)])
@pytest.mark.parametrize("signature", [bytes(64), b"\1" + bytes(63), b"\xff" * 64, b""])
def test_an_invalid_public_key_verifies_nothing(public: bytes, signature: bytes) -> None:
    assert not VerifyingKey(public).verify(signature, b"another message")


# --- Content of documents

PROOF = IndexSecret(SECRET, REPOSITORY).proof
CONFIG = RepositoryConfig(REPOSITORY, "2026-01-31T12:00:00Z", ChunkerParameters(), OWNER.public, PROOF)
GRANT = Grant(
    number=2,
    previous="ab" * 32,
    revoked=True,
    role=Role.WRITER,
    key=SNAPSHOT,
    label="db1",
    created="2026-01-31T12:00:00Z",
    signing=SIGNER.public,
    snapshots={"cd" * 16: "ef" * 32},
)
WRAPPED = SessionDocument.wrap(b"\7" * 32, {bytes(16): RECIPIENT.public}, REPOSITORY, SNAPSHOT)
SESSION = SessionDocument(SNAPSHOT, bytes(16), "2026-01-31T12:00:00Z", "db1", 2, WRAPPED)
SLOT = seal_slot(OWNER, "corrèct", CHEAP, REPOSITORY, SNAPSHOT)


def cost_from_json(value: Any) -> Any:
    return PassphraseCost.from_json(value)


def cost_to_json(value: tuple[PassphraseCost, bytes]) -> dict[str, Any]:
    return value[0].to_json(value[1])


CONTENTS: dict[str, tuple[dict[str, Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "config": (CONFIG.to_json(), RepositoryConfig.from_json, RepositoryConfig.to_json),
    "grant": (GRANT.to_json(), Grant.from_json, Grant.to_json),
    "session": (SESSION.to_json(), SessionDocument.from_json, SessionDocument.to_json),
    "owner": (OWNER.to_json(), OwnerSecret.from_json, OwnerSecret.to_json),
    "public": (OWNER.public.to_json(), OwnerPublic.from_json, OwnerPublic.to_json),
    "cost": (SLOT["kdf"], cost_from_json, cost_to_json),
    "chunker": (ChunkerParameters().to_json(), ChunkerParameters.from_json, ChunkerParameters.to_json),
}


def spelled(content: dict[str, Any]) -> bytes:
    return encode_json({name: value for name, value in content.items() if value is not None})


@pytest.mark.parametrize(("content", "read", "write"), CONTENTS.values(), ids=CONTENTS)
def test_contents_round_trip(content: dict[str, Any], read: Callable[[Any], Any], write: Callable[[Any], Any]) -> None:
    assert write(read(content)) == content


@pytest.mark.parametrize(("content", "read", "write"), CONTENTS.values(), ids=CONTENTS)
@settings(EFFORT, max_examples=examples(150))
@given(data=st.data())
def test_a_wrong_value_is_refused_or_preserved(
    content: dict[str, Any], read: Callable[[Any], Any], write: Callable[[Any], Any], data: st.DataObject
) -> None:
    changed = data.draw(with_one_value_replaced(content))
    try:
        value = read(changed)
    except Malformed:
        return
    # The caller checks the format version before anything else; missing entries are null.
    expected = {**changed, "format": 1} if "format" in content else changed
    assert spelled(write(value)) == spelled(expected)


@pytest.mark.parametrize(("content", "read", "write"), CONTENTS.values(), ids=CONTENTS)
@EFFORT
@given(value=OBJECTS)
def test_any_object_is_refused(
    content: dict[str, Any], read: Callable[[Any], Any], write: Callable[[Any], Any], value: dict[str, Any]
) -> None:
    with pytest.raises(Malformed):
        read(value)


def test_the_owner_role_cannot_be_granted() -> None:
    with pytest.raises(Malformed):
        Grant.from_json({**GRANT.to_json(), "role": "owner"})


# --- Slots and key files


@settings(EFFORT, max_examples=examples(20))
@given(TEXTS, SECRETS, IDS, IDS)
def test_slots_round_trip(passphrase: str, secret: bytes, repository: bytes, slot: bytes) -> None:
    owner = OwnerSecret(SIGNER, RECIPIENT, secret)
    content = seal_slot(owner, passphrase, CHEAP, repository, slot)

    assert open_slot(content, passphrase, repository, slot) == owner
    assert open_slot(content, passphrase + "x", repository, slot) is None
    assert open_slot(content, passphrase, slot, repository) is None or slot == repository


def sealed_slot(plain: bytes) -> dict[str, Any]:
    sealer = Sealer(CHEAP.derive("p", bytes(16)))
    sealed = sealer.seal(plain, binding("slot", REPOSITORY, SNAPSHOT))
    return {"kdf": CHEAP.to_json(bytes(16)), "sealed": sealed.hex(), "slot": SNAPSHOT.hex()}


@settings(EFFORT, max_examples=examples(40))
@given(st.binary(max_size=40) | damaged(b"\0" + encode_json(OWNER.to_json())))
def test_nonsense_in_a_slot_is_refused_or_gives_another_secret(plain: bytes) -> None:
    try:
        opened = open_slot(sealed_slot(plain), "p", REPOSITORY, SNAPSHOT)
    except Malformed:
        return
    assert opened is not None
    assert b"\0" + encode_json(opened.to_json()) == plain


@pytest.mark.parametrize("codec", [b"", b"\1", b"\2", b"\0\0"])
def test_a_slot_with_another_codec_is_refused(codec: bytes) -> None:
    with pytest.raises(Malformed):
        open_slot(sealed_slot(codec + encode_json(OWNER.to_json())), "p", REPOSITORY, SNAPSHOT)


@settings(EFFORT, max_examples=examples(40))
@given(st.data())
def test_a_damaged_slot_is_refused_or_does_not_open(data: st.DataObject) -> None:
    changed = data.draw(with_one_value_replaced({**SLOT, "kdf": {**SLOT["kdf"], "memory_kib": 8}}))
    with contextlib.suppress(Malformed):
        assert open_slot(changed, "corrèct", REPOSITORY, SNAPSHOT) in (None, OWNER)


@pytest.mark.parametrize(
    "change",
    [
        {"memory_kib": 7},
        {"memory_kib": 4 * 1024 * 1024 + 1},
        {"memory_kib": 2**62},
        {"iterations": 0},
        {"iterations": 101},
        {"lanes": 0},
        {"lanes": 65},
        {"lanes": 2},
        {"name": "argon2i"},
        {"salt": "00" * 15},
    ],
)
def test_unreasonable_passphrase_costs_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        PassphraseCost.from_json({**CHEAP.to_json(bytes(16)), **change})


ACCESSES = [
    Access.of_owner(OWNER, REPOSITORY),
    Access(Role.WRITER, REPOSITORY, SNAPSHOT, "größe", OWNER.public, IndexSecret(SECRET, REPOSITORY), SIGNER),
    Access(Role.MAINTAINER, REPOSITORY, SNAPSHOT, "", OWNER.public, IndexSecret(SECRET, REPOSITORY)),
]


@pytest.mark.parametrize("access", ACCESSES, ids=lambda access: access.role)
def test_key_files_round_trip(access: Access) -> None:
    assert Access.from_key_file(access.to_key_file(), "a file") == access


@pytest.mark.parametrize("access", ACCESSES, ids=lambda access: access.role)
@settings(EFFORT, max_examples=examples(100))
@given(data=st.data())
def test_a_damaged_key_file_is_refused_or_preserved_and_never_quoted(access: Access, data: st.DataObject) -> None:
    content = decode_json(access.to_key_file().strip())
    broken = data.draw(
        st.one_of(
            st.binary(max_size=50),
            damaged(access.to_key_file()),
            with_one_value_replaced(content).map(lambda value: encode_json(value) + b"\n"),
        )
    )
    told = ""
    found: Access | None
    try:
        found = Access.from_key_file(broken, "a file")
    except KeyProblem as error:
        told = str(error)
        found = None
    assert not any(secret.hex() in told for secret in (SECRET, SIGNER.seed, RECIPIENT.mlkem768, RECIPIENT.x25519))
    if found is not None:
        assert spelled(decode_json(found.to_key_file().strip())) == spelled(decode_json(broken.strip()))


# --- HPKE


@settings(EFFORT, max_examples=examples(30))
@given(SECRETS, IDS, IDS, IDS, st.binary(min_size=64, max_size=64), SECRETS)
def test_data_keys_round_trip(
    data_key: bytes, repository: bytes, session: bytes, recipient: bytes, mlkem: bytes, x25519: bytes
) -> None:
    private = DecapsulationKey(mlkem, x25519)
    names = {"repository": repository, "session": session, "recipient": recipient}
    wrapped = wrap_data_key(data_key, private.public, **names)

    assert len(wrapped) == 1120 + 48
    assert unwrap_data_key(wrapped, private, **names) == data_key
    for name, value in names.items():
        with pytest.raises(Malformed):
            unwrap_data_key(wrapped, private, **{**names, name: bytes([value[0] ^ 1]) + value[1:]})
    with pytest.raises(Malformed):
        unwrap_data_key(wrapped, RECIPIENT, **names)


NAMES = {"repository": REPOSITORY, "session": SNAPSHOT, "recipient": bytes(16)}


@settings(EFFORT, max_examples=examples(120))
@given(
    damaged(WRAPPED[bytes(16)]) | st.binary(max_size=50) | st.binary(min_size=8).map(lambda part: (part * 200)[:1168])
)
def test_a_damaged_wrapped_key_is_refused(wrapped: bytes) -> None:
    with pytest.raises(Malformed):
        unwrap_data_key(wrapped, RECIPIENT, **NAMES)


@settings(EFFORT, max_examples=examples(60))
@given(st.sampled_from([0, 1, 0xFF]) | st.integers(0, 255), st.sampled_from([0, 1, 0xFF]) | st.integers(0, 255))
def test_an_invalid_public_key_wraps_nothing(mlkem: int, x25519: int) -> None:
    public = EncapsulationKey(bytes([mlkem]) * 1184, bytes([x25519]) * 32)
    with contextlib.suppress(Malformed):
        assert len(wrap_data_key(b"\7" * 32, public, **NAMES)) == 1168


def test_no_repr_shows_a_secret() -> None:
    for value in (OWNER, SIGNER, RECIPIENT, IndexSecret(SECRET, REPOSITORY), *ACCESSES, SESSION):
        shown = repr(value)
        for secret in (SECRET, SIGNER.seed, RECIPIENT.mlkem768, RECIPIENT.x25519):
            assert secret.hex() not in shown
            assert repr(secret) not in shown
