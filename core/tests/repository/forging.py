"""What can be put into a bucket by whoever holds some keys, or nothing but the bucket: objects made by hand.

The functions take somebody's view of a domain, most often the owner's, so that an attacker knows every secret in it;
only signatures are those of the key that he has (`by`).
"""

import os
import shutil
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, TypeAlias

from blake3 import blake3
from core.tests.format.examples import carried_of
from core.tests.repository.lab import MIB, Lab

from penstock.api import ObjectInfo
from penstock.format.chunker import Chunker
from penstock.format.chunks import Chunks, seal_chunks
from penstock.format.documents import decode_document, encode_document
from penstock.format.encoding import new_id
from penstock.format.head import Base, Head, encode_head
from penstock.format.ids import CHUNK_ID_BYTES, chunk_ids
from penstock.format.index import PackEnds, PackSummary, encode_index, hooks_of, seal_hooks
from penstock.format.keys import SigningKey, new_secret, wrap_data_key
from penstock.format.manifest import Manifest, StreamRecord, encode_manifest
from penstock.format.notice import Deletion, Mark, Notice, Tombstone, encode_notice
from penstock.format.pack import (
    MAGIC,
    Carried,
    Place,
    Places,
    SegmentId,
    pin_of,
    seal_places,
    seal_segment,
    sign_trailer,
    zeroes_for,
)
from penstock.format.part import Key, Kind, PartRef, encode_part, encode_sessions
from penstock.format.sealing import OVERHEAD, Sealer
from penstock.format.session import SessionDocument
from penstock.repository import Access, SnapshotEntry
from penstock.repository.budget import SEGMENT
from penstock.repository.domain import Domain
from penstock.repository.layout import id_of
from penstock.repository.read.ends import TAIL, PackEnd, read_end
from penstock.testing import MemorySink

__all__ = [
    "carried_of",
    "NOW",
    "ForgedSegment",
    "Hand",
    "Hostile",
    "Planted",
    "SparseSink",
    "compacted",
    "copied",
    "encode_pack",
    "end_of",
    "keys",
    "pack_object",
    "planted",
    "put_head",
    "put_index",
    "put_notice",
    "put_pack",
    "put_part",
    "put_session",
    "replaced",
    "resealed",
    "resign",
]

NOW = "2026-01-31T12:00:00.000000Z"


@dataclass(frozen=True)
class Hand:
    """Whose id stands in an object, and the key that it is signed with: not always the same one's."""

    key: bytes
    signing: SigningKey

    @classmethod
    def of(cls, access: Access) -> "Hand":
        """Somebody's own."""
        return cls(access.key, access.signing)

    def as_if(self, other: Access) -> "Hand":
        """The same hand under another's name."""
        return replace(self, key=other.key)


Signer: TypeAlias = Access | Hand


def keys(lab: Lab, kind: str) -> list[str]:
    """The keys of the objects of a kind in the first domain, in order."""
    return sorted(info.key for info in lab.sink.list(f"{lab.at.prefix}{kind}/"))


def copied(lab: Lab, folder: Path) -> Lab:
    """A lab with a copy of another's repository and cache, to do with as one likes."""
    assert isinstance(lab.sink, MemorySink)
    other = copy(lab)
    other.sink = MemorySink()
    for key, data in lab.sink.contents().items():
        other.sink.put(key, data)
    other.cache = folder
    shutil.copytree(lab.cache, folder, dirs_exist_ok=True)
    other.repository = other.open()
    other.events, other.warnings = [], []
    return other


# small objects


def put_notice(domain: Domain, content: Notice | Tombstone | Deletion | Mark, by: Signer | None = None) -> str:
    """Put what `by` says, by default whom `domain` belongs to; its key."""
    signer = by or domain.access
    name = new_id()
    at = domain.at
    folder = {"notice": at.notices, "tombstone": at.tombstones, "deletion": at.deletions, "mark": at.marks}
    key = folder[content.what] + name.hex()
    data = encode_notice(
        name,
        content,
        signer=signer.signing,
        key=signer.key,
        layout_sealer=domain.layout_sealer,
        scope=domain.scope,
    )
    domain.sink.put(key, data)
    return key


def put_session(domain: Domain, data_key: bytes, *, by: Signer, session: bytes | None = None) -> bytes:
    """Put a session with this data key, new or in the place of one that is there; its id."""
    name = session or new_id()
    document = SessionDocument(
        session=name,
        writer=by.key,
        started=NOW,
        host="prod-db",
        log=domain.log.newest,
        wrapped=wrap_data_key(data_key, domain.access.owner.recipient, domain.scope, name),
    )
    key = domain.at.session_key(name)
    domain.sink.put(key, encode_document(key, document.to_json(), by.signing))
    return name


