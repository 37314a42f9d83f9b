"""The standard output of a child as a stream of a dump."""

from collections.abc import Mapping, Sequence

from penstock.api.errors import DumpFailed, DumpStalled, PenstockError
from penstock.api.process.child import Child
from penstock.api.process.session import ChildSession
from penstock.api.process.trouble import LEFT_BEHIND, STALL_HINT, CompanionLost, LeftBehind, Stalled, Trouble
from penstock.api.secrets import Secret
from penstock.api.source import DumpStream
from penstock.api.stopping import NEVER, StopToken

__all__ = ["ChildOutput"]

#: The engine's end marker must be within this many bytes of the end of the stream.
END_MARKER_BYTES = 4096


class ChildOutput(DumpStream):
    """The standard output of a child process as one stream of a dump.

    `name` is what errors call it: `pg_dump of shop`. `stall_timeout` is how many seconds the child may take for its
    next byte, and for its exit after its last one (None: for ever); time in which nobody reads does not count. With
    `end_marker` the last 4 KiB of the stream must contain these bytes, and with `size` it must have exactly that many
    bytes. With `companion` the stream fails, in the companion's words, when that session ends before it does. When
    `stop` stops, the child gets SIGTERM at once, and every call raises `Interrupted`.

    One thread reads; `abort()` may be called from any other, and makes a waiting `readinto` raise `DumpFailed`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        env: Mapping[str, str] | None = None,
        stall_timeout: float | None = None,
        pass_fds: Sequence[int] = (),
        end_marker: bytes | None = None,
        size: int | None = None,
        secrets: Sequence[Secret] = (),
        companion: ChildSession | None = None,
        stop: StopToken = NEVER,
    ) -> None:
        """Start the child; raises `ClientMissing`, or `DumpFailed` when the system has no room for it."""
        if end_marker is not None and not 0 < len(end_marker) <= END_MARKER_BYTES:
            raise ValueError(f"an end marker has 1 to {END_MARKER_BYTES} bytes")
        self._stall_timeout = stall_timeout
        self._end_marker = end_marker
        self._size = size
        self._companion = companion
        self._written = 0
        self._tail = b""
        self._seen_end = False
        self._closed = False
        self._child = Child(
            argv,
            name=name,
            env=env,
            failed=DumpFailed,
            secrets=secrets,
            pass_fds=pass_fds,
            read=True,
            stop=stop,
            companion_lost=None if companion is None else companion.has_ended,
        )

    def __repr__(self) -> str:
        return f"<ChildOutput {self._child.name!r}, process {self._child.pid}>"

    @property
    def written(self) -> int:
        """How many bytes of the stream have been read: after its end, how many the child wrote."""
        return self._written

    def readinto(self, buffer: memoryview, /) -> int:
        """Read up to `len(buffer)` bytes into `buffer`, waiting for the first; 0 means the end of the stream.

        Raises `DumpStalled` after too long a wait, `DumpFailed` after `abort()` or `close()` and when a process that
        the child left behind keeps the pipe open, `Interrupted` after a stop. The child is dead and reaped then.
        """
        if self._closed:
            raise self._child.failure("was closed")
        if not len(buffer) or self._seen_end:
            return 0
        try:
            count = self._child.read_some(buffer, self._stall_timeout)
        except Trouble as trouble:
            raise self._killed(trouble) from None
        self._written += count
        if count == 0:
            self._seen_end = True
        elif self._end_marker is not None:
            self._tail = (self._tail + bytes(buffer[max(0, count - END_MARKER_BYTES) : count]))[-END_MARKER_BYTES:]
        return count

    def close(self) -> None:
        """End the stream after `readinto` has returned 0: wait for the child's exit and judge it.

        Raises `DumpFailed` unless it exited with 0, and the end marker and the size, if there are any, were right; also
        before the end and after `abort()`. Raises `DumpStalled` when it does not exit in time, `Interrupted` after a
        stop. A second call does nothing.
        """
        if self._closed:
            return
        self._closed = True
        child = self._child
        try:
            if child.stopping:
                raise child.failure("was stopped before its end")
            if not self._seen_end:
                raise child.killed("was closed before its end")
            if not child.wait_for_end(self._stall_timeout):
                what = f"wrote all its output but did not exit within {self._stall_timeout:g} seconds"
                raise child.killed(what, STALL_HINT, DumpStalled)
            child.end()
            if outcome := child.outcome():
                raise child.failure(outcome)
            if self._end_marker is not None and self._end_marker not in self._tail:
                raise child.failure("exited with 0, but the end marker is missing from its output")
            if self._size is not None and self._written != self._size:
                raise child.failure(f"exited with 0, but wrote {self._written} bytes instead of {self._size}")
            if self._companion is not None:
                self._companion.check()
        except Trouble as trouble:
            raise self._killed(trouble) from None
        finally:
            child.kill()  # does nothing but after an interruption

    def abort(self) -> None:
        """End the stream early: kills and reaps the child. Never raises; after `close()` it does nothing."""
        self._child.kill()

    def _killed(self, trouble: Trouble) -> PenstockError:
        child = self._child
        child.kill()
        match trouble:
            case Stalled():
                return child.failure(f"wrote nothing for {self._stall_timeout:g} seconds", STALL_HINT, DumpStalled)
            case LeftBehind():
                return child.failure(child.outcome() or LEFT_BEHIND)
            case CompanionLost():
                assert self._companion is not None
                return self._companion.failure()
            case _:
                return child.failure("was stopped before its end")
