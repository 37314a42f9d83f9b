"""Values with every field in use, and a program that makes small repositories, with penstock.format alone."""

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple, TypeAlias

from blake3 import blake3

from penstock.format.chunker import ChunkerParameters
from penstock.format.chunks import Chunks, seal_chunks
from penstock.format.documents import encode_document
from penstock.format.encoding import encode_json
from penstock.format.grants import Content, Entry, Granted, Kept, MadeDomain, Revoked
from penstock.format.head import Base, Head, Seen, encode_head
from penstock.format.ids import chunk_ids
from penstock.format.index import PackEnds, PackSummary, encode_index, hooks_of, seal_hooks
from penstock.format.keys import DecapsulationKey, DomainKeys, PassphraseCost, RootSecret, SigningKey, wrap_data_key
from penstock.format.manifest import Manifest, StreamRecord, encode_manifest
from penstock.format.notice import Action, Deletion, Mark, Marking, Notice, Things, Tombstone, encode_notice
from penstock.format.pack import (
    MAGIC,
    TRAILER_BYTES,
    Carried,
    Place,
    Places,
    SegmentId,
    Trailer,
    pin_of,
    seal_places,
    seal_segment,
    sign_trailer,
    zeroes_for,
)
from penstock.format.part import Key, Kind, PartRef, Row, encode_part, encode_refs, encode_rows, encode_sessions
from penstock.format.recipe import Extent, encode_block
from penstock.format.sealing import Sealer
from penstock.format.session import LeaseDocument, SessionDocument
from penstock.format.slot import seal_slot
from penstock.format.trust import OWNER_ID, OwnerSecret, RepositoryConfig, Role

#: The cheapest that a reader accepts.
CHEAP = PassphraseCost(2, 19 * 1024, 1)
PASSPHRASE = "corrèct"


def ident(label: str) -> bytes:
    """An id that anybody can compute."""
    return blake3(label.encode()).digest(16)


def secret(label: str, length: int = 32) -> bytes:
    """As `ident`, for secrets and digests."""
    return blake3(b"secret " + label.encode()).digest(length)


def carried_of(pack: bytes) -> Carried:
    """What is kept of the bytes of a pack by one with copies of its segments."""
    trailer = Trailer.decode(pack[-TRAILER_BYTES:], len(pack))
    middle = len(pack) - TRAILER_BYTES - trailer.places_length
    ids = blake3(pack[middle - trailer.ids_length : middle]).digest()
    return Carried(pack[middle:-TRAILER_BYTES], trailer.signer, ids, trailer.signature)


def moment(second: int) -> str:
    """A time."""
    return f"2026-01-31T12:{second // 60:02}:{second % 60:02}.000000Z"


# --- Values

REPOSITORY = bytes(range(16))
DOMAIN = bytes(range(16, 32))
SCOPE = REPOSITORY + DOMAIN
OWNER = OwnerSecret(SigningKey(b"\1" * 32), DecapsulationKey(b"\1" * 64, b"\x11" * 32), b" " * 32)
ROOT = RootSecret(OWNER.root, REPOSITORY)
KEYS: DomainKeys = ROOT.domain(DOMAIN)
LAYOUT, IDS = Sealer(KEYS.layout_key), Sealer(KEYS.id_key)
DATA_KEY = bytes([7]) * 32
DATA = Sealer(DATA_KEY)
SIGNER = SigningKey(b"\2" * 32)

PACK, OTHER_PACK = ident("pack"), ident("other pack")
SESSION, OTHER_SESSION = bytes([3]) * 16, bytes([4]) * 16
WRITER, OTHER_WRITER = bytes([5]) * 16, bytes([6]) * 16
#: The id of whatever a test makes one of.
NAME = bytes([8]) * 16