def resign(domain: Domain, key: str, by: Signer, **changes: Any) -> None:
    """Sign the content of a document anew, with some of its entries changed."""
    content = decode_document(key, domain.sink.get(key)).claimed
    domain.sink.put(key, encode_document(key, {**content, **changes}, by.signing))


def put_index(domain: Domain, packs: Sequence[PackSummary], by: Signer, replaces: Sequence[bytes] = ()) -> str:
    """Put an index object; its key."""
    index = new_id()
    data = encode_index(
        index,
        [seal_hooks(pack, domain.id_sealer, domain.scope) for pack in packs],
        replaces=replaces,
        scope=domain.scope,
        signer=by.key,
        layout_sealer=domain.layout_sealer,
        key=by.signing,
    )
    key = domain.at.index_key(index)
    domain.sink.put(key, data)
    return key


# snapshots


def put_part(
    domain: Domain, sections: Sequence[tuple[Kind, bytes]], *, by: Signer, sealer: Sealer | None = None
) -> PartRef:
    """Put a part under the layout key, or under that of `sealer`."""
    part = new_id()
    data, ref = encode_part(
        part,
        sections,
        sections[0][0].key,
        sealer or domain.layout_sealer,
        domain.scope,
        writer=by.key,
        signer=by.signing,
    )
    domain.sink.put(domain.at.part_key(part), data)
    return ref


def put_head(entry: SnapshotEntry, by: Signer, *, session: bytes | None = None, **changes: Any) -> Head:
    """Put a head like that of a snapshot, with other figures and a name of its own; its session stays by default."""
    head = replace(entry.head, **{"snapshot": new_id(), **changes})
    _put_head(entry.domain, head, by, session or entry.session)
    return head


def _put_head(domain: Domain, head: Head, by: Signer, session: bytes) -> str:
    data = encode_head(
        head,
        session=session,
        writer=by.key,
        scope=domain.scope,
        layout_sealer=domain.layout_sealer,
        signer=by.signing,
    )
    key = domain.at.snapshot_key(head.snapshot)
    domain.sink.put(key, data)
    return key


class Hostile:
    """Somebody with a writer's key, who commits snapshots of a stream `d` that no dump ever had."""

    def __init__(self, domain: Domain, access: Access) -> None:
        self.domain = domain
        self.access = access
        data_key = new_secret()
        self.session = put_session(domain, data_key, by=access)
        self.sealer = Sealer(data_key)

    def segment(self, data: bytes, says: bytes | None = None) -> tuple[bytes, bytes]:
        """Put a pack with one segment, which is as long by its word as `says`; its id and pin."""
        pack = new_id()
        identity = SegmentId(pack, 0)
        view = memoryview(data if says is None else says)
        lengths = Chunker(self.domain.made.chunker, self.domain.keys.chunker_seed).cut(view, last=True)
        ids = chunk_ids(self.domain.keys.chunk_key, view, lengths)
        sealed = seal_segment(data, 3, self.sealer, self.domain.scope, identity)
        segment = ForgedSegment(identity, self.session, sealed, lengths, ids)
        made = encode_pack(self.domain, pack, [segment], self.access)
        self.domain.sink.put(self.domain.at.pack_key(pack), made.data)
        return pack, made.pin

    def part(self, *sections: tuple[Kind, bytes]) -> PartRef:
        """Put a part."""
        sealer = self.sealer if sections[0][0].key is Key.DATA else None
        return put_part(self.domain, sections, by=self.access, sealer=sealer)

    def blocks(self, *blocks: bytes) -> PartRef:
        """Put a part with blocks of the recipe of `d`."""
        return self.part(*((Kind.RECIPE, bytes(4) + block) for block in blocks))

    def manifest(self, size: int, recipe: Sequence[Sequence[int]]) -> PartRef:
        """Put the manifest: `d` has this size, and the blocks of its recipe are in these parts."""
        record = StreamRecord("d", "raw", 0, False, {}, size, bytes(32), tuple(map(tuple, recipe)))
        return self.part((Kind.MANIFEST, encode_manifest(Manifest("one state", {}, (record,)))))

    def commit(self, size: int, parts: Sequence[PartRef], *, bases: Sequence[Base] = (), backup: str = "shop") -> str:
        """Put the head, whose last part holds the manifest, and a part that pins its session; its key."""
        session = blake3(self.domain.sink.get(self.domain.at.session_key(self.session))).digest()
        pinned = self.part((Kind.SESSIONS, encode_sessions({self.session: session})))
        head = Head(
            snapshot=new_id(),
            backup=backup,
            source="bytes",
            started=NOW,
            finished=NOW,
            host="prod-db",
            program="penstock",
            parent=None,
            size=size,
            streams=1,
            stored=0,
            sequence=1,
            previous=None,
            seen={},
            index=(),
            parts=(*parts, pinned),
            manifest=max(0, len(parts) - 1),
            bases=tuple(bases),
        )
        return _put_head(self.domain, head, self.access, self.session)


