"""A child's process group: started under the guardian's eyes, signalled only while its number is its own."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from penstock.api.process.guardian import GUARDIAN

__all__ = ["Group"]


class Group:
    """The process group that a child leads.

    Its number is used only until the child is reaped: afterwards the system may give it to anybody.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the child. Raises `OSError`, or `GuardianMissing`; nothing is left behind then."""
        read, write = os.pipe()
        try:
            tag = os.fstat(read).st_ino
            GUARDIAN.expect(tag)
            try:
                self.process = subprocess.Popen(
                    list(argv),
                    bufsize=0,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=write,
                    env=dict(env),
                    start_new_session=True,
                    pass_fds=tuple(pass_fds),
                )
            except Exception:
                # Whatever kept it from starting. Not after an interrupt: it may be there then, known to nobody else.
                GUARDIAN.give_up(tag)
                raise
            GUARDIAN.watch(self.process.pid, tag)
        except BaseException:  # an interrupt, too, leaves no descriptor behind
            os.close(read)
            raise
        finally:
            os.close(write)
        #: The child's stderr. The other pipes, if there are any, are `process.stdin` and `process.stdout`.
        self.stderr: IO[bytes] = os.fdopen(read, "rb", buffering=0)
        #: When SIGTERM was sent to the group first (monotonic seconds).
        self.terminated_at: float | None = None
        #: Whether the child has ended.
        self.gone = False
        #: Its exit status then, negative for a signal, or None if it was lost.
        self.status: int | None = None
        self._reaped = False
        # Reentrant: a signal handler may abort a stream whose thread is in here.
        self._lock = threading.RLock()

    @property
    def number(self) -> int:
        """The group's id, which is the child's process id."""
        return self.process.pid

    def look(self, *, block: bool = False) -> bool:
        """Whether the child has ended; with `block` wait for it. Does not reap it."""
        if not self.gone:
            try:
                status = _exit_status(self.number, 0 if block else os.WNOHANG)
            except ChildProcessError:
                self.gone = True  # another thread reaped it and has set the status, or nobody ever will
                return True
            if status is None:
                return False
            self.status = status
            self.gone = True
        return True

    def outcome(self) -> str | None:
        """None after an exit with 0, else what happened instead: `exited with 1`, `was killed by SIGSEGV`."""
        if not self.gone:
            return "could not be ended"
        if self.status is None:
            # SIGCHLD is ignored, or somebody waits for every child; `subprocess` would call that a success.
            return "ended, but its exit status was lost to another part of this process"
        if self.status < 0:
            return f"was killed by {_signal_name(-self.status)}"
        return f"exited with {self.status}" if self.status else None

    def terminate(self) -> None:
        """Send SIGTERM to the group, once. Waits for nothing, not even for a lock: a signal handler may call it."""
        # Whoever holds the lock is killing or reaping it in this very moment.
        if self.terminated_at is None and self._lock.acquire(blocking=False):
            try:
                self.terminated_at = time.monotonic()
                self._signal(signal.SIGTERM)
            finally:
                self._lock.release()

    def kill(self) -> None:
        """Send SIGKILL to the group, and tell the guardian that it need not."""
        with self._lock:
            self._signal(signal.SIGKILL)
            GUARDIAN.forget(self.number)

    def reap(self, timeout: float = 0) -> None:
        """Reap the child, which was killed or has ended. Raises `subprocess.TimeoutExpired`."""
        with self._lock:
            self._reaped = True
            self.process.wait(timeout)

    def _signal(self, number: int) -> None:
        # EPERM: a child with another user's rights; on macOS also a group of nothing but its dead leader.
        if not self._reaped and self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.number, number)


def _exit_status(pid: int, flags: int) -> int | None:
    """The exit status of a child, negative for a signal, or None while it runs. Leaves it to be reaped."""
    if hasattr(os, "waitid"):
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | flags)
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
    # macOS before Python 3.13 can only look by reaping.
    done, status = os.waitpid(pid, flags)
    return os.waitstatus_to_exitcode(status) if done else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
