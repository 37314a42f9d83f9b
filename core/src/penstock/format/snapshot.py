"""Snapshots: a catalogue entry for every role, a manifest for recipients only, and a signature.

snapshot := magic(8) ‖ session(16) ‖ writer(16) ‖ u32 length ‖ u32 length
            ‖ sealed catalogue ‖ sealed manifest ‖ Ed25519 signature(64)
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.format.codec import compress, decompress
from penstock.format.encoding import (
    ID_BYTES,
    Malformed,
    decode_record,
    decode_varints,
    digest_from_hex,
    encode_record,
    encode_varints,
    id_from_hex,
    ids_from_hex,
    integer,
    text,
)
from penstock.format.keys import SigningKey, VerifyingKey
from penstock.format.pack import MAX_ORDINAL, SegmentId
from penstock.format.sealing import Sealer, binding

__all__ = ["Catalogue", "Manifest", "SealedSnapshot", "StreamRecord", "decode_snapshot", "encode_snapshot"]

MAGIC = b"PSSNAP\x01\0"
_HEADER = struct.Struct("<8s16s16sII")
_SIGNATURE_BYTES = 64
_LEVEL = 9
#: Readers accept no larger catalogue or manifest, decompressed: enough for recipes of some 2**28 extents.
_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One stream in a manifest. `size` in bytes, `digest` is BLAKE3-256 over all of them."""

    name: str
    format: str
    phase: int
    optional: bool
    attributes: Mapping[str, str]
    size: int
    digest: bytes
    recipe: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What listings and prune need to know about a snapshot. Times are ISO 8601 in UTC, sizes in bytes."""

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
    #: What this run added to the repository, without the snapshot object itself.
    stored: int
    #: The index objects that this run wrote.
    index: tuple[bytes, ...]
    #: The sessions whose segments are used.
    sessions: tuple[bytes, ...]
    #: The snapshot's segment table: recipes refer to a segment by its place in it.
    segments: tuple[SegmentId, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Manifest:
    """For recipients only: the streams, and what the source reported about the database (`inspection`, plain JSON)."""

    consistency: str
    inspection: Mapping[str, Any]
    streams: tuple[StreamRecord, ...]


@dataclass(frozen=True, slots=True)
class SealedSnapshot:
    """A parsed snapshot object, nothing verified or opened yet."""

    snapshot: bytes
    session: bytes
    writer: bytes
    catalogue: memoryview
    manifest: memoryview
    signed: memoryview
    signature: bytes

    def verify(self, repository: bytes, writer: VerifyingKey) -> None:
        """Raise `Malformed` unless `writer` signed it under this name in this repository."""
        if not writer.verify(self.signature, _message(repository, self.snapshot, self.signed)):
            raise Malformed("invalid signature")

    def open_catalogue(self, index_sealer: Sealer, repository: bytes) -> Catalogue:
        """Open with the index key; raises `Malformed`."""
        plain = index_sealer.open(self.catalogue, binding("catalogue", repository, self.snapshot))
        return _decode_catalogue(self.snapshot, decompress(plain, _LIMIT))

    def open_manifest(self, data_sealer: Sealer, repository: bytes) -> Manifest:
        """Open with the session's data key; raises `Malformed`."""
        plain = data_sealer.open(self.manifest, binding("manifest", repository, self.snapshot))
        return _decode_manifest(decompress(plain, _LIMIT))


def _message(repository: bytes, snapshot: bytes, signed: bytes | memoryview) -> bytes:
    return b"".join((b"penstock/1 snapshot\0", repository, snapshot, signed))


def encode_snapshot(
    catalogue: Catalogue,
    manifest: Manifest,
    *,
    repository: bytes,
    session: bytes,
    writer: bytes,
    index_sealer: Sealer,
    data_sealer: Sealer,
    signer: SigningKey,
) -> bytes:
    """The bytes of the object `snapshots/<id>`."""
    name = catalogue.snapshot
    sealed_catalogue = index_sealer.seal(
        compress(_encode_catalogue(catalogue), _LEVEL), binding("catalogue", repository, name)
    )
    sealed_manifest = data_sealer.seal(
        compress(_encode_manifest(manifest), _LEVEL), binding("manifest", repository, name)
    )
    header = _HEADER.pack(MAGIC, session, writer, len(sealed_catalogue), len(sealed_manifest))
    signed = b"".join((header, sealed_catalogue, sealed_manifest))
    return signed + signer.sign(_message(repository, name, signed))


def decode_snapshot(snapshot: bytes, data: bytes) -> SealedSnapshot:
    """Parse the object `snapshots/<id>`; raises `Malformed`."""
    view = memoryview(data)
    if len(view) < _HEADER.size + _SIGNATURE_BYTES:
        raise Malformed("truncated")
    magic, session, writer, catalogue_length, manifest_length = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise Malformed("not a snapshot: the magic number is wrong")
    middle = _HEADER.size + catalogue_length
    end = middle + manifest_length
    if end + _SIGNATURE_BYTES != len(view):
        raise Malformed("the parts do not add up to the object's size")
    return SealedSnapshot(
        snapshot, session, writer, view[_HEADER.size : middle], view[middle:end], view[:end], bytes(view[end:])
    )


