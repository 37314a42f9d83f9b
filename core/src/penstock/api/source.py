"""The contract of a source: it turns a database into streams, and streams back into a database."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from penstock.api.errors import UsageError
from penstock.api.models import DumpPlan, Inspection, RestorePlan, RestoreTarget, StreamOutcome, StreamSpec
from penstock.api.plugin import Plugin

__all__ = ["Dump", "DumpStream", "Restore", "Source"]


class DumpStream(ABC):
    """One stream of a dump, read once, by one thread. The caller ends it with `close()` or `abort()`.

    End of file is not success; only a `close()` that returns is.
    """

    @abstractmethod
    def readinto(self, buffer: memoryview, /) -> int:
        """Read up to `len(buffer)` bytes into `buffer`, waiting for the first; 0 means the end of the stream.

        Raises `DumpStalled` if the wait is too long. Do not keep `buffer`.
        """

    @abstractmethod
    def close(self) -> None:
        """End the stream after its last byte was read. Reaps the child.

        Raises `DumpFailed` unless the child exited with 0 and the engine's own end marker, if it has one, was seen;
        also if called before the end. Frees everything even if it raises. A second call does nothing. One whose class
        is `retryable` says that only the moment spoilt it: the core then makes the whole dump again, from `Source.dump`
        on, up to three times in all.
        """

    @abstractmethod
    def abort(self) -> None:
        """End the stream early: kills and reaps the child. Never raises; does nothing after `close()`.

        May be called while another thread waits in `readinto`, which then soon returns 0 or raises.
        """

    def outcome(self) -> StreamOutcome:
        """What only the dump has shown, such as rows counted under the stream's own view; after `close` has returned.

        Plain data, since the stream may have been opened in another process.
        """
        return StreamOutcome()


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump in progress: its plan, and a function that opens its streams under their shared view.

    Made by `Source.dump`, which holds the view until its block is left. `open` holds the state of the dump; the source
    does not, since it may have several dumps at once.

    `open(spec)` starts to dump one stream of the plan; each stream is opened once, or again after an abort. With
    `PARALLEL_STREAMS` or `CONCURRENT_STREAMS` any thread may call it, one at a time. As far as the engine allows,
    the same content gives the same bytes, uncompressed: otherwise nothing deduplicates. If a stream needs nothing
    but its spec, `open` can be `Source.attach`.
    """

    plan: DumpPlan
    open: Callable[[StreamSpec], DumpStream]


def _nothing() -> None:
    """The `finish` of a restore with nothing left to do at the end."""


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore in progress. Made by `Source.restore`; leaving its block without `finish` undoes what can be undone.

    `write(spec, blocks)` writes one stream; streams come in the order of their phases. `blocks` gives the stream's
    bytes in order, in blocks of any size, each valid until the next is requested; the iteration must be exhausted. It
    raises if the repository turns out to be damaged: the restore must not be completed then.

    `finish()` is called after all streams were written: it commits, puts everything in place, verifies, and returns
    when the engine has stored everything durably. Both raise `RestoreFailed`.
    """

    write: Callable[[StreamSpec, Iterable[memoryview]], None]
    finish: Callable[[], None] = _nothing


class Source(Plugin):
    """Dumps and restores a database server, a database or a file, as its settings say.

    An instance keeps no state of a dump or a restore. One thread uses it, except for the streams of its dumps, each
    read by its own thread. It must not rely on fork: the core starts other processes by `spawn`. A process may have
    no stdin, stdout and stderr: messages go to `report`.
    """

    #: What begins a comment in the engine's own language, for a file of statements.
    comment: ClassVar[str] = "--"

    @property
    def most_streams(self) -> int | None:
        """How many streams of a dump may be open at once; None leaves that to whoever reads them."""
        return None

    @abstractmethod
    def inspect(self) -> Inspection:
        """Look without dumping: connect, find the client program, compare versions, estimate.

        `streams` and `consistency` of the result say what `dump` would do. Raises `SourceUnreachable`, `SourceDenied`,
        `ClientMissing`, `ClientTooOld`: anything that would make a dump fail is reported here, before it starts.
        """

    @abstractmethod
    def dump(self) -> AbstractContextManager[Dump]:
        """Hold one consistent view of the database for the duration of the `with` block.

        Makes all the checks of `inspect`. Streams are opened only within the block, and closed or aborted before it is
        left. Leaving the block frees everything.
        """

    def attach(self, spec: StreamSpec) -> DumpStream:
        """Open a stream of a dump that another process holds, given only the plain data of `spec`.

        For sources that declare `PARALLEL_STREAMS`; others raise `UsageError`.
        """
        raise UsageError(f"{spec.name}: only the process that holds its dump can open a stream of {self.name}")

    @abstractmethod
    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        """Ask the target what a restore would do, and report anything that would prevent it; changes nothing.

        Raises `SourceUnreachable`, `SourceDenied`, `ClientMissing`, `ClientTooOld`, `TargetMissing`,
        `TargetNotEmpty` (unless `target.clean`), `UsageError` for unknown `target.options`. What prevents single
        objects alone belongs in the plan's `left_out`. The plan has `streams` and `target` as they came.
        """

    @abstractmethod
    def restore(self, plan: RestorePlan) -> AbstractContextManager[Restore]:
        """Begin the restore of a plan that `plan_restore` has made a moment ago.

        What cannot be restored costs itself: it is reported with `report.left_out`, unless the plan has named it, and
        the rest is restored. With `plan.target.strict` it raises `RestoreFailed` with the name instead. Leaving the
        block after `finish` has returned keeps what was restored; leaving it earlier undoes what can be undone.
        """
