"""Values with every field in use, for vectors and for tests that change encoded data."""

from array import array

from blake3 import blake3

from penstock.format.index import PackSummary, summarize
from penstock.format.pack import Directory, SegmentId, SegmentPlace
from penstock.format.recipe import RecipeEncoder
from penstock.format.snapshot import Catalogue, Manifest, StreamRecord

REPOSITORY = bytes(range(16))
SECRET = b" " * 32
SNAPSHOT = bytes([8]) * 16

_PACK, _OTHER_PACK = bytes(range(16, 32)), bytes(range(32, 48))
_SESSION, _OTHER_SESSION = bytes([3]) * 16, bytes([4]) * 16

#: Two segments first written here, and one moved here from another pack. The second chunk's id is a hook.
DIRECTORY = Directory(
    pack=_PACK,
    digest=blake3(b"sealed segments").digest(),
    segments=(
        SegmentPlace(SegmentId(_PACK, 0), _SESSION, 8, 128, 100, 2),
        SegmentPlace(SegmentId(_OTHER_PACK, 2**32 - 1), _OTHER_SESSION, 136, 5000, 65535 + 1, 2),
        SegmentPlace(SegmentId(_PACK, 1), _SESSION, 5136, 29, 0, 0),
    ),
    lengths=array("H", [60, 40, 65535, 1]),
    ids=b"".join(bytes([number]) * 15 + bytes([number * 64 - 1 if number != 2 else 192]) for number in range(1, 5)),
)

SUMMARY: PackSummary = summarize(DIRECTORY, 5165 + 300 + 8, 5165, 300)


def _recipe() -> bytes:
    encoder = RecipeEncoder()
    encoder.add(0, 0, 2)
    encoder.add(1, 1, 1)
    return encoder.finish()


CATALOGUE = Catalogue(
    snapshot=SNAPSHOT,
    backup="shop",
    source="postgres",
    started="2026-01-31T12:00:00Z",
    finished="2026-01-31T12:34:56Z",
    host="db1.example",
    program="penstock 0.1.0",
    parent=bytes([10]) * 16,
    size=101,
    streams=2,
    stored=12345,
    index=(bytes([11]) * 16,),
    sessions=(_SESSION, _OTHER_SESSION),
    segments=(
        SegmentId(_PACK, 0),
        SegmentId(_OTHER_PACK, 2**32 - 1),
        SegmentId(_OTHER_PACK, 0),
        SegmentId(_PACK, 1),
        SegmentId(_PACK, 200),
    ),
)

MANIFEST = Manifest(
    consistency="one transaction snapshot",
    inspection={
        "client_version": "17.2",
        "engine": "PostgreSQL",
        "inventory": [{"exact": False, "kind": "table", "name": "größe", "rows": None, "size": 8192}],
        "server_version": "16.4",
        "warnings": ["a warning"],
    },
    streams=(
        StreamRecord("data/öffentlich", "sql", 1, False, {"ü": "✓"}, 101, blake3(b"data").digest(), _recipe()),
        StreamRecord("empty", "sql", 0, True, {}, 0, blake3(b"").digest(), b""),
    ),
)
