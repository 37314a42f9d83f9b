"""The file of the local cache, and what becomes of it: it can be deleted, damaged or out of reach at any time.

An SQLite file in a folder of mode 0700, one for each location of a repository: a replica has other objects and other
locks than its original. If its disk is full, its folder is not writable or its file is damaged, the run continues in
memory, or without recording anything new, and says so once.
"""

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

from blake3 import blake3

from penstock.format.encoding import ID_BYTES

__all__ = ["CacheFile", "cache_file"]

#: When the file was last looked at for damage.
_UPKEEP = """
CREATE TABLE IF NOT EXISTS upkeep (what TEXT PRIMARY KEY, time REAL NOT NULL) WITHOUT ROWID;
"""
_BUSY_SECONDS = 60.0
#: Of SQLite, for each connection: hooks are looked up all over the file, and the operating system keeps its pages.
_PAGES_KIB = 1024
#: How often the whole file is checked for damage: 0.2 s for a million hooks, which cover some 128 GiB.
_INTEGRITY_SECONDS = 7 * 86400.0
#: A cache whose file is no longer writable continues in memory up to this size in bytes, otherwise read-only.
_COPY_BYTES = 64 * 1024 * 1024


def cache_file(folder: Path, scope: bytes, place: str) -> Path:
    """The cache file for a domain at `place` (a sink's `location`); `scope` is the repository's id and the domain's."""
    repository, domain = scope[:ID_BYTES].hex(), scope[ID_BYTES:].hex()
    return folder / f"{repository}-{blake3(place.encode()).hexdigest(length=8)}" / domain / "cache.sqlite3"


class CacheFile:
    """The file of one domain at one place. One thread at a time; several processes may share it.

    `on_trouble` is told once why the file cannot be used: from then on everything is kept in memory or, if that would
    be too much, nothing new is recorded. No SQLite error leaves this class.
    """

    #: Statements that create the tables where they are missing, and the version of them: a file of another is replaced.
    schema: ClassVar[str]
    version: ClassVar[int]

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
            self._db = self._new_in_memory()
            copy_of.backup(self._db)
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_own(folder, self.path)
            self._db = self._connect()
        except (OSError, sqlite3.Error) as error:
            self._tell(error)
            self._go_on_in(self._new_in_memory())

    def another(self) -> Self:
        """The same cache for use by another thread; a copy if this one is in memory."""
        return type(self)(
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
            return _prepared(self.path, self.schema, self.version)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # Damaged, or of another version: it is only a cache, so start anew.
            self._discard()
            return _prepared(self.path, self.schema, self.version)

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

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
        kept = self._new_in_memory()
        try:
            (pages,), (size,) = (self._db.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
            if pages * size > _COPY_BYTES:
                kept.close()
                self._writable = False
                return
            self._db.backup(kept)
        except sqlite3.Error:
            kept.close()
            kept = self._new_in_memory()
        self.close()
        self._go_on_in(kept)

    def _give_up(self, error: sqlite3.Error) -> None:
        """The file cannot be read: continue with an empty cache in memory; the next run creates a new file."""
        self._tell(error)
        self.close()
        if not isinstance(error, sqlite3.OperationalError):
            self._discard()
        self._go_on_in(self._new_in_memory())

    def _new_in_memory(self) -> sqlite3.Connection:
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        db.executescript(self.schema + _UPKEEP)
        return db

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


def _prepared(path: Path, schema: str, version: int) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found not in (0, version):
            raise sqlite3.DatabaseError("another version")
        db.execute("PRAGMA journal_mode = WAL")
        # A crash may lose the last entries; they are then read from the repository again.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
        db.executescript(schema + _UPKEEP)
        db.execute(f"PRAGMA user_version = {version}")
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
