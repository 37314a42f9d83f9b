"""Notices, tombstones, deletion records and marks: what people and their programs say of snapshots and objects.

notice := magic(8) ‖ signer(16) ‖ sealed record ‖ Ed25519 signature(64)
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Self, TypeVar

from penstock.format.encoding import (
    Malformed,
    decode_record,
    digest_from_hex,
    encode_record,
    id_from_hex,
    ids_from_hex,
    integer,
    text,
)
from penstock.format.keys import SigningKey, VerifyingKey
from penstock.format.padding import open_padded, seal_padded
from penstock.format.sealing import Sealer, message

__all__ = [
    "Action",
    "Deletion",
    "Mark",
    "Marking",
    "Notice",
    "SealedNotice",
    "Things",
    "Tombstone",
    "decode_notice",
    "encode_notice",
]

MAGIC = b"PSNOTE\x01\0"
_HEADER = struct.Struct("<8s16s")
_SIGNATURE_BYTES = 64
_LEVEL = 9
_LIMIT = 16 * 1024 * 1024


#: Kinds that only records of what was given up name: the field is missing elsewhere.
_RARE = ("notices", "marks", "deletions")


@dataclass(frozen=True, slots=True)
class Things:
    """Objects of a domain, by their ids."""

    packs: tuple[bytes, ...] = ()
    parts: tuple[bytes, ...] = ()
    index: tuple[bytes, ...] = ()
    sessions: tuple[bytes, ...] = ()
    notices: tuple[bytes, ...] = ()
    marks: tuple[bytes, ...] = ()
    deletions: tuple[bytes, ...] = ()

    def to_json(self) -> dict[str, list[str]]:
        """The form stored in a record."""
        said = {one.name: [name.hex() for name in getattr(self, one.name)] for one in fields(self)}
        return {name: ids for name, ids in said.items() if ids or name not in _RARE}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `Malformed`."""
        said = {one.name: value.get(one.name, [] if one.name in _RARE else None) for one in fields(cls)}
        return cls(**{name: ids_from_hex(ids) for name, ids in said.items()})


