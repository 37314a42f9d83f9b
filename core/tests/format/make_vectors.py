"""Made vectors.json: run once, then frozen except for additions. `python -m core.tests.format.make_vectors` prints it.

Each vector is self-contained, or uses what "keys" says, so that another program can use the file together with
docs/format.md. Bytes are in hexadecimal. "stretch" means bytes that anybody can generate: the extended output of BLAKE3
of "penstock"; the decimal numbers from 0, one per line; or the same padded with blanks to 96 columns.

What is sealed here has codec 0, since the output of zstd differs between its versions, and the n-th nonce or salt of a
section is the beginning of BLAKE3 of "nonce" and n (u32, from 0). Keys that are wrapped can only be unwrapped.
"""

import json
import struct
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import Any
from unittest.mock import patch

from blake3 import blake3
from core.tests.format.examples import (
    CHEAP,
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
    MARK,
    NAME,
    NOTICE,
    OTHER_PACK,
    OWNER,
    PACK,
    PLACES,
    REFS,
    REPOSITORY,
    ROWS,
    SCOPE,
    SESSION,
    SESSIONS,
    SIGNER,
    SUMMARIES,
    TOMBSTONE,
    WRITER,
    moment,
    secret,
)

from penstock.format.assembled import Assembled
from penstock.format.chunker import Chunker, ChunkerParameters
from penstock.format.chunks import Chunks, seal_chunks
from penstock.format.codec import RAW
from penstock.format.documents import encode_document
from penstock.format.encoding import encode_varints
from penstock.format.head import encode_head
from penstock.format.ids import StreamDigest, chunk_ids
from penstock.format.index import encode_index, seal_hooks
from penstock.format.keys import DecapsulationKey, RootSecret, SigningKey, wrap_data_key
from penstock.format.manifest import encode_manifest
from penstock.format.notice import encode_notice
from penstock.format.pack import (
    MAGIC,
    Place,
    Places,
    SegmentId,
    pin_of,
    seal_places,
    seal_segment,
    sign_trailer,
    zeroes_for,
)
from penstock.format.padding import padded
from penstock.format.part import Key, Kind, encode_part, encode_refs, encode_rows, encode_sessions
from penstock.format.recipe import Extent, encode_block
from penstock.format.sealing import message
from penstock.format.session import LeaseDocument, SessionDocument
from penstock.format.slot import seal_slot
from penstock.format.trust import RepositoryConfig

DOMAIN_PREFIX = f"d/{DOMAIN.hex()}/"


