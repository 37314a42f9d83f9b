"""The contract of a source: it turns a database into streams, and streams back into a database."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from penstock.api.models import DumpPlan, Inspection, RestoreTarget, StreamSpec
from penstock.api.plugin import Plugin

__all__ = ["DumpStream", "Source"]


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


class Source(Plugin):
    """Dumps and restores one database server, one database or one file, whatever its settings name."""

    @abstractmethod
    def inspect(self) -> Inspection:
        """Look, without dumping: connect, find the client program, compare versions, estimate.

        Raises `SourceUnreachable`, `SourceDenied`, `ClientMissing`, `ClientTooOld`: whatever would make a dump fail
        is said here, before it starts.
        """

    @abstractmethod
    def dump(self) -> AbstractContextManager[DumpPlan]:
        """Hold one consistent view of the database for the length of the `with` block, and say what it consists of.

        Does all that `inspect` does. Streams are opened only within the block. Leaving the block frees everything;
        every stream has been closed or aborted by then.
        """

    @abstractmethod
    def open(self, spec: StreamSpec) -> DumpStream:
        """Start to dump one stream of the plan. Each stream is opened at most once in a dump.

        The bytes of a stream are the same for the same content, as far as the engine allows, or they would not
        deduplicate; they are not compressed, for the same reason.
        """

    @abstractmethod
    def check_target(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> None:
        """Whatever can be known to stand in the way of a restore is said here; changes nothing.

        Raises `SourceUnreachable`, `SourceDenied`, `ClientMissing`, `ClientTooOld`, `TargetMissing`,
        `TargetNotEmpty` (unless `target.clean`), `UsageError` for unknown `target.options`.
        """

    @abstractmethod
    def restore(self, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget) -> None:
        """Write one stream back. `check_target` was called before, with all streams of the restore.

        `blocks` gives the stream's bytes in order, in blocks of any size, each valid until the next is asked for;
        it raises when the repository turns out to be damaged, and a restore must not be completed then: what a
        source can undo, it undoes. Returns when the engine has taken everything durably; raises `RestoreFailed`.
        """
