"""The code, docs/format.md and vectors.json agree. The file is frozen: it defines version 1."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from core.tests.format import make_vectors
from core.tests.format.examples import CATALOGUE, DIRECTORY, MANIFEST, REPOSITORY, SECRET, SNAPSHOT, SUMMARY

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.codec import ZSTD
from penstock.format.documents import decode_document, encode_document
from penstock.format.index import open_index, seal_index
from penstock.format.keys import (
    DecapsulationKey,
    IndexSecret,
    PassphraseCost,
    SigningKey,
    VerifyingKey,
    unwrap_data_key,
)
from penstock.format.pack import SegmentId, open_directory, open_segment
from penstock.format.recipe import decode_recipe
from penstock.format.sealing import Sealer, binding
from penstock.format.snapshot import decode_snapshot
from penstock.format.trust import OwnerSecret, open_slot

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text("utf-8"))
PAGE = (Path(__file__).parents[3] / "docs" / "format.md").read_text("utf-8")
SEALED = VECTORS["sealed"]
INDEX_SEALER = Sealer(IndexSecret(SECRET, REPOSITORY).index_key)
DATA_SEALER = Sealer(bytes.fromhex(SEALED["data_key"]))


def test_the_page_shows_the_vectors_of_the_file() -> None:
    table = PAGE.partition("## 9. Test vectors")[2]
    rows = dict(re.findall(r"^\| (.*?) \| `(.*)` \|$", table, re.MULTILINE))

    assert rows == VECTORS["page"]


def test_the_code_makes_the_vectors_of_the_page() -> None:
    assert make_vectors.page() == VECTORS["page"]


@pytest.mark.parametrize("section", ["derivations", "hashes", "recipes", "documents", "passphrases"])
def test_the_code_makes_the_vectors_of_the_file(section: str) -> None:
    assert getattr(make_vectors, section)() == VECTORS[section]


@pytest.mark.parametrize("number", range(len(VECTORS["cuts"])))
def test_chunks_are_cut_as_when_the_repository_was_created(number: int) -> None:
    # Other cuts would not be wrong, but would find no duplicates in what older versions stored.
    vector = VECTORS["cuts"][number]
    parameters = ChunkerParameters.from_json(vector["parameters"])
    data = make_vectors.stretch(vector["stretch"], vector["length"])

    assert Chunker(parameters, vector["seed"]).cut(memoryview(data), last=True) == vector["cuts"]


def test_the_vectors_of_cuts_have_the_default_parameters_and_every_normalization() -> None:
    parameters = [ChunkerParameters.from_json(vector["parameters"]) for vector in VECTORS["cuts"]]

    assert ChunkerParameters() in parameters
    assert {one.normalization for one in parameters} == {0, 1, 2, 3}


@pytest.mark.parametrize("vector", VECTORS["wrapped_keys"])
def test_a_wrapped_data_key_opens(vector: dict[str, Any]) -> None:
    private = DecapsulationKey.from_json(vector["private"])
    names = {name: bytes.fromhex(vector[name]) for name in ("repository", "session", "recipient")}

    assert private.public.to_json() == vector["public"]
    assert unwrap_data_key(bytes.fromhex(vector["wrapped"]), private, **names).hex() == vector["data_key"]


@pytest.mark.parametrize("vector", VECTORS["documents"])
def test_a_document_verifies(vector: dict[str, Any]) -> None:
    document = decode_document(vector["key"], bytes.fromhex(vector["bytes"]))

    assert document.verified(VerifyingKey.from_hex(vector["public"])) == vector["content"]
    signed = encode_document(vector["key"], vector["content"], SigningKey.from_hex(vector["seed"]))
    assert signed.hex() == vector["bytes"]


def test_the_vectors_of_passphrases_need_normalization() -> None:
    passphrases = [vector["passphrase"] for vector in VECTORS["passphrases"]]

    assert any(unicodedata.normalize("NFC", passphrase) != passphrase for passphrase in passphrases)
    for vector in VECTORS["passphrases"]:
        cost, salt = PassphraseCost.from_json(vector["kdf"])
        composed = unicodedata.normalize("NFC", vector["passphrase"])
        decomposed = unicodedata.normalize("NFD", vector["passphrase"])
        assert cost.derive(composed, salt) == cost.derive(decomposed, salt) == bytes.fromhex(vector["key"])


@pytest.mark.parametrize("vector", VECTORS["recipes"])
def test_a_recipe_decodes(vector: dict[str, Any]) -> None:
    extents = list(decode_recipe(bytes.fromhex(vector["recipe"])))

    chunks = [(segment, first + one) for segment, first, count in vector["extents"] for one in range(count)]
    assert [(one.segment, one.first + number) for one in extents for number in range(one.chunks)] == chunks


@pytest.mark.parametrize("kind", ["random", "numbers"])
def test_a_sealed_segment_opens(kind: str) -> None:
    plain = make_vectors.stretch(kind, 100 if kind == "random" else 5000)
    segment = SegmentId(DIRECTORY.pack, 2**32 - 1)

    assert open_segment(bytes.fromhex(SEALED[f"{kind}_segment"]), DATA_SEALER, REPOSITORY, segment) == plain


def test_one_of_the_sealed_segments_is_compressed() -> None:
    bound = binding("segment", REPOSITORY, DIRECTORY.pack, b"\xff\xff\xff\xff")

    assert DATA_SEALER.open(bytes.fromhex(SEALED["numbers_segment"]), bound)[0] == ZSTD


def test_a_sealed_directory_opens() -> None:
    sealed = bytes.fromhex(SEALED["directory"])

    assert open_directory(sealed, INDEX_SEALER, REPOSITORY, DIRECTORY.pack) == DIRECTORY


def test_a_sealed_index_object_opens() -> None:
    sealed = bytes.fromhex(SEALED["index"])

    assert open_index(sealed, INDEX_SEALER, REPOSITORY, SNAPSHOT) == [SUMMARY]
    with patch("os.urandom", return_value=sealed[:12]):
        assert seal_index(SNAPSHOT, [SUMMARY], INDEX_SEALER, REPOSITORY) == sealed


def test_a_slot_opens() -> None:
    owner = OwnerSecret(SigningKey(b"\1" * 32), DecapsulationKey(b"\1" * 64, b"\x11" * 32), SECRET)
    slot = bytes.fromhex(SEALED["slot"]["slot"])

    assert open_slot(SEALED["slot"], "corrèct", REPOSITORY, slot) == owner
    assert open_slot(SEALED["slot"], "correct", REPOSITORY, slot) is None


def test_a_snapshot_opens() -> None:
    sealed = decode_snapshot(SNAPSHOT, bytes.fromhex(SEALED["snapshot"]))

    sealed.verify(REPOSITORY, SigningKey(b"\2" * 32).public)
    assert (sealed.session, sealed.writer) == (make_vectors.SESSION, make_vectors.WRITER)
    assert sealed.open_catalogue(INDEX_SEALER, REPOSITORY) == CATALOGUE
    assert sealed.open_manifest(DATA_SEALER, REPOSITORY) == MANIFEST
