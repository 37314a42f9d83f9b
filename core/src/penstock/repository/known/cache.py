"""The local cache: the sparse index, and the objects that this host has seen. It can be deleted at any time.

It holds no secret and no content: ids are keyed, object keys are public. Nothing depends on it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from penstock.format.ids import HOOK_SHARE
from penstock.format.index import PackEnds, PackSummary
from penstock.repository.known.cache_file import CacheFile

__all__ = ["Cache", "SeenHead"]

_VERSION = 5
_SCHEMA = """
CREATE TABLE IF NOT EXISTS packs (
    number INTEGER PRIMARY KEY,
    pack BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    ids_length INTEGER NOT NULL,
    places_length INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    in_index BLOB
);
CREATE INDEX IF NOT EXISTS packs_of_index ON packs (in_index, chunks);
CREATE TABLE IF NOT EXISTS copies (origin BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (origin, number))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS copies_in_pack ON copies (number);
CREATE TABLE IF NOT EXISTS distrusted (pack BLOB PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hooks (hook BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (hook, number))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hooks_of_pack ON hooks (number);
CREATE TABLE IF NOT EXISTS sessions (session BLOB PRIMARY KEY, writer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heads (
    snapshot BLOB PRIMARY KEY,
    writer BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    digest BLOB NOT NULL,
    name BLOB NOT NULL,
    time TEXT NOT NULL,
    parent BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS locks (key TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readings (pack BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS readings_by_time ON readings (at, pack);
"""
_VARIABLES = 500
#: Rows that are in memory at once.
_PAGE = 10_000


class SeenHead(NamedTuple):
    """A verified head of a snapshot that this host has seen. `name` is the tag of its backup's name."""

    snapshot: bytes
    writer: bytes
    sequence: int
    digest: bytes
    name: bytes
    time: str
    parent: bytes | None


class Cache(CacheFile):
    """What this host knows of one domain at one place. See `CacheFile` for who may use it, and for its failures."""

    schema = _SCHEMA
    version = _VERSION

    # packs and hooks

    def unlisted(self) -> "Listing":
        """Compares the packs that are known with a listing of those that are there."""
        return Listing(self)

    def add_packs(self, packs: Iterable[PackSummary], *, index: bytes | None = None) -> None:
        """Add packs, or record which index object they are in now."""
        added = tuple(packs)

        def add(db: sqlite3.Connection) -> None:
            for pack in added:
                ends = pack.ends
                db.execute(
                    "INSERT INTO packs (pack, size, ids_length, places_length, chunks, in_index)"
                    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (pack) DO UPDATE SET in_index = coalesce(?, in_index)",
                    (ends.pack, ends.size, ends.ids_length, ends.places_length, pack.chunks, index, index),
                )
                (number,) = db.execute("SELECT number FROM packs WHERE pack = ?", (ends.pack,)).fetchone()
                db.executemany("INSERT OR IGNORE INTO hooks VALUES (?, ?)", ((hook, number) for hook in pack.hooks))
                db.executemany("INSERT OR IGNORE INTO copies VALUES (?, ?)", ((one, number) for one in ends.origins))

        self._write(add)

    def small_indexes(self, hooks: int, packs: int) -> list[bytes]:
        """The index objects of fewer than so many hooks, about, and of fewer than so many packs; smallest first."""
        query = (
            "SELECT in_index FROM packs WHERE in_index IS NOT NULL GROUP BY in_index"
            " HAVING sum(chunks) < ? AND count(*) < ? ORDER BY sum(chunks)"
        )
        return [index for (index,) in self.rows(query, (hooks * HOOK_SHARE, packs))]

    def packs_of(self, indexes: Sequence[bytes]) -> list[PackSummary]:
        """The packs in these index objects."""
        packs = []
        for index in indexes:
            query = "SELECT number, pack, size, ids_length, places_length, chunks FROM packs WHERE in_index = ?"
            for number, pack, size, ids, places, chunks in self.rows(query, (index,)):
                hooks = tuple(hook for (hook,) in self.rows("SELECT hook FROM hooks WHERE number = ?", (number,)))
                rows = self.rows("SELECT origin FROM copies WHERE number = ? ORDER BY origin", (number,))
                origins = tuple(origin for (origin,) in rows)
                packs.append(PackSummary(PackEnds(pack, size, ids, places, origins), chunks, hooks))
        return packs

    def forget_packs(self, packs: Iterable[bytes]) -> None:
        """Remove packs that are gone."""
        gone = tuple(packs)

        def forget(db: sqlite3.Connection) -> None:
            for pack in gone:
                row = db.execute("DELETE FROM packs WHERE pack = ? RETURNING number", (pack,)).fetchone()
                if row is not None:
                    db.execute("DELETE FROM hooks WHERE number = ?", row)
                    db.execute("DELETE FROM copies WHERE number = ?", row)

        self._write(forget)

    def find(self, hooks: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """(hook, pack number) for every known pack with one of `hooks`."""
        for start in range(0, len(hooks), _VARIABLES):
            some = hooks[start : start + _VARIABLES]
            marks = ",".join("?" * len(some))
            yield from self.rows(f"SELECT hook, number FROM hooks WHERE hook IN ({marks})", some)  # noqa: S608

    def place(self, number: int) -> tuple[PackEnds, int] | None:
        """Where a pack's ends are, and how many chunks it has; None if the pack is no longer known."""
        rows = self.rows("SELECT pack, size, ids_length, places_length, chunks FROM packs WHERE number = ?", (number,))
        return (PackEnds(*rows[0][:4]), rows[0][4]) if rows else None

    def find_pack(self, pack: bytes) -> tuple[int, PackEnds] | None:
        """The number of a pack, and where its ends are; None if it is not known."""
        query = "SELECT number, pack, size, ids_length, places_length FROM packs WHERE pack = ?"
        rows = self.rows(query, (pack,))
        return (rows[0][0], PackEnds(*rows[0][1:])) if rows else None

    def copies_of(self, origin: bytes) -> list[tuple[int, PackEnds]]:
        """The packs that say that they have copies of segments of `origin`: their numbers, and where their ends are."""
        query = (
            "SELECT number, pack, size, ids_length, places_length FROM copies JOIN packs USING (number)"
            " WHERE origin = ? ORDER BY number"
        )
        return [(number, PackEnds(*ends)) for number, *ends in self.rows(query, (origin,))]

    def numbers(self, packs: Iterable[bytes]) -> set[int]:
        """The numbers of those of these packs that are known."""
        return {number for pack in packs for (number,) in self.rows("SELECT number FROM packs WHERE pack = ?", (pack,))}

    def distrusted(self) -> dict[bytes, str]:
        """The packs that this host found damaged, and why."""
        return dict(self.rows("SELECT pack, why FROM distrusted"))

    def distrust(self, pack: bytes, why: str) -> None:
        """Note that a pack is damaged: nobody on this host deduplicates against it any more."""
        self._note("INSERT OR IGNORE INTO distrusted VALUES (?, ?)", [(pack, why)])

    def latest(self, chunks: int) -> list[int]:
        """The numbers of the latest packs, latest first, with at most `chunks` chunks in total."""
        return [
            number
            for (number,) in self.rows(
                "SELECT number FROM (SELECT number, sum(chunks) OVER (ORDER BY number DESC) AS total"
                " FROM (SELECT number, chunks FROM packs ORDER BY number DESC LIMIT ?)) WHERE total <= ?",
                (max(1, chunks // 64), chunks),
            )
        ]

    # sessions

    def sessions(self) -> dict[bytes, bytes]:
        """Sessions with a verified signature, and their writers."""
        return dict(self.rows("SELECT session, writer FROM sessions"))

    def add_sessions(self, sessions: Iterable[tuple[bytes, bytes]]) -> None:
        """Record verified sessions and their writers."""
        self._note("INSERT OR IGNORE INTO sessions VALUES (?, ?)", sessions)

    # heads

    def heads(self) -> list[SeenHead]:
        """The verified heads of snapshots that this host has seen."""
        return [
            SeenHead(*row)
            for row in self.rows("SELECT snapshot, writer, sequence, digest, name, time, parent FROM heads")
        ]

    def add_heads(self, heads: Iterable[SeenHead]) -> None:
        """Record verified heads."""
        self._note("INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?, ?, ?, ?)", heads)

    # what this host has seen

    def seen(self, prefix: str = "") -> Iterator[str]:
        """Keys of the objects ever seen below `prefix`, in order; a page of them is in memory at a time."""
        query = "SELECT key FROM seen WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        last = prefix
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\U0010ffff"
        while page := self.rows(query, (last, end, _PAGE)):
            yield from (key for (key,) in page)
            ((last,),) = page[-1:]

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of these keys that were seen before."""
        wanted = tuple(keys)
        found: set[str] = set()
        for start in range(0, len(wanted), _VARIABLES):
            some = wanted[start : start + _VARIABLES]
            marks = ",".join("?" * len(some))
            found.update(key for (key,) in self.rows(f"SELECT key FROM seen WHERE key IN ({marks})", some))  # noqa: S608
        return found

    def saw(self, keys: Iterable[str]) -> None:
        """Record that these objects exist."""
        self._note("INSERT OR IGNORE INTO seen VALUES (?)", ((key,) for key in keys))

    def unsee(self, keys: Iterable[str]) -> None:
        """Remove objects that were deleted on purpose."""
        self._note("DELETE FROM seen WHERE key = ?", ((key,) for key in keys))

    # what a check has read, and when (seconds since 1970)

    def last_reading(self) -> float | None:
        """When a check last ended that read a part of the packs; None if none did."""
        rows = self.rows("SELECT time FROM upkeep WHERE what = 'reading'")
        return rows[0][0] if rows else None

    def end_reading(self, at: float) -> None:
        """Record that such a check ended."""
        self._note("INSERT OR REPLACE INTO upkeep VALUES ('reading', ?)", [(at,)])

    def read_packs(self, packs: Iterable[tuple[bytes, float]]) -> None:
        """Record when these packs were read."""
        self._note("INSERT OR REPLACE INTO readings VALUES (?, ?)", packs)

    def await_packs(self, packs: Iterable[tuple[bytes, float]]) -> None:
        """Those that nobody has heard of count as read at that time."""
        self._note("INSERT OR IGNORE INTO readings VALUES (?, ?)", packs)

    def readings(self) -> Iterator[tuple[bytes, float]]:
        """All packs and when they were read, the longest ago first; nothing is recorded meanwhile."""
        query = "SELECT pack, at FROM readings WHERE (at, pack) > (?, ?) ORDER BY at, pack LIMIT ?"
        last: tuple[bytes, float] = (b"", float("-inf"))
        while page := self.rows(query, (last[1], last[0], _PAGE)):
            yield from page
            last = page[-1]

    def forget_readings(self, packs: Iterable[bytes]) -> None:
        """These packs are gone."""
        self._note("DELETE FROM readings WHERE pack = ?", ((pack,) for pack in packs))

    # object lock

    def locks(self, keys: Sequence[str]) -> dict[str, datetime]:
        """The ends (UTC) of the locks that this host has extended of these objects; expired ones are removed."""
        self._note("DELETE FROM locks WHERE until < ?", [(datetime.now(UTC).timestamp(),)])
        found: dict[str, datetime] = {}
        for start in range(0, len(keys), _VARIABLES):
            some = keys[start : start + _VARIABLES]
            marks = ",".join("?" * len(some))
            rows = self.rows(f"SELECT key, until FROM locks WHERE key IN ({marks})", some)  # noqa: S608
            found.update((key, datetime.fromtimestamp(until, UTC)) for key, until in rows)
        return found

    def add_locks(self, keys: Iterable[str], until: datetime) -> None:
        """Record that these objects are locked until then."""
        self._note("INSERT OR REPLACE INTO locks VALUES (?, ?)", ((key, until.timestamp()) for key in keys))


class Listing:
    """A listing of packs, compared with what the cache knows; a page of each is in memory at a time."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._there = sqlite3.connect("", isolation_level=None)  # a temporary file, once it is large
        self._there.execute("CREATE TABLE listed (pack BLOB PRIMARY KEY) WITHOUT ROWID")
        self._there.execute("BEGIN")

    def page(self, packs: Sequence[tuple[bytes, int]]) -> set[bytes]:
        """Take packs that are there, with their sizes; returns those that are known with the same size."""
        cache = self._cache
        self._there.executemany("INSERT OR IGNORE INTO listed VALUES (?)", ((pack,) for pack, _ in packs))
        known: set[bytes] = set()
        for start in range(0, len(packs), _VARIABLES):
            some = dict(packs[start : start + _VARIABLES])
            marks = ",".join("?" * len(some))
            rows = cache.rows(f"SELECT pack, size FROM packs WHERE pack IN ({marks})", tuple(some))  # noqa: S608
            known.update(pack for pack, size in rows if some[pack] == size)
        return known

    def gone(self) -> Iterator[bytes]:
        """The packs that are known and were not in the listing."""
        last = b""
        while page := self._cache.rows("SELECT pack FROM packs WHERE pack > ? ORDER BY pack LIMIT ?", (last, _PAGE)):
            for (pack,) in page:
                if self._there.execute("SELECT 1 FROM listed WHERE pack = ?", (pack,)).fetchone() is None:
                    yield pack
            ((last,),) = page[-1:]
        self._there.close()
