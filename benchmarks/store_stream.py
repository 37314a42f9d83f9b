"""Penstock as a separate process: one file into a repository in a folder, or one snapshot out of it.

The command line has no source that reads a plain file, so this runs the engine of `penstock backup` and `penstock cat`
with such a source. As in every command, the cost includes starting Python and opening the repository.

    python -m benchmarks.store_stream init FOLDER
    python -m benchmarks.store_stream store FOLDER [FILE | --made-up BYTES]
    python -m benchmarks.store_stream restore FOLDER [--back SNAPSHOTS] > FILE

A backup opens the repository with a writer key file, a restore with the passphrase in BENCHMARK_PASSPHRASE. `init`
makes a maintainer's key file too, for who measures upkeep.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from penstock.cli.own_process import lighten, steady

lighten()  # as the command does: before anything heavy is loaded

from benchmarks.contenders import MAINTAINER_KEY

from penstock.api import (
    Dump,
    DumpPlan,
    DumpStream,
    Event,
    Inspection,
    PluginSettings,
    Restore,
    RestorePlan,
    RestoreTarget,
    Secret,
    Source,
    StreamSpec,
)
from penstock.engine import backup
from penstock.engine.restore import cat
from penstock.repository import Access, Repository
from penstock.repository.repository import FIRST_DOMAIN
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock_filesystem.sink import FilesystemSettings, FilesystemSink

_KEY = "writer.key"
MIB = 1024 * 1024
_CACHE = "cache"
_REPOSITORY = "repository"


class FileSettings(PluginSettings):
    """The file to read, and what ends a record in it."""

    path: Path
    separator: bytes = b"\n"


class FileSource(Source):
    """One stream: the bytes of a file."""

    name = "file"
    Settings = FileSettings
    settings: FileSettings

    def inspect(self) -> Inspection:
        return Inspection("file", "1", "1", size_estimate=self.settings.path.stat().st_size)

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        spec = StreamSpec("dump", "raw", record_separator=self.settings.separator)
        yield Dump(DumpPlan(self.inspect(), (spec,), consistency="one file"), self.attach)

    def attach(self, spec: StreamSpec) -> DumpStream:
        del spec
        return _FileStream(self.settings.path)

    # `cat` outputs a stream without the source, so nothing here restores.
    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        raise NotImplementedError

    def restore(self, plan: RestorePlan) -> AbstractContextManager[Restore]:
        raise NotImplementedError


class _FileStream(DumpStream):
    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb", buffering=0)

    def readinto(self, buffer: memoryview, /) -> int:
        # As much as a pipe returns at once.
        return self._file.readinto(buffer[:MIB])  # type: ignore[attr-defined,no-any-return]  # unbuffered: a FileIO

    def close(self) -> None:
        self._file.close()

    def abort(self) -> None:
        self._file.close()


def initialise(folder: Path) -> None:
    """Create a repository, and keys of a writer and of a maintainer beside it."""
    repository = Repository.create(_sink(folder), passphrase=_passphrase())
    _keep(folder / _KEY, add_writer(repository, "benchmark", domain=FIRST_DOMAIN))
    _keep(folder / MAINTAINER_KEY, add_maintainer(repository, "upkeep"))


def _keep(path: Path, access: Access) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(access.to_key_file())


def store(folder: Path, source: Source, memory: int) -> None:
    """Back up `source`."""
    key = Access.from_key_file((folder / _KEY).read_bytes(), _KEY)
    repository = Repository.open(_sink(folder), key)
    steady()
    backup(
        repository,
        source,
        name="benchmark",
        source_type=source.name,
        cache_dir=folder / _CACHE,
        memory=memory,
        compression="auto",
        listener=_unheard,
    )


def restore(folder: Path, out: BinaryIO, back: int = 0) -> None:
    """Write the stream of the latest snapshot, or of one so many before it, to `out`; every byte is verified."""
    repository = Repository.open(_sink(folder), _passphrase())
    entry = list_snapshots(repository)[-1 - back] if back else find_snapshot(repository, "latest")
    cat(entry, "dump", out=out.write, listener=_unheard)


def _unheard(event: Event) -> None:
    del event


def _sink(folder: Path) -> FilesystemSink:
    return FilesystemSink(FilesystemSettings(path=(folder / _REPOSITORY).resolve()))


def _passphrase() -> Secret:
    return Secret(os.environ["BENCHMARK_PASSPHRASE"])


def _made_up(size: int) -> Source:
    from penstock.testing.memory_source import SyntheticSettings, SyntheticSource

    return SyntheticSource(SyntheticSettings(size=size))


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("init", "store", "restore"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--made-up", type=int, metavar="BYTES", help="store this many generated bytes instead")
    parser.add_argument("--separator", type=os.fsencode, default=b"\n", help="what ends a record; may be empty")
    parser.add_argument("--back", type=int, default=0, metavar="SNAPSHOTS", help="before the latest, which to restore")
    parser.add_argument("--memory", type=int, default=128 * MIB, help="the setting memory, in bytes")
    options = parser.parse_args()
    if options.verb == "init":
        initialise(options.folder)
    elif options.verb == "restore":
        with os.fdopen(sys.stdout.fileno(), "wb", closefd=False) as out:
            restore(options.folder, out, options.back)
    elif options.made_up is not None:
        store(options.folder, _made_up(options.made_up), options.memory)
    elif options.file is not None:
        store(options.folder, FileSource(FileSettings(path=options.file, separator=options.separator)), options.memory)
    else:
        parser.error("store needs a file or --made-up")


if __name__ == "__main__":
    main()