#: Two segments first written here, and one that was moved here. The second chunk's id is a hook.
PLACES = Places(
    pack=PACK,
    places=(
        Place(SegmentId(PACK, 0), SESSION, 8, 128, 100, secret("first segment")),
        Place(SegmentId(OTHER_PACK, 4095), OTHER_SESSION, 136, 5000, 65535 + 1, secret("second segment")),
        Place(SegmentId(PACK, 1), SESSION, 5136, 29, 0, secret("third segment")),
    ),
    carried={
        OTHER_PACK: Carried(
            b"sealed places of another pack", OTHER_WRITER, secret("ids of another pack"), secret("signature", 64)
        )
    },
)
CHUNKS = Chunks(
    counts=(2, 2, 0),
    lengths=array("H", [60, 40, 65535, 1]),
    ids=b"".join(bytes([number]) * 11 + bytes([192 if number == 2 else number]) for number in range(1, 5)),
)
SUMMARIES = [
    PackSummary(PackEnds(PACK, 16384, 4096, 4097, (OTHER_PACK, ident("third pack"))), 4, hooks_of(CHUNKS.ids)),
    PackSummary(PackEnds(OTHER_PACK, 2**40, 2**32, 5000), 0, ()),
]
REFS = (
    PartRef(ident("part"), 4104, secret("part"), Key.LAYOUT),
    PartRef(ident("other part"), 2**32 - 1, secret("other part"), Key.DATA),
    PartRef(ident("third part"), 0, secret("third part"), Key.REFS),
)
ROWS = [
    Row(0, PACK, secret("pin"), 9, frozenset({0, 8})),
    Row(300, OTHER_PACK, secret("other pin"), 4096, frozenset({4095})),
    Row(2**51 - 1, PACK, secret("pin"), 0, frozenset()),
]
SESSIONS = {SESSION: secret("session"), OTHER_SESSION: secret("other session")}
#: Of two segments, and of the base.
EXTENTS = [
    Extent(5, 3, 2),
    Extent(4, 9, 1),
    Extent(None, 100, 50),
    Extent(5, 0, 4),
    Extent(None, 90, 1),
    Extent(5, 4, 2**40),
]
HEAD = Head(
    snapshot=NAME,
    backup="shop",
    source="postgres",
    started=moment(0),
    finished=moment(1),
    host="db1.example",
    program="penstock 0.1.0",
    parent=bytes([10]) * 16,
    size=101,
    streams=2,
    stored=12345,
    sequence=3,
    previous=secret("head before"),
    seen={OTHER_WRITER: Seen(7, secret("head of another"))},
    index=(bytes([11]) * 16,),
    parts=REFS,
    manifest=1,
    bases=(Base(bytes([12]) * 16, OTHER_SESSION, REFS[1:]), Base(bytes([13]) * 16, SESSION, ())),
    tags=("before the move", "release"),
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
        StreamRecord("data/öffentlich", "sql", 1, False, {"ü": "✓"}, 101, blake3(b"data").digest(), ((0, 7), (1,), ())),
        StreamRecord("empty", "sql", 0, True, {}, 0, blake3(b"").digest(), ()),
    ),
)
NO_THINGS = Things()
THINGS = Things((PACK, OTHER_PACK), (REFS[0].part,), (NAME,), (SESSION,))
NOTICE = Notice(moment(2), {PACK: "a segment is damaged"}, {NAME: secret("head")})
TOMBSTONE = Tombstone(moment(3), THINGS)
DELETION = Deletion(moment(4), Action.DELETE, {NAME: secret("head")}, THINGS)
MARK = Mark(moment(5), Marking.RELEASE, {NAME: secret("head")}, "the audit is over", (PACK,))
CONTENTS: dict[str, Content] = {
    "domain": MadeDomain(DOMAIN, "shop", ChunkerParameters(), KEYS.layout_proof, KEYS.domain_proof),
    "writer": Granted(WRITER, Role.WRITER, "größe", SIGNER.public, DOMAIN, ("shop", "nightly-*")),
    "maintainer": Granted(OTHER_WRITER, Role.MAINTAINER, "prune", SigningKey(b"\3" * 32).public),
    "slot": Granted(NAME, Role.SLOT, "passphrase"),
    "revoke": Revoked(WRITER, {NAME: secret("head")}, moment(5)),
    "keep": Kept(WRITER, {PACK: secret("another head")}),
}
ENTRIES = {
    name: Entry(number, frozenset({secret(f"entry {number}"), secret("another")}), moment(number), content)
    for number, (name, content) in enumerate(CONTENTS.items(), 1)
}


