"""The keys of a repository's objects."""

from penstock.format.encoding import Malformed, id_from_hex

__all__ = [
    "CONFIG",
    "GRANTS",
    "INDEX",
    "PACKS",
    "SESSIONS",
    "SLOTS",
    "SNAPSHOTS",
    "TOMBSTONES",
    "grant_key",
    "grant_number",
    "id_of",
    "index_key",
    "pack_key",
    "session_key",
    "slot_key",
    "snapshot_key",
]

CONFIG = "penstock.json"
GRANTS = "grants/"
SLOTS = "slots/"
SESSIONS = "sessions/"
PACKS = "packs/"
INDEX = "index/"
SNAPSHOTS = "snapshots/"
TOMBSTONES = "tombstones/"

_GRANT_DIGITS = 8


def grant_key(number: int) -> str:
    """An entry of the owner's log, numbered so that no two entries can both be the next."""
    return f"{GRANTS}{number:0{_GRANT_DIGITS}d}"


def grant_number(key: str) -> int:
    """The number in a grant's key; raises `Malformed`."""
    digits = key.removeprefix(GRANTS)
    if len(digits) != _GRANT_DIGITS or not digits.isascii() or not digits.isdigit():
        raise Malformed("not a valid grant name")
    return int(digits)


def slot_key(slot: bytes) -> str:
    """A passphrase slot."""
    return SLOTS + slot.hex()


def session_key(session: bytes) -> str:
    """A writer's run."""
    return SESSIONS + session.hex()


def pack_key(pack: bytes) -> str:
    """A pack. Packs are spread over 256 folders: faster listings in some sinks, and lookups in some file systems."""
    name = pack.hex()
    return f"{PACKS}{name[:2]}/{name}"


def index_key(index: bytes) -> str:
    """An index object."""
    return INDEX + index.hex()


def snapshot_key(snapshot: bytes) -> str:
    """A snapshot."""
    return SNAPSHOTS + snapshot.hex()


def id_of(key: str) -> bytes:
    """The identifier at the end of a key; raises `Malformed` for a key that Penstock cannot have written."""
    folder, _, name = key.rpartition("/")
    identifier = id_from_hex(name)
    if key != pack_key(identifier) if key.startswith(PACKS) else "/" in folder:
        raise Malformed("the object is in the wrong folder")
    return identifier