def _encode_catalogue(catalogue: Catalogue) -> bytes:
    header = {
        "backup": catalogue.backup,
        "finished": catalogue.finished,
        "host": catalogue.host,
        "index": [index.hex() for index in catalogue.index],
        "parent": catalogue.parent.hex() if catalogue.parent else None,
        "program": catalogue.program,
        "sessions": [session.hex() for session in catalogue.sessions],
        "size": catalogue.size,
        "source": catalogue.source,
        "started": catalogue.started,
        "stored": catalogue.stored,
        "streams": catalogue.streams,
    }
    return encode_record(header, _encode_segments(catalogue.segments))


def _encode_segments(segments: Sequence[SegmentId]) -> list[bytes]:
    """Runs of segments of one pack: the pack's id, then varints: length in bytes, and the steps between ordinals."""
    parts = []
    start = 0
    while start < len(segments):
        pack = segments[start].pack
        end = start
        while end < len(segments) and segments[end].pack == pack:
            end += 1
        ordinals = [segment.ordinal for segment in segments[start:end]]
        # Table order is the order of first use: steps can be negative, hence zigzag.
        steps = [after - before for before, after in zip([0, *ordinals], ordinals, strict=False)]
        encoded = encode_varints(step * 2 if step >= 0 else -step * 2 - 1 for step in steps)
        parts += [pack, encode_varints((len(encoded),)), encoded]
        start = end
    return parts


def _decode_segments(body: memoryview) -> Iterable[SegmentId]:
    at = 0
    while at < len(body):
        pack = bytes(body[at : at + ID_BYTES])
        at += ID_BYTES
        size_end = at
        while size_end < len(body) and body[size_end] & 0x80:
            size_end += 1
        sizes = decode_varints(body[at : size_end + 1])
        if len(pack) != ID_BYTES or not sizes:
            raise Malformed("truncated segment table")
        at = size_end + 1
        if not 0 < sizes[0] <= len(body) - at:
            raise Malformed("truncated segment table")
        ordinal = 0
        for step in decode_varints(body[at : at + sizes[0]]):
            ordinal += step >> 1 if not step & 1 else -(step + 1 >> 1)
            if not 0 <= ordinal <= MAX_ORDINAL:
                raise Malformed("impossible ordinal in the segment table")
            yield SegmentId(pack, ordinal)
        at += sizes[0]


def _decode_catalogue(snapshot: bytes, plain: bytes) -> Catalogue:
    header, body = decode_record(plain)
    parent = header.get("parent")
    return Catalogue(
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
        index=ids_from_hex(header.get("index")),
        sessions=ids_from_hex(header.get("sessions")),
        segments=tuple(_decode_segments(body)),
    )


def _encode_manifest(manifest: Manifest) -> bytes:
    streams = [
        {
            # Readers would refuse anything but strings, whatever the source returned.
            "attributes": {str(name): str(value) for name, value in stream.attributes.items()},
            "digest": stream.digest.hex(),
            "format": stream.format,
            "name": stream.name,
            "optional": bool(stream.optional),
            "phase": stream.phase,
            "recipe": len(stream.recipe),
            "size": stream.size,
        }
        for stream in manifest.streams
    ]
    header = {"consistency": manifest.consistency, "inspection": manifest.inspection, "streams": streams}
    return encode_record(header, [stream.recipe for stream in manifest.streams])


def _decode_manifest(plain: bytes) -> Manifest:
    header, body = decode_record(plain)
    streams = []
    start = 0
    entries, inspection = header.get("streams"), header.get("inspection")
    if not isinstance(entries, list) or not isinstance(inspection, dict):
        raise Malformed("the manifest is incomplete")
    for entry in entries:
        if not isinstance(entry, dict):
            raise Malformed("a stream in the manifest is incomplete")
        attributes, optional = entry.get("attributes"), entry.get("optional")
        if not isinstance(attributes, dict) or not isinstance(optional, bool):
            raise Malformed("a stream in the manifest is incomplete")
        end = start + integer(entry, "recipe")
        record = StreamRecord(
            name=text(entry, "name"),
            format=text(entry, "format"),
            phase=integer(entry, "phase"),
            optional=optional,
            attributes={name: text(attributes, name) for name in attributes},
            size=integer(entry, "size"),
            digest=digest_from_hex(entry.get("digest")),
            recipe=bytes(body[start:end]),
        )
        if len(record.recipe) != end - start:
            raise Malformed("truncated recipe")
        streams.append(record)
        start = end
    if start != len(body):
        raise Malformed("the length of the recipes differs from the manifest's header")
    return Manifest(text(header, "consistency"), inspection, tuple(streams))
