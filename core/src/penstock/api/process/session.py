"""A child that lives as long as a block, beside the streams of a dump or a restore."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from penstock.api.errors import DumpFailed, PenstockError, SourceError
from penstock.api.process.child import Child
from penstock.api.process.input import finish, write_all
from penstock.api.process.trouble import STALL_HINT, LeftBehind, Stalled, Trouble
from penstock.api.secrets import Secret
from penstock.api.stopping import NEVER, StopToken

__all__ = ["ChildSession"]

#: The longest answer (bytes).
LINE_BYTES = 64 * 1024

# How long a child that has closed its output may take to exit, and so to say why (seconds).
_EXIT_SECONDS = 10.0


class ChildSession:
    """A child process that is needed as long as a `with` block lasts, such as that of `Source.dump`.

    It may be a tunnel, a scratch server, or a client program that holds a transaction open. With `commands` it is fed
    through its stdin, with `answers` its stdout is read; without them, both are empty. `stall_timeout` is how many
    seconds it may take to accept a command, to answer, and to exit after its last command (None: for ever).

    It is watched for an early end: `check()` raises `error` with its last words, and so does the end of the block, also
    in place of a `SourceError` that leaves the block, which is likely its consequence. Streams that are given it as
    their `companion` fail as soon as it ends. At the end of the block it is ended: with `commands` it sees the end of
    its input and must exit with 0 in time; without, or when an exception leaves the block, it is killed.
    When `stop` stops, it gets SIGTERM at once, and every call raises `Interrupted`.

    One thread uses it; `check()` may be called from any.
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
        commands: bool = False,
        answers: bool = False,
        error: type[SourceError] = DumpFailed,
        stop: StopToken = NEVER,
    ) -> None:
        """Start the child; raises `ClientMissing`, or `error` when the system has no room for it."""
        self._stall_timeout = stall_timeout
        self._commands = commands
        self._answers = answers
        self._stop = stop
        self._unread = b""
        self._child = Child(
            argv,
            name=name,
            env=env,
            failed=error,
            secrets=secrets,
            pass_fds=pass_fds,
            fed=commands,
            read=answers,
            stop=stop,
        )

    def __repr__(self) -> str:
        return f"<ChildSession {self._child.name!r}, process {self._child.pid}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._end()
            elif isinstance(error, SourceError) and self.has_ended() and not self._child.stopping:
                cause = self.failure()
                if str(cause) != str(error):  # it may have been said by a stream, or by `check`
                    raise cause from error
        finally:
            self._child.kill()

    def _end(self) -> None:
        if self._child.stopping:  # its error was not passed on
            raise self._child.failure("was stopped before its end")
        self.check()
        if self._commands:
            finish(self._child, self._stall_timeout)

    def has_ended(self) -> bool:
        """Whether the child has ended."""
        return self._child.wait(0)

    def check(self) -> None:
        """Raise `error` if the child has ended, and `Interrupted` after a stop."""
        if self.has_ended() or self._stop.stopped:
            raise self.failure()

    def failure(self) -> PenstockError:
        """The error that says how the child ended while it was still needed; kills it if it runs."""
        if self.has_ended():
            self._child.end()
            return self._child.failure(f"{self._child.outcome() or 'exited with 0'} while it was still needed")
        return self._child.killed("was stopped before its end")

    def tell(self, command: bytes) -> None:
        """Write `command`, newline and all, to the child's stdin.

        Raises `error` when it has ended or takes nothing for the stall timeout. It is dead and reaped then.
        """
        if not self._commands:
            raise ValueError("a session is told commands if it was made with commands=True")
        write_all(self._child, command, self._stall_timeout)

    def read_line(self) -> bytes:
        """The next line of the child's stdout, without its newline; at most 64 KiB.

        Raises `error` when the child ends, or closes its output, before the line is complete, or writes nothing for
        the stall timeout. It is dead and reaped then.
        """
        if not self._answers:
            raise ValueError("a session's answers are read if it was made with answers=True")
        child = self._child
        buffer = memoryview(bytearray(LINE_BYTES))
        while b"\n" not in self._unread:
            if len(self._unread) > LINE_BYTES:
                raise child.killed(f"wrote a line of more than {LINE_BYTES} bytes")
            try:
                count = child.read_some(buffer, self._stall_timeout)
            except Stalled:
                raise child.killed(f"wrote nothing for {self._stall_timeout:g} seconds", STALL_HINT) from None
            except LeftBehind:
                raise self.failure() from None
            except Trouble:
                raise child.killed("was stopped before its end") from None
            if count == 0:
                if child.ends_soon(_EXIT_SECONDS):
                    raise self.failure()
                raise child.killed("closed its output before it had answered")
            self._unread += buffer[:count]
        line, _, self._unread = self._unread.partition(b"\n")
        return line
