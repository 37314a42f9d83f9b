"""The local cache: the sparse index, and the objects that this host has seen. It can be deleted at any time.

It holds no secret and no content: ids are keyed, object keys are public. It is an SQLite file in a folder of mode 0700,
one for each location of a repository: a replica has other objects and other locks than its original.

Nothing depends on it. If its disk is full, its folder is not writable or its file is damaged, the run continues in
memory, or without recording anything new, and says so once.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from penstock.format.index import PackSummary

__all__ = ["Cache", "PackPlace", "cache_file"]

_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS packs (
    number INTEGER PRIMARY KEY,
    pack BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    directory_offset INTEGER NOT NULL,
    directory_length INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    indexed INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS pack_sessions (number INTEGER NOT NULL, session BLOB NOT NULL, PRIMARY KEY (number, session))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hooks (hook BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (hook, number))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS packs_of_session ON pack_sessions (session);
CREATE INDEX IF NOT EXISTS hooks_of_pack ON hooks (number);
CREATE TABLE IF NOT EXISTS sessions (session BLOB PRIMARY KEY, writer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS locks (key TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS upkeep (what TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
"""
_VARIABLES = 500
#: Rows that are in memory at once.
_PAGE = 10_000
_BUSY_SECONDS = 60.0
#: How often the whole file is checked for damage: 0.2 s for a million hooks, which cover some 128 GiB.
_INTEGRITY_SECONDS = 7 * 86400.0
#: A cache whose file is no longer writable continues in memory up to this size in bytes, otherwise read-only.
_COPY_BYTES = 64 * 1024 * 1024


class PackPlace(NamedTuple):
    """The place of a pack's directory."""

    pack: bytes
    directory_offset: int
    directory_length: int
    chunks: int


def cache_file(folder: Path, repository: bytes, place: str) -> Path:
    """The cache file for the repository with that id at `place` (a sink's `location`)."""
    return folder / f"{repository.hex()}-{blake3(place.encode()).hexdigest(length=8)}" / "cache.sqlite3"


