"""Child processes for sources: a dump program's output, a restore program's input, and small commands.

Promises that all of them share:

- No shell. Nothing secret belongs into `argv`, which everyone on the host can read: secrets travel in `env`, in a
  `private_file`, or through an inherited pipe (`pass_fds`). `env` is the child's whole environment; None stands for
  `env_for_child()`, so that nothing of this process's own leaks by default.
- The child leads its own session and process group. Killing means SIGTERM to the group, two seconds for the child
  to end, then SIGKILL. Nothing of the group outlives `close()`, `finish()`, `abort()` or `run_child()`, and the child
  is reaped on every path; an object that is dropped without any of them kills its child too, with a `ResourceWarning`.
- stderr is drained all the time. Its last lines (at most 16 KiB and 20 lines, of each the first 2000 bytes) become the
  error's `details`, in which `***` stands for every text of `secrets`.
- Processes that the child leaves behind cannot make a call hang, even if they hold its pipes.
- A program that cannot be run raises `ClientMissing`.

When this process dies without a chance to clean up (SIGKILL), a child that writes gets SIGPIPE at its next write, and
one that reads sees the end of its input early. A restore program must therefore be called so that it undoes, or
refuses, an unfinished input: in a single transaction, or with a format that has its own end.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from penstock.api._child import Child, LeftBehind, Stalled, Stopped, Trouble
from penstock.api.errors import DumpFailed, DumpStalled, RestoreFailed, SourceError
from penstock.api.secrets import Secret
from penstock.api.source import DumpStream

__all__ = ["ChildInput", "ChildOutput", "env_for_child", "private_file", "run_child"]

#: The engine's end marker must be within this many bytes of the end of the stream.
END_MARKER_BYTES = 4096
#: The most that `run_child` returns (bytes).
ANSWER_BYTES = 1024 * 1024

_BROKEN_PIPE_SECONDS = 10.0
_STALL_HINT = "if the engine may be silent for that long, allow a longer stall timeout"
_LEFT_BEHIND = "has ended, but a process that it left behind keeps its pipe open"

# Where programs, the user's own configuration, libraries, certificates and Kerberos tickets are found. Neither
# LANG and its kin, which would translate messages, nor anything of PENSTOCK_*, nor what an engine's client would
# silently obey (PGHOST, MYSQL_HOST): that comes from the settings alone.
_INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "KRB5CCNAME",
    "KRB5_CONFIG",
    "KRB5_CLIENT_KTNAME",
)


class ChildOutput(DumpStream):
    """The standard output of a child process as one stream of a dump.

    `name` is what errors call it: `pg_dump of shop`. `stall_timeout` is how many seconds the child may take for its
    next byte, and for its exit after its last one (None: for ever); time in which nobody reads does not count. With
    `end_marker` the last 4 KiB of the stream must contain these bytes.

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
        secrets: Sequence[Secret] = (),
    ) -> None:
        """Start the child; raises `ClientMissing`, or `DumpFailed` when the system has no room for it."""
        if end_marker is not None and not 0 < len(end_marker) <= END_MARKER_BYTES:
            raise ValueError(f"an end marker has 1 to {END_MARKER_BYTES} bytes")
        self._stall_timeout = stall_timeout
        self._end_marker = end_marker
        self._tail = b""
        self._seen_end = False
        self._closed = False
        self._child = Child(
            argv,
            name=name,
            env=env_for_child() if env is None else env,
            failed=DumpFailed,
            secrets=secrets,
            pass_fds=pass_fds,
            read=True,
        )

    def __repr__(self) -> str:
        return f"<ChildOutput {self._child.name!r}, process {self._child.pid}>"

    def readinto(self, buffer: memoryview, /) -> int:
        """Read up to `len(buffer)` bytes into `buffer`, waiting for the first; 0 means the end of the stream.

        Raises `DumpStalled` after too long a wait, `DumpFailed` after `abort()` or `close()` and when a process that
        the child left behind keeps the pipe open. The child is dead and reaped then.
        """
        if self._closed:
            raise self._child.failure("was closed")
        if not len(buffer) or self._seen_end:
            return 0
        try:
            count = self._child.read_some(buffer, self._stall_timeout)
        except Trouble as trouble:
            self._child.kill()
            raise self._explained(trouble) from None
        if count == 0:
            self._seen_end = True
        elif self._end_marker is not None:
            self._tail = (self._tail + bytes(buffer[max(0, count - END_MARKER_BYTES) : count]))[-END_MARKER_BYTES:]
        return count

    def close(self) -> None:
        """End the stream after `readinto` has returned 0: wait for the child's exit and judge it.

        Raises `DumpFailed` unless it exited with 0 and the end marker, if there is one, was seen; also before the
        end and after `abort()`. Raises `DumpStalled` when it does not exit in time. A second call does nothing.
        """
        if self._closed:
            return
        self._closed = True
        child = self._child
        try:
            if child.stopping:
                raise self._explained(Stopped())
            if not self._seen_end:
                raise _killed(child, "was closed before its end")
            if not child.wait(self._stall_timeout):
                what = f"wrote all its output but did not exit within {self._stall_timeout:g} seconds"
                raise _killed(child, what, _STALL_HINT, DumpStalled)
            child.end()
            if outcome := child.outcome():
                raise child.failure(outcome)
            if self._end_marker is not None and self._end_marker not in self._tail:
                raise child.failure("exited with 0, but the end marker is missing from its output")
        finally:
            child.kill()  # does nothing but after an interruption

    def abort(self) -> None:
        """End the stream early: kills and reaps the child. Never raises; after `close()` it does nothing."""
        self._child.kill()

    def _explained(self, trouble: Trouble) -> SourceError:
        match trouble:
            case Stalled():
                what = f"wrote nothing for {self._stall_timeout:g} seconds"
                return self._child.failure(what, _STALL_HINT, DumpStalled)
            case LeftBehind():
                return self._child.failure(self._child.outcome() or _LEFT_BEHIND)
            case _:
                return self._child.failure("was stopped before its end")


