"""What a check has to remember of a whole repository, in a temporary file: memory does not grow with either."""

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import NamedTuple, Self

from penstock.api.errors import PenstockError
from penstock.api.models import ObjectInfo

__all__ = ["Held", "Ledger"]

_SCHEMA = """
CREATE TABLE objects (key TEXT PRIMARY KEY, size INTEGER NOT NULL, modified TEXT, good INTEGER, signer BLOB,
    digest BLOB)
    WITHOUT ROWID;
CREATE TABLE packs (pack BLOB PRIMARY KEY, pin BLOB NOT NULL, segments INTEGER NOT NULL, held BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE copies (origin BLOB, pin BLOB, pack BLOB, segments INTEGER NOT NULL, held BLOB NOT NULL,
    PRIMARY KEY (origin, pin, pack))
    WITHOUT ROWID;
CREATE TABLE replaced (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE findings (key TEXT PRIMARY KEY, needed INTEGER) WITHOUT ROWID;
CREATE TABLE lost (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE missed (key TEXT, needed_by TEXT, problem TEXT NOT NULL, PRIMARY KEY (key, needed_by)) WITHOUT ROWID;
CREATE TABLE seen (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_CACHE_KIB = 8 * 1024
_PAGE = 1000
#: Packs whose segments are kept in memory: snapshots come back to the same ones.
_PACKS = 256


class Held(NamedTuple):
    """What a sound pack has: its pin, how many segments are in its places, the bytes of those born in it by number."""

    pin: bytes
    segments: int
    lengths: dict[int, int]


class Ledger:
    """Which objects there are, what was found wrong, and what packs hold. A context manager, for a thread at a time.

    Leaving the block turns SQLite's errors, such as a full disk, into a `PenstockError`.
    """

    def __init__(self) -> None:
        # Without a name: SQLite keeps it in memory as long as it is small, then in a file that nobody else can open.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        #: None for a pack that is gone or damaged.
        self.segments = lru_cache(_PACKS)(self._segments)
        #: Plain bytes of segments by number, of all that are at hand of a pack with this pin and so many segments: in
        #: it, and copies.
        self.at_hand = lru_cache(_PACKS)(self._at_hand)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.segments.cache_clear()
        self.at_hand.cache_clear()
        self._db.close()
        if isinstance(error, sqlite3.Error):
            raise PenstockError(
                f"the temporary file of the check cannot be used: {error}", hint="Set TMPDIR to a folder with room."
            ) from error

    # objects

    def add(self, objects: Iterable[ObjectInfo]) -> None:
        """Note that these objects exist."""
        rows = ((info.key, info.size, info.modified and info.modified.isoformat()) for info in objects)
        self._db.executemany("INSERT OR REPLACE INTO objects (key, size, modified) VALUES (?, ?, ?)", rows)

    def holds(self, key: str) -> bool:
        """Whether the object is known to exist."""
        return self._db.execute("SELECT 1 FROM objects WHERE key = ?", (key,)).fetchone() is not None

    def judge(self, key: str, signer: bytes | None, digest: bytes | None = None) -> None:
        """Note that the object was looked at, and whose it is; None if it is not what was written."""
        self._db.execute(
            "INSERT INTO objects (key, size, good, signer, digest) VALUES (?, 0, ?, ?, ?) ON CONFLICT (key)"
            " DO UPDATE SET good = excluded.good, signer = excluded.signer, digest = excluded.digest",
            (key, signer is not None, signer, digest),
        )

    def judged(self, key: str) -> bool | None:
        """Whether the object was found good; None for one that was not looked at."""
        row = self._db.execute("SELECT good FROM objects WHERE key = ?", (key,)).fetchone()
        return None if row is None or row[0] is None else bool(row[0])

    def signer(self, key: str) -> bytes | None:
        """Whose the object is, if it was found good."""
        row = self._db.execute("SELECT signer FROM objects WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def digest(self, key: str) -> bytes | None:
        """The digest of the object, if it was noted."""
        row = self._db.execute("SELECT digest FROM objects WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def under(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects whose keys start with `prefix`, in their order; others may be noted meanwhile."""
        last = prefix
        while rows := self._db.execute(
            "SELECT key, size, modified FROM objects WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
            (last, prefix + "\x7f", _PAGE),
        ).fetchall():
            for key, size, modified in rows:
                yield ObjectInfo(key, size, modified and datetime.fromisoformat(modified))
            last = rows[-1][0]

    def count(self, prefix: str, *, good: bool = False) -> tuple[int, int]:
        """How many objects' keys start with `prefix`, and their bytes; with `good`, only those found good."""
        count, size = self._db.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM objects WHERE key > ? AND key < ? AND (good = 1 OR NOT ?)",
            (prefix, prefix + "\x7f", good),
        ).fetchone()
        return count, size

    # findings

    def find(self, key: str) -> bool:
        """Note that something is wrong with an object; whether that is new."""
        return self._db.execute("INSERT OR IGNORE INTO findings (key) VALUES (?)", (key,)).rowcount > 0

    def found(self, key: str) -> bool:
        """Whether something is known to be wrong with an object."""
        return self._db.execute("SELECT 1 FROM findings WHERE key = ?", (key,)).fetchone() is not None

    def need(self, key: str) -> None:
        """Note that a snapshot needs the object, if something is wrong with it."""
        self._db.execute("UPDATE findings SET needed = 1 WHERE key = ?", (key,))

    def spare(self, key: str) -> None:
        """Note that nobody relies on an object that something is wrong with."""
        self._db.execute("UPDATE findings SET needed = 0 WHERE key = ?", (key,))

    def unneeded(self) -> Iterator[tuple[str, bool]]:
        """The objects that are there, something is wrong with, and no snapshot is known to need.

        With each, whether it was noted that nobody relies on it.
        """
        rows = self._db.execute(
            "SELECT key, needed IS 0 FROM findings WHERE needed IS NOT 1 AND key NOT IN (SELECT key FROM missed)"
        )
        yield from ((key, bool(spared)) for key, spared in rows)

    def found_under(self, prefix: str) -> Iterator[str]:
        """The objects whose keys start with `prefix` that something is wrong with, in their order."""
        last = prefix
        while rows := self._db.execute(
            "SELECT key FROM findings WHERE key > ? AND key < ? ORDER BY key LIMIT ?", (last, prefix + "\x7f", _PAGE)
        ).fetchall():
            yield from (key for (key,) in rows)
            last = rows[-1][0]

    def give_up(self, key: str) -> None:
        """Note that nobody has the object whole."""
        self._db.execute("INSERT OR IGNORE INTO lost VALUES (?)", (key,))

    def is_given_up(self, key: str) -> bool:
        """Whether that was noted."""
        return self._db.execute("SELECT 1 FROM lost WHERE key = ?", (key,)).fetchone() is not None

    def miss(self, key: str, problem: str, needed_by: str = "") -> None:
        """Note that an object is gone, how that was found, and the key of a head that needs it."""
        self._db.execute("INSERT OR IGNORE INTO missed VALUES (?, ?, ?)", (key, needed_by, problem))

    def miss_also(self, key: str, problem: str, needed_by: str) -> None:
        """Note another head that needs it, if the object is known to be gone."""
        query = "INSERT OR IGNORE INTO missed SELECT key, ?, ? FROM missed WHERE key = ? LIMIT 1"
        self._db.execute(query, (needed_by, problem, key))

    def missed(self) -> Iterator[tuple[str, str, str]]:
        """Objects that are gone, each with what was found and which head needs it, "" first for none."""
        yield from self._db.execute("SELECT key, problem, needed_by FROM missed ORDER BY key, needed_by")

    # packs

    def add_pack(self, pack: bytes, pin: bytes, segments: int, held: "array[int]") -> None:
        """Note a sound pack, and the segments that were born in it: number and bytes of each, one after the other.

        Its places have so many `segments`.
        """
        self._db.execute("INSERT OR REPLACE INTO packs VALUES (?, ?, ?, ?)", (pack, pin, segments, held.tobytes()))
        self.segments.cache_clear()
        self.at_hand.cache_clear()

    def add_copies(self, origin: bytes, pin: bytes, segments: int, pack: bytes, held: "array[int]") -> None:
        """Note that a sound pack has copies of these segments of `origin`; its pin proves them, and how many it has."""
        row = (origin, pin, pack, segments, held.tobytes())
        self._db.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?)", row)
        self.at_hand.cache_clear()

    def add_replaced(self, key: str) -> None:
        """Note a pack that is gone, without a record of it, but not missed: others have what a snapshot needs of it."""
        self._db.execute("INSERT OR IGNORE INTO replaced VALUES (?)", (key,))

    def replaced(self) -> Iterator[str]:
        """The packs that were noted so; some snapshot may miss them all the same."""
        yield from (key for (key,) in self._db.execute("SELECT key FROM replaced ORDER BY key"))

    def _segments(self, pack: bytes) -> Held | None:
        row = self._db.execute("SELECT pin, segments, held FROM packs WHERE pack = ?", (pack,)).fetchone()
        return None if row is None else Held(row[0], row[1], _lengths(row[2]))

    def _at_hand(self, pack: bytes, pin: bytes, segments: int) -> dict[int, int]:
        found = self.segments(pack)
        lengths = dict(found.lengths) if found is not None and (found.pin, found.segments) == (pin, segments) else {}
        query = "SELECT held FROM copies WHERE origin = ? AND pin = ? AND segments = ?"
        for (held,) in self._db.execute(query, (pack, pin, segments)):
            lengths |= _lengths(held)
        return lengths

    # what was seen before

    def expect(self, keys: Iterable[str]) -> None:
        """Note objects that were seen before this check."""
        self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((key,) for key in keys))

    def vanished(self) -> Iterator[str]:
        """Those of them that do not exist any more."""
        rows = self._db.execute("SELECT key FROM seen WHERE key NOT IN (SELECT key FROM objects) ORDER BY key")
        yield from (key for (key,) in rows)

    def unseen(self, prefix: str) -> Iterator[list[str]]:
        """Objects with this prefix that exist, were not seen before, and that nothing is wrong with; some at a time."""
        rows = self._db.execute(
            "SELECT key FROM objects WHERE key > ? AND key < ?"
            " EXCEPT SELECT key FROM seen EXCEPT SELECT key FROM findings",
            (prefix, prefix + "\x7f"),
        )
        while page := rows.fetchmany(_PAGE):
            yield [key for (key,) in page]


def _lengths(packed: bytes) -> dict[int, int]:
    held = array("I")
    held.frombytes(packed)
    return dict(zip(held[::2], held[1::2], strict=True))