def key_file(owner: OwnerSecret, repository: bytes) -> bytes:
    """The owner's key file."""
    content = {
        "ed25519": owner.signing.seed.hex(),
        "key": OWNER_ID.hex(),
        "label": "owner",
        "owner": owner.public.to_json(),
        "penstock_key": 1,
        "repository": repository.hex(),
        "role": "owner",
        "secrets": {"root": owner.root.hex(), **owner.recipient.to_json()},
    }
    return encode_json(content) + b"\n"


# --- Repositories


@dataclass(frozen=True)
class Signer:
    """A key that signs."""

    id: bytes
    key: SigningKey


@dataclass(frozen=True)
class Session:
    """A run of a writer."""

    id: bytes
    data_key: bytes
    signer: Signer


@dataclass(frozen=True)
class Pack:
    """A pack, and what its segments hold."""

    places: Places
    sealed_places: bytes
    chunks: Chunks
    plain: tuple[bytes, ...]

    @property
    def id(self) -> bytes:
        return self.places.pack

    @property
    def pin(self) -> bytes:
        return pin_of(self.sealed_places)


class Use(NamedTuple):
    """Bytes of a segment."""

    pack: Pack
    ordinal: int
    start: int
    length: int

    @property
    def plain(self) -> bytes:
        return self.pack.plain[self.ordinal][self.start : self.start + self.length]


class Again(NamedTuple):
    """Bytes of a stream of the base."""

    start: int
    length: int


@dataclass(frozen=True)
class Stream:
    """A stream to store: each block names a stream of the base, and what it is made of."""

    name: str
    blocks: Sequence[tuple[int, Sequence[Use | Again]]] = ()
    phase: int = 0


Pieces: TypeAlias = tuple[Use, ...]


@dataclass(frozen=True)
class Made:
    """A snapshot: what it must restore to, and what later ones need to refer to it."""

    id: bytes
    session: Session
    digest: bytes
    streams: dict[str, bytes]
    pieces: tuple[Pieces, ...]
    rows: dict[bytes, int]
    recipe_parts: tuple[PartRef, ...]
    bases: tuple[Base, ...]
    #: For each stream, in which parts its recipe is: of the snapshot, of its base, and so on.
    recipes: tuple[tuple[tuple[int, ...], ...], ...]


def run(pieces: Pieces, again: Again) -> Pieces:
    """What makes a run of bytes of a stream."""
    at, found = 0, []
    for use in pieces:
        first, last = max(at, again.start), min(at + use.length, again.start + again.length)
        if first < last:
            found.append(use._replace(start=use.start + first - at, length=last - first))
        at += use.length
    return tuple(found)


