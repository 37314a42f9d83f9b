"""Manifests: the streams of a snapshot, and what the source reported. For the owner alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.format.encoding import Malformed, decode_record, digest_from_hex, encode_record, integer, text, whole

__all__ = ["MAX_MANIFEST", "Manifest", "StreamRecord", "decode_manifest", "encode_manifest"]

#: In bytes: some hundred thousand streams, or tables in an inventory. It is held in memory as a whole.
MAX_MANIFEST = 32 * 1024 * 1024


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
    #: In which parts the blocks of its recipe are: of the snapshot itself, then of each base that it goes back to.
    recipe: tuple[tuple[int, ...], ...]
    #: What ends a row in it, or b"": whoever stores it once more cuts it alike.
    separator: bytes = b""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The streams, and what the source reported about the database (`inspection`, plain JSON)."""

    consistency: str
    inspection: Mapping[str, Any]
    streams: tuple[StreamRecord, ...]


def encode_manifest(manifest: Manifest) -> bytes:
    """A record; it may be longer than a part. Raises `ValueError` for more than `MAX_MANIFEST`."""
    streams = [
        {
            # Readers would refuse anything but strings, whatever the source returned.
            "attributes": {str(name): str(value) for name, value in stream.attributes.items()},
            "digest": stream.digest.hex(),
            "format": stream.format,
            "name": stream.name,
            "optional": bool(stream.optional),
            "phase": stream.phase,
            "recipe": [list(numbers) for numbers in stream.recipe],
            "size": stream.size,
            **({"separator": stream.separator.hex()} if stream.separator else {}),
        }
        for stream in manifest.streams
    ]
    header = {"consistency": manifest.consistency, "inspection": manifest.inspection, "streams": streams}
    data = encode_record(header)
    if len(data) > MAX_MANIFEST:
        raise ValueError("a manifest has 32 MiB at most")
    return data


def decode_manifest(plain: bytes) -> Manifest:
    """Reverse `encode_manifest`; raises `Malformed`."""
    header, body = decode_record(plain)
    entries, inspection = header.get("streams"), header.get("inspection")
    if not isinstance(entries, list) or not isinstance(inspection, dict) or len(body):
        raise Malformed("the manifest is incomplete")
    return Manifest(text(header, "consistency"), inspection, tuple(map(_stream, entries)))


def _stream(entry: object) -> StreamRecord:
    if not isinstance(entry, dict):
        raise Malformed("a stream in the manifest is incomplete")
    attributes, optional, recipe = entry.get("attributes"), entry.get("optional"), entry.get("recipe")
    if not isinstance(attributes, dict) or not isinstance(optional, bool) or not isinstance(recipe, list):
        raise Malformed("a stream in the manifest is incomplete")
    if not all(isinstance(numbers, list) for numbers in recipe):
        raise Malformed("a stream in the manifest is incomplete")
    return StreamRecord(
        name=text(entry, "name"),
        format=text(entry, "format"),
        phase=integer(entry, "phase"),
        optional=optional,
        attributes={name: text(attributes, name) for name in attributes},
        size=integer(entry, "size"),
        digest=digest_from_hex(entry.get("digest")),
        recipe=tuple(tuple(map(whole, numbers)) for numbers in recipe),
        separator=_separator(entry["separator"]) if "separator" in entry else b"",
    )


def _separator(value: object) -> bytes:
    digits = value if isinstance(value, str) else ""
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        found = b""
    if not found or found.hex() != value:
        raise Malformed("invalid separator")
    return found
