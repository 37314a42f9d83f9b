"""The contract of a source: it turns a database into streams, and streams back into a database."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from penstock.api.errors import UsageError
from penstock.api.models import DumpPlan, Inspection, RestoreTarget, StreamSpec
from penstock.api.plugin import Plugin

__all__ = ["Dump", "DumpStream", "Restore", "Source"]


class DumpStream(ABC):
    """One stream of a dump, to be read once, by one thread. The caller ends it with `close()` or with `abort()`.

    End of file is not success: only a `close()` that returns is.
    """

    @abstractmethod
    def readinto(self, buffer: memoryview, /) -> int:
        """Read up to `len(buffer)` bytes into `buffer`, waiting for the first; 0 means the end of the stream.

        Raises `DumpStalled` after too long a wait. `buffer` must not be kept.
        """

    @abstractmethod
    def close(self) -> None:
        """End the stream after its last byte was read. Reaps the child.

        Raises `DumpFailed` unless the child exited with 0 and the engine's own end marker, where it has one, was
        seen; also when it is called before the end. Frees everything also when it raises. A second call does nothing.
        """

    @abstractmethod
    def abort(self) -> None:
        """End the stream early: kills and reaps the child. Never raises; after `close()` it does nothing.

        May be called while another thread waits in `readinto`, which then returns 0 or raises soon.
        """


@dataclass(frozen=True, slots=True)
class Dump:
    """One dump that is going on: its plan, and what opens its streams under the view that they share.

    Made by `Source.dump`, which holds the view until its block is left. What a dump has to remember is held by `open`,
    not by the source, which may have several dumps at once.

    `open(spec)` starts to dump one stream of the plan; a stream is opened once, or again after it was aborted. The
    bytes of a stream are the same for the same content, as far as the engine allows, or they would not deduplicate;
    they are not compressed, for the same reason. Where a stream needs nothing but its spec, `Source.attach` will do.
    """

    plan: DumpPlan
    open: Callable[[StreamSpec], DumpStream]


def _nothing() -> None:
    """What is done at the end of a restore that did all of it before."""


@dataclass(frozen=True, slots=True)
class Restore:
    """One restore that is going on. Made by `Source.restore`; leaving its block without `finish` undoes what it can.

    `write(spec, blocks)` writes one stream back; streams come in the order of their phases. `blocks` gives the stream's
    bytes in order, in blocks of any size, each valid until the next is asked for; all of them must be taken, to the end
    of the iteration. It raises when the repository turns out to be damaged, and the restore must not be completed then.

    `finish()` is called when all streams were written: it commits, puts in place, verifies, and returns when the engine
    has everything durably. Both raise `RestoreFailed`.
    """

    write: Callable[[StreamSpec, Iterable[memoryview]], None]
    finish: Callable[[], None] = _nothing


class Source(Plugin):
    """Dumps and restores one database server, one database or one file, whatever its settings name.

    An instance keeps no state of a dump or a restore. It is used by one thread, but for the streams of its dumps, each
    of which is read by a thread of its own. It must not rely on fork: the core starts other processes by `spawn`.
    """

    @abstractmethod
    def inspect(self) -> Inspection:
        """Look, without dumping: connect, find the client program, compare versions, estimate.

        `streams` and `consistency` of the result say what `dump` would do. Raises `SourceUnreachable`,
        `SourceDenied`, `ClientMissing`, `ClientTooOld`: whatever would make a dump fail is said here, before it starts.
        """

    @abstractmethod
    def dump(self) -> AbstractContextManager[Dump]:
        """Hold one consistent view of the database for the length of the `with` block.

        Does all that `inspect` does. Streams are opened only within the block. Leaving the block frees everything;
        every stream has been closed or aborted by then.
        """

    def attach(self, spec: StreamSpec) -> DumpStream:
        """Open a stream of a dump that another process holds: the plain data of `spec` is all that it takes.

        Made for sources that declare `PARALLEL_STREAMS`. Raises `UsageError` where it cannot.
        """
        raise UsageError(f"{spec.name}: a stream of {self.name} is opened by the process that holds its dump")

    @abstractmethod
    def check_target(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> None:
        """Whatever can be known to stand in the way of a restore is said here; changes nothing.

        Raises `SourceUnreachable`, `SourceDenied`, `ClientMissing`, `ClientTooOld`, `TargetMissing`,
        `TargetNotEmpty` (unless `target.clean`), `UsageError` for unknown `target.options`.
        """

    @abstractmethod
    def restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> AbstractContextManager[Restore]:
        """Begin a restore of `streams`. `check_target` was called before, with the same ones.

        Leaving the block after `finish` has returned keeps what was restored; leaving it before that undoes what can be
        undone.
        """
