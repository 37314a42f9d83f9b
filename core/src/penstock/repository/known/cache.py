"""The local cache: the sparse index, and which objects this host has seen. It can be deleted at any time.

It holds no secret and no content: ids are keyed, keys of objects are public. SQLite, in a folder of mode 0700.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from penstock.api.errors import PenstockError
from penstock.format.index import PackSummary

__all__ = ["Cache", "PackPlace"]

_VERSION = 1
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
CREATE TABLE IF NOT EXISTS sessions (session BLOB PRIMARY KEY, writer BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS locks (key TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
"""
_VARIABLES = 500


class PackPlace(NamedTuple):
    """Where to find a pack's directory."""

    pack: bytes
    directory_offset: int
    directory_length: int
    chunks: int


class Cache:
    """One repository's cache. Used by one thread; several processes may use the same file.

    Leaving its `with` block turns SQLite's errors, such as a full disk, into a `PenstockError`.
    """

    def __init__(self, folder: Path, repository: bytes) -> None:
        self.path = folder / repository.hex() / "cache.sqlite3"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise self._refusal(error) from None

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._prepare()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # Damaged, or of another version: it is only a cache.
            for leftover in self.path.parent.glob(self.path.name + "*"):
                leftover.unlink()
            return self._prepare()

    def _prepare(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError("another version")
            # 0.2 s for a million hooks, which stand for some 128 GiB; damage would else show in the middle of a backup.
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            db.execute("PRAGMA journal_mode = WAL")
            # A crash may lose the last entries, which are then read from the repository again.
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> "Cache":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *rest: object) -> None:
        self.close()
        if isinstance(error, sqlite3.Error):
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> PenstockError:
        return PenstockError(f"cannot use the cache {self.path}: {error}", hint="choose another --cache-dir")

    # packs and hooks

    def packs(self) -> dict[bytes, bool]:
        """All packs that are known, and whether an index object lists them."""
        return {pack: bool(indexed) for pack, indexed in self._db.execute("SELECT pack, indexed FROM packs")}

    def add_packs(self, packs: Iterable[PackSummary], *, indexed: bool) -> None:
        """Take packs in, or note that they are indexed now."""
        with self._transaction():
            for pack in packs:
                self._db.execute(
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
                (number,) = self._db.execute("SELECT number FROM packs WHERE pack = ?", (pack.pack,)).fetchone()
                self._db.executemany(
                    "INSERT OR IGNORE INTO pack_sessions VALUES (?, ?)",
                    ((number, session) for session in pack.sessions),
                )
                self._db.executemany(
                    "INSERT OR IGNORE INTO hooks VALUES (?, ?)", ((hook, number) for hook in pack.hooks)
                )

    def forget_packs(self, packs: Iterable[bytes]) -> None:
        """Packs that are gone."""
        with self._transaction():
            for pack in packs:
                row = self._db.execute("DELETE FROM packs WHERE pack = ? RETURNING number", (pack,)).fetchone()
                if row is not None:
                    self._db.execute("DELETE FROM pack_sessions WHERE number = ?", row)
                    self._db.execute("DELETE FROM hooks WHERE number = ?", row)

    def find(self, hooks: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """(hook, pack number) for every known pack that holds one of `hooks`."""
        for start in range(0, len(hooks), _VARIABLES):
            some = hooks[start : start + _VARIABLES]
            marks = ",".join("?" * len(some))
            yield from self._db.execute(f"SELECT hook, number FROM hooks WHERE hook IN ({marks})", some)  # noqa: S608

    def place(self, number: int) -> PackPlace:
        """Where the directory of a pack is."""
        return PackPlace(
            *self._db.execute(
                "SELECT pack, directory_offset, directory_length, chunks FROM packs WHERE number = ?", (number,)
            ).fetchone()
        )

    def numbers(self) -> list[tuple[int, bytes, int]]:
        """(number, pack, chunks), the latest first."""
        return self._db.execute("SELECT number, pack, chunks FROM packs ORDER BY number DESC").fetchall()

    def packs_of_other_sessions(self, sessions: Iterable[bytes]) -> set[int]:
        """The numbers of packs with segments of a session that is not among `sessions`."""
        with self._transaction():
            self._db.execute("CREATE TEMP TABLE IF NOT EXISTS good (session BLOB PRIMARY KEY)")
            self._db.execute("DELETE FROM good")
            self._db.executemany("INSERT OR IGNORE INTO good VALUES (?)", ((session,) for session in sessions))
        rows = self._db.execute(
            "SELECT DISTINCT number FROM pack_sessions WHERE session NOT IN (SELECT session FROM good)"
        )
        return {number for (number,) in rows}

    def sessions_of(self, packs: Iterable[bytes]) -> list[bytes]:
        """The sessions whose segments are in these packs, each once."""
        sessions: dict[bytes, None] = {}
        for pack in packs:
            rows = self._db.execute(
                "SELECT session FROM pack_sessions JOIN packs USING (number) WHERE pack = ? ORDER BY session", (pack,)
            )
            sessions.update((session, None) for (session,) in rows)
        return list(sessions)

    # sessions

    def sessions(self) -> dict[bytes, bytes]:
        """Sessions whose signature was verified, and their writers."""
        return dict(self._db.execute("SELECT session, writer FROM sessions"))

    def add_session(self, session: bytes, writer: bytes) -> None:
        """Note a verified session."""
        self._db.execute("INSERT OR IGNORE INTO sessions VALUES (?, ?)", (session, writer))

    # what this host has seen

    def seen(self) -> set[str]:
        """Keys of all objects that were ever seen."""
        return {key for (key,) in self._db.execute("SELECT key FROM seen")}

    def saw(self, keys: Iterable[str]) -> None:
        """Note that these objects exist."""
        with self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((key,) for key in keys))

    def unsee(self, keys: Iterable[str]) -> None:
        """Objects that were deleted on purpose."""
        with self._transaction():
            self._db.executemany("DELETE FROM seen WHERE key = ?", ((key,) for key in keys))

    # object lock

    def locks(self) -> dict[str, datetime]:
        """Until when (UTC) this host has lengthened the locks of objects; those that have ended are forgotten."""
        with self._transaction():
            self._db.execute("DELETE FROM locks WHERE until < ?", (datetime.now(UTC).timestamp(),))
        rows = self._db.execute("SELECT key, until FROM locks")
        return {key: datetime.fromtimestamp(until, UTC) for key, until in rows}

    def add_locks(self, keys: Iterable[str], until: datetime) -> None:
        """Note that they are locked until then."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO locks VALUES (?, ?)", ((key, until.timestamp()) for key in keys)
            )

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT: `sqlite3`'s own context manager would begin a deferred one, which can fail midway."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