class Cache:
    """The cache of one repository at one place. One thread at a time; several processes may share the file.

    `on_trouble` is told once why the file cannot be used: from then on everything is kept in memory or, if that would
    be too much, nothing new is recorded. No SQLite error leaves this class.
    """

    def __init__(
        self,
        folder: Path,
        repository: bytes,
        place: str,
        *,
        on_trouble: Callable[[str], object],
        copy_of: sqlite3.Connection | None = None,
    ) -> None:
        """`copy_of` is an in-memory cache to copy instead of opening the file."""
        self.path = cache_file(folder, repository, place)
        self._made_of = (folder, repository, place)
        self._on_trouble: Callable[[str], object] | None = on_trouble
        self._writable = True
        self._in_memory = copy_of is not None
        if copy_of is not None:
            self._db = _in_memory()
            copy_of.backup(self._db)
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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

    def packs(self) -> dict[bytes, bool]:
        """All known packs, and whether an index object lists them."""
        return {pack: bool(indexed) for pack, indexed in self._rows("SELECT pack, indexed FROM packs")}

    def add_packs(self, packs: Iterable[PackSummary], *, indexed: bool) -> None:
        """Add packs, or record that they are now indexed."""
        added = tuple(packs)

        def add(db: sqlite3.Connection) -> None:
            for pack in added:
                db.execute(
                    "INSERT INTO packs (pack, size, directory_offset, directory_length, chunks, indexed)"
                    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (pack) DO UPDATE SET indexed = max(indexed, ?)",
                    (
                        pack.pack,
                        pack.size,
                        pack.directory_offset,
                        pack.directory_length,
                        pack.chunks,
                        indexed,
                        indexed,
                    ),
                )
                (number,) = db.execute("SELECT number FROM packs WHERE pack = ?", (pack.pack,)).fetchone()
                db.executemany(
                    "INSERT OR IGNORE INTO pack_sessions VALUES (?, ?)",
                    ((number, session) for session in pack.sessions),
                )
                db.executemany("INSERT OR IGNORE INTO hooks VALUES (?, ?)", ((hook, number) for hook in pack.hooks))

        self._write(add)

    def forget_packs(self, packs: Iterable[bytes]) -> None:
        """Remove packs that are gone."""
        gone = tuple(packs)

        def forget(db: sqlite3.Connection) -> None:
            for pack in gone:
                row = db.execute("DELETE FROM packs WHERE pack = ? RETURNING number", (pack,)).fetchone()
                if row is not None:
                    db.execute("DELETE FROM pack_sessions WHERE number = ?", row)
                    db.execute("DELETE FROM hooks WHERE number = ?", row)

        self._write(forget)

    def find(self, hooks: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """(hook, pack number) for every known pack with one of `hooks`."""
        for start in range(0, len(hooks), _VARIABLES):
            some = hooks[start : start + _VARIABLES]
            marks = ",".join("?" * len(some))
            yield from self._rows(f"SELECT hook, number FROM hooks WHERE hook IN ({marks})", some)  # noqa: S608

    def place(self, number: int) -> PackPlace | None:
        """The place of a pack's directory; None if the pack is no longer known."""
        rows = self._rows(
            "SELECT pack, directory_offset, directory_length, chunks FROM packs WHERE number = ?", (number,)
        )
        return PackPlace(*rows[0]) if rows else None

    def latest(self, chunks: int) -> list[int]:
        """The numbers of the latest packs, latest first, with at most `chunks` chunks in total."""
        return [
            number
            for (number,) in self._rows(
                "SELECT number FROM (SELECT number, sum(chunks) OVER (ORDER BY number DESC) AS total"
                " FROM (SELECT number, chunks FROM packs ORDER BY number DESC LIMIT ?)) WHERE total <= ?",
                (max(1, chunks // 64), chunks),
            )
        ]

    def packs_of_other_sessions(self, sessions: Iterable[bytes]) -> set[int]:
        """The numbers of packs with segments of a session not among `sessions`."""
        good = set(sessions)
        bad = [(one,) for (one,) in self._rows("SELECT DISTINCT session FROM pack_sessions") if one not in good]
        return {
            number for one in bad for (number,) in self._rows("SELECT number FROM pack_sessions WHERE session = ?", one)
        }

    # sessions

    def sessions(self) -> dict[bytes, bytes]:
        """Sessions with a verified signature, and their writers."""
        return dict(self._rows("SELECT session, writer FROM sessions"))

    def add_sessions(self, sessions: Iterable[tuple[bytes, bytes]]) -> None:
        """Record verified sessions and their writers."""
        self._note("INSERT OR IGNORE INTO sessions VALUES (?, ?)", sessions)

    # what this host has seen

    def seen(self, prefix: str = "") -> Iterator[str]:
        """Keys of the objects ever seen below `prefix`, in order; a page of them is in memory at a time."""
        query = "SELECT key FROM seen WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        last = prefix
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\U0010ffff"
        while page := self._rows(query, (last, end, _PAGE)):
            yield from (key for (key,) in page)
            ((last,),) = page[-1:]

    def saw(self, keys: Iterable[str]) -> None:
        """Record that these objects exist."""
        self._note("INSERT OR IGNORE INTO seen VALUES (?)", ((key,) for key in keys))

    def unsee(self, keys: Iterable[str]) -> None:
        """Remove objects that were deleted on purpose."""
        self._note("DELETE FROM seen WHERE key = ?", ((key,) for key in keys))

    # object lock

    def locks(self) -> dict[str, datetime]:
        """The ends (UTC) of the object locks that this host has extended; expired ones are removed."""
        self._note("DELETE FROM locks WHERE until < ?", [(datetime.now(UTC).timestamp(),)])
        rows = self._rows("SELECT key, until FROM locks")
        return {key: datetime.fromtimestamp(until, UTC) for key, until in rows}

    def add_locks(self, keys: Iterable[str], until: datetime) -> None:
        """Record that these objects are locked until then."""
        self._note("INSERT OR REPLACE INTO locks VALUES (?, ?)", ((key, until.timestamp()) for key in keys))

    # the file and its failures

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
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


def _prepared(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError("another version")
        db.execute("PRAGMA journal_mode = WAL")
        # A crash may lose the last entries; they are then read from the repository again.
        db.execute("PRAGMA synchronous = NORMAL")
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
