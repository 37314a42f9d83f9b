"""Where workers of tests work: a folder, made-up streams, and the key at hand. Importable, as other processes need."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.tests.repository.folder_sink import FolderSink

from penstock.api import DumpFailed, DumpStream, StopToken, StreamSpec
from penstock.engine.dumping.workplace import Opened
from penstock.repository import Access, Repository
from penstock.testing import SyntheticSettings, SyntheticSource

__all__ = ["Cursed", "FolderWorkplace", "SlowSource"]


@dataclass(frozen=True)
class Cursed:
    """What befalls workers: each stream named here does `how` to the first `times` processes that open it.

    Who was here already is counted in a folder that all processes share.
    """

    folder: Path
    stream: str = ""
    how: str = "kill"
    times: int = 1

    def strike(self, spec: StreamSpec) -> None:
        """Do it, if it is time."""
        if spec.name != self.stream:
            return
        before = len(list(self.folder.glob("struck-*")))
        if before >= self.times:
            return
        (self.folder / f"struck-{before}").touch()
        match self.how:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "terminate":
                os.kill(os.getpid(), signal.SIGTERM)
            case "fail":
                raise DumpFailed(f"{spec.name}: as it was told to")
            case "spoilt":
                error = DumpFailed(f"{spec.name}: only the moment spoilt it")
                error.retryable = True  # type: ignore[misc]
                raise error
            case "odd":
                raise _NotPicklable(threading.Lock())
            case "hang":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                threading.Event().wait()


class _NotPicklable(Exception):
    pass


class SlowSource(SyntheticSource):
    """Its streams are opened by whom `cursed` lets."""

    def __init__(self, settings: SyntheticSettings, cursed: Cursed | None = None) -> None:
        super().__init__(settings)
        self.cursed = cursed

    def attach(self, spec: StreamSpec) -> DumpStream:
        stream = super().attach(spec)
        if self.cursed:
            self.cursed.strike(spec)
        return stream


@dataclass(frozen=True)
class FolderWorkplace:
    """A repository in a folder, opened with the key that came with it."""

    folder: Path
    key: bytes = field(repr=False)
    settings: SyntheticSettings
    cursed: Cursed | None = None
    pace: int | None = None

    @contextmanager
    def open(self, stop: StopToken) -> Iterator[Opened]:
        sink = FolderSink(self.folder, self.pace)
        sink.stop = stop
        source = SlowSource(self.settings, self.cursed)
        source.stop = stop
        repository = Repository.open(sink, Access.from_key_file(self.key, "the test's key"))
        yield Opened(repository, source, os.getpid)
