"""A minimal sink on the disk, which keeps what a killed process leaves behind."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from penstock.api import ObjectInfo, ObjectMissing, PluginSettings, Sink

__all__ = ["FolderSink"]


class _NoSettings(PluginSettings):
    pass


class FolderSink(Sink):
    """One file per object, put in place by a rename.

    `bytes_a_second` slows puts down; 0 drops the content of packs, as if the disk were infinitely fast.
    After `puts_to_live` puts, the process kills itself in the middle of the next: the same moment on every machine.
    """

    name = "folder"
    Settings = _NoSettings

    def __init__(self, folder: Path, bytes_a_second: int | None = None, *, puts_to_live: int | None = None) -> None:
        super().__init__(_NoSettings())
        self._folder = folder
        self._pace = bytes_a_second
        self._left = puts_to_live
        self._counting = threading.Lock()

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        del if_absent
        path = self._folder / "objects" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._folder / "partial" / key.replace("/", "_")
        partial.parent.mkdir(exist_ok=True)
        if self._pace == 0 and "/packs/" in key:
            data = b""
        with partial.open("wb") as file:
            if self._is_to_die():
                file.write(data[: len(data) // 2])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            for start in range(0, len(data), 1 << 20):
                part = data[start : start + (1 << 20)]
                file.write(part)
                if self._pace:
                    time.sleep(len(part) / self._pace)
        partial.replace(path)

    def _is_to_die(self) -> bool:
        """Counts the puts that are begun, those of several threads together."""
        if self._left is None:
            return False
        with self._counting:
            self._left -= 1
            return self._left < 0

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        try:
            with (self._folder / "objects" / key).open("rb") as file:
                file.seek(start)
                return file.read() if length is None else file.read(length)
        except FileNotFoundError:
            raise ObjectMissing(key, "no such object") from None

    def stat(self, key: str) -> ObjectInfo:
        try:
            return ObjectInfo(key, (self._folder / "objects" / key).stat().st_size)
        except FileNotFoundError:
            raise ObjectMissing(key, "no such object") from None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        root = self._folder / "objects"
        for path in sorted(root.rglob("*")):
            key = path.relative_to(root).as_posix()
            if path.is_file() and key.startswith(prefix):
                yield ObjectInfo(key, path.stat().st_size)

    def delete(self, key: str) -> None:
        (self._folder / "objects" / key).unlink(missing_ok=True)

    def close(self) -> None:
        pass

    @property
    def size(self) -> int:
        """Total size of all objects in bytes."""
        return sum(info.size for info in self.list())
