"""What the engine and the command do, in a process of its own that says how much memory it took.

    python -m core.tests.engine.measured VERB FOLDER OPTIONS

The repository is in FOLDER/repository, its key in FOLDER/owner.key, the cache in FOLDER/cache; OPTIONS are JSON, and
what the functions below take. The last line on stdout is the peak resident memory in KiB and what the verb says, unless
it has printed that before.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.tests.repository.lab import CHEAP, MIB, PASSPHRASE

from penstock import engine
from penstock.api import RestoreTarget
from penstock.cli import app
from penstock.format.chunker import ChunkerParameters
from penstock.format.pack import MAGIC, TRAILER_BYTES, Trailer
from penstock.format.sealing import OVERHEAD
from penstock.repository import Access, Repository
from penstock.repository.write import packer
from penstock.testing import SyntheticSettings, SyntheticSource
from penstock_filesystem.sink import FilesystemSettings, FilesystemSink

__all__ = ["TINY", "Peak", "create", "measure", "open_again"]

_ROOT = Path(__file__).parents[3]
_DEFAULT_MEMORY = 128 * MIB
_TINY_SEGMENT = 1024

#: Chunks that fit into tiny segments.
TINY = ChunkerParameters(minimum=64, average=256, maximum=_TINY_SEGMENT, normalization=0)


class QuickSink(FilesystemSink):
    """Waits for no disk. With `hollow`, the segments of packs are holes in their files, which take no room.

    Their ends, which is all that deduplication reads of them, are as they were written.
    """

    hollow = False

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        del if_absent
        view = memoryview(data)
        start = 0
        if self.hollow and "/packs/" in key:
            trailer = Trailer.decode(view[-TRAILER_BYTES:], len(view))
            start = len(view) - TRAILER_BYTES - trailer.places_length - trailer.ids_length
        path = self.settings.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(view[: len(MAGIC)])
            file.seek(max(start, len(MAGIC)))
            file.write(view[max(start, len(MAGIC)) :])


class Peak(int):
    """Peak resident memory in bytes, and what else the process said."""

    said: Any


def create(folder: Path, chunker: ChunkerParameters | None = None) -> Repository:
    """A new repository in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    repository = Repository.create(_sink(folder), passphrase=PASSPHRASE, cost=CHEAP, chunker=chunker)
    descriptor = os.open(folder / "owner.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(repository.access.to_key_file())
    return repository


def open_again(folder: Path, *, hollow: bool = False) -> Repository:
    """The repository, opened with the owner's key."""
    access = Access.from_key_file((folder / "owner.key").read_bytes(), "owner.key")
    sink = _sink(folder)
    sink.hollow = hollow
    return Repository.open(sink, access)


def _sink(folder: Path) -> QuickSink:
    return QuickSink(FilesystemSettings(path=folder / "repository"))


def measure(verb: str, folder: Path, **options: Any) -> Peak:
    """Run a verb in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "core.tests.engine.measured", verb, str(folder), json.dumps(options)],
        cwd=_ROOT,
        # Measured as it runs for an operator: not with coverage in its memory.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *printed, last = done.stdout.splitlines()
    kib, _, said = last.partition(" ")
    peak = Peak(int(kib) * 1024)
    peak.said = json.loads(said) if said else json.loads("\n".join(printed))
    return peak


# in the child


def _backup(
    folder: Path, size: int, generation: int = 0, changed: float = 0.01, *, hollow: bool = False
) -> engine.BackupResult:
    settings = SyntheticSettings(size=size, generation=generation, changed=changed, compressible=0)
    return engine.backup(
        open_again(folder, hollow=hollow),
        SyntheticSource(settings),
        name="synthetic",
        source_type="synthetic",
        cache_dir=folder / "cache",
        memory=_DEFAULT_MEMORY,
        compression=1,
        listener=lambda _: None,
    )


def backup(folder: Path, **options: Any) -> Any:
    """One night of the synthetic source."""
    result = _backup(folder, **options)
    return {"packs": result.packs, "stored": result.stored, "seconds": round(result.seconds, 1)}


def nights(folder: Path, *, count: int, **options: Any) -> Any:
    """So many nights of it."""
    results = [_backup(folder, generation=generation, **options) for generation in range(count)]
    return {"packs": sum(result.packs for result in results)}


def backup_of_tiny_segments(folder: Path, *, segments_a_pack: int, **options: Any) -> Any:
    """As `backup`, with segments of 1 KiB at most, and so many in a pack."""
    vars(packer).update(
        SEGMENT=_TINY_SEGMENT, PACK_TARGET=len(MAGIC) + segments_a_pack * (_TINY_SEGMENT + OVERHEAD + 1)
    )
    return backup(folder, **options)


def restore(folder: Path) -> Any:
    """The latest snapshot, into the source that compares it."""
    result = engine.restore(
        engine.find(open_again(folder), "latest", cache_dir=folder / "cache", warn=print),
        SyntheticSource(),
        target=RestoreTarget(),
        streams=None,
        verify_first=False,
        memory=_DEFAULT_MEMORY,
        listener=lambda _: None,
    )
    return {"written": result.written, "seconds": round(result.seconds, 1)}


def check(folder: Path, *, read_data: bool) -> Any:
    """Check everything."""
    report = engine.check(
        open_again(folder),
        read_data=read_data,
        cache_dir=folder / "cache",
        memory=_DEFAULT_MEMORY,
        listener=lambda _: None,
    )
    findings = [finding.to_json() for finding in report.findings[:3]]
    return {"findings": findings, "packs": report.packs, "segments": report.segments, "snapshots": report.snapshots}


def latest(folder: Path) -> Any:
    """Find the latest snapshot."""
    return engine.find(open_again(folder), "latest", cache_dir=folder / "cache", warn=print).id.hex()


def command(folder: Path, *, arguments: list[str]) -> None:
    """`penstock` with these arguments, which prints JSON."""
    os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_CACHE_HOME"] = str(folder / "home")
    place = ["--repo", (folder / "repository").absolute().as_uri(), "--key", str(folder / "owner.key")]
    assert app.run([*arguments, *place, "--json"]) == 0


_VERBS: dict[str, Callable[..., Any]] = {
    verb.__name__: verb for verb in (backup, nights, backup_of_tiny_segments, restore, check, latest, command)
}


def main(verb: str, folder: str, options: str) -> None:
    """What the arguments say."""
    said = _VERBS[verb](Path(folder), **json.loads(options))
    # Not ru_maxrss, which a process takes over from the one that started it.
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(peak.split()[1], *([json.dumps(said)] if said is not None else []), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
