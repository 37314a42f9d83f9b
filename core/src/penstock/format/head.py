"""Heads: a snapshot in a few kilobytes. The head is the commit, and pins all that its restore reads.

head := magic(8) ‖ session(16) ‖ writer(16) ‖ sealed record ‖ Ed25519 signature(64)
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from blake3 import blake3

from penstock.format.encoding import (
    Malformed,
    decode_record,
    digest_from_hex,
    encode_record,
    id_from_hex,
    ids_from_hex,
    integer,
    text,
    texts,
    whole,
)
from penstock.format.keys import SigningKey, VerifyingKey
from penstock.format.padding import open_padded, seal_padded
from penstock.format.part import PartRef, decode_refs, encode_refs
from penstock.format.sealing import Sealer, message

__all__ = [
    "MAX_BASES",
    "MAX_REFS",
    "MAX_SEEN",
    "MAX_SEQUENCE",
    "Base",
    "Head",
    "SealedHead",
    "Seen",
    "decode_head",
    "encode_head",
]

MAGIC = b"PSHEAD\x01\0"
_HEADER = struct.Struct("<8s16s16s")
_SIGNATURE_BYTES = 64
_LEVEL = 9
_LIMIT = 1024 * 1024
#: References to parts, of the snapshot itself or of one base. More of them go into parts.
MAX_REFS = 16
#: How many nights a recipe may go back.
MAX_BASES = 16
#: Other writers whose newest heads are named: more would not fit into a head.
MAX_SEEN = 256
#: Whoever steals a key can claim it, and must not keep its owner from going on.
MAX_SEQUENCE = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest head of a writer: its sequence number and digest."""

    sequence: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Base:
    """An earlier snapshot, by the recipes of which this one's go on: the parts that hold them, and their session."""

    snapshot: bytes
    session: bytes
    parts: tuple[PartRef, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """What everybody who lists a domain may know about a snapshot. Times are ISO 8601 in UTC, sizes in bytes."""

    snapshot: bytes
    backup: str
    source: str
    started: str
    finished: str
    host: str
    program: str
    parent: bytes | None
    #: Total size of the streams, and their number.
    size: int
    streams: int
    #: What this run added to the repository, without the head itself.
    stored: int
    #: One more than the writer's previous head, whose digest is `previous`, or `MAX_SEQUENCE` if it has that already;
    #: and the newest heads of other writers.
    sequence: int
    previous: bytes | None
    seen: Mapping[bytes, Seen]
    #: The index objects that this run wrote.
    index: tuple[bytes, ...]
    parts: tuple[PartRef, ...] = field(repr=False)
    #: The number of the first part that holds some of the manifest.
    manifest: int
    bases: tuple[Base, ...] = field(default=(), repr=False)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SealedHead:
    """A parsed head, nothing verified or opened yet."""

    snapshot: bytes
    session: bytes
    writer: bytes
    digest: bytes
    signature: bytes
    _signed: memoryview = field(repr=False)
    _sealed: memoryview = field(repr=False)

    def verify(self, key: VerifyingKey, scope: bytes) -> None:
        """Raise `Malformed` unless `key` signed it under this name in this domain."""
        if not key.verify(self.signature, message("head", scope, self.snapshot, self._signed)):
            raise Malformed("invalid signature")

    def open(self, layout_sealer: Sealer, scope: bytes) -> Head:
        """Its content; raises `Malformed`."""
        plain = open_padded(self._sealed, _LIMIT, layout_sealer, message("head", scope, self.snapshot))
        return _decode(self.snapshot, plain)


def encode_head(
    head: Head, *, session: bytes, writer: bytes, scope: bytes, layout_sealer: Sealer, signer: SigningKey
) -> bytes:
    """The bytes of the object `snapshots/<id>`. Raises `ValueError` for more references than a reader takes."""
    refs = (head.parts, *(base.parts for base in head.bases))
    if len(head.bases) > MAX_BASES or any(len(some) > MAX_REFS for some in refs):
        raise ValueError("a head has 16 bases at most, and 16 references for each")
    header = {
        "backup": head.backup,
        "bases": [[base.snapshot.hex(), base.session.hex(), len(base.parts)] for base in head.bases],
        "finished": head.finished,
        "host": head.host,
        "index": [index.hex() for index in head.index],
        "manifest": head.manifest,
        "parent": head.parent.hex() if head.parent else None,
        "parts": len(head.parts),
        "previous": head.previous.hex() if head.previous else None,
        "program": head.program,
        "seen": {other.hex(): [seen.sequence, seen.digest.hex()] for other, seen in head.seen.items()},
        "sequence": head.sequence,
        "size": head.size,
        "source": head.source,
        "started": head.started,
        "stored": head.stored,
        "streams": head.streams,
        "tags": list(head.tags),
    }
    plain = encode_record(header, [encode_refs(head.parts), *(encode_refs(base.parts) for base in head.bases)])
    sealed = seal_padded(plain, _LEVEL, layout_sealer, message("head", scope, head.snapshot), limit=_LIMIT)
    signed = _HEADER.pack(MAGIC, session, writer) + sealed
    return signed + signer.sign(message("head", scope, head.snapshot, signed))


def decode_head(snapshot: bytes, data: bytes) -> SealedHead:
    """Parse the object `snapshots/<id>`; raises `Malformed`."""
    view = memoryview(data)
    if len(view) < _HEADER.size + _SIGNATURE_BYTES:
        raise Malformed("truncated")
    magic, session, writer = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise Malformed("not a snapshot: the magic number is wrong")
    end = len(view) - _SIGNATURE_BYTES
    digest = blake3(data).digest()
    return SealedHead(snapshot, session, writer, digest, bytes(view[end:]), view[:end], view[_HEADER.size : end])


def _decode(snapshot: bytes, plain: bytes) -> Head:
    header, body = decode_record(plain)
    parent, previous = header.get("parent"), header.get("previous")
    rows, seen = header.get("bases"), header.get("seen")
    if not isinstance(rows, list) or not isinstance(seen, dict) or len(rows) > MAX_BASES:
        raise Malformed("the head is incomplete")
    refs = iter(decode_refs(body))
    parts = _take(refs, integer(header, "parts"))
    try:
        bases = tuple(
            Base(id_from_hex(base), id_from_hex(session), _take(refs, whole(count))) for base, session, count in rows
        )
        heads = {
            id_from_hex(writer): Seen(whole(sequence), digest_from_hex(digest))
            for writer, (sequence, digest) in seen.items()
        }
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, Malformed) else Malformed("the head is incomplete") from None
    if next(refs, None) is not None:
        raise Malformed("the head has more parts than it says")
    return Head(
        snapshot=snapshot,
        backup=text(header, "backup"),
        source=text(header, "source"),
        started=text(header, "started"),
        finished=text(header, "finished"),
        host=text(header, "host"),
        program=text(header, "program"),
        parent=None if parent is None else id_from_hex(parent),
        size=integer(header, "size"),
        streams=integer(header, "streams"),
        stored=integer(header, "stored"),
        sequence=integer(header, "sequence"),
        previous=None if previous is None else digest_from_hex(previous),
        seen=heads,
        index=ids_from_hex(header.get("index")),
        parts=parts,
        manifest=integer(header, "manifest"),
        bases=bases,
        tags=texts(header, "tags"),
    )


def _take(refs: Iterator[PartRef], count: int) -> tuple[PartRef, ...]:
    if count > MAX_REFS:
        raise Malformed("the head names more parts than allowed")
    found = tuple(islice(refs, count))
    if len(found) != count:
        raise Malformed("the head has fewer parts than it says")
    return found