class Repository:
    """A repository in a dict. Its ids and keys depend on its label alone, its nonces do not."""

    def __init__(self, label: str = "repository") -> None:
        self.objects: dict[str, bytes] = {}
        self.label = label
        self.id = ident(label)
        recipient = DecapsulationKey(secret(f"{label} mlkem", 64), secret(f"{label} x25519"))
        self.owner = OwnerSecret(SigningKey(secret(f"{label} ed25519")), recipient, secret(f"{label} root"))
        self.root = RootSecret(self.owner.root, self.id)
        self.as_owner = Signer(OWNER_ID, self.owner.signing)
        self.clock = 0
        config = RepositoryConfig(self.id, self.now(), self.owner.public)
        data = self.put_document("penstock.json", config.to_json(), self.as_owner)
        self.newest, self.number = frozenset({blake3(data).digest()}), 0

    @property
    def key_file(self) -> bytes:
        return key_file(self.owner, self.id)

    def now(self) -> str:
        """A later time at each call."""
        self.clock += 1
        return moment(self.clock)

    def name(self, label: str) -> bytes:
        """An id for an object of this repository."""
        return ident(f"{self.label}: {label}")

    def put(self, key: str, data: bytes) -> bytes:
        """Add an object."""
        assert key not in self.objects
        self.objects[key] = data
        return data

    def put_document(self, key: str, content: Mapping[str, object], signer: Signer) -> bytes:
        """Sign a document, and add it."""
        return self.put(key, encode_document(key, content, signer.key))

    def entry(self, content: Content) -> str:
        """Add an entry to the owner's log; returns its key."""
        self.number += 1
        key = f"grants/{self.name(f'entry {self.number}').hex()}"
        entry = Entry(self.number, self.newest, self.now(), content)
        self.newest = frozenset({blake3(self.put_document(key, entry.to_json(), self.as_owner)).digest()})
        return key

    def at_once(self, *contents: Content) -> None:
        """Add entries that know nothing of one another."""
        newest, number, made = self.newest, self.number, set[bytes]()
        for content in contents:
            key = f"grants/{self.name(f'entry {number + 1}, {len(made)}').hex()}"
            entry = Entry(number + 1, newest, self.now(), content)
            made.add(blake3(self.put_document(key, entry.to_json(), self.as_owner)).digest())
        self.newest, self.number = frozenset(made), number + 1

    def domain(self, label: str) -> "Domain":
        """Make a domain."""
        keys = self.root.domain(self.name(label))
        self.entry(MadeDomain(keys.domain, label, ChunkerParameters(), keys.layout_proof, keys.domain_proof))
        return Domain(self, keys)

    def maintainer(self, label: str) -> Signer:
        """Grant a key to a maintainer."""
        signer = Signer(self.name(label), SigningKey(secret(f"{self.label}: {label}")))
        self.entry(Granted(signer.id, Role.MAINTAINER, label, signer.key.public))
        return signer

    def slot(self, label: str, passphrase: str = PASSPHRASE, *, granted: bool = True) -> str:
        """Add a slot; returns its key."""
        slot = self.name(label)
        content = seal_slot(self.owner, passphrase, CHEAP, self.id, slot)
        self.put_document(f"slots/{slot.hex()}", content, self.as_owner)
        if granted:
            self.entry(Granted(slot, Role.SLOT, label))
        return f"slots/{slot.hex()}"

    def revoke(self, key: bytes, *kept: Made) -> str:
        """Revoke a key, but keep some of its snapshots."""
        return self.entry(Revoked(key, {made.id: made.digest for made in kept}))


