"""The standard input of a child, for the restore of a stream."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from penstock.api.errors import RestoreFailed
from penstock.api.process.child import Child
from penstock.api.process.ending import STOPPED, judge, troubles_told
from penstock.api.secrets import Secret
from penstock.api.stopping import NEVER, StopToken

__all__ = ["ChildInput", "finish", "write_all"]

#: How long a child that has closed its input may take to exit, and so to say why (seconds).
BROKEN_PIPE_SECONDS = 10.0


class ChildInput:
    """The standard input of a child process, for the restore of one stream. Its standard output is thrown away.

    `name` and `secrets` are as for `ChildOutput`. `stall_timeout` is how many seconds the child may take to accept
    the next byte, and to exit after the last one; it may be building indexes then, so be generous (None: for ever).
    When `stop` stops, the child gets SIGTERM at once, and every call raises `Interrupted`.

    As a context manager it ends with `finish()`, and with `abort()` when an exception leaves the block. On `abort()`
    the child is killed before its input is closed: it cannot take the abort for the end of the stream.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        env: Mapping[str, str] | None = None,
        stall_timeout: float | None = None,
        pass_fds: Sequence[int] = (),
        secrets: Sequence[Secret] = (),
        stop: StopToken = NEVER,
    ) -> None:
        """Start the child; raises `ClientMissing`, or `RestoreFailed` when the system has no room for it."""
        self._stall_timeout = stall_timeout
        self._finished = False
        self._child = Child(
            argv,
            name=name,
            env=env,
            failed=RestoreFailed,
            secrets=secrets,
            pass_fds=pass_fds,
            fed=True,
            stop=stop,
        )

    def __repr__(self) -> str:
        return f"<ChildInput {self._child.name!r}, process {self._child.pid}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abort()

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Give all of `block` to the child, waiting for room in the pipe.

        Raises `RestoreFailed` when the child has stopped reading, for whatever reason and whatever its exit status,
        and when it took nothing for the stall timeout; `Interrupted` after a stop. It is dead and reaped then.
        """
        if self._finished:
            raise self._child.failure("was finished")
        write_all(self._child, block, self._stall_timeout)

    def finish(self) -> None:
        """Let the child see the end of its input, wait for its exit and judge it. A second call does nothing.

        Raises `RestoreFailed` unless it exited with 0 in time; also after `abort()`. Raises `Interrupted` after a stop.
        """
        if self._finished:
            return
        self._finished = True
        finish(self._child, self._stall_timeout)

    def abort(self) -> None:
        """Kill and reap the child. Never raises; after `finish()` it does nothing."""
        self._child.kill()


def write_all(child: Child, block: bytes | bytearray | memoryview, stall_timeout: float | None) -> None:
    """Give all of `block` to `child`. Raises what `child` fails with; it is dead and reaped then."""
    view = memoryview(block).cast("B")
    try:
        with troubles_told(child, stalled=f"took nothing for {stall_timeout or 0:g} seconds"):
            while view:
                view = view[child.write_some(view, stall_timeout) :]
    except BrokenPipeError:
        # It knows best why it stopped reading, and is about to say so.
        if not child.ends_soon(BROKEN_PIPE_SECONDS):
            raise child.killed("stopped reading before the end of its input") from None
        child.end()
        raise child.failure(child.outcome() or "exited with 0 before it had read everything") from None


def finish(child: Child, stall_timeout: float | None) -> None:
    """Let `child` see the end of its input, wait for its exit and judge it. It is dead and reaped then."""
    try:
        with troubles_told(child, stalled="took nothing more"):
            if child.stopping:
                raise child.failure(STOPPED)
            child.check_stop()
            child.end_input()
            judge(child, stall_timeout, after="took all its input but ")
    finally:
        child.kill()  # does nothing but after an interruption
