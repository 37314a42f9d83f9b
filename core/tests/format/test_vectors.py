"""The code, docs/format.md and vectors.json agree. The file is frozen: it defines version 1."""

import json
import struct
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from core.tests.format import independent_reader, make_vectors
from core.tests.format.examples import (
    DATA,
    DATA_KEY,
    DELETION,
    DOMAIN,
    ENTRIES,
    EXTENTS,
    HEAD,
    IDS,
    KEYS,
    LAYOUT,
    MANIFEST,
    NAME,
    NOTICE,
    OWNER,
    PACK,
    PLACES,
    REFS,
    REPOSITORY,
    ROWS,
    SCOPE,
    SESSION,
    SIGNER,
    SUMMARIES,
    TOMBSTONE,
    WRITER,
)

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.chunks import open_chunks
from penstock.format.codec import ZSTD
from penstock.format.documents import decode_document, encode_document
from penstock.format.encoding import decode_varints
from penstock.format.grants import Entry
from penstock.format.head import decode_head
from penstock.format.ids import chunk_ids
from penstock.format.index import decode_index
from penstock.format.keys import DecapsulationKey, PassphraseCost, SigningKey, VerifyingKey, unwrap_data_key
from penstock.format.manifest import decode_manifest
from penstock.format.notice import decode_notice
from penstock.format.pack import (
    TRAILER_BYTES,
    SegmentId,
    Trailer,
    open_places,
    open_segment,
    pin_of,
)
from penstock.format.part import Key, Kind, PartRef, decode_refs, decode_rows, decode_sessions, open_part
from penstock.format.recipe import Block, decode_block
from penstock.format.sealing import message
from penstock.format.session import LeaseDocument, SessionDocument
from penstock.format.slot import open_slot
from penstock.format.trust import RepositoryConfig

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text("utf-8"))
OBJECTS = VECTORS["objects"]
ENDS = VECTORS["ends"]
DOCUMENTS = {vector["key"]: vector for vector in VECTORS["documents"]}


def data_of(kind: str) -> bytes:
    return bytes.fromhex(OBJECTS[kind]["bytes"])


@pytest.mark.slow
@pytest.mark.parametrize("section", make_vectors.REPRODUCED)
def test_the_code_makes_the_vectors_of_the_file(section: str) -> None:
    assert json.loads(json.dumps(getattr(make_vectors, section)())) == VECTORS[section]


def test_the_file_has_no_other_sections() -> None:
    assert VECTORS.keys() == {*make_vectors.REPRODUCED, "cuts", "wrapped_keys", "compressed"}


# --- Keys and hashes


@pytest.mark.parametrize("vector", VECTORS["derivations"])
def test_the_independent_reader_derives_the_same_keys(vector: dict[str, Any]) -> None:
    root, repository, domain = (bytes.fromhex(vector[name]) for name in ("root_secret", "repository", "domain"))
    derived = independent_reader.derived
    maintenance = derived(root, repository, "maintenance secret")
    layout_key, secret = (
        derived(one, repository, purpose, domain)
        for one, purpose in ((maintenance, "layout key"), (root, "domain secret"))
    )

    assert maintenance.hex() == vector["maintenance_secret"]
    assert (layout_key.hex(), secret.hex()) == (vector["layout_key"], vector["domain_secret"])
    assert derived(secret, repository, "chunk id key", domain).hex() == vector["chunk_id_key"]
    assert derived(secret, repository, "id key", domain).hex() == vector["id_key"]
    seed = int.from_bytes(derived(secret, repository, "chunker seed", domain, 8), "little")
    assert seed >> 1 | 1 == vector["chunker_seed"]
    assert derived(layout_key, repository, "layout proof", domain, 16).hex() == vector["layout_proof"]
    assert derived(secret, repository, "domain proof", domain, 16).hex() == vector["domain_proof"]


