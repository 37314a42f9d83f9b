"""A backup, a restore or a copy of made-up bytes in a process of its own: to be killed, or to be measured.

    python -m core.tests.engine.engine_process VERB FOLDER SIZE MEMORY PACE PUTS

The repository is in FOLDER, its key in FOLDER/owner.key and the cache in FOLDER/cache. PACE and PUTS are what a
`FolderSink` takes as its pace and as its puts to live, or empty. A copy goes into a new repository, which drops the
content of packs. Writes a line to stdout when it
moves the first bytes, and one with its peak resident memory in KiB when it has ended.
"""

import os
import subprocess
import sys
from pathlib import Path

from core.tests.repository.folder_sink import FolderSink

from penstock.api import Event, EventKind, RestoreTarget
from penstock.engine import Copying, backup, restore
from penstock.repository import Access, Repository
from penstock.repository.snapshots import find_snapshot
from penstock.testing import SyntheticSettings, SyntheticSource

__all__ = ["main", "start"]

_ROOT = Path(__file__).parents[3]


def start(
    verb: str, folder: Path, size: int, *, memory: int, pace: int | None = None, puts: int | None = None
) -> "subprocess.Popen[str]":
    """Start it; `size` and `memory` in bytes, `pace` and `puts` as a `FolderSink` takes them."""
    limits = ("" if limit is None else str(limit) for limit in (pace, puts))
    arguments = [verb, str(folder), str(size), str(memory), *limits]
    return subprocess.Popen(
        [sys.executable, "-m", "core.tests.engine.engine_process", *arguments],
        cwd=_ROOT,
        # Measured as it runs for an operator: not with coverage in its memory.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        stdout=subprocess.PIPE,
        text=True,
    )


def _peak() -> int:
    # Not ru_maxrss, which a process takes over from the one that started it.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])


def main(verb: str, folder: str, size: str, memory: str, pace: str, puts: str) -> None:
    """What the arguments say."""
    place = Path(folder)
    access = Access.from_key_file((place / "owner.key").read_bytes(), "owner.key")
    sink = FolderSink(place, int(pace) if pace else None, puts_to_live=int(puts) if puts else None)
    repository = Repository.open(sink, access)
    source = SyntheticSource(SyntheticSettings(size=int(size), compressible=0.2))
    told = False

    def tell(event: Event) -> None:
        nonlocal told
        if event.kind is EventKind.PROGRESS and not told:
            told = True
            print("moving", flush=True)

    if verb == "backup":
        backup(
            repository,
            source,
            name="synthetic",
            source_type="synthetic",
            cache_dir=place / "cache",
            memory=int(memory),
            compression=1,
            listener=tell,
        )
    elif verb == "copy":
        access = Repository.create(FolderSink(place / "copy"), passphrase=None).access
        other = Repository.open(FolderSink(place / "copy", 0), access)
        with Copying(repository, other, cache_dir=place / "cache", memory=int(memory), compression=1) as copying:
            copying.copy(find_snapshot(repository, "latest"), listener=tell)
    else:
        restore(
            find_snapshot(repository, "latest"),
            source,
            target=RestoreTarget(),
            streams=None,
            verify_first=False,
            memory=int(memory),
            listener=tell,
        )
    print(_peak(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
