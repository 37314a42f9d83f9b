"""Made vectors.json: run once, then frozen except for additions. `python -m core.tests.format.make_vectors` prints it.

Each vector is self-contained, so that another program can use the file together with docs/format.md. Bytes are in
hexadecimal. "stretch" means bytes that anybody can generate: the extended output of BLAKE3 of "penstock"; the decimal
numbers from 0, one per line; or the same padded with blanks to 96 columns.
"""

import json
from typing import Any
from unittest.mock import patch

from blake3 import blake3
from core.tests.format.examples import CATALOGUE, DIRECTORY, MANIFEST, REPOSITORY, SECRET, SNAPSHOT, SUMMARY

from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.documents import encode_document
from penstock.format.encoding import encode_varints
from penstock.format.ids import StreamDigest, chunk_ids
from penstock.format.index import seal_index
from penstock.format.keys import DecapsulationKey, IndexSecret, PassphraseCost, SigningKey, wrap_data_key
from penstock.format.pack import SegmentId, seal_directory, seal_segment
from penstock.format.recipe import Extent, RecipeEncoder
from penstock.format.sealing import Sealer, binding
from penstock.format.snapshot import encode_snapshot
from penstock.format.trust import OwnerSecret, seal_slot

INDEX = IndexSecret(SECRET, REPOSITORY)
DATA_KEY = bytes([7]) * 32
SESSION = bytes([3]) * 16
WRITER = bytes([5]) * 16
FOX = b"The quick brown fox jumps over the lazy dog"