@pytest.mark.parametrize("number", range(len(VECTORS["cuts"])))
def test_chunks_are_cut_as_when_the_domain_was_made(number: int) -> None:
    # Other cuts would not be wrong, but would find no duplicates in what older versions stored.
    vector = VECTORS["cuts"][number]
    parameters = ChunkerParameters.from_json(vector["parameters"])
    data = make_vectors.stretch(vector["stretch"], vector["length"])

    chunker = Chunker(parameters, vector["seed"], bytes.fromhex(vector["separator"]))
    assert chunker.cut(memoryview(data), last=True) == vector["cuts"]


def test_the_vectors_of_cuts_have_the_default_parameters_and_every_normalization() -> None:
    parameters = [ChunkerParameters.from_json(vector["parameters"]) for vector in VECTORS["cuts"]]

    assert ChunkerParameters() in parameters
    assert {one.normalization for one in parameters} == {0, 1, 2, 3}


@pytest.mark.parametrize("vector", VECTORS["wrapped_keys"])
def test_a_wrapped_data_key_opens(vector: dict[str, Any]) -> None:
    private = DecapsulationKey.from_json(vector["private"])
    scope, session = bytes.fromhex(vector["repository"] + vector["domain"]), bytes.fromhex(vector["session"])

    assert private.public.to_json() == vector["public"]
    assert unwrap_data_key(bytes.fromhex(vector["wrapped"]), private, scope, session).hex() == vector["data_key"]


@pytest.mark.slow
def test_the_vectors_of_passphrases_need_normalization() -> None:
    passphrases = [vector["passphrase"] for vector in VECTORS["passphrases"]]

    assert any(unicodedata.normalize("NFC", passphrase) != passphrase for passphrase in passphrases)
    for vector in VECTORS["passphrases"]:
        cost, salt = PassphraseCost.from_json(vector["kdf"])
        expected = (bytes.fromhex(vector["key"]), bytes.fromhex(vector["commitment"]))
        for form in ("NFC", "NFD"):
            assert cost.derive(unicodedata.normalize(form, vector["passphrase"]), salt) == expected


# --- Small pieces


@pytest.mark.parametrize("vector", VECTORS["varints"])
def test_varints_decode(vector: dict[str, Any]) -> None:
    assert decode_varints(bytes.fromhex(vector["bytes"])) == vector["values"]
    assert list(independent_reader.varints(bytes.fromhex(vector["bytes"]))) == vector["values"]


@pytest.mark.parametrize(("size", "expected"), VECTORS["padding"])
def test_sizes_are_padded_alike(size: int, expected: int) -> None:
    assert independent_reader.padme(size) == expected


@pytest.mark.parametrize("vector", VECTORS["associated_data"])
def test_associated_data_is_built_as_the_page_says(vector: dict[str, Any]) -> None:
    scope = REPOSITORY if vector["what"] == "slot" else SCOPE
    expected = b"penstock/1 " + vector["what"].encode() + b"\0" + scope + bytes.fromhex("".join(vector["names"]))

    assert bytes.fromhex(vector["bytes"]) == expected


@pytest.mark.parametrize("vector", VECTORS["recipes"])
def test_a_recipe_decodes(vector: dict[str, Any]) -> None:
    block = bytes.fromhex(vector["block"])
    found = decode_block(block)

    assert (found.start, found.base) == (vector["start"], vector["base"])
    assert [list(one) for one in found.extents] == vector["extents"]
    start, size, extents = independent_reader.block_of(block)
    assert (start, size) == (vector["start"], sum(length for _, _, length in vector["extents"]))
    assert [[one.segment, one.start, one.length] for one in extents] == vector["extents"]


def test_tables_decode() -> None:
    names = ("row_bytes", "ref_bytes", "session_bytes")
    rows, refs, sessions = (bytes.fromhex(VECTORS["tables"][name]) for name in names)

    assert list(decode_rows(rows)) == ROWS
    assert decode_refs(refs) == list(REFS)
    assert len(list(independent_reader.rows_of(rows))) == len(VECTORS["tables"]["rows"])
    assert [ref.size for ref in independent_reader.refs_of(refs)] == [one[1] for one in VECTORS["tables"]["refs"]]
    pinned = {bytes.fromhex(session): bytes.fromhex(digest) for session, digest in VECTORS["tables"]["sessions"]}
    assert decode_sessions(sessions) == dict(independent_reader.sessions_of(sessions)) == pinned


