"""Verify: proof that every stream of a snapshot comes out whole. Nothing short of a restore proves more."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penstock.api.errors import DamagedObject, MissingObject
from penstock.engine.reporting import Listener, Reporter, reporting
from penstock.format.manifest import StreamRecord
from penstock.repository import SnapshotEntry
from penstock.repository.read.budget import DEFAULT_MEMORY
from penstock.repository.read.reader import SnapshotReader

__all__ = ["Verified", "VerifyReport", "verify"]

_PROGRESS_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verified:
    """One snapshot: `read` bytes of `streams` came out with the digests of the dump; `problems` names what did not."""

    entry: SnapshotEntry
    streams: int
    read: int
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The form used in JSON documents. Sizes in bytes."""
        return {
            "snapshot": self.entry.id.hex(),
            "backup": self.entry.head.backup,
            "signer": self.entry.signer,
            "finished": self.entry.head.finished,
            "streams": self.streams,
            "read": self.read,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """All snapshots that were verified, in their order."""

    snapshots: tuple[Verified, ...]
    seconds: float

    @property
    def problems(self) -> int:
        """How many streams, or whole snapshots, do not come out."""
        return sum(len(one.problems) for one in self.snapshots)

    def to_json(self) -> dict[str, Any]:
        """The document of `penstock verify`."""
        return {
            "snapshots": [one.to_json() for one in self.snapshots],
            "problems": self.problems,
            "seconds": round(self.seconds, 3),
        }


def verify(entries: Sequence[SnapshotEntry], *, memory: int = DEFAULT_MEMORY, listener: Listener) -> VerifyReport:
    """Read every stream of these snapshots to its end and compare its digest with that of the dump.

    What is damaged or missing is a problem of its stream, and the others are read all the same. Buffers take `memory`
    bytes at most. Raises `RoleForbids` for all but the owner, and what the sink raises.
    """
    begun = time.monotonic()
    done = [_verify(entry, memory, listener) for entry in entries]
    return VerifyReport(tuple(done), time.monotonic() - begun)


def _verify(entry: SnapshotEntry, memory: int, listener: Listener) -> Verified:
    problems = []
    read = streams = 0
    with reporting(listener, "verify", entry.id.hex(), entry.domain.sink) as reporter:
        try:
            with SnapshotReader(entry, memory) as reader:
                reporter.phase("reading", entry.head.size)
                for record in reader.manifest.streams:
                    try:
                        read += _read(reader, record, reporter)
                        streams += 1
                    except (DamagedObject, MissingObject) as error:
                        problems.append(f"{record.name}: {error}")
        except (DamagedObject, MissingObject) as error:
            problems.append(str(error))
        for problem in problems:
            reporter.finding(entry.id.hex(), problem)
        reporter.completed("verified", {"read": read, "problems": len(problems)})
    return Verified(entry, streams, read, tuple(problems))


def _read(reader: SnapshotReader, record: StreamRecord, reporter: Reporter) -> int:
    done = told = 0
    for block in reader.blocks(record):
        done += len(block)
        if done - told >= _PROGRESS_BYTES:
            told = done
            reporter.progress(record.name, done)
    reporter.progress(record.name, done)
    reporter.ended(record.name, done)
    return done
