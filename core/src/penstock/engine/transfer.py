"""Transfer: the streams of a snapshot, read from one repository and stored in another on the same way."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from penstock.api.errors import DamagedObject, Interrupted, MissingObject, NotCopied, say_more
from penstock.engine.reporting import Reporter
from penstock.format.manifest import StreamRecord
from penstock.repository import SnapshotEntry
from penstock.repository.read.dumped import DumpedStream, spec_of
from penstock.repository.read.reader import SnapshotReader
from penstock.repository.write.session import Committed, Session
from penstock.repository.write.stream import StoredStream, StreamWriter

__all__ = ["transfer"]


def transfer(entry: SnapshotEntry, into: Session, *, memory: int, reporter: Reporter) -> Committed:
    """Store a snapshot once more, by a session of its own, which must not have been entered yet.

    What it needs is looked for before the session begins. The commit comes after all streams were compared with their
    digests: raises `NotCopied` if one is not what was dumped, and what the session raises. Reading takes `memory` bytes
    of buffers at most.
    """
    reporter.phase("preparing")
    done: Committed | None = None
    try:
        with _reading(entry, memory) as reader, into as session, session.writer() as writer:
            manifest = reader.manifest
            reporter.phase("copying", entry.head.size)
            streams = [
                _store(entry, reader, number, record, writer, reporter)
                for number, record in enumerate(manifest.streams)
            ]
            reporter.phase("committing")
            done = session.commit(
                source=entry.head.source,
                consistency=manifest.consistency,
                inspection=dict(manifest.inspection),
                streams=[(spec_of(record), stored) for record, stored in zip(manifest.streams, streams, strict=True)],
                written=[writer.finish()],
                copies=entry.head,
            )
    except (Interrupted, KeyboardInterrupt) as error:
        if done is not None:
            say_more(error, f"the copy {done.head.snapshot.hex()} is committed")
        raise
    return done


@contextmanager
def _reading(entry: SnapshotEntry, memory: int) -> Iterator[SnapshotReader]:
    """A reader of the snapshot, of which all that it needs is there."""
    with ExitStack() as closing:
        try:
            reader = closing.enter_context(SnapshotReader(entry, memory))
            reader.require(reader.manifest.streams)
        except (DamagedObject, MissingObject) as error:
            raise _not_copied(entry, str(error)) from error
        yield reader


def _store(
    entry: SnapshotEntry,
    reader: SnapshotReader,
    number: int,
    record: StreamRecord,
    writer: StreamWriter,
    reporter: Reporter,
) -> StoredStream:
    stream = DumpedStream(reader, record)
    try:
        stored = writer.store(number, spec_of(record), stream, lambda done: reporter.progress(record.name, done))
    except (DamagedObject, MissingObject) as error:
        if error is not stream.problem:
            raise  # of the other repository
        raise _not_copied(entry, f"{record.name}: {error}") from error
    finally:
        stream.close()
    # Once more, behind all buffers.
    if (stored.size, stored.digest) != (record.size, record.digest):
        raise _not_copied(entry, f"{record.name}: what was stored is not what was dumped")
    reporter.ended(record.name, stored.size)
    return stored


def _not_copied(entry: SnapshotEntry, why: str) -> NotCopied:
    return NotCopied(
        f"the snapshot {entry.id.hex()[:8]} of {entry.head.backup} was not copied: {why}",
        hint="Run penstock check where it is, to see what is damaged. Other snapshots can be copied.",
    )
