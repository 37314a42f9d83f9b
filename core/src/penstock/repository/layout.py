"""The keys of a repository's objects, and how large each may be."""

from dataclasses import dataclass

from penstock.format.encoding import Malformed, id_from_hex

__all__ = [
    "CONFIG",
    "DOMAINS",
    "GRANTS",
    "SLOTS",
    "DomainLayout",
    "grant_key",
    "id_of",
    "kind_of",
    "limit_of",
    "slot_key",
]

CONFIG = "penstock.json"
GRANTS = "grants/"
SLOTS = "slots/"
DOMAINS = "d/"

_KIB = 1024
_MIB = 1024 * _KIB
#: In bytes, by folder.
_LIMITS = {
    "grants": 16 * _MIB,
    "slots": 16 * _KIB,
    "sessions": 16 * _KIB,
    "packs": 20 * _MIB,
    "index": 16 * _MIB,
    "parts": 8 * _MIB,
    "snapshots": 64 * _KIB,
    "leases": 4 * _KIB,
    "notices": _MIB,
    "tombstones": 16 * _MIB,
    "deletions": 16 * _MIB,
    "marks": _MIB,
}
_CONFIG_LIMIT = 64 * _KIB
#: Digits of an identifier.
_DIGITS = 32


def grant_key(entry: bytes) -> str:
    """An entry of the owner's log."""
    return GRANTS + entry.hex()


def slot_key(slot: bytes) -> str:
    """A passphrase slot."""
    return SLOTS + slot.hex()


@dataclass(frozen=True)
class DomainLayout:
    """Where the objects of one domain are: prefixes, which end in `/`, and keys."""

    domain: bytes

    @property
    def prefix(self) -> str:
        """Of everything."""
        return f"{DOMAINS}{self.domain.hex()}/"

    @property
    def sessions(self) -> str:
        """Writers' runs."""
        return f"{self.prefix}sessions/"

    @property
    def packs(self) -> str:
        """Packs."""
        return f"{self.prefix}packs/"

    @property
    def index(self) -> str:
        """Index objects."""
        return f"{self.prefix}index/"

    @property
    def parts(self) -> str:
        """Parts of snapshots."""
        return f"{self.prefix}parts/"

    @property
    def snapshots(self) -> str:
        """Heads of snapshots."""
        return f"{self.prefix}snapshots/"

    @property
    def leases(self) -> str:
        """Sessions' signs of life."""
        return f"{self.prefix}leases/"

    @property
    def notices(self) -> str:
        """What nobody may rely on."""
        return f"{self.prefix}notices/"

    @property
    def tombstones(self) -> str:
        """What a prune is about to delete."""
        return f"{self.prefix}tombstones/"

    @property
    def deletions(self) -> str:
        """What was forgotten or deleted."""
        return f"{self.prefix}deletions/"

    @property
    def marks(self) -> str:
        """Tags and holds."""
        return f"{self.prefix}marks/"

    def session_key(self, session: bytes) -> str:
        """A writer's run."""
        return self.sessions + session.hex()

    def pack_key(self, pack: bytes) -> str:
        """A pack. They are spread over 256 folders: faster listings in some sinks, and lookups in some file systems."""
        name = pack.hex()
        return f"{self.packs}{name[:2]}/{name}"

    def index_key(self, index: bytes) -> str:
        """An index object."""
        return self.index + index.hex()

    def part_key(self, part: bytes) -> str:
        """A part of a snapshot."""
        return self.parts + part.hex()

    def snapshot_key(self, snapshot: bytes) -> str:
        """The head of a snapshot."""
        return self.snapshots + snapshot.hex()

    def lease_key(self, session: bytes, number: int) -> str:
        """A session's sign of life."""
        return f"{self.leases}{session.hex()}-{number:08d}"

    def deletion_key(self, record: bytes) -> str:
        """A record of what was forgotten, taken back or deleted."""
        return self.deletions + record.hex()

    def tombstone_key(self, tombstone: bytes) -> str:
        """What a prune is about to delete."""
        return self.tombstones + tombstone.hex()

    def mark_key(self, mark: bytes) -> str:
        """A mark."""
        return self.marks + mark.hex()

    def notice_key(self, notice: bytes) -> str:
        """A notice."""
        return self.notices + notice.hex()


def id_of(key: str) -> bytes:
    """The identifier at the end of a key; raises `Malformed` for a key that Penstock cannot have written."""
    folder, _, name = key.rpartition("/")
    identifier = id_from_hex(name)
    if folder + "/" in (GRANTS, SLOTS):
        return identifier
    d, _, rest = folder.partition("/")
    domain, _, kind = rest.partition("/")
    id_from_hex(domain)
    if d + "/" != DOMAINS or kind not in {f"packs/{name[:2]}", *_LIMITS.keys() - {"packs", "grants", "slots"}}:
        raise Malformed("the object is in the wrong folder")
    return identifier


def limit_of(key: str) -> int:
    """How many bytes an object with this key has at most; raises `Malformed` for a key of no kind."""
    return _CONFIG_LIMIT if key == CONFIG else _LIMITS[kind_of(key)]


def kind_of(key: str) -> str:
    """The folder that the object is in, such as `packs`; raises `Malformed` for one that Penstock does not make."""
    parts = key.split("/")
    kind = parts[2] if key.startswith(DOMAINS) and len(parts) > 3 else parts[0]
    if kind not in _LIMITS:
        raise Malformed("not the name of any object")
    return kind