# packs


@dataclass(frozen=True)
class ForgedSegment:
    """A sealed segment, and what a pack is to say about it."""

    id: SegmentId
    session: bytes
    sealed: bytes
    lengths: Sequence[int]
    ids: Sequence[bytes]


@dataclass(frozen=True)
class Planted:
    """A pack, its bytes and what an index object may say of it."""

    summary: PackSummary
    data: bytes
    pin: bytes
    segments: Sequence[ForgedSegment]
    carried: Mapping[bytes, Carried]

    @property
    def pack(self) -> bytes:
        """Its id."""
        return self.summary.ends.pack


def encode_pack(
    domain: Domain,
    pack: bytes,
    segments: Sequence[ForgedSegment],
    by: Signer,
    *,
    scope: bytes | None = None,
    carried: Mapping[bytes, Carried] | None = None,
) -> Planted:
    """A pack that `by` signed, every figure in it as it should be; bound to its domain, unless to another `scope`."""
    scope = scope or domain.scope
    places = []
    at = len(MAGIC)
    for one in segments:
        digest = blake3(one.sealed).digest()
        places.append(Place(one.id, one.session, at, len(one.sealed), sum(one.lengths), digest))
        at += len(one.sealed)
    chunks = Chunks(
        tuple(len(one.ids) for one in segments),
        array("H", [length for one in segments for length in one.lengths]),
        b"".join(name for one in segments for name in one.ids),
    )
    ids = seal_chunks(chunks, domain.id_sealer, scope, pack, [one.id for one in segments])
    sealed_places = seal_places(Places(pack, tuple(places), carried or {}), domain.layout_sealer, scope)
    trailer = sign_trailer(by.signing, by.key, scope, pack, ids, sealed_places)
    zeroes = bytes(zeroes_for(at, len(ids) + len(sealed_places)))
    data = b"".join((MAGIC, *(one.sealed for one in segments), zeroes, ids, sealed_places, trailer))
    origins = dict.fromkeys(one.id.pack for one in segments if one.id.pack != pack)
    ends = PackEnds(pack, len(data), len(ids), len(sealed_places), tuple(origins))
    return Planted(
        PackSummary(ends, len(chunks.lengths), hooks_of(chunks.ids)),
        data,
        pin_of(sealed_places),
        segments,
        carried or {},
    )


def pack_object(
    domain: Domain,
    content: bytes,
    session: bytes,
    by: Signer,
    *,
    pack: bytes | None = None,
    sealer: Sealer | None = None,
    seen_in: Domain | None = None,
    separator: bytes = b"",
) -> Planted:
    """A pack that says that it holds `content`: true ids and lengths of its chunks, places that fit, sizes as they are.

    Its chunks are those of a stream with that separator. Its segments are random bytes, unless `sealer` is the
    session's. `seen_in` is the domain whose scope is bound into what is sealed and signed, if it is another.
    """
    name = pack or new_id()
    scope = (seen_in or domain).scope
    segments: list[ForgedSegment] = []
    start = 0
    for lengths, ids in _chunks_of(domain, content, separator):
        segment, size = SegmentId(name, len(segments)), sum(lengths)
        plain = memoryview(content)[start : start + size]
        sealed = seal_segment(plain, 1, sealer, scope, segment) if sealer else os.urandom(size + OVERHEAD + 1)
        segments.append(ForgedSegment(segment, session, sealed, lengths, ids))
        start += size
    return encode_pack(domain, name, segments, by, scope=scope)


def _chunks_of(domain: Domain, data: bytes, separator: bytes) -> Iterator[tuple[list[int], list[bytes]]]:
    """The lengths and ids of the chunks that a stream has, by segments."""
    view = memoryview(data)
    lengths = Chunker(domain.made.chunker, domain.keys.chunker_seed, separator).cut(view, last=True)
    ids = chunk_ids(domain.keys.chunk_key, view, lengths)
    first = size = 0
    for number, length in enumerate(lengths):
        if size + length > SEGMENT:
            yield lengths[first:number], ids[first:number]
            first, size = number, 0
        size += length
    if first < len(lengths):
        yield lengths[first:], ids[first:]


