"""Children die with this process, however it dies: a guardian beside it kills the process groups that it leaves.

One guardian serves a whole process; the first child starts it, and it ends with the process. It is told of each group
through a pipe, and nobody but this process holds the write end: when the pipe ends, the guardian kills what is still
registered, and ends. So it depends neither on Linux nor on the thread that started a child, as a parent-death signal
would, which moreover reaches only the child itself and none of the processes that it started.
"""

import atexit
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["GUARDIAN", "Guardian", "GuardianMissing"]

_PROGRAM = Path(__file__).with_name("guardian_program.py")
#: How long a guardian that has seen the end of its orders may take to end (seconds).
_END_SECONDS = 5.0


class GuardianMissing(Exception):
    """The guardian cannot be started; the message says why. No child may be started without one."""


class Guardian:
    """This process's end of the guardian. Every method may be called from any thread.

    A guardian that was killed, or that is stopped and reads no more, is replaced by one that is told everything again.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._orders = -1
        self._groups: set[int] = set()
        self._starting: set[int] = set()
        # Reentrant: a signal handler may abort a stream while its thread is in here.
        self._lock = threading.RLock()

    @property
    def pid(self) -> int | None:
        """The guardian's process id, or None before the first child."""
        return self._process.pid if self._process else None

    def expect(self, tag: int) -> None:
        """A child is about to start whose stderr is the pipe with the inode number `tag`.

        Starts the guardian if there is none. Raises `GuardianMissing`.
        """
        with self._lock:
            self._starting.add(tag)
            try:
                self._tell(f"?{tag}\n")
            except GuardianMissing:
                self._starting.discard(tag)
                raise

    def give_up(self, tag: int) -> None:
        """The expected child could not be started."""
        with self._lock:
            self._starting.discard(tag)
            self._tell_if_there(f"!{tag}\n")

    def watch(self, group: int, tag: int) -> None:
        """The expected child was started and leads `group`."""
        with self._lock:
            self._groups.add(group)
            self._starting.discard(tag)
            self._tell_if_there(f"+{group} {tag}\n")

    def forget(self, group: int) -> None:
        """All of the group was sent SIGKILL. To be called before its leader is reaped: then its number is free."""
        with self._lock:
            self._groups.discard(group)
            self._tell_if_there(f"-{group}\n")

    def start(self) -> None:
        """Start the guardian unless it is there. Raises `GuardianMissing`."""
        with self._lock:
            if self._process is None:
                self._start()

    def close(self) -> None:
        """End the guardian, which kills all groups that it still watches, and reap it."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            if not self._groups and not self._starting:
                process.kill()  # it has nothing to do, and may still be busy with its own start
            os.close(self._orders)
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:  # it was stopped
                process.kill()
                process.wait()

    def _tell_if_there(self, order: str) -> None:
        # What this process does to a child does not depend on the guardian; the next start says what is wrong.
        with suppress(GuardianMissing):
            if self._process is not None:
                self._tell(order)

    def _tell(self, order: str) -> None:
        if self._process is None:
            self._start()  # tells it everything
            return
        try:
            os.write(self._orders, order.encode())
        except (BrokenPipeError, BlockingIOError):
            self._process.kill()
            self.close()
            self._start()

    def _start(self) -> None:
        if not sys.executable:
            raise GuardianMissing("the path of the Python interpreter is unknown")
        try:
            read, write = os.pipe()
        except OSError as error:
            raise GuardianMissing(f"no pipe for the guardian of children: {error.strerror}") from error
        # The guardian inherits the mask: no signal but SIGKILL ends it early, not even in its first milliseconds.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM)],
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            os.close(write)
            raise GuardianMissing(f"the guardian of children cannot be run: {error.strerror}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(read)
        self._process, self._orders = process, write
        known = [f"?{tag}\n" for tag in self._starting] + [f"+{group} 0\n" for group in self._groups]
        try:
            for order in known:
                os.write(write, order.encode())
        except BrokenPipeError as error:
            self.close()
            raise GuardianMissing("the guardian of children ends as soon as it is started") from error
        os.set_blocking(write, False)

    def before_fork(self) -> None:
        """No thread may be about to start a guardian in this moment: the copy would keep the write end of its pipe."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """The fork is done."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """In the copy of this process: the guardian, and the children that it watches, belong to the original."""
        if self._process is not None:
            os.close(self._orders)
            self._process.returncode = 0  # or it would warn that it was not waited for
        self._process = None
        self._groups, self._starting = set(), set()
        self._lock = threading.RLock()


GUARDIAN = Guardian()
atexit.register(GUARDIAN.close)
os.register_at_fork(
    before=GUARDIAN.before_fork,
    after_in_parent=GUARDIAN.after_fork_in_parent,
    after_in_child=GUARDIAN.after_fork_in_child,
)
