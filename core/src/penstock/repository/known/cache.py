"""The local cache: the sparse index, and the objects that this host has seen. It can be deleted at any time.

It holds no secret and no content: ids are keyed, object keys are public. It is an SQLite file in a folder of mode 0700,
one for each location of a repository: a replica has other objects and other locks than its original.

Nothing depends on it. If its disk is full, its folder is not writable or its file is damaged, the run continues in
memory, or without recording anything new, and says so once.
"""

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from penstock.format.encoding import ID_BYTES
from penstock.format.ids import HOOK_SHARE
from penstock.format.index import PackEnds, PackSummary

__all__ = ["Cache", "SeenHead", "cache_file"]

_VERSION = 4
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
CREATE TABLE IF NOT EXISTS upkeep (what TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
"""
_VARIABLES = 500
#: Rows that are in memory at once.
_PAGE = 10_000
_BUSY_SECONDS = 60.0
#: Of SQLite, for each connection: hooks are looked up all over the file, and the operating system keeps its pages.
_PAGES_KIB = 1024
#: How often the whole file is checked for damage: 0.2 s for a million hooks, which cover some 128 GiB.
_INTEGRITY_SECONDS = 7 * 86400.0
#: A cache whose file is no longer writable continues in memory up to this size in bytes, otherwise read-only.
_COPY_BYTES = 64 * 1024 * 1024


class SeenHead(NamedTuple):
    """A verified head of a snapshot that this host has seen. `name` is the tag of its backup's name."""

    snapshot: bytes
    writer: bytes
    sequence: int
    digest: bytes
    name: bytes
    time: str
    parent: bytes | None


def cache_file(folder: Path, scope: bytes, place: str) -> Path:
    """The cache file for a domain at `place` (a sink's `location`); `scope` is the repository's id and the domain's."""
    repository, domain = scope[:ID_BYTES].hex(), scope[ID_BYTES:].hex()
    return folder / f"{repository}-{blake3(place.encode()).hexdigest(length=8)}" / domain / "cache.sqlite3"


class Cache:
    """The cache of one domain at one place. One thread at a time; several processes may share the file.

    `on_trouble` is told once why the file cannot be used: from then on everything is kept in memory or, if that would
    be too much, nothing new is recorded. No SQLite error leaves this class.
    """

    def __init__(
        self,
        folder: Path,
        scope: bytes,
        place: str,
        *,
        on_trouble: Callable[[str], object],
        copy_of: sqlite3.Connection | None = None,
    ) -> None:
        """`copy_of` is an in-memory cache to copy instead of opening the file."""
        self.path = cache_file(folder, scope, place)
        self._made_of = (folder, scope, place)
        self._on_trouble: Callable[[str], object] | None = on_trouble
        self._writable = True
        self._in_memory = copy_of is not None
        if copy_of is not None:
            self._db = _in_memory()
            copy_of.backup(self._db)
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_own(folder, self.path)
            self._db = self._connect()
        except (OSError, sqlite3.Error) as error:
            self._tell(error)
            self._go_on_in(_in_memory())

    def another(self) -> "Cache":
        """The same cache for use by another thread; a copy if this one is in memory."""
        return Cache(
            *self._made_of,
            on_trouble=self._on_trouble or (lambda _: None),
            copy_of=self._db if self._in_memory else None,
        )

    @property
    def folder(self) -> Path | None:
        """Where other files of the same domain and place belong; None while everything is kept in memory."""
        return None if self._in_memory else self.path.parent

    def _connect(self) -> sqlite3.Connection:
        try:
            return _prepared(self.path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # Damaged, or of another version: it is only a cache, so start anew.
            self._discard()
            return _prepared(self.path)

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._db.close()

    def __enter__(self) -> "Cache":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

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
            for number, *ends, chunks in self.rows(query, (index,)):
                hooks = tuple(hook for (hook,) in self.rows("SELECT hook FROM hooks WHERE number = ?", (number,)))
                packs.append(PackSummary(PackEnds(*ends), chunks, hooks))
        return packs

    def forget_packs(self, packs: Iterable[bytes]) -> None:
        """Remove packs that are gone."""
        gone = tuple(packs)

        def forget(db: sqlite3.Connection) -> None:
            for pack in gone:
                row = db.execute("DELETE FROM packs WHERE pack = ? RETURNING number", (pack,)).fetchone()
                if row is not None:
                    db.execute("DELETE FROM hooks WHERE number = ?", row)

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

    # the file and its failures

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """What a query gives; nothing if the file cannot be read."""
        try:
            return self._db.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            # What cannot be read counts as unknown.
            self._give_up(error)
            return self._db.execute(query, parameters).fetchall()

    def _note(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        noted = tuple(rows)
        self._write(lambda db: db.executemany(statement, noted))

    def _write(self, change: Callable[[sqlite3.Connection], object]) -> None:
        if not self._writable:
            return
        try:
            _transact(self._db, change)
        except sqlite3.Error as error:
            self._retreat(error)
            if self._writable:
                _transact(self._db, change)

    def _retreat(self, error: sqlite3.Error) -> None:
        """The file cannot be written: continue with a copy in memory or, if too large, with the file read-only."""
        if not isinstance(error, sqlite3.OperationalError):
            self._give_up(error)
            return
        self._tell(error)
        kept = _in_memory()
        try:
            (pages,), (size,) = (self._db.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
            if pages * size > _COPY_BYTES:
                kept.close()
                self._writable = False
                return
            self._db.backup(kept)
        except sqlite3.Error:
            kept.close()
            kept = _in_memory()
        self.close()
        self._go_on_in(kept)

    def _give_up(self, error: sqlite3.Error) -> None:
        """The file cannot be read: continue with an empty cache in memory; the next run creates a new file."""
        self._tell(error)
        self.close()
        if not isinstance(error, sqlite3.OperationalError):
            self._discard()
        self._go_on_in(_in_memory())

    def _go_on_in(self, memory: sqlite3.Connection) -> None:
        self._db = memory
        self._in_memory = True

    def _discard(self) -> None:
        with suppress(OSError):
            for leftover in self.path.parent.glob(self.path.name + "*"):
                leftover.unlink()

    def _tell(self, error: Exception) -> None:
        if self._on_trouble is not None:
            self._on_trouble(f"the local cache {self.path} cannot be used: {error}; this run goes on without it")
            self._on_trouble = None


def _require_own(folder: Path, path: Path) -> None:
    """Raise `PermissionError` unless the folders, up to `folder`, and the file are ours, and nobody else's to write."""
    for one in (folder, path.parent.parent, path.parent, path):
        try:
            found = one.stat()
        except FileNotFoundError:
            continue
        if found.st_uid not in (os.geteuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EPERM, f"others can write {one}")


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


def _prepared(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError("another version")
        db.execute("PRAGMA journal_mode = WAL")
        # A crash may lose the last entries; they are then read from the repository again.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_VERSION}")
        _look_for_damage(db)
    except BaseException:
        db.close()
        raise
    return db


def _look_for_damage(db: sqlite3.Connection) -> None:
    """Check the file once in a while. Damage in between shows on reading, and costs no more than knowing less."""
    now = datetime.now(UTC).timestamp()
    row = db.execute("SELECT time FROM upkeep WHERE what = 'integrity'").fetchone()
    if row is not None and 0 <= now - row[0] < _INTEGRITY_SECONDS:
        return
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    db.execute("INSERT OR REPLACE INTO upkeep VALUES ('integrity', ?)", (now,))


def _in_memory() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    db.executescript(_SCHEMA)
    return db


def _transact(db: sqlite3.Connection, change: Callable[[sqlite3.Connection], object]) -> None:
    """BEGIN IMMEDIATE … COMMIT: the deferred transaction of `sqlite3`'s context manager could fail midway."""
    db.execute("BEGIN IMMEDIATE")
    try:
        change(db)
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
