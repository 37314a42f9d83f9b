"""Holds one frozen state of a database and gives its bytes, as the database file would be.

Runs in the reader process only. POSIX drops all locks that a process has on a file when it closes any descriptor of
it, so a process that reads the file itself must not be one that works with the database otherwise
(https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
Imports nothing outside the standard library.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote

from penstock_sqlite import wal

__all__ = ["BLOCK", "View", "ViewError", "translated"]

#: Bytes of one block of the image: a multiple of every page size that SQLite has.
BLOCK = 1 << 20
_MAGIC = b"SQLite format 3\0"
_READ_VERSION = 19
_HEADER_FIELDS = {"freelist_count": 36, "schema_version": 40, "user_version": 60, "application_id": 68}
_WAL_HINT = (
    "Run the backup as the database's owner: in WAL mode it needs write access to the folder and to the -shm file, "
    "though it never writes to the database. Where nobody writes to it, as on a read-only mount of a snapshot, set "
    "immutable = true."
)
_CHANGED = "was written to while it was read as something that nobody writes to"


class ViewError(Exception):
    """The database cannot be read. `kind` is one of "unreachable", "denied", "broken"."""

    def __init__(self, kind: str, message: str, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.details = details
        #: Whether a part of the image was sent before.
        self.in_image = False


class View:
    """A read transaction on the database at `path`, and with it a state of the database that nobody changes.

    In rollback-journal mode the transaction's SHARED lock keeps every writer from the main file. In WAL mode writers
    go on; the transaction keeps the snapshot's frames in the log, and keeps checkpoints from copying later ones into
    the main file, so main file and log together hold the snapshot.

    Where nobody may write, there are no locks: with `immutable`, or with a log whose index is not in use and cannot be
    made. Whether somebody wrote after all is then seen at the end, by the files' sizes and times.
    """

    def __init__(self, path: str, busy_timeout: float, *, immutable: bool = False) -> None:
        self.path = os.path.realpath(path)  # SQLite, too, names the -wal file after the file behind a symbolic link
        self._busy_timeout = busy_timeout
        self.immutable = immutable
        #: Files that nobody may write to any more, with what they were like.
        self._frozen: dict[int, tuple[int, int]] = {}
        self._descriptors: list[int] = []
        self._main = self._open(self.path)
        self.stat = os.fstat(self._main)
        self.had_log = Path(self.path + "-shm").exists()
        self._refuse_foreign()
        with translated(self.path):
            self.connection = sqlite3.connect(
                f"file:{quote(os.fsencode(self.path))}?mode=ro{'&immutable=1' if immutable else ''}",
                uri=True,
                isolation_level=None,
                timeout=busy_timeout,
            )
            self.connection.text_factory = lambda data: data.decode(errors="replace")
            self._overlay: wal.Overlay | None = None
            self.journal_mode = self._begin_transaction()
            self.page_size = int(self.pragma("page_size"))
            self.page_count = int(self.pragma("page_count"))
        now = Path(self.path).stat()
        if (now.st_dev, now.st_ino) != (self.stat.st_dev, self.stat.st_ino):
            raise ViewError("unreachable", f"{self.path} was replaced by another file just now", "Try again.")
        #: The first 100 bytes of the image: the database header (fileformat2, section 1.3).
        self.header = self._checked_header()

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return self.page_size * self.page_count

    def pragma(self, name: str) -> str:
        """The value of a pragma under this view."""
        row = self.connection.execute(f"PRAGMA {name}").fetchone()
        return str(row[0])

    def blocks(self) -> Iterator[memoryview]:
        """The image, in order; a block is valid until the next is asked for. Raises `ViewError`."""
        buffer = bytearray(BLOCK)
        overlay = self._overlay.pages() if self._overlay else iter(())
        upcoming = next(overlay, None)
        for start in range(0, self.size, BLOCK):
            block = memoryview(buffer)[: min(BLOCK, self.size - start)]
            with translated(self.path):
                self._fill(block, start)
                while upcoming is not None and (upcoming[0] - 1) * self.page_size < start + len(block):
                    page, offset = upcoming
                    at = (page - 1) * self.page_size - start
                    if os.preadv(self._log, [block[at : at + self.page_size]], offset) != self.page_size:
                        raise ViewError("broken", f"{self.path}: the write-ahead log lost page {page} of the snapshot")
                    upcoming = next(overlay, None)
            yield block
        if self._overlay:
            self._check_log(self._overlay)
        self._check_frozen()

    def close(self) -> None:
        """Let the database go. The connection first: closing the descriptors would take its locks away."""
        self.connection.close()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, path: str) -> int:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ViewError("unreachable", f"the file {path} does not exist") from None
        except OSError as error:
            raise ViewError(
                "denied",
                f"cannot read {path}: {error.strerror}",
                "Let the user who runs the backup read the database file, its folder, and its -wal and -shm files.",
            ) from error
        self._descriptors.append(descriptor)
        return descriptor

    def _refuse_foreign(self) -> None:
        try:
            head = os.pread(self._main, len(_MAGIC), 0)
        except OSError as error:
            raise ViewError("broken", f"cannot read {self.path}: {error.strerror}") from error
        if head and head != _MAGIC:
            raise ViewError("broken", f"{self.path} is not an SQLite database, or is encrypted")

    def _look(self) -> str:
        """Read the schema, which starts the transaction where one was begun, then the journal mode."""
        self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return self.pragma("journal_mode")

    def _begin_transaction(self) -> str:
        """Start the transaction that freezes the state; returns the journal mode, which it freezes too."""
        if self.immutable:
            return self._begin_immutable()
        while self._look() != "wal":
            self.connection.execute("BEGIN")
            mode = self._look()
            if mode != "wal":
                return mode
            self.connection.execute("ROLLBACK")  # the mode was changed in between
        # A connection to a database in WAL mode keeps a lock, with which nobody can change the mode any more.
        self._overlay = self._begin_wal()
        return "wal"

    def _begin_immutable(self) -> str:
        for suffix in ("-wal", "-journal"):
            beside = Path(self.path + suffix)
            if beside.exists() and beside.stat().st_size:
                raise ViewError(
                    "broken",
                    f"{self.path} has changes in {beside.name}, which are lost to whoever reads it as immutable",
                    "Copy both files into a folder that this user may write to, and back up the copy.",
                )
        self._freeze(self._main)
        self.connection.execute("BEGIN")
        self._look()
        return "wal" if os.pread(self._main, 1, _READ_VERSION) == b"\2" else "delete"

    def _freeze(self, *descriptors: int) -> None:
        self._frozen |= {descriptor: _likeness(descriptor) for descriptor in descriptors}

    def _check_frozen(self) -> None:
        if any(_likeness(descriptor) != was for descriptor, was in self._frozen.items()):
            raise ViewError("unreachable", f"{self.path} {_CHANGED}", "Try again; set immutable = false if it is set.")

    def _begin_read_only(self) -> wal.Overlay | None:
        """As SQLite reads a log whose index nobody uses and nobody can make: it looks through all of it."""
        self._freeze(self._main, self._log)
        self.connection.execute("BEGIN")
        self._look()
        newest = wal.recover(self._log)
        if newest is None:
            return None
        if (newest.page_size, newest.pages) != (int(self.pragma("page_size")), int(self.pragma("page_count"))):
            raise ViewError("broken", f"{self.path}: the write-ahead log does not say what SQLite reads")
        return wal.Overlay(self._log, newest)

    def _begin_wal(self) -> wal.Overlay | None:
        """Start a read transaction and learn which committed state it sees; None when the main file holds it all.

        The index names the newest commit. When it names the same one before and after the transaction started, that is
        the one the transaction sees. The number of frames in the main file is read between: the header after it shows
        that it speaks of the same log. If it covers the whole snapshot, the log does not matter, and may even be
        started anew by a writer; if it does not, then it did not when the transaction started either, and SQLite
        holds a lock for us that keeps the log from being started anew.
        """
        self._log = self._open(self.path + "-wal")
        self._shm = self._open(self.path + "-shm")
        writable = os.access(self.path + "-shm", os.W_OK, effective_ids=True)
        if not writable and not wal.in_use(self._shm):
            return self._begin_read_only()
        deadline = time.monotonic() + self._busy_timeout
        while True:
            before = wal.read_header(self._shm)
            self.connection.execute("BEGIN")
            self._look()
            backfill = wal.read_backfill(self._shm)
            after = wal.read_header(self._shm)
            if before is not None and before == after:
                break
            self.connection.execute("ROLLBACK")
            if time.monotonic() > deadline:
                raise ViewError(
                    "unreachable",
                    f"{self.path} is written to too often to be read consistently",
                    "Run the backup at a quieter time.",
                )
            time.sleep(0.000_1)
        if not writable and not wal.in_use(self._shm):  # SQLite may then keep an index of its own, in its memory
            raise ViewError("unreachable", f"{self.path} was closed by its application just now", "Try again.")
        if after.version != wal.INDEX_VERSION:
            raise ViewError("broken", f"{self.path}: unknown version {after.version} of the write-ahead log's index")
        if after.frames and (after.page_size, after.pages) != (
            int(self.pragma("page_size")),
            int(self.pragma("page_count")),
        ):
            raise ViewError("broken", f"{self.path}: the write-ahead log's index is not the one that SQLite uses")
        if backfill >= after.frames:
            return None
        try:
            return wal.Overlay(self._log, after)
        except wal.WalMismatch as error:
            raise ViewError("broken", f"{self.path}: {error}") from error

    def _check_log(self, overlay: wal.Overlay) -> None:
        try:
            overlay.check()
        except wal.WalMismatch as error:
            raise ViewError("broken", f"{self.path}: {error} while it was being read") from error

    def _fill(self, block: memoryview, start: int) -> None:
        done = 0
        while done < len(block):
            count = os.preadv(self._main, [block[done:]], start + done)
            if count == 0:  # as SQLite does: pages past the end of the file were never written, and read as zeros
                block[done:] = bytes(len(block) - done)
                return
            done += count

    def _checked_header(self) -> bytes:
        """The image's header, once it says what SQLite itself says under the transaction: proof that they are one."""
        header = bytes(next(self.blocks(), b"")[:100])
        if header:
            with translated(self.path):
                for name, at in _HEADER_FIELDS.items():
                    if int(self.pragma(name)) & 0xFFFF_FFFF != int.from_bytes(header[at : at + 4]):
                        raise ViewError("broken", f"{self.path}: its bytes are not what SQLite reads ({name})")
        return header


def _likeness(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns


class translated:  # noqa: N801 - reads as a statement
    """A `with` block in which `sqlite3.Error` and `OSError` become `ViewError`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise _from_sqlite(self._path, error) from error
        if isinstance(error, OSError):
            raise ViewError("broken", f"{self._path}: {error.strerror}") from error


def _from_sqlite(path: str, error: sqlite3.Error) -> ViewError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}:
        return ViewError("unreachable", f"{path} stayed locked by another process", "Raise busy_timeout, or try again.")
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return ViewError(
            "broken",
            f"{path} was left in the middle of a transaction by a writer that was killed",
            "Open it once with its application, or with `sqlite3 FILE .schema`, which repairs it.",
        )
    if primary in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
        return ViewError("denied", f"cannot open {path}: {error}", _WAL_HINT)
    if primary == sqlite3.SQLITE_NOTADB:
        return ViewError("broken", f"{path} is not an SQLite database, or is encrypted")
    if primary == sqlite3.SQLITE_CORRUPT:
        return ViewError("broken", f"{path} is damaged: {error}", "Save what `sqlite3 FILE .recover` finds.")
    return ViewError("broken", f"{path}: {error}")