def stretch(kind: str, length: int) -> bytes:
    """The bytes that a vector describes instead of containing them."""
    if kind == "random":
        return blake3(b"penstock").digest(length)
    if kind == "padded":
        return b"".join(b"%-96d\n" % number for number in range(length // 97 + 1))[:length]
    return b"".join(b"%d\n" % number for number in range(length // 2))[:length]


def recipe(extents: list[Extent]) -> bytes:
    """The recipe of these extents."""
    encoder = RecipeEncoder()
    for extent in extents:
        encoder.add(*extent)
    return encoder.finish()


def page() -> dict[str, str]:
    """The table of docs/format.md: its first column and its second."""
    pack = bytes(range(16, 32))
    bound = binding("segment", REPOSITORY, pack, (7).to_bytes(4, "little"))
    extents = [Extent(0, 0, 5), Extent(0, 5, 3), Extent(1, 0, 8), Extent(0, 9, 1), Extent(2, 4, 2)]
    document = encode_document("grants/00000001", {"a": 1}, SigningKey(b"\1" * 32))
    fox = StreamDigest()
    fox.update(FOX)
    with patch("os.urandom", return_value=bytes(range(12))):
        sealed = Sealer(INDEX.index_key).seal(b"\0" + FOX, bound)
    return {
        "index key": INDEX.index_key.hex(),
        "chunk id key": INDEX.id_key.hex(),
        "chunker seed": str(INDEX.chunker_seed),
        "chunk id of `The quick brown fox jumps over the lazy dog`": chunk_ids(
            INDEX.id_key, memoryview(FOX), [len(FOX)]
        )[0].hex(),
        "stream digest of the same": fox.digest().hex(),
        "varints 0, 127, 128, 300": encode_varints([0, 127, 128, 300]).hex(),
        "associated data of segment 7 of pack `10…1f`": bound.hex(),
        "the text above as codec 0, sealed under the index key with nonce `00…0b` as that segment": sealed.hex(),
        "recipe of extents (0,0,5) (0,5,3) (1,0,8) (0,9,1) (2,4,2), of which the first two join": recipe(extents).hex(),
        'document `{"a":1}` under the key `grants/00000001`, signed with seed `01…01`': document.decode().replace(
            "\n", "⏎"
        ),
        "Argon2id key of `corrèct` (NFC), salt `00…0f`, 3 passes, 65536 KiB, 4 lanes": PassphraseCost()
        .derive("corrèct", bytes(range(16)))
        .hex(),
    }


def derivations() -> list[dict[str, Any]]:
    made = []
    for secret, repository in ((SECRET, REPOSITORY), (bytes(32), bytes(16)), (bytes(range(32)), b"\xff" * 16)):
        index = IndexSecret(secret, repository)
        made.append(
            {
                "index_secret": secret.hex(),
                "repository": repository.hex(),
                "index_key": index.index_key.hex(),
                "chunk_id_key": index.id_key.hex(),
                "chunker_seed": index.chunker_seed,
                "proof": index.proof.hex(),
            }
        )
    return made


def hashes() -> list[dict[str, Any]]:
    made = []
    for length in (0, 1, 127, 1024, 1025, 32768, 65535):
        data = stretch("random", length)
        digest = StreamDigest()
        digest.update(data)
        made.append(
            {
                "stretch": "random",
                "length": length,
                "chunk_id": chunk_ids(INDEX.id_key, memoryview(data), [length])[0].hex(),
                "stream_digest": digest.digest().hex(),
            }
        )
    return made


def cuts() -> list[dict[str, Any]]:
    made = []
    parameters = [
        ChunkerParameters(),
        ChunkerParameters(split_above=0),
        ChunkerParameters(joined_below=0),
    ]
    parameters += [ChunkerParameters(256, 1024, 4096, normalization, 0, 0) for normalization in range(4)]
    parameters += [ChunkerParameters(64, 256, 1024, 1, 0, 0), ChunkerParameters(4096, 16384, 65535, 2, 0, 0)]
    for one in parameters:
        for kind in ("random", "numbers", "padded"):
            for seed in (INDEX.chunker_seed, 1):
                data = stretch(kind, 65536 if one.average < 16384 else 262144)
                lengths = Chunker(one, seed).cut(memoryview(data), last=True)
                made.append(
                    {"parameters": one.to_json(), "seed": seed, "stretch": kind, "length": len(data), "cuts": lengths}
                )
    return made


def passphrases() -> list[dict[str, Any]]:
    made = []
    for passphrase in ("", "corre\u0300ct", "größte Sorgfalt", "パスワード", "a" * 1000):
        cost, salt = PassphraseCost(2, 64, 2), blake3(passphrase.encode()).digest(16)
        key = cost.derive(passphrase, salt)
        made.append({"passphrase": passphrase, "kdf": cost.to_json(salt), "key": key.hex()})
    return made


def wrapped_keys() -> list[dict[str, Any]]:
    made = []
    for number, recipient in ((1, bytes(16)), (2, bytes(range(16)))):
        private = DecapsulationKey(bytes([number]) * 64, bytes([number + 16]) * 32)
        wrapped = wrap_data_key(DATA_KEY, private.public, repository=REPOSITORY, session=SESSION, recipient=recipient)
        made.append(
            {
                "private": private.to_json(),
                "public": private.public.to_json(),
                "repository": REPOSITORY.hex(),
                "session": SESSION.hex(),
                "recipient": recipient.hex(),
                "wrapped": wrapped.hex(),
                "data_key": DATA_KEY.hex(),
            }
        )
    return made


def documents() -> list[dict[str, Any]]:
    made = []
    contents: list[tuple[str, dict[str, Any]]] = [
        ("penstock.json", {}),
        ("grants/00000042", {"label": 'größe ✓ 😀 "\\/\b\f\n\r\t\x00\x1f\x7f', "a": [None, True, -1], "Z": {}}),
        ("sessions/" + SESSION.hex(), {"n": 2**63 - 1, "é": "e\u0301", "€": 1, "😀": 2, "\uffff": 3}),
    ]
    for number, (key, content) in enumerate(contents):
        signer = SigningKey(bytes([number]) * 32)
        made.append(
            {
                "key": key,
                "content": content,
                "seed": signer.seed.hex(),
                "public": signer.public.raw.hex(),
                "bytes": encode_document(key, content, signer).hex(),
            }
        )
    return made


def recipes() -> list[dict[str, Any]]:
    many = [Extent(number * number % 7, number * 3 % 50, 1 + number % 5) for number in range(100)]
    lists = [[], [Extent(0, 0, 1)], [Extent(5, 3, 2), Extent(4, 9, 1), Extent(5, 0, 4), Extent(5, 4, 1)], many]
    return [{"extents": [list(one) for one in extents], "recipe": recipe(extents).hex()} for extents in lists]


def sealed() -> dict[str, Any]:
    """Complete sealed data. It must open, but is not reproduced: zstd's output differs between versions."""
    index, data = Sealer(INDEX.index_key), Sealer(DATA_KEY)
    segment = SegmentId(DIRECTORY.pack, 2**32 - 1)
    owner = OwnerSecret(SigningKey(b"\1" * 32), DecapsulationKey(b"\1" * 64, b"\x11" * 32), SECRET)
    slot = seal_slot(owner, "corrèct", PassphraseCost(1, 8, 1), REPOSITORY, bytes([9]) * 16)
    snapshot = encode_snapshot(
        CATALOGUE,
        MANIFEST,
        repository=REPOSITORY,
        session=SESSION,
        writer=WRITER,
        index_sealer=index,
        data_sealer=data,
        signer=SigningKey(b"\2" * 32),
    )
    return {
        "data_key": DATA_KEY.hex(),
        "random_segment": seal_segment(stretch("random", 100), 3, data, REPOSITORY, segment).hex(),
        "numbers_segment": seal_segment(stretch("numbers", 5000), 3, data, REPOSITORY, segment).hex(),
        "directory": seal_directory(DIRECTORY, index, REPOSITORY).hex(),
        "index": seal_index(SNAPSHOT, [SUMMARY], index, REPOSITORY).hex(),
        "slot": slot,
        "snapshot": snapshot.hex(),
    }


def vectors() -> dict[str, Any]:
    """The whole file."""
    return {
        "page": page(),
        "derivations": derivations(),
        "hashes": hashes(),
        "cuts": cuts(),
        "passphrases": passphrases(),
        "wrapped_keys": wrapped_keys(),
        "documents": documents(),
        "recipes": recipes(),
        "sealed": sealed(),
    }


if __name__ == "__main__":
    # One vector per line.
    lines = []
    for name, section in vectors().items():
        if isinstance(section, list):
            inner = ",\n".join("  " + json.dumps(one, ensure_ascii=False) for one in section)
            lines.append(f' "{name}": [\n{inner}\n ]')
        else:
            rows = ",\n".join(
                f"  {json.dumps(key, ensure_ascii=False)}: {json.dumps(value)}" for key, value in section.items()
            )
            lines.append(f' "{name}": {{\n{rows}\n }}')
    print("{\n" + ",\n".join(lines) + "\n}")