@dataclass
class Domain:
    """A domain of such a repository."""

    repository: Repository
    keys: DomainKeys
    heads: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def layout(self) -> Sealer:
        return Sealer(self.keys.layout_key)

    @property
    def id_sealer(self) -> Sealer:
        return Sealer(self.keys.id_key)

    def key(self, folder: str, name: bytes) -> str:
        """The key of an object."""
        spread = f"{name.hex()[:2]}/" if folder == "packs" else ""
        return f"d/{self.keys.domain.hex()}/{folder}/{spread}{name.hex()}"

    def put(self, folder: str, name: bytes, data: bytes) -> str:
        """Add an object; returns its key."""
        self.repository.put(self.key(folder, name), data)
        return self.key(folder, name)

    def writer(self, label: str, *names: str) -> Signer:
        """Grant a key to a writer, who may store these backups, or any."""
        signer = Signer(self.repository.name(label), SigningKey(secret(f"{self.repository.label}: {label}")))
        domain = self.keys.domain
        self.repository.entry(Granted(signer.id, Role.WRITER, label, signer.key.public, domain, names or ("*",)))
        return signer

    def session(self, label: str, signer: Signer) -> Session:
        """Begin a run."""
        session = Session(self.repository.name(label), secret(f"{self.repository.label}: {label}"), signer)
        recipient = self.repository.owner.recipient.public
        wrapped = wrap_data_key(session.data_key, recipient, self.keys.scope, session.id)
        started, log = self.repository.now(), self.repository.newest
        content = SessionDocument(session.id, signer.id, started, "db1.example", log, wrapped)
        self.repository.put_document(self.key("sessions", session.id), content.to_json(), signer)
        lease = LeaseDocument(session.id, 1)
        self.repository.put_document(f"{self.key('leases', session.id)}-00000001", lease.to_json(), signer)
        return session

    def pack(self, label: str, session: Session, *segments: Sequence[bytes]) -> Pack:
        """Store segments, each of some chunks."""
        pack, plain = self.repository.name(label), tuple(b"".join(chunks) for chunks in segments)
        sealer, sealed, places, at = Sealer(session.data_key), [], [], len(MAGIC)
        for number, data in enumerate(plain):
            identity = SegmentId(pack, number)
            sealed.append(seal_segment(data, 3, sealer, self.keys.scope, identity))
            digest = blake3(sealed[-1]).digest()
            places.append(Place(identity, session.id, at, len(sealed[-1]), len(data), digest))
            at += len(sealed[-1])
        lengths = [[len(chunk) for chunk in chunks] for chunks in segments]
        ids = [chunk_ids(self.keys.chunk_key, memoryview(data), own) for data, own in zip(plain, lengths, strict=True)]
        chunks = Chunks(
            tuple(map(len, lengths)),
            array("H", [one for own in lengths for one in own]),
            b"".join(one for own in ids for one in own),
        )
        return self.finish(Places(pack, tuple(places)), chunks, b"".join(sealed), plain, session.signer)

    def finish(self, places: Places, chunks: Chunks, sealed: bytes, plain: tuple[bytes, ...], signer: Signer) -> Pack:
        """Put the ends of a pack behind its segments, and add it."""
        sealed_places = seal_places(places, self.layout, self.keys.scope)
        segments = [place.id for place in places.places]
        ids = seal_chunks(chunks, self.id_sealer, self.keys.scope, places.pack, segments)
        zeroes = bytes(zeroes_for(len(MAGIC) + len(sealed), len(ids) + len(sealed_places)))
        trailer = sign_trailer(signer.key, signer.id, self.keys.scope, places.pack, ids, sealed_places)
        self.put("packs", places.pack, b"".join((MAGIC, sealed, zeroes, ids, sealed_places, trailer)))
        return Pack(places, sealed_places, chunks, plain)

    def compact(self, label: str, signer: Signer, *packs: Pack, without: Iterable[SegmentId] = ()) -> Pack:
        """Copy the segments of packs to a new one, and delete those packs."""
        pack, at, left_out = self.repository.name(label), len(MAGIC), set(without)
        sealed, places, counts, lengths, ids = b"", [], [], array("H"), b""
        carried: dict[bytes, Carried] = {}
        for old in packs:
            data = self.repository.objects.pop(self.key("packs", old.id))
            first = 0
            # As old packs may be compacted ones, too.
            carried |= {**old.places.carried, old.id: carried_of(data)}
            for place, count in zip(old.places.places, old.chunks.counts, strict=True):
                if place.id not in left_out:
                    offset = at + len(sealed)
                    sealed += data[place.offset : place.offset + place.sealed_length]
                    identity = (place.id, place.session, offset, place.sealed_length, place.plain_length, place.digest)
                    places.append(Place(*identity))
                    counts.append(count)
                    lengths += old.chunks.lengths[first : first + count]
                    ids += old.chunks.ids[12 * first : 12 * (first + count)]
                first += count
        born = {place.id.pack for place in places}
        kept = {origin: found for origin, found in carried.items() if origin in born}
        return self.finish(Places(pack, tuple(places), kept), Chunks(tuple(counts), lengths, ids), sealed, (), signer)

    def index(self, label: str, signer: Signer, *packs: Pack) -> bytes:
        """Add an index object."""
        index, summaries = self.repository.name(label), []
        for pack in packs:
            size = len(self.repository.objects[self.key("packs", pack.id)])
            ids = int.from_bytes(self.repository.objects[self.key("packs", pack.id)][-TRAILER_BYTES:][:4], "little")
            origins = dict.fromkeys(place.id.pack for place in pack.places.places)
            others = tuple(origin for origin in origins if origin != pack.id)
            ends = PackEnds(pack.id, size, ids, len(pack.sealed_places), others)
            summary = PackSummary(ends, len(pack.chunks.lengths), hooks_of(pack.chunks.ids))
            summaries.append(seal_hooks(summary, self.id_sealer, self.keys.scope))
        data = encode_index(
            index,
            summaries,
            scope=self.keys.scope,
            signer=signer.id,
            layout_sealer=self.layout,
            key=signer.key,
        )
        self.put("index", index, data)
        return index

    def part(self, label: str, session: Session, key: Key, *sections: tuple[Kind, bytes]) -> PartRef:
        """Add a part."""
        sealer = Sealer(session.data_key) if key is Key.DATA else self.layout
        part = self.repository.name(label)
        data, ref = encode_part(
            part, sections, key, sealer, self.keys.scope, writer=session.signer.id, signer=session.signer.key
        )
        self.put("parts", part, data)
        return ref

    def snapshot(
        self,
        label: str,
        session: Session,
        *streams: Stream,
        base: Made | None = None,
        backup: str = "shop",
        index: tuple[bytes, ...] = (),
        nested: bool = False,
        rows: Mapping[bytes, int] | None = None,
    ) -> Made:
        """Store a snapshot: rows in halves, a manifest in two parts; with `nested`, references in their own parts."""
        pieces = tuple(self.pieces(stream, base) for stream in streams)
        contents = [b"".join(use.plain for use in own) for own in pieces]
        numbers = self.numbers(pieces, base) if rows is None else dict(rows)
        table = [(Kind.TABLE, self.table(pieces, numbers, half)) for half in (0, 1)]
        recipes = [
            (Kind.RECIPE, struct.pack("<I", number) + block)
            for number, stream in enumerate(streams)
            for block in self.blocks(stream, numbers)
        ]
        where = tuple(self.where(stream, base) for stream in streams)
        records = [
            StreamRecord(stream.name, "sql", stream.phase, False, {"of": label}, len(data), blake3(data).digest(), own)
            for stream, data, own in zip(streams, contents, where, strict=True)
        ]
        manifest = encode_manifest(Manifest("one transaction", {"engine": "PostgreSQL"}, tuple(records)))
        halves = [(Kind.MANIFEST, manifest[:99]), (Kind.MANIFEST, manifest[99:])]
        bases = () if base is None else (Base(base.id, base.session.id, base.recipe_parts), *base.bases)
        sessions = {session.id, *(place.session for own in pieces for use in own for place in use.pack.places.places)}
        pinned = self.pinned((*sorted(sessions), *(one.session for one in bases)))
        layout = self.part(f"{label}, table", session, Key.LAYOUT, *table, (Kind.SESSIONS, encode_sessions(pinned)))
        first = self.part(f"{label}, manifest", session, Key.DATA, halves[0])
        second = self.part(f"{label}, recipes", session, Key.DATA, halves[1], *recipes)
        parts: tuple[PartRef, ...] = (layout, first, second)
        recipe_parts: tuple[PartRef, ...] = (second,)
        if nested:
            recipe_parts = (self.refs(f"{label}, recipe references", session, second),)
            parts = (layout, self.refs(f"{label}, references", session, first, second))
        sequence, previous = self.heads.get(session.signer.id, (0, None))
        head = Head(
            snapshot=self.repository.name(label),
            backup=backup,
            source="postgres",
            started=moment(0),
            finished=self.repository.now(),
            host="db1.example",
            program="penstock 0.1.0",
            parent=base.id if base else None,
            size=sum(map(len, contents)),
            streams=len(streams),
            stored=0,
            sequence=sequence + 1,
            previous=previous,
            seen={writer: Seen(*seen) for writer, seen in self.heads.items() if writer != session.signer.id},
            index=index,
            parts=parts,
            manifest=1,
            bases=bases,
        )
        digest = self.commit(head, session)
        by_name = dict(zip((stream.name for stream in streams), contents, strict=True))
        return Made(head.snapshot, session, digest, by_name, pieces, numbers, recipe_parts, bases, where)

    def pinned(self, sessions: Iterable[bytes]) -> dict[bytes, bytes]:
        """Sessions, with the digests of their objects."""
        return {one: blake3(self.repository.objects[self.key("sessions", one)]).digest() for one in sessions}

    def commit(self, head: Head, session: Session) -> bytes:
        """Add a head; returns its digest."""
        signer = session.signer
        data = encode_head(
            head,
            session=session.id,
            writer=signer.id,
            scope=self.keys.scope,
            layout_sealer=self.layout,
            signer=signer.key,
        )
        self.put("snapshots", head.snapshot, data)
        self.heads[signer.id] = (head.sequence, blake3(data).digest())
        return blake3(data).digest()

    def refs(self, label: str, session: Session, *refs: PartRef) -> PartRef:
        """Add a part that refers to others."""
        return self.part(label, session, Key.REFS, (Kind.REFS, encode_refs(refs)))

    def pieces(self, stream: Stream, base: Made | None) -> Pieces:
        """What makes a stream, without its base."""
        found: list[Use] = []
        for number, extents in stream.blocks:
            for extent in extents:
                if isinstance(extent, Use):
                    found.append(extent)
                else:
                    assert base is not None
                    found += run(base.pieces[number], extent)
        return tuple(found)

    def where(self, stream: Stream, base: Made | None) -> tuple[tuple[int, ...], ...]:
        """In which parts the recipe of a stream is: in the last of the snapshot, and the only ones that bases name."""
        if not stream.blocks:
            return ()
        again = {number for number, extents in stream.blocks for one in extents if isinstance(one, Again)}
        farther = [base.recipes[number] for number in again] if base else []
        return ((2,), *([(0,)] * max(map(len, farther), default=0)))

    def numbers(self, pieces: Iterable[Pieces], base: Made | None) -> dict[bytes, int]:
        """Rows for packs: those that the base has, and others far apart."""
        rows = dict(base.rows) if base else {}
        for use in (use for own in pieces for use in own):
            rows.setdefault(use.pack.id, 1000 * (len(rows) + 1))
        return rows

    def table(self, pieces: Iterable[Pieces], numbers: Mapping[bytes, int], half: int) -> bytes:
        """Rows with the even or the odd ones of the segments that are needed."""
        used: dict[bytes, set[int]] = {}
        packs = {use.pack.id: use.pack for own in pieces for use in own}
        for use in (use for own in pieces for use in own):
            used.setdefault(use.pack.id, set()).update({use.ordinal} if use.ordinal % 2 == half else ())
        return encode_rows(
            Row(numbers[pack], pack, packs[pack].pin, len(packs[pack].places.places), frozenset(own))
            for pack, own in used.items()
        )

    def blocks(self, stream: Stream, numbers: Mapping[bytes, int]) -> list[bytes]:
        """The recipe of a stream."""
        blocks, start = [], 0
        for base, extents in stream.blocks:
            encoded = [
                Extent(numbers[one.pack.id] * 4096 + one.ordinal, one.start, one.length)
                if isinstance(one, Use)
                else Extent(None, one.start, one.length)
                for one in extents
            ]
            blocks.append(encode_block(start, encoded, base))
            start += sum(one.length for one in extents)
        return blocks

    def notice(self, folder: str, label: str, content: Notice | Tombstone | Deletion, signer: Signer) -> str:
        """Add a notice, a tombstone or a deletion record; returns its key."""
        name = self.repository.name(label)
        made = encode_notice(
            name, content, signer=signer.key, key=signer.id, layout_sealer=self.layout, scope=self.keys.scope
        )
        return self.put(folder, name, made)

    def void(self, label: str, signer: Signer, *snapshots: Made) -> str:
        """Say that these are no snapshots."""
        void = {made.id: made.digest for made in snapshots}
        return self.notice("notices", label, Notice(self.repository.now(), {}, void), signer)

    def delete(
        self,
        label: str,
        signer: Signer,
        action: Action,
        *snapshots: Made,
        things: Things = NO_THINGS,
        lifts: tuple[bytes, ...] = (),
    ) -> str:
        """Forget snapshots, take them back, or say that they were deleted."""
        named = {made.id: made.digest for made in snapshots}
        return self.notice("deletions", label, Deletion(self.repository.now(), action, named, things, lifts), signer)