def stretch(kind: str, length: int) -> bytes:
    """The bytes that a vector describes instead of containing them."""
    if kind == "random":
        return blake3(b"penstock").digest(length)
    if kind == "padded":
        return b"".join(b"%-96d\n" % number for number in range(length // 97 + 1))[:length]
    return b"".join(b"%d\n" % number for number in range(length // 2))[:length]


@contextmanager
def fixed() -> Iterator[None]:
    """Known nonces and salts, and codec 0."""
    numbers = iter(range(1000))

    def urandom(size: int) -> bytes:
        return blake3(b"nonce" + struct.pack("<I", next(numbers))).digest(size)

    def raw(data: bytes | bytearray | memoryview, level: int) -> bytes:
        return bytes((RAW,)) + bytes(data)

    with ExitStack() as stack:
        stack.enter_context(patch("os.urandom", side_effect=urandom))
        for module in ("padding", "pack"):
            stack.enter_context(patch(f"penstock.format.{module}.compress", side_effect=raw))
        yield


def keys() -> dict[str, Any]:
    """What the other sections use."""
    return {
        "repository": REPOSITORY.hex(),
        "domain": DOMAIN.hex(),
        "root": OWNER.root.hex(),
        "layout_key": KEYS.layout_key.hex(),
        "chunk_id_key": KEYS.chunk_key.hex(),
        "id_key": KEYS.id_key.hex(),
        "data_key": DATA_KEY.hex(),
        "session": SESSION.hex(),
        "writer": WRITER.hex(),
        "writer_seed": SIGNER.seed.hex(),
        "writer_public": SIGNER.public.raw.hex(),
        "owner_seed": OWNER.signing.seed.hex(),
        "owner_public": OWNER.public.to_json(),
    }


def derivations() -> list[dict[str, Any]]:
    made = []
    ids = bytes(range(16))
    trees = [(OWNER.root, REPOSITORY, DOMAIN), (bytes(32), bytes(16), bytes(16)), (bytes(range(32)), b"\xff" * 16, ids)]
    for root, repository, domain in trees:
        tree = RootSecret(root, repository)
        found = tree.domain(domain)
        made.append(
            {
                "root_secret": root.hex(),
                "repository": repository.hex(),
                "domain": domain.hex(),
                "maintenance_secret": tree.maintenance.secret.hex(),
                "layout_key": found.layout_key.hex(),
                "domain_secret": (found.secret or b"").hex(),
                "chunk_id_key": found.chunk_key.hex(),
                "id_key": found.id_key.hex(),
                "chunker_seed": found.chunker_seed,
                "layout_proof": found.layout_proof.hex(),
                "domain_proof": found.domain_proof.hex(),
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
                "chunk_id": chunk_ids(KEYS.chunk_key, memoryview(data), [length])[0].hex(),
                "stream_digest": digest.digest().hex(),
            }
        )
    return made


def varints() -> list[dict[str, Any]]:
    lists = [[0], [127], [128], [300], [2**14 - 1, 2**14], [2**32], [2**63 - 1], [0, 1, 127, 128, 255, 256, 65535]]
    return [{"values": values, "bytes": encode_varints(values).hex()} for values in lists]


def padding() -> list[list[int]]:
    sizes = (0, 4096, 4097, 5000, 8192, 8193, 65536, 65537, 10**6, 2**20 + 1, 10**7, 2**25)
    return [[size, padded(size)] for size in sizes]


def associated_data() -> list[dict[str, Any]]:
    made = []
    names: dict[str, list[bytes]] = {
        "segment": [PACK, struct.pack("<I", 7)],
        **{what: [PACK] for what in ("places", "ids")},
        **{what: [NAME] for what in ("index", "hooks", "part", "head", "notice", "tombstone", "deletion", "mark")},
    }
    for what, own in names.items():
        bound = message(what, SCOPE, *own)
        made.append({"what": what, "names": [name.hex() for name in own], "bytes": bound.hex()})
    made.append({"what": "slot", "names": [NAME.hex()], "bytes": message("slot", REPOSITORY, NAME).hex()})
    return made


def cuts() -> list[dict[str, Any]]:
    made = []
    parameters = [ChunkerParameters()]
    parameters += [ChunkerParameters(256, 1024, 4096, normalization) for normalization in range(4)]
    parameters += [ChunkerParameters(64, 256, 1024, 1), ChunkerParameters(4096, 16384, 65535, 2)]
    for one in parameters:
        for kind, separator in product(("random", "numbers", "padded"), ("", "\n", "0\n")):
            for seed in (KEYS.chunker_seed, 1):
                data = stretch(kind, 65536 if one.average < 16384 else 262144)
                made.append(
                    {
                        "parameters": one.to_json(),
                        "seed": seed,
                        "separator": separator.encode().hex(),
                        "stretch": kind,
                        "length": len(data),
                        "cuts": Chunker(one, seed, separator.encode()).cut(memoryview(data), last=True),
                    }
                )
    return made


def passphrases() -> list[dict[str, Any]]:
    made = []
    for passphrase in ("", "corre\u0300ct", "größte Sorgfalt", "パスワード", "a" * 1000):
        salt = blake3(passphrase.encode()).digest(16)
        key, commitment = CHEAP.derive(passphrase, salt)
        made.append(
            {"passphrase": passphrase, "kdf": CHEAP.to_json(salt), "key": key.hex(), "commitment": commitment.hex()}
        )
    return made


def wrapped_keys() -> list[dict[str, Any]]:
    made = []
    for number, domain in ((1, DOMAIN), (2, bytes(16))):
        private = DecapsulationKey(bytes([number]) * 64, bytes([number + 16]) * 32)
        wrapped = wrap_data_key(DATA_KEY, private.public, REPOSITORY + domain, SESSION)
        made.append(
            {
                "private": private.to_json(),
                "public": private.public.to_json(),
                "repository": REPOSITORY.hex(),
                "domain": domain.hex(),
                "session": SESSION.hex(),
                "wrapped": wrapped.hex(),
                "data_key": DATA_KEY.hex(),
            }
        )
    return made


def documents() -> list[dict[str, Any]]:
    made = []
    config = RepositoryConfig(REPOSITORY, moment(0), OWNER.public)
    log = frozenset({secret("entry"), secret("another entry")})
    # Of the right length: "wrapped_keys" has real ones.
    session = SessionDocument(SESSION, WRITER, moment(1), "db1.example", log, stretch("random", 1168))
    with fixed():
        slot = seal_slot(OWNER, "corre\u0300ct", CHEAP, REPOSITORY, NAME)
    contents: list[tuple[str, dict[str, Any], SigningKey]] = [
        ("penstock.json", config.to_json(), OWNER.signing),
        (f"slots/{NAME.hex()}", slot, OWNER.signing),
        *((f"grants/{secret(name, 16).hex()}", entry.to_json(), OWNER.signing) for name, entry in ENTRIES.items()),
        (f"{DOMAIN_PREFIX}sessions/{SESSION.hex()}", session.to_json(), SIGNER),
        (f"{DOMAIN_PREFIX}leases/{SESSION.hex()}-00000007", LeaseDocument(SESSION, 7).to_json(), SIGNER),
        ("a", {}, SigningKey(bytes(32))),
        ("b", {"label": 'größe ✓ 😀 "\\/\b\f\n\r\t\x00\x1f\x7f', "a": [None, True, 0], "Z": {}}, SIGNER),
        ("c", {"n": 2**63 - 1, "é": "e\u0301", "€": 1, "😀": 2, "\uffff": 3}, SIGNER),
    ]
    for key, content, signer in contents:
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
    many = [
        Extent(number * number % 7 if number % 5 else None, number * 3 % 50, 1 + number % 5) for number in range(100)
    ]
    made = []
    for start, base, extents in (
        (0, 0, [Extent(0, 0, 1)]),
        (2**40, 3, [Extent(None, 2**40, 2**40)]),
        (7, 3, EXTENTS),
        (0, 0, many),
    ):
        block = encode_block(start, extents, base)
        made.append({"start": start, "base": base, "extents": [list(one) for one in extents], "block": block.hex()})
    return made


def tables() -> dict[str, Any]:
    rows = [[row.number, row.pack.hex(), row.pin.hex(), row.segments, sorted(row.used)] for row in ROWS]
    refs = [[ref.part.hex(), ref.size, ref.digest.hex(), int(ref.key)] for ref in REFS]
    return {
        "rows": rows,
        "row_bytes": encode_rows(ROWS).hex(),
        "refs": refs,
        "ref_bytes": encode_refs(REFS).hex(),
        "sessions": [[session.hex(), digest.hex()] for session, digest in SESSIONS.items()],
        "session_bytes": encode_sessions(SESSIONS).hex(),
    }


def ends() -> dict[str, Any]:
    """Segments and ends of a pack that carries places; its figures are made up, but add up."""
    segment = stretch("random", 100)
    with fixed():
        sealed = seal_segment(segment, 3, DATA, SCOPE, SegmentId(PACK, 4095))
        places = seal_places(PLACES, LAYOUT, SCOPE)
    return {
        "pack": PACK.hex(),
        "segment": {"ordinal": 4095, "plain": segment.hex(), "sealed": sealed.hex()},
        "places": {
            "origins": [PACK.hex(), OTHER_PACK.hex()],
            "segments": [
                [
                    place.id.pack.hex(),
                    place.id.ordinal,
                    place.session.hex(),
                    place.offset,
                    place.sealed_length,
                    place.plain_length,
                    place.digest.hex(),
                ]
                for place in PLACES.places
            ],
            "carried": {
                pack.hex(): [kept.places.hex(), kept.signer.hex(), kept.ids.hex(), kept.signature.hex()]
                for pack, kept in PLACES.carried.items()
            },
            "sealed": places.hex(),
            "pin": pin_of(places).hex(),
        },
    }


def objects() -> dict[str, Any]:
    """Whole objects, with the names under which they are valid."""
    with fixed():
        pack, pin = whole_pack()
        index = encode_index(
            NAME,
            [seal_hooks(one, IDS, SCOPE) for one in SUMMARIES],
            replaces=[PACK],
            scope=SCOPE,
            signer=WRITER,
            layout_sealer=LAYOUT,
            key=SIGNER,
        )
        head = encode_head(HEAD, session=SESSION, writer=WRITER, scope=SCOPE, layout_sealer=LAYOUT, signer=SIGNER)
        parts = {
            Key.LAYOUT: encode_part(
                NAME, [(Kind.TABLE, encode_rows(ROWS))], Key.LAYOUT, LAYOUT, SCOPE, writer=WRITER, signer=SIGNER
            ),
            Key.DATA: encode_part(NAME, data_sections(), Key.DATA, DATA, SCOPE, writer=WRITER, signer=SIGNER),
            Key.REFS: encode_part(
                NAME, [(Kind.REFS, encode_refs(REFS[:2]))], Key.REFS, LAYOUT, SCOPE, writer=WRITER, signer=SIGNER
            ),
        }
        notices = {
            content.what: encode_notice(NAME, content, signer=SIGNER, key=WRITER, layout_sealer=LAYOUT, scope=SCOPE)
            for content in (NOTICE, TOMBSTONE, DELETION, MARK)
        }
    return {
        "pack": {"id": PACK.hex(), "pin": pin, "bytes": pack.hex()},
        "index": {"id": NAME.hex(), "bytes": index.hex()},
        "head": {"id": NAME.hex(), "digest": blake3(head).hexdigest(), "bytes": head.hex()},
        **{
            f"part, key {int(key)}": {
                "id": NAME.hex(),
                "size": ref.size,
                "digest": ref.digest.hex(),
                "bytes": data.hex(),
            }
            for key, (data, ref) in parts.items()
        },
        **{what: {"id": NAME.hex(), "bytes": data.hex()} for what, data in notices.items()},
    }


def data_sections() -> list[tuple[Kind, bytes]]:
    return [
        (Kind.MANIFEST, encode_manifest(MANIFEST)),
        (Kind.RECIPE, struct.pack("<I", 1) + encode_block(7, EXTENTS, 3)),
    ]


#: Chunks of the segments of the pack, as stretches of random bytes.
CHUNKS_OF_PACK = ((60, 40), (300,))


def assembled() -> Assembled:
    """Two chunks of pieces of the two segments of that pack."""
    lengths = array("H", [50, 7])
    pieces = [(1, 200, 30), (0, 10, 20), (1, 230, 7)]
    plain = [stretch("random", sum(lengths)) for lengths in CHUNKS_OF_PACK]
    text = b"".join(plain[segment][start : start + length] for segment, start, length in pieces)
    ids = b"".join(chunk_ids(KEYS.chunk_key, memoryview(text), lengths))
    return Assembled.of(lengths, ids, [(OTHER_PACK, secret("pin of another pack"))], pieces)


def whole_pack() -> tuple[bytes, str]:
    """A pack of which every byte can be checked, and its pin."""
    sealed, places, ids, at = b"", [], b"", len(MAGIC)
    for number, lengths in enumerate(CHUNKS_OF_PACK):
        plain = stretch("random", sum(lengths))
        one = seal_segment(plain, 3, DATA, SCOPE, SegmentId(PACK, number))
        places.append(Place(SegmentId(PACK, number), SESSION, at, len(one), len(plain), blake3(one).digest()))
        sealed, at = sealed + one, at + len(one)
        ids += b"".join(chunk_ids(KEYS.chunk_key, memoryview(plain), lengths))
    counts = tuple(map(len, CHUNKS_OF_PACK))
    chunks = Chunks(counts, array("H", [length for lengths in CHUNKS_OF_PACK for length in lengths]), ids, assembled())
    sealed_ids = seal_chunks(chunks, IDS, SCOPE, PACK, [place.id for place in places])
    sealed_places = seal_places(Places(PACK, tuple(places)), LAYOUT, SCOPE)
    zeroes = bytes(zeroes_for(at, len(sealed_ids) + len(sealed_places)))
    trailer = sign_trailer(SIGNER, WRITER, SCOPE, PACK, sealed_ids, sealed_places)
    return b"".join((MAGIC, sealed, zeroes, sealed_ids, sealed_places, trailer)), pin_of(sealed_places).hex()


def compressed() -> dict[str, str]:
    """Sealed with zstd: it must open, but is not reproduced."""
    segment = seal_segment(stretch("numbers", 5000), 3, DATA, SCOPE, SegmentId(PACK, 0))
    part, _ = encode_part(NAME, data_sections(), Key.DATA, DATA, SCOPE, writer=WRITER, signer=SIGNER)
    return {"segment": segment.hex(), "part": part.hex()}


#: What today's code must make again, byte by byte.
REPRODUCED = [
    "keys",
    "derivations",
    "hashes",
    "varints",
    "padding",
    "associated_data",
    "passphrases",
    "documents",
    "recipes",
    "tables",
    "ends",
    "objects",
]


def vectors() -> dict[str, Any]:
    """The whole file."""
    return {name: globals()[name]() for name in [*REPRODUCED, "cuts", "wrapped_keys", "compressed"]}


def spelled(name: str, section: Any) -> str:
    """One vector per line."""
    if isinstance(section, list):
        inner = ",\n".join("  " + json.dumps(one, ensure_ascii=False) for one in section)
        return f' "{name}": [\n{inner}\n ]'
    rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in section.items())
    return f' "{name}": {{\n{rows}\n }}'


if __name__ == "__main__":
    print("{\n" + ",\n".join(spelled(*section) for section in vectors().items()) + "\n}")
