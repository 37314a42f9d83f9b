"""Documents: valid under one key and by one signer, in one spelling; their contents round-trip or are refused."""

from collections.abc import Callable
from typing import Any

import pytest
from core.tests.format import independent_reader
from core.tests.format.damage import EFFORT, damaged, every_damage, same, with_one_value_replaced
from core.tests.format.examples import (
    CHEAP,
    DATA_KEY,
    DOMAIN,
    ENTRIES,
    NAME,
    OWNER,
    REPOSITORY,
    SCOPE,
    SESSION,
    SIGNER,
    WRITER,
    moment,
    secret,
)
from core.tests.format.test_encoding import OBJECTS, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.soak import examples

from penstock.format.chunker import ChunkerParameters
from penstock.format.documents import decode_document, encode_document
from penstock.format.encoding import Malformed, encode_json
from penstock.format.grants import Entry
from penstock.format.keys import PassphraseCost, SigningKey, wrap_data_key
from penstock.format.session import LeaseDocument, SessionDocument
from penstock.format.trust import FORMAT_VERSION, OwnerPublic, RepositoryConfig

KEY = f"grants/{NAME.hex()}"
SECRETS = st.binary(min_size=32, max_size=32)


@pytest.mark.slow
@EFFORT
@given(OBJECTS, TEXTS, SECRETS)
def test_documents_round_trip(content: dict[str, Any], key: str, seed: bytes) -> None:
    data = encode_document(key, content, SigningKey(seed))

    assert decode_document(key, data).verified(SigningKey(seed).public) == content
    assert decode_document(key, data).claimed == content
    line, _ = independent_reader.document_of(data)
    assert independent_reader.from_json(line) == content


OTHER_KEYS = ["penstock.json", "", KEY[:-1], KEY + "0", f"grants/{'0' * 32}", f"slots/{NAME.hex()}"]
OTHER_KEYS += [f"d/{DOMAIN.hex()}/sessions/{NAME.hex()}", f"d/{NAME.hex()}/sessions/{NAME.hex()}"]


@pytest.mark.parametrize("key", OTHER_KEYS)
def test_a_document_is_not_valid_under_another_key(key: str) -> None:
    data = encode_document(KEY, {"label": "a"}, SIGNER)

    with pytest.raises(Malformed, match="signature"):
        decode_document(key, data).verified(SIGNER.public)


def test_a_document_is_not_valid_in_another_domain() -> None:
    key = f"d/{DOMAIN.hex()}/sessions/{NAME.hex()}"
    data = encode_document(key, {"label": "a"}, SIGNER)

    assert decode_document(key, data).verified(SIGNER.public)
    with pytest.raises(Malformed, match="signature"):
        decode_document(key.replace(DOMAIN.hex(), REPOSITORY.hex()), data).verified(SIGNER.public)


def test_a_document_is_not_valid_for_another_signer() -> None:
    data = encode_document(KEY, {"label": "a"}, SIGNER)

    with pytest.raises(Malformed, match="signature"):
        decode_document(KEY, data).verified(OWNER.signing.public)


DOCUMENT = encode_document(KEY, {"label": "größe", "number": 1, "role": None}, SIGNER)


def test_the_slightest_change_of_a_document_is_refused() -> None:
    for other in every_damage(DOCUMENT):
        with pytest.raises(Malformed):
            decode_document(KEY, other).verified(SIGNER.public)


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "change",
    [
        lambda line, outer: line + b"\n" + outer,
        lambda line, outer: line + b"\r\n" + outer + b"\r\n",
        lambda line, outer: line + b"\n" + outer + b"\n\n",
        lambda line, outer: b"\n" + line + b"\n" + outer + b"\n",
        lambda line, outer: outer + b"\n" + line + b"\n",
        lambda line, outer: line + b"\n" + outer[:-1] + b',"x":1}\n',
        lambda line, outer: line + b"\n" + outer.replace(b":", b": ") + b"\n",
        lambda line, outer: line.replace(b":", b": ") + b"\n" + outer + b"\n",
        lambda line, outer: b"[]\n" + outer + b"\n",
    ],
)
def test_another_spelling_of_a_document_is_refused(change: Callable[[bytes, bytes], bytes]) -> None:
    line, outer, _ = DOCUMENT.split(b"\n")

    with pytest.raises(Malformed):
        decode_document(KEY, change(line, outer)).verified(SIGNER.public)