def rows_of_text(first: int, last: int) -> list[bytes]:
    """Chunks that resemble a dump."""
    return [
        f"INSERT INTO orders VALUES ({number}, 'open', {number * 37 % 1009});\n".encode()
        for number in range(first, last)
    ]


@dataclass(frozen=True)
class Small:
    """A small complete repository."""

    repository: Repository
    domain: Domain
    writer: Signer
    maintainer: Signer
    sessions: tuple[Session, ...]
    packs: tuple[Pack, ...]
    first: Made
    second: Made

    @property
    def objects(self) -> dict[str, bytes]:
        """A copy."""
        return dict(self.repository.objects)


def make_small(label: str = "repository") -> Small:
    """Owner, slot, domain, writer, maintainer; two nights, of which the second uses what the first stored."""
    repository = Repository(label)
    repository.slot("slot")
    domain = repository.domain("shop")
    maintainer = repository.maintainer("maintainer")
    writer = domain.writer("writer", "other", "sh*")
    night = domain.session("first night", writer)
    tables = domain.pack("tables", night, rows_of_text(0, 30), rows_of_text(30, 40), rows_of_text(40, 90))
    blobs = domain.pack("blobs", night, [secret("blob", 3000), secret("another blob", 500)], [b"schema;\n"])
    first = domain.snapshot(
        "first snapshot",
        night,
        Stream("orders", [(0, whole(tables))], phase=1),
        Stream("schema", [(0, [Use(blobs, 1, 0, 8)])]),
        Stream("blobs/größe", [(0, [Use(blobs, 0, 0, 3500)]), (0, [Use(blobs, 0, 2990, 20)])], phase=1),
        Stream("empty"),
        index=(domain.index("first index", writer, tables, blobs),),
    )
    next_night = domain.session("second night", writer)
    new = domain.pack("new rows", next_night, rows_of_text(90, 120), [b"COMMIT;\n"])
    size = len(first.streams["orders"])
    second = domain.snapshot(
        "second snapshot",
        next_night,
        Stream("schema", [(1, [Again(0, 8)])]),
        Stream(
            "orders",
            [
                (0, [Again(0, 1000), Use(new, 0, 0, 700), Again(900, size - 900), Use(new, 1, 0, 8)]),
                (2, [Again(3495, 10), Use(tables, 1, 5, 50), Use(tables, 1, 0, 5)]),
            ],
            phase=1,
        ),
        base=first,
        index=(domain.index("second index", writer, new),),
    )
    return Small(repository, domain, writer, maintainer, (night, next_night), (tables, blobs, new), first, second)


def whole(pack: Pack) -> list[Use]:
    """All segments of a pack."""
    return [Use(pack, number, 0, len(plain)) for number, plain in enumerate(pack.plain)]


@cache
def small() -> Small:
    """The same one for all tests that do not change it."""
    return make_small()