# --- Documents


@pytest.mark.parametrize("vector", VECTORS["documents"], ids=lambda vector: vector["key"][:12])
def test_a_document_verifies(vector: dict[str, Any]) -> None:
    document = decode_document(vector["key"], bytes.fromhex(vector["bytes"]))

    assert document.verified(VerifyingKey.from_hex(vector["public"])) == vector["content"]
    signed = encode_document(vector["key"], vector["content"], SigningKey.from_hex(vector["seed"]))
    assert signed.hex() == vector["bytes"]


def test_there_is_a_document_of_every_kind() -> None:
    folders = {key.split("/")[2 if key.startswith("d/") else 0] for key in DOCUMENTS}
    entries = [vector["content"] for key, vector in DOCUMENTS.items() if key.startswith("grants/")]

    assert folders >= {"penstock.json", "slots", "grants", "sessions", "leases"}
    assert [Entry.from_json(entry) for entry in entries] == list(ENTRIES.values())
    assert {entry["action"] for entry in entries} == {"domain", "grant", "revoke", "keep"}
    assert {entry.get("role") for entry in entries} == {"writer", "maintainer", "slot", None}


def test_the_contents_of_documents_are_read() -> None:
    config = RepositoryConfig.from_json(DOCUMENTS["penstock.json"]["content"])
    session = SessionDocument.from_json(
        DOCUMENTS[f"d/{DOMAIN.hex()}/sessions/{SESSION.hex()}"]["content"],
    )
    lease = LeaseDocument.from_json(DOCUMENTS[f"d/{DOMAIN.hex()}/leases/{SESSION.hex()}-00000007"]["content"])

    assert (config.repository, config.owner) == (REPOSITORY, OWNER.public)
    assert (session.session, session.writer, len(session.wrapped)) == (SESSION, WRITER, 1168)
    assert lease == LeaseDocument(SESSION, 7)


def test_a_slot_opens() -> None:
    content = DOCUMENTS[f"slots/{NAME.hex()}"]["content"]

    assert open_slot(content, "corrèct", REPOSITORY, NAME) == OWNER
    assert independent_reader.owner_in(content, "corrèct", REPOSITORY, NAME).root == OWNER.root
    cost, salt = PassphraseCost.from_json(content["kdf"])
    key, commitment = cost.derive("corrèct", salt)
    plain = independent_reader.unseal(key, bytes.fromhex(content["sealed"]), "slot", REPOSITORY, NAME)
    assert commitment.hex() == content["commitment"]
    assert plain == OWNER.signing.seed + OWNER.root + OWNER.recipient.mlkem768 + OWNER.recipient.x25519


# --- Sealed


def test_a_sealed_segment_opens() -> None:
    sealed, plain = (bytes.fromhex(ENDS["segment"][name]) for name in ("sealed", "plain"))

    assert open_segment(sealed, DATA, SCOPE, SegmentId(PACK, 4095)) == plain
    payload = independent_reader.unseal(DATA_KEY, sealed, "segment", SCOPE, PACK, struct.pack("<I", 4095))
    assert payload == b"\0" + plain


def test_sealed_places_open_and_have_their_pin() -> None:
    sealed = bytes.fromhex(ENDS["places"]["sealed"])

    assert open_places(sealed, LAYOUT, SCOPE, PACK) == PLACES
    assert blake3(sealed).hexdigest() == pin_of(sealed).hex() == ENDS["places"]["pin"]