# --- Contents

CONFIG = RepositoryConfig(REPOSITORY, moment(0), OWNER.public)
WRAPPED = wrap_data_key(DATA_KEY, OWNER.recipient.public, SCOPE, SESSION)
LOG = frozenset({secret("entry"), secret("another entry")})
RUN = SessionDocument(SESSION, WRITER, moment(1), "db1.example", LOG, WRAPPED)


def cost_from_json(value: Any) -> Any:
    return PassphraseCost.from_json(value)


def cost_to_json(value: tuple[PassphraseCost, bytes]) -> dict[str, Any]:
    return value[0].to_json(value[1])


CONTENTS: dict[str, tuple[dict[str, Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "config": (CONFIG.to_json(), RepositoryConfig.from_json, RepositoryConfig.to_json),
    "public": (OWNER.public.to_json(), OwnerPublic.from_json, OwnerPublic.to_json),
    "session": (RUN.to_json(), SessionDocument.from_json, SessionDocument.to_json),
    "lease": (LeaseDocument(SESSION, 7).to_json(), LeaseDocument.from_json, LeaseDocument.to_json),
    "cost": (CHEAP.to_json(NAME), cost_from_json, cost_to_json),
    "chunker": (ChunkerParameters().to_json(), ChunkerParameters.from_json, ChunkerParameters.to_json),
    **{f"entry, {name}": (entry.to_json(), Entry.from_json, Entry.to_json) for name, entry in ENTRIES.items()},
}
CASES = pytest.mark.parametrize(("content", "read", "write"), CONTENTS.values(), ids=CONTENTS)


@CASES
def test_contents_round_trip(content: dict[str, Any], read: Callable[[Any], Any], write: Callable[[Any], Any]) -> None:
    assert write(read(content)) == content
    encode_json(content)


@pytest.mark.slow
@CASES
@EFFORT
@given(data=st.data())
def test_a_wrong_value_is_refused_or_preserved(
    content: dict[str, Any], read: Callable[[Any], Any], write: Callable[[Any], Any], data: st.DataObject
) -> None:
    changed = data.draw(with_one_value_replaced(content))
    try:
        value = read(changed)
    except Malformed:
        return
    # The caller checks the format version before anything else.
    assert same(write(value), {**changed, "format": FORMAT_VERSION} if "format" in content else changed)


@CASES
@settings(EFFORT, max_examples=examples(15))
@given(value=OBJECTS)
def test_any_object_is_refused(
    content: dict[str, Any], read: Callable[[Any], Any], write: Callable[[Any], Any], value: dict[str, Any]
) -> None:
    with pytest.raises(Malformed):
        read(value)


@pytest.mark.parametrize("name", ["session", "writer", "started", "host", "log", "data_key"])
def test_a_session_without_one_of_its_fields_is_refused(name: str) -> None:
    content = RUN.to_json()
    del content[name]

    with pytest.raises(Malformed):
        SessionDocument.from_json(content)


@pytest.mark.parametrize("wrapped", ["", "AB", "0", "zz", " 00", "é"])
def test_a_wrapped_key_that_is_not_in_lower_case_hexadecimal_is_refused(wrapped: str) -> None:
    with pytest.raises(Malformed):
        SessionDocument.from_json({**RUN.to_json(), "data_key": wrapped}).unwrap(OWNER.recipient, SCOPE)


def test_a_session_gives_its_data_key_to_the_owner() -> None:
    assert RUN.unwrap(OWNER.recipient, SCOPE) == DATA_KEY
    for scope in (DOMAIN + REPOSITORY, REPOSITORY + NAME, NAME + DOMAIN):
        with pytest.raises(Malformed):
            RUN.unwrap(OWNER.recipient, scope)


def test_the_log_that_a_session_saw_is_sorted_and_in_hexadecimal() -> None:
    assert RUN.to_json()["log"] == sorted(digest.hex() for digest in LOG)


def test_no_repr_shows_a_wrapped_key() -> None:
    assert WRAPPED.hex() not in repr(RUN)
    assert repr(WRAPPED) not in repr(RUN)