class ChildInput:
    """The standard input of a child process, for the restore of one stream. Its standard output is thrown away.

    `name` and `secrets` are as for `ChildOutput`. `stall_timeout` is how many seconds the child may take to accept
    the next byte, and to exit after the last one; it may be building indexes then, so be generous (None: for ever).

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
    ) -> None:
        """Start the child; raises `ClientMissing`, or `RestoreFailed` when the system has no room for it."""
        self._stall_timeout = stall_timeout
        self._finished = False
        self._child = Child(
            argv,
            name=name,
            env=env_for_child() if env is None else env,
            failed=RestoreFailed,
            secrets=secrets,
            pass_fds=pass_fds,
            fed=True,
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
        and when it took nothing for the stall timeout. It is dead and reaped then.
        """
        child = self._child
        if self._finished:
            raise child.failure("was finished")
        view = memoryview(block).cast("B")
        try:
            while view:
                view = view[child.write_some(view, self._stall_timeout) :]
        except BrokenPipeError:
            # It knows best why it stopped reading, and is about to say so.
            if not child.wait(_BROKEN_PIPE_SECONDS):
                raise _killed(child, "stopped reading before the end of its input") from None
            child.end()
            raise child.failure(child.outcome() or "exited with 0 before it had read everything") from None
        except Stalled:
            raise _killed(child, f"took nothing for {self._stall_timeout:g} seconds", _STALL_HINT) from None
        except LeftBehind:
            raise _killed(child, child.outcome() or _LEFT_BEHIND) from None
        except Stopped:
            raise _killed(child, "was stopped before its end") from None

    def finish(self) -> None:
        """Let the child see the end of its input, wait for its exit and judge it. A second call does nothing.

        Raises `RestoreFailed` unless it exited with 0 in time; also after `abort()`.
        """
        if self._finished:
            return
        self._finished = True
        child = self._child
        try:
            if child.stopping:
                raise child.failure("was stopped before its end")
            child.end_input()
            if not child.wait(self._stall_timeout):
                what = f"took all its input but did not exit within {self._stall_timeout:g} seconds"
                raise _killed(child, what, _STALL_HINT)
            child.end()
            if outcome := child.outcome():
                raise child.failure(outcome)
        finally:
            child.kill()  # does nothing but after an interruption

    def abort(self) -> None:
        """Kill and reap the child. Never raises; after `finish()` it does nothing."""
        self._child.kill()


def run_child(
    argv: Sequence[str],
    *,
    name: str,
    timeout: float,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,  # noqa: A002 - the word of `subprocess.run`
    secrets: Sequence[Secret] = (),
    error: type[SourceError] = SourceError,
) -> bytes:
    """Run a small command, such as `pg_dump --version`, to its end and return what it wrote: at most 1 MiB.

    Raises `error` when it takes over `timeout` seconds, does not exit with 0, or writes more than that: half an answer
    is none. A command that does not read its `input` may still succeed.
    """
    limit = time.monotonic() + timeout
    child = Child(
        argv,
        name=name,
        env=env_for_child() if env is None else env,
        failed=error,
        secrets=secrets,
        fed=input is not None,
        keep_output=ANSWER_BYTES,
    )
    try:
        _feed(child, input or b"", limit)
        child.end_input()
        if not child.wait(max(0.0, limit - time.monotonic())):
            raise _killed(child, f"did not end within {timeout:g} seconds")
        child.end()
    except Stalled:
        raise _killed(child, f"did not end within {timeout:g} seconds") from None
    finally:
        child.kill()  # does nothing but after an interruption
    if outcome := child.outcome():
        raise child.failure(outcome)
    answer, total = child.output()
    if total > len(answer):
        raise child.failure(f"wrote {total} bytes, more than the {ANSWER_BYTES} that are expected at most")
    return answer


def env_for_child(extra: Mapping[str, str | Secret] | None = None, *, inherit: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a child: the little of ours that programs need, LC_ALL=C for stable messages, and `extra`.

    `inherit` names further variables to pass on where they are set. The values of secrets are in the result: give it
    straight to the child, and the same secrets as its `secrets`.
    """
    env = {name: os.environ[name] for name in (*_INHERITED, *inherit) if name in os.environ}
    env["LC_ALL"] = "C"
    for name, value in (extra or {}).items():
        env[name] = value.reveal() if isinstance(value, Secret) else value
    return env


@contextmanager
def private_file(content: Secret | bytes, *, name: str = "secret") -> Iterator[Path]:
    """A file called `name` with `content`, for the length of the `with` block, that only this user can read.

    It has mode 0600 in a new folder of mode 0700, which is removed on every way out of the block. Only a process that
    is killed outright leaves it behind: let TMPDIR be in memory where that matters.
    """
    data = content.reveal().encode() if isinstance(content, Secret) else content
    with TemporaryDirectory(prefix="penstock-") as folder:
        path = Path(folder) / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        yield path


def _killed(child: Child, what: str, hint: str | None = None, kind: type[SourceError] | None = None) -> SourceError:
    """Kill first, so that the error has all of the child's last lines."""
    child.kill()
    return child.failure(what, hint, kind)


def _feed(child: Child, data: bytes, limit: float) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[child.write_some(view, limit - time.monotonic()) :]
    except (BrokenPipeError, LeftBehind):
        return
