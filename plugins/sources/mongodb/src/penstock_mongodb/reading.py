"""What an archive says on its way to mongorestore: its prelude, and its oplog. Documents are passed over.

The format is that of `archive.py`. Each document says its length, so that this takes little time.
"""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion

__all__ = ["DECODING", "ArchiveReader", "Described", "without_options"]

#: Dates beyond the years that Python knows stay what they are.
DECODING: CodecOptions[Any] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
_JSON = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL, datetime_conversion=DatetimeConversion.DATETIME_MS
)
_MAGIC = b"\x6d\xe2\x99\x81"
_LENGTH = struct.Struct("<i")
#: What mongorestore takes at most, too: the largest document and what the oplog adds to it (bytes).
_MAX_DOCUMENT = 16 * 1024 * 1024 + 64 * 1024
_EMPTY_DOCUMENT = 5


@dataclass(frozen=True, slots=True)
class Described:
    """A collection or view, as the prelude of an archive describes it."""

    database: str
    collection: str
    kind: str
    indexes: tuple[dict[str, Any], ...]
    options: dict[str, Any] = field(default_factory=dict)


class ArchiveReader:
    """Takes an archive block by block: `on_collection` gets each of the prelude, `on_entry` each entry of the oplog.

    Whether the archive is right is for mongorestore to say: from the first byte on that cannot be understood,
    `understood` is False and nothing more is told.
    """

    def __init__(self, on_collection: Callable[[Described], None], on_entry: Callable[[bytes], None]) -> None:
        self._on_collection = on_collection
        self._on_entry = on_entry
        self._pending = b""
        self._wanted = _LENGTH.size
        self._skip = 0
        self._take: Callable[[bytes], None] | None = self._magic
        self.understood = True
        #: Whether all collections were told.
        self.prelude_read = False

    def feed(self, block: memoryview) -> None:
        """Read one block; it is not kept."""
        at = min(self._skip, len(block))
        self._skip -= at
        while self.understood and at < len(block):
            at = self._collect(block, at) if self._take or self._pending else self._pass_over(block, at)

    def _pass_over(self, block: memoryview, at: int) -> int:
        """Go on from document to document that nobody wants, to a terminator or the end of the block."""
        end = len(block) - _LENGTH.size
        unpack = _LENGTH.unpack_from
        while at <= end:
            (size,) = unpack(block, at)
            if not _EMPTY_DOCUMENT <= size <= _MAX_DOCUMENT:
                return self._no_document(size, at)
            at += size
        self._skip = max(0, at - len(block))
        if at < len(block):
            self._pending = bytes(block[at:])
        return len(block)

    def _no_document(self, size: int, at: int) -> int:
        self.understood = size == -1
        self.prelude_read = True
        self._take = self._header
        return at + _LENGTH.size

    def _collect(self, block: memoryview, at: int) -> int:
        """Complete a length, then the document that somebody wants; returns where it ended."""
        missing = self._wanted - len(self._pending)
        self._pending += block[at : at + missing]
        at = min(len(block), at + missing)
        if len(self._pending) < self._wanted:
            return at
        whole = self._pending
        if self._take != self._magic and self._wanted == _LENGTH.size:
            (size,) = _LENGTH.unpack(whole)
            if _EMPTY_DOCUMENT <= size <= _MAX_DOCUMENT and self._take:
                self._wanted = size
                return at
            self._pending = b""
            if _EMPTY_DOCUMENT <= size <= _MAX_DOCUMENT:
                self._skip = size - _LENGTH.size
                at, self._skip = min(len(block), at + self._skip), max(0, at + self._skip - len(block))
            else:
                self._no_document(size, at)
            return at
        self._pending, self._wanted = b"", _LENGTH.size
        self._guarded(self._take or self._magic, whole)
        return at

    def _guarded(self, take: Callable[[bytes], None], whole: bytes) -> None:
        try:
            take(whole)
        except (bson.errors.BSONError, KeyError, TypeError, ValueError, AttributeError):
            self.understood = False

    def _magic(self, whole: bytes) -> None:
        self.understood = whole == _MAGIC
        self._take = self._first

    def _first(self, whole: bytes) -> None:
        self.understood = "version" in bson.decode(whole, DECODING)
        self._take = self._collection

    def _collection(self, whole: bytes) -> None:
        told = bson.decode(whole, DECODING)
        metadata = _parsed(told["metadata"]) if told.get("metadata") else {}
        self._on_collection(
            Described(
                str(told["db"]),
                str(told["collection"]),
                str(told.get("type", "")),
                tuple(metadata.get("indexes") or ()),
                dict(metadata.get("options") or {}),
            )
        )

    def _header(self, whole: bytes) -> None:
        told = bson.decode(whole, DECODING)
        self._take = self._on_entry if (told["db"], told["collection"]) == ("", "oplog") else None


def without_options(prelude: bytes, left_out: Mapping[str, Sequence[str]]) -> bytes:
    """A whole prelude, and whatever follows it, with some collections described without some of their options.

    The options are named by `database.collection`; those within another as `timeseries.granularity`.
    """
    at = len(_MAGIC)
    made = bytearray(prelude[:at])
    while at + _LENGTH.size <= len(prelude):
        (size,) = _LENGTH.unpack_from(prelude, at)
        if size == -1:
            break
        whole = prelude[at : at + size]
        at += size
        told = bson.decode(whole, DECODING)
        if names := left_out.get(f"{told.get('db')}.{told.get('collection')}"):
            metadata = json.loads(told["metadata"])
            for name in names:
                outer, _, inner = name.partition(".")
                held = metadata["options"].get(outer, {}) if inner else metadata["options"]
                held.pop(inner or outer, None)
            whole = bson.encode({**told, "metadata": json.dumps(metadata, ensure_ascii=False)})
        made += whole
    return bytes(made) + prelude[at:]


def _parsed(metadata: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(metadata, object_hook=_value)
    return parsed


def _value(one: dict[str, Any]) -> Any:
    """A value of extended JSON. An operator of a query is none, though old shells wrote regular expressions so."""
    return one if "$regex" in one else json_util.object_hook(one, _JSON)
