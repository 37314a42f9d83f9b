"""One child process: its group, its pipes, its stderr and its certain end. What the public classes share."""

import errno
import io
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import IO

from penstock.api.errors import ClientMissing, Interrupted, PenstockError, SourceError
from penstock.api.process.drain import Drain
from penstock.api.process.environment import env_for_child
from penstock.api.process.group import Group
from penstock.api.process.guardian import GuardianMissing
from penstock.api.process.stderr import Stderr
from penstock.api.process.trouble import CompanionLost, LeftBehind, Stalled, Stopped
from penstock.api.secrets import Secret
from penstock.api.stopping import NEVER, StopToken

__all__ = ["Child"]

#: How long a child has to end itself after SIGTERM, before SIGKILL (seconds).
GRACE_SECONDS = 2.0
#: How long to wait for a killed child: one that hangs in the kernel cannot be reaped now (seconds).
KILL_SECONDS = 10.0
#: How long a pipe may stay silent and open after the child that it belongs to has ended (seconds).
LEFT_BEHIND_SECONDS = 5.0
#: How long stderr may stay open after the child's end: a daemon that it left behind may hold it for ever (seconds).
DRAIN_SECONDS = 1.0
#: A stop has to be over soon: the end of a killed child and of its stderr are waited for until `STOP_SECONDS` after
#: SIGTERM, and that of the child for `LAST_SECONDS` in any case, which a very busy machine may need (seconds).
STOP_SECONDS = 3.0
LAST_SECONDS = 0.5
PIPE_BYTES = 1024 * 1024

# Waits are cut into slices, to notice between them that the child is gone or that another thread aborts (seconds).
_SLICE_SECONDS = 0.05
_NOT_RUNNABLE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.EISDIR, errno.ELOOP}