class _Content(ABC):
    """What an object of one of these kinds says; `what` is the kind, as it is sealed and signed."""

    __slots__ = ()
    what: ClassVar[str]

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The record's header."""

    @classmethod
    @abstractmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `Malformed`."""


@dataclass(frozen=True, slots=True)
class Notice(_Content):
    """Packs that no writer may deduplicate against, and why; the signer's own snapshots that are void, by digest."""

    what = "notice"
    made: str
    packs: Mapping[bytes, str] = field(default_factory=dict)
    void: Mapping[bytes, bytes] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The record's header."""
        packs = {pack.hex(): why for pack, why in self.packs.items()}
        return {"made": self.made, "packs": packs, "void": _digests_to_json(self.void)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `Malformed`."""
        packs = value.get("packs")
        if not isinstance(packs, dict):
            raise Malformed("the notice is incomplete")
        distrusted = {id_from_hex(pack): text(packs, pack) for pack in packs}
        return cls(text(value, "made"), distrusted, _digests(value.get("void")))


@dataclass(frozen=True, slots=True)
class Tombstone(_Content):
    """What a prune is about to delete: no session that begins later uses it.

    `snapshots` are those that go with it, by the digests of their heads: all that were forgotten or void when it was
    made. `grace` is how long it stands before anything is deleted, in seconds.
    """

    what = "tombstone"
    made: str
    things: Things
    snapshots: Mapping[bytes, bytes] = field(default_factory=dict)
    grace: int = 0

    def to_json(self) -> dict[str, Any]:
        """The record's header."""
        snapshots = _digests_to_json(self.snapshots)
        return {"grace": self.grace, "made": self.made, "snapshots": snapshots, **self.things.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `Malformed`."""
        things, snapshots = Things.from_json(value), _digests(value.get("snapshots"))
        return cls(text(value, "made"), things, snapshots, integer(value, "grace"))


class Action(StrEnum):
    """What a deletion record says."""

    FORGET = "forget"
    UNDELETE = "undelete"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Deletion(_Content):
    """Snapshots, by the digests of their heads, that were forgotten, taken back, or deleted with what they needed.

    Who takes back says which records are lifted, by their ids: one that somebody else puts meanwhile stays; and until
    when that has to be written to have an effect, "" if there is no hurry. Who forgets can give up heads that are gone:
    by the digests that others name, and by the ids of their snapshots.
    """

    what = "deletion"
    made: str
    action: Action
    snapshots: Mapping[bytes, bytes]
    things: Things = Things()
    lifts: tuple[bytes, ...] = ()
    gone: tuple[bytes, ...] = ()
    missing: tuple[bytes, ...] = ()
    until: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record's header."""
        snapshots = _digests_to_json(self.snapshots)
        more: dict[str, Any] = {}
        if self.action is Action.DELETE:
            more = self.things.to_json()
        elif self.action is Action.UNDELETE:
            more = {"lifts": [name.hex() for name in self.lifts], **({"until": self.until} if self.until else {})}
        elif self.gone or self.missing:
            more = {"gone": [one.hex() for one in self.gone], "missing": [one.hex() for one in self.missing]}
        return {"action": self.action.value, "made": self.made, "snapshots": snapshots, **more}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `Malformed`."""
        action = text(value, "action")
        if action not in Action.__members__.values():
            raise Malformed("unknown action in a deletion record")
        snapshots = _digests(value.get("snapshots"))
        things = Things.from_json(value) if action == Action.DELETE else Things()
        lifts = ids_from_hex(value.get("lifts")) if action == Action.UNDELETE else ()
        gone, missing = _given_up(value) if action == Action.FORGET else ((), ())
        until = text(value, "until") if action == Action.UNDELETE and "until" in value else ""
        return cls(text(value, "made"), Action(action), snapshots, things, lifts, gone, missing, until)


class Marking(StrEnum):
    """What a mark says."""

    TAG = "tag"
    UNTAG = "untag"
    HOLD = "hold"
    RELEASE = "release"
    BAD = "bad"
    GOOD = "good"
    WRITTEN = "written"


@dataclass(frozen=True, slots=True)
class Mark(_Content):
    """What is said of snapshots, by the digests of their heads: a tag, a hold, or that they cannot be restored.

    `text` is the tag, or the reason; or, in a replica, when the original's store wrote the heads. A release names the
    holds that it lifts, by the ids of their marks: one that somebody else put meanwhile stays.
    """

    what = "mark"
    made: str
    action: Marking
    snapshots: Mapping[bytes, bytes]
    text: str
    holds: tuple[bytes, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record's header."""
        return {
            "action": self.action.value,
            "holds": [name.hex() for name in self.holds],
            "made": self.made,
            "snapshots": _digests_to_json(self.snapshots),
            "text": self.text,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `Malformed`."""
        action = text(value, "action")
        if action not in Marking.__members__.values():
            raise Malformed("unknown action in a mark")
        snapshots, holds = _digests(value.get("snapshots")), ids_from_hex(value.get("holds"))
        return cls(text(value, "made"), Marking(action), snapshots, text(value, "text"), holds)


T = TypeVar("T", bound=_Content)


@dataclass(frozen=True, slots=True)
class SealedNotice:
    """A parsed object of one of these kinds, nothing verified or opened yet."""

    name: bytes
    signer: bytes
    signature: bytes
    _signed: memoryview = field(repr=False)
    _sealed: memoryview = field(repr=False)

    def open(self, kind: type[T], key: VerifyingKey, layout_sealer: Sealer, scope: bytes) -> T:
        """Its content; raises `Malformed` unless it is of this kind and `key` signed it under this name."""
        if not key.verify(self.signature, message(kind.what, scope, self.name, self._signed)):
            raise Malformed("invalid signature")
        plain = open_padded(self._sealed, _LIMIT, layout_sealer, message(kind.what, scope, self.name))
        header, body = decode_record(plain)
        if len(body):
            raise Malformed("bytes where none belong")
        return kind.from_json(header)


def encode_notice(
    name: bytes,
    content: Notice | Tombstone | Deletion | Mark,
    *,
    signer: SigningKey,
    key: bytes,
    layout_sealer: Sealer,
    scope: bytes,
) -> bytes:
    """The bytes of the object; `key` is the id of the signer's key."""
    sealed = seal_padded(
        encode_record(content.to_json()), _LEVEL, layout_sealer, message(content.what, scope, name), limit=_LIMIT
    )
    signed = _HEADER.pack(MAGIC, key) + sealed
    return signed + signer.sign(message(content.what, scope, name, signed))


def decode_notice(name: bytes, data: bytes) -> SealedNotice:
    """Parse an object of one of these kinds; raises `Malformed`."""
    view = memoryview(data)
    if len(view) < _HEADER.size + _SIGNATURE_BYTES:
        raise Malformed("truncated")
    magic, signer = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise Malformed("not a notice: the magic number is wrong")
    end = len(view) - _SIGNATURE_BYTES
    return SealedNotice(name, signer, bytes(view[end:]), view[:end], view[_HEADER.size : end])


def _given_up(value: Mapping[str, Any]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Digests of heads, and ids of snapshots; records of which nothing is given up lack both fields."""
    gone = value.get("gone", [])
    if not isinstance(gone, list):
        raise Malformed("the digests of heads that are gone are no list")
    return tuple(map(digest_from_hex, gone)), ids_from_hex(value.get("missing", []))


def _digests_to_json(digests: Mapping[bytes, bytes]) -> dict[str, str]:
    return {snapshot.hex(): digest.hex() for snapshot, digest in digests.items()}


def _digests(value: object) -> dict[bytes, bytes]:
    if not isinstance(value, dict):
        raise Malformed("the snapshots are missing")
    return {id_from_hex(snapshot): digest_from_hex(digest) for snapshot, digest in value.items()}