def put_pack(domain: Domain, content: bytes, session: bytes, by: Signer, **more: Any) -> Planted:
    """As `pack_object`, and put it."""
    made = pack_object(domain, content, session, by, **more)
    domain.sink.put(domain.at.pack_key(made.pack), made.data)
    return made


def planted(domain: Domain, content: bytes, session: bytes, by: Signer, **more: Any) -> str:
    """As `put_pack`, with rubbish as segments, and an index object that leads to it; the key of the pack."""
    made = put_pack(domain, content, session, by, **more)
    put_index(domain, [made.summary], by)
    return domain.at.pack_key(made.pack)


def end_of(domain: Domain, key: str) -> PackEnd:
    """What the end of a pack says."""
    return read_end(domain, id_of(key), domain.sink.stat(key).size, TAIL)


def compacted(domain: Domain, packs: Sequence[str], by: Signer, *, without: Collection[SegmentId] = ()) -> Planted:
    """A pack as compaction makes it: the segments of packs, byte for byte, and the sealed places that prove them."""
    segments: list[ForgedSegment] = []
    carried: dict[bytes, Carried] = {}
    for key in packs:
        data = domain.sink.get(key)
        end = end_of(domain, key)
        chunks = end.chunks()
        # It may be compacted, too.
        carried |= {**end.places.carried, end.places.pack: carried_of(data)}
        first = 0
        for place, count in zip(end.places.places, chunks.counts, strict=True):
            last = first + count
            if place.id not in without:
                sealed = data[place.offset : place.offset + place.sealed_length]
                span = range(first * CHUNK_ID_BYTES, last * CHUNK_ID_BYTES, CHUNK_ID_BYTES)
                ids = [chunks.ids[at : at + CHUNK_ID_BYTES] for at in span]
                segments.append(ForgedSegment(place.id, place.session, sealed, list(chunks.lengths[first:last]), ids))
            first = last
    born = {segment.id.pack for segment in segments}
    kept = {origin: places for origin, places in carried.items() if origin in born}
    return encode_pack(domain, new_id(), segments, by, carried=kept)


def resealed(domain: Domain, key: str, by: Signer) -> bytes:
    """A pack with the same segments, and ends that say the same, but are sealed anew."""
    data = domain.sink.get(key)
    end = end_of(domain, key)
    places = seal_places(end.places, domain.layout_sealer, domain.scope)
    segments = [place.id for place in end.places.places]
    ids = seal_chunks(end.chunks(), domain.id_sealer, domain.scope, end.places.pack, segments)
    trailer = sign_trailer(by.signing, by.key, domain.scope, end.places.pack, ids, places)
    zeroes = bytes(zeroes_for(end.end_of_segments, len(ids) + len(places)))
    return b"".join((data[: end.end_of_segments], zeroes, ids, places, trailer))


def replaced(domain: Domain, key: str, forged: bytes, session: bytes, data_key: bytes, *, by: Signer) -> bytes:
    """A pack for the place of another: the same segments, but with the bytes `forged`, under a session of one's own.

    Whoever knows neither the writer nor the pin can find nothing wrong with it.
    """
    end = end_of(domain, key)
    sealer = Sealer(data_key)
    lengths = list(end.chunks().lengths)
    counts = end.chunks().counts
    segments = []
    for (first, last), place in zip(pairwise((0, *accumulate(counts))), end.places.places, strict=True):
        data = (forged * (place.plain_length // len(forged) + 1))[: place.plain_length]
        mine = lengths[first:last]
        ids = chunk_ids(domain.keys.chunk_key, memoryview(data), mine)
        segments.append(
            ForgedSegment(place.id, session, seal_segment(data, 3, sealer, domain.scope, place.id), mine, ids)
        )
    return encode_pack(domain, end.places.pack, segments, by).data


# sinks


class SparseSink(MemorySink):
    """Has objects that are as large as `sparse` says, without their bytes: all of them are zero.

    `most` tells how many bytes of each were read at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sparse: dict[str, int] = {}
        self.most: dict[str, int] = {}

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if key not in self.sparse:
            return super().get(key, start=start, length=length)
        size = self.sparse[key]
        wanted = max(0, min(size - start, size if length is None else length))
        self.most[key] = max(wanted, self.most.get(key, 0))
        assert wanted <= 64 * MIB, f"{wanted} bytes of {key} at once"
        return bytes(wanted)

    def stat(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, self.sparse[key]) if key in self.sparse else super().stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from (info for info in super().list(prefix) if info.key not in self.sparse)
        yield from (ObjectInfo(key, size) for key, size in self.sparse.items() if key.startswith(prefix))