class Child:
    """One child, the leader of its own session and process group.

    Without a controlling terminal it can neither ask for a password nor get the operator's Ctrl-C. Its stderr is
    drained all the time. It is reaped, and what is left of its group killed, by `end()` and `kill()`; as a last
    resort when the object is collected, or the interpreter ends. Several threads may use it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        failed: type[SourceError],
        env: Mapping[str, str] | None = None,
        secrets: Sequence[Secret] = (),
        pass_fds: Sequence[int] = (),
        fed: bool = False,
        read: bool = False,
        keep_output: int = 0,
        stop: StopToken = NEVER,
        companion_lost: Callable[[], bool] | None = None,
    ) -> None:
        """Start it. `fed` and `read` make a pipe of stdin and stdout; `keep_output` drains stdout into memory.

        Waits end when `stop` stops, and when the child that this one depends on is lost.
        """
        if isinstance(argv, str) or not argv:
            raise TypeError("argv is a list of at least the program")
        stop.check()
        self.name = name
        self._failed = failed
        self._stop = stop
        self._companion_lost = companion_lost
        self._ended = False
        #: Set before the first signal: an end of file that is seen afterwards says nothing.
        self.stopping = False
        # Taken in this order, never the other way round: the end of the child, then the use of its pipes.
        self._ending = threading.RLock()
        self._using = threading.RLock()
        env = env_for_child() if env is None else env
        try:
            self._group = Group(
                argv,
                env,
                stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
                stdout=subprocess.PIPE if read or keep_output else subprocess.DEVNULL,
                pass_fds=pass_fds,
            )
        except OSError as error:
            raise self._not_started(argv[0], env, error) from error
        except GuardianMissing as error:
            raise failed(f"{name} could not be started: {error}") from error
        process = self._group.process
        self._input = process.stdin if fed else None
        self._output = process.stdout if read else None
        self._drains: list[Drain] = []
        pipes = [pipe for pipe in (self._input, self._output) if pipe is not None]
        self._callbacks = ExitStack()
        self._finalizer = weakref.finalize(
            self,
            _forgotten,
            self._group,
            self._callbacks,
            pipes,
            self._drains,
            f"{name} was neither closed nor aborted",
            os.getpid(),
        )
        try:
            # At once, whoever waits for what: so the graces of several children run side by side. The callback does
            # not know this object, which may still be forgotten and collected.
            self._callbacks.enter_context(stop.on_stop(self._group.terminate))
            self._stderr = Stderr(self._group.stderr, secrets, name)
            self._drains.append(self._stderr)
            if keep_output:
                assert process.stdout is not None
                self._kept = Drain(process.stdout, keep_output, name)
                self._drains.append(self._kept)
            # Only now: whoever is interrupted from here on finds them in the list, to be ended before their pipes.
            for drain in self._drains:
                drain.start()
            if self._input is not None:
                # Only this end: what the child reads from stays as it expects it.
                os.set_blocking(self._input.fileno(), False)
            for pipe in pipes:
                _enlarge(pipe)
        except BaseException:  # an interrupt, too, must leave no child behind; it is raised again
            self.kill()
            for open_pipe in (process.stdin, process.stdout, self._group.stderr):
                if open_pipe is not None:
                    open_pipe.close()
            raise

    @property
    def pid(self) -> int:
        """The process id, which is the group's id too."""
        return self._group.number

    def read_some(self, buffer: memoryview, timeout: float | None) -> int:
        """Read what there is into `buffer`, waiting for the first byte; 0 is the end. Raises `Trouble`."""
        with self._using:
            self._await(self._output, select.POLLIN, timeout)
            assert isinstance(self._output, io.FileIO)
            count = self._output.readinto(buffer)
        if self._halted():
            raise Stopped
        assert count is not None  # the pipe is blocking
        return count

    def write_some(self, block: memoryview, timeout: float | None) -> int:
        """Write as much of `block` as the pipe takes, waiting for room. Raises `Trouble` and `BrokenPipeError`."""
        with self._using:
            self._await(self._input, select.POLLOUT, timeout)
            assert self._input is not None
            try:
                return os.write(self._input.fileno(), block)
            except BlockingIOError:
                return 0

    def exchange(self, block: memoryview, buffer: memoryview, timeout: float | None) -> tuple[int, int | None]:
        """Write of `block` and read into `buffer` what can be done at once, waiting until either can.

        Returns the number of bytes written, and of bytes read: 0 at the end of the output, None if nothing could be
        read. With an empty block it only reads. Raises `Trouble` and `BrokenPipeError`.
        """
        written, count = 0, None
        with self._using:
            assert isinstance(self._output, io.FileIO)
            wanted: dict[IO[bytes], int] = {self._output: select.POLLIN}
            if block:
                assert self._input is not None
                wanted[self._input] = select.POLLOUT
            ready = self._await_any(wanted, timeout)
            if self._output in ready:
                count = self._output.readinto(buffer)
            elif ready:
                assert self._input is not None
                try:
                    written = os.write(self._input.fileno(), block)
                except BlockingIOError:
                    written = 0
        if self._halted():
            raise Stopped
        return written, count

    def _await(self, pipe: IO[bytes] | None, event: int, timeout: float | None) -> None:
        assert pipe is not None
        self._await_any({pipe: event}, timeout)

    def _await_any(self, pipes: Mapping[IO[bytes], int], timeout: float | None) -> list[IO[bytes]]:
        """Those of `pipes` that are ready for their event, as soon as one is."""
        if any(pipe.closed for pipe in pipes):
            raise Stopped
        limit = math.inf if timeout is None else time.monotonic() + timeout
        orphaned = math.inf
        poller = select.poll()
        for pipe, event in pipes.items():
            poller.register(pipe, event)
        while not self._halted():
            step = max(0.0, min(_SLICE_SECONDS, limit - time.monotonic()))
            if ready := {descriptor for descriptor, _ in poller.poll(math.ceil(step * 1000))}:
                if self._halted():
                    break
                return [pipe for pipe in pipes if pipe.fileno() in ready]
            self._look_around()
            now = time.monotonic()
            if self.wait(0):
                orphaned = min(orphaned, now + LEFT_BEHIND_SECONDS)
            if now >= min(limit, orphaned):
                raise LeftBehind if self._group.gone else Stalled
        raise Stopped

    def end_input(self) -> None:
        """Let the child see the end of its input."""
        with self._using:
            if self._input is not None:
                self._input.close()

    def wait(self, timeout: float | None) -> bool:
        """Whether the child has ended within `timeout` seconds (None: wait for ever). Does not reap it."""
        if timeout is None:
            return self._group.look(block=True)
        return self._wait(timeout, lambda: None)

    def wait_for_end(self, timeout: float | None) -> bool:
        """As `wait`; raises `Stopped` or `CompanionLost` as soon as it has a reason to."""
        if timeout is None and self._stop is NEVER and self._companion_lost is None:
            return self.wait(None)
        return self._wait(math.inf if timeout is None else timeout, self._look_around)

    def _wait(self, timeout: float, look_around: Callable[[], None]) -> bool:
        limit = time.monotonic() + timeout
        delay = 0.0005
        while not self._group.look():
            look_around()
            left = limit - time.monotonic()
            if left <= 0:
                return False
            delay = min(delay * 2, left, _SLICE_SECONDS)
            time.sleep(delay)
        return True

    def ends_soon(self, timeout: float) -> bool:
        """Whether it ends within `timeout` seconds; False at once if `wait_for_end` raised."""
        try:
            return self.wait_for_end(timeout)
        except (Stopped, CompanionLost):
            return False

    def check_stop(self) -> None:
        """Raise `Stopped` if the token has stopped."""
        if self._stop.stopped:
            raise Stopped

    def _look_around(self) -> None:
        self.check_stop()
        if self._companion_lost is not None and self._companion_lost():
            raise CompanionLost

    def _halted(self) -> bool:
        return self.stopping or self._stop.stopped

    def kill(self) -> None:
        """SIGTERM to the group, SIGKILL after a grace (`GRACE_SECONDS`), then `end()`. Again: nothing."""
        if self._ended:
            return
        self.stopping = True
        with self._ending:
            try:
                self._group.terminate()
                # The grace may have begun before, when the token stopped.
                spent = time.monotonic() - (self._group.terminated_at or math.inf)
                self.wait(max(0.0, GRACE_SECONDS - max(0.0, spent)))
            finally:
                self.end()

    def end(self) -> None:
        """Kill what is left of the group, reap the child, end the drains, close the pipes. Again: nothing."""
        with self._ending:
            if self._ended:
                return
            # Before the child is reaped: until then nobody else can be given the group's id.
            self._group.kill()
            if self.wait(max(LAST_SECONDS, self._left(KILL_SECONDS))):
                self._group.reap()
            # After the child is dead: it must not take an abort for the end of its input.
            with self._using:
                for pipe in (self._input, self._output):
                    if pipe is not None:
                        pipe.close()
            limit = time.monotonic() + self._left(DRAIN_SECONDS)
            for drain in self._drains:
                drain.finish(max(0.0, limit - time.monotonic()))
            self._callbacks.close()
            self._finalizer.detach()
            self._ended = True

    def _left(self, seconds: float) -> float:
        """How much of `seconds` a stop leaves."""
        if not self._stop.stopped or self._group.terminated_at is None:
            return seconds
        return min(seconds, max(0.0, self._group.terminated_at + STOP_SECONDS - time.monotonic()))

    def outcome(self) -> str | None:
        """None after an exit with 0, else what happened instead: `exited with 1`, `was killed by SIGSEGV`."""
        return self._group.outcome()

    def failure(self, what: str, hint: str | None = None, kind: type[SourceError] | None = None) -> PenstockError:
        """The error to raise: `what` happened to the child, with the last lines that it wrote.

        After a stop it is `Interrupted`, whatever happened: the child was sent SIGTERM then.
        """
        if self._stop.stopped:
            return Interrupted(f"{self.name} was interrupted")
        if hint is None and self._group.status == -signal.SIGKILL and not self.stopping:
            hint = "Look in the system's log: the kernel kills programs when memory runs out."
        return (kind or self._failed)(f"{self.name} {what}", hint=hint, details=self._stderr.last_lines())

    def killed(self, what: str, hint: str | None = None, kind: type[SourceError] | None = None) -> PenstockError:
        """Kill it, and then make the error, which has all of its last lines."""
        self.kill()
        return self.failure(what, hint, kind)

    def output(self) -> tuple[bytes, int]:
        """The last bytes of a kept stdout, and how many there were in all."""
        return bytes(self._kept.tail), self._kept.total

    def _not_started(self, program: str, env: Mapping[str, str], error: OSError) -> SourceError:
        if error.errno not in _NOT_RUNNABLE:
            return self._failed(f"{self.name} could not be started: {error.strerror}")
        reason = error.strerror or str(error)
        if error.errno == errno.ENOENT:
            reason = "it is not installed, or not in PATH"
            if shutil.which(program, path=env.get("PATH")):
                reason = "the interpreter that its first line names is missing"
        return ClientMissing(
            f"{self.name}: cannot run {program}: {reason}",
            hint="Install the engine's client programs, or make the settings name them.",
        )


def _enlarge(pipe: IO[bytes]) -> None:
    if sys.platform == "linux":
        import fcntl

        # Refused beyond the user's share of pipe memory: the default size works too, with more switches.
        with suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _forgotten(
    group: Group, callbacks: ExitStack, pipes: list[IO[bytes]], drains: list[Drain], message: str, owner: int
) -> None:
    """The last resort. At once and without a grace: it runs wherever the collector happened to."""
    if os.getpid() != owner:
        return  # a fork of the process that owns the child
    callbacks.close()
    group.kill()
    with suppress(subprocess.TimeoutExpired):
        group.reap(KILL_SECONDS)
    for pipe in pipes:
        pipe.close()
    for drain in drains:
        drain.finish(DRAIN_SECONDS)
    warnings.warn(message, ResourceWarning, stacklevel=2)
