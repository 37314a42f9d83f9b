"""Files and folders that survive a power cut.

`fsync` of a file makes its bytes durable but not its name; that takes an `fsync` of the folder (fsync(2)).
"""

import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["DurableFolders", "Unfinished"]

_STALE_SECONDS = 24 * 3600


class DurableFolders:
    """Makes folders below `root`, and knows which of them are durable already. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()

    def ensure(self, folder: Path) -> None:
        """Make `folder` and its parents where they are missing; durable on return, whoever made them."""
        if folder in self._durable and folder.is_dir():
            return
        if self._root in folder.parents or not folder.is_dir():
            self.ensure(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
        # Also when it existed: another writer may have made it just now, and not have synced it yet.
        with suppress(PermissionError):  # a folder above the repository may be closed to us
            self.sync(folder.parent)
        self._durable.add(folder)

    def sync(self, folder: Path) -> None:
        """Make the names in `folder` durable."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems cannot, and need not, sync a folder
                raise
        finally:
            os.close(descriptor)


class Unfinished:
    """The folder below `root` of files that are being written. Its name is not a valid key.

    A run that is interrupted leaves its writers behind, and the process ends while they write; `close` removes their
    files, and waits for none of their writes. On a disk that hangs, removing may hang too.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / ".unfinished~"
        self._files: set[Path] = set()
        self._closed = False
        self._swept = False
        self._lock = threading.Lock()

    @contextmanager
    def file(self, data: bytes | bytearray | memoryview) -> Iterator[Path]:
        """A new file that holds `data` durably, under a temporary name; removed after the block unless renamed.

        Raises `OSError`, also when `close` was called meanwhile.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        path = self.folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        self._files.add(path)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                if self._closed:  # perhaps since before the file was there
                    raise OSError(errno.ECANCELED, "the sink was closed")
                with memoryview(data).cast("B") as rest:
                    done = 0
                    while done < len(rest):
                        done += os.write(descriptor, rest[done:])
                os.fsync(descriptor)
                self._sweep(os.fstat(descriptor).st_mtime)
            finally:
                os.close(descriptor)
            yield path
        finally:
            with suppress(OSError):
                path.unlink()
            self._files.discard(path)

    def close(self) -> None:
        """Remove the files that are still being written, and let nobody begin another. May be repeated."""
        self._closed = True
        for path in tuple(self._files):
            with suppress(OSError):
                path.unlink()

    def _sweep(self, now: float) -> None:
        """Remove, once, what killed processes left here. `now` is by the storage's own clock, which may differ."""
        with self._lock:
            if self._swept:
                return
            self._swept = True
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and now - found.st_mtime > _STALE_SECONDS:
                        Path(entry.path).unlink()
