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
                # Not after an interrupt: the child may be there then, known to nobody else.
                GUARDIAN.give_up(tag)
                raise
            GUARDIAN.watch(self.process.pid, tag)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        #: The child's stderr. The other pipes, if there are any, are `process.stdin` and `process.stdout`.
        self.stderr: IO[bytes] = os.fdopen(read, "rb", buffering=0)
        #: When SIGTERM was sent to the group first (monotonic seconds).
        self.terminated_at: float | None = None
        self._reaped = False
        # Reentrant: a signal handler may abort a stream whose thread is in here.
        self._lock = threading.RLock()

    @property
    def number(self) -> int:
        """The group's id, which is the child's process id."""
        return self.process.pid

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