def test_a_whole_pack_is_read() -> None:
    data = data_of("pack")
    trailer = Trailer.decode(data[-TRAILER_BYTES:], len(data))
    middle = len(data) - TRAILER_BYTES - trailer.places_length
    sealed_ids, sealed_places = data[middle - trailer.ids_length : middle], data[middle:-TRAILER_BYTES]
    places = open_places(sealed_places, LAYOUT, SCOPE, PACK)
    chunks = open_chunks(sealed_ids, IDS, SCOPE, places)

    assert pin_of(sealed_places).hex() == OBJECTS["pack"]["pin"]
    trailer.verify(SIGNER.public, SCOPE, PACK, pin_of(sealed_places), sealed_ids)
    assert trailer.signer == WRITER
    for place, lengths in zip(places.places, make_vectors.CHUNKS_OF_PACK, strict=True):
        sealed = data[place.offset : place.offset + place.sealed_length]
        assert blake3(sealed).digest() == place.digest
        plain = open_segment(sealed, DATA, SCOPE, place.id)
        assert plain == make_vectors.stretch("random", sum(lengths))
        assert b"".join(chunk_ids(KEYS.chunk_key, memoryview(plain), lengths)) in chunks.ids
    assert chunks.assembled == make_vectors.assembled()
    assert len(data) == independent_reader.padme(len(data))


def test_an_index_object_opens() -> None:
    sealed = decode_index(NAME, data_of("index"))

    sealed.verify(SIGNER.public, SCOPE)
    assert sealed.open_summaries(LAYOUT, IDS, SCOPE) == SUMMARIES
    packs, replaces = sealed.open_packs(LAYOUT, SCOPE)
    assert ([one.ends for one in packs], replaces) == ([one.ends for one in SUMMARIES], (PACK,))


def test_a_head_opens() -> None:
    sealed = decode_head(NAME, data_of("head"))

    sealed.verify(SIGNER.public, SCOPE)
    assert (sealed.session, sealed.writer) == (SESSION, WRITER)
    assert sealed.digest.hex() == OBJECTS["head"]["digest"]
    assert sealed.open(LAYOUT, SCOPE) == HEAD


def sections_of(key: Key, data: bytes) -> list[tuple[Kind, bytes]]:
    ref = PartRef(NAME, len(data), blake3(data).digest(), key)
    return [
        (kind, bytes(content)) for kind, content in open_part(ref, data, DATA if key is Key.DATA else LAYOUT, SCOPE)
    ]


def test_parts_with_every_kind_of_section_open() -> None:
    data = {key: data_of(f"part, key {int(key)}") for key in Key}

    assert sections_of(Key.LAYOUT, data[Key.LAYOUT]) == [(Kind.TABLE, bytes.fromhex(VECTORS["tables"]["row_bytes"]))]
    ((kind, references),) = sections_of(Key.REFS, data[Key.REFS])
    assert (kind, decode_refs(references)) == (Kind.REFS, list(REFS[:2]))
    (_, manifest), (_, recipe) = sections_of(Key.DATA, data[Key.DATA])
    assert decode_manifest(manifest) == MANIFEST
    assert recipe[:4] == b"\1\0\0\0"
    size = sum(one.length for one in EXTENTS)
    assert decode_block(recipe[4:]) == Block(7, size, 3, tuple(EXTENTS))
    for key in Key:
        vector = OBJECTS[f"part, key {int(key)}"]
        assert (vector["size"], vector["digest"]) == (len(data[key]), blake3(data[key]).hexdigest())


@pytest.mark.parametrize("content", [NOTICE, TOMBSTONE, DELETION], ids=lambda content: content.what)
def test_notices_open(content: Any) -> None:
    sealed = decode_notice(NAME, data_of(content.what))

    assert sealed.signer == WRITER
    assert sealed.open(type(content), SIGNER.public, LAYOUT, SCOPE) == content


def test_what_is_compressed_opens() -> None:
    segment, part = (bytes.fromhex(VECTORS["compressed"][name]) for name in ("segment", "part"))

    assert open_segment(segment, DATA, SCOPE, SegmentId(PACK, 0)) == make_vectors.stretch("numbers", 5000)
    assert DATA.open(segment, message("segment", SCOPE, PACK, bytes(4)))[0] == ZSTD
    assert sections_of(Key.DATA, part) == make_vectors.data_sections()
    assert DATA.open(part[24:-64], message("part", SCOPE, NAME))[4] == ZSTD


def test_a_vector_does_not_open_in_another_domain() -> None:
    other = replace(KEYS, domain=NAME)

    assert not SIGNER.public.verify(data_of("head")[-64:], message("head", other.scope, NAME, data_of("head")[:-64]))
