"""An executor of processes, one a lane: the death of one costs what it was working at, and nothing else."""

import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar

from penstock.api.errors import Interrupted, WorkerDied
from penstock.api.stopping import StopToken
from penstock.engine.dumping.workplace import Told

__all__ = ["Bench", "Lanes"]

P = ParamSpec("P")
T = TypeVar("T")

#: How long a process may take to end after its last call, and one that is told to stop in the middle (seconds).
_END_SECONDS = 10.0
_STOP_SECONDS = 2.0


class Bench(Protocol):
    """What a process sets up once, for all that it is given to do. Picklable; it travels by an anonymous pipe."""

    def open(self, stop: StopToken, told: Told) -> AbstractContextManager[object]:
        """Set it up, in the process that will work at it."""


class Lanes(Executor):
    """Runs calls in `count` processes, each at a bench of its own from `new_bench`; functions must be importable.

    What a process tells while it works goes to `told`, in any thread. A call whose process dies raises `WorkerDied`;
    the next one gets a new process. When `stop` stops, all processes are told to; one whose owner is gone stops by
    itself, and takes its children along.
    """

    def __init__(self, count: int, new_bench: Callable[[], Bench], told: Told, stop: StopToken) -> None:
        self._new_bench = new_bench
        self._told = told
        self._stop = stop
        self._threads = ThreadPoolExecutor(count, "penstock-lane")
        self._lock = threading.Lock()
        self._broken_off = False
        self._idle: list[_Lane] = []
        self._all: list[_Lane] = []
        self._stopping = stop.on_stop(self._terminate)
        self._stopping.__enter__()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call it in the first process that is free."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all processes: in good order if none is at work, otherwise by telling them to stop."""
        del wait  # nothing is left behind, ever
        try:
            if cancel_futures:
                with self._lock:
                    self._broken_off = True
                self._terminate()
            self._threads.shutdown(wait=not cancel_futures, cancel_futures=cancel_futures)
            deadline = time.monotonic() + (_STOP_SECONDS if cancel_futures else _END_SECONDS)
            for lane in () if cancel_futures else self._all:
                lane.say_it_is_over()
            for lane in self._all:
                lane.end(deadline)
        finally:
            self._stopping.__exit__(None, None, None)
            for lane in self._all:  # an interrupt may have come in between
                lane.kill()
        # A thread that waits for a process sees that it is gone.
        self._threads.shutdown(wait=True)
        for lane in self._all:
            lane.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all processes; at once if an exception leaves the block."""
        self.shutdown(cancel_futures=kind is not None)

    def _call(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        self._stop.check()
        lane = self._lane()
        try:
            result: T = lane.call((fn, args, kwargs), self._told)
        except WorkerDied:
            self._stop.check()  # then it is no wonder
            if lane.died_idle:
                return self._call(fn, args, kwargs)
            raise
        except Interrupted as error:
            if self._stop.stopped:
                raise
            raise WorkerDied(f"{lane.name} was told to stop by somebody else") from error
        with self._lock:
            self._idle.append(lane)
        return result

    def _lane(self) -> "_Lane":
        with self._lock:
            if self._broken_off:
                raise Interrupted("another unit of the dump has failed")
            while self._idle:
                if (lane := self._idle.pop()).alive:
                    return lane
            lane = _Lane(self._new_bench())
            self._all.append(lane)
        if self._stop.stopped:  # it may have been started too late to be told
            lane.terminate()
        return lane

    def _terminate(self) -> None:
        # Takes no lock: a signal handler may call it.
        for lane in list(self._all):
            lane.terminate()


class _Lane:
    """A process, seen by its owner: it runs `lane_program`, and all that passes between them goes through one pipe."""

    def __init__(self, bench: Bench) -> None:
        # Not forked, since this process has threads and open connections; and not by `multiprocessing`, whose processes
        # import the main module of this one, and which leaves another process behind to look after them.
        content = pickle.dumps(bench)
        ours, theirs = socket.socketpair()
        with theirs:
            self._pipe = Connection(ours.detach())
            # -P: what lies in the current folder is nobody's module.
            program = [sys.executable, "-P", "-m", "penstock.engine.dumping.lane_program", str(theirs.fileno())]
            nothing = subprocess.DEVNULL
            try:
                self._process = subprocess.Popen(
                    program, pass_fds=[theirs.fileno()], stdin=nothing, stdout=nothing, stderr=nothing
                )
            except OSError as error:
                self._pipe.close()
                raise WorkerDied(f"no process for a worker can be started: {error.strerror}") from error
        self._calls = 0
        self._heard = False
        self.name = f"the worker with process id {self._process.pid}"
        with suppress(ConnectionError):  # it has died by now, and the first call says so
            self._pipe.send(sys.path)
            self._pipe.send_bytes(content)

    def call(self, order: tuple[Any, ...], told: Told) -> Any:
        """Have it done; raises what it raises, and `WorkerDied`."""
        self._calls += 1
        self._heard = False
        try:
            self._pipe.send(order)
        except ConnectionError as error:
            raise self._death() from error
        while True:
            try:
                heard = self._pipe.recv()
            except (EOFError, ConnectionError) as error:
                raise self._death() from error
            self._heard = True
            match heard:
                case ("begun", _):
                    pass
                case ("done", result):
                    return result
                case ("failed", error):
                    raise error
                case (str(method), arguments):
                    getattr(told, method)(*arguments)

    @property
    def died_idle(self) -> bool:
        """Of one that died: whether it had done something before, and had not begun what it was told last."""
        return self._calls > 1 and not self._heard

    @property
    def alive(self) -> bool:
        """Whether the process runs, as far as anybody knows."""
        return self._process.poll() is None

    def terminate(self) -> None:
        """Tell it to stop, without waiting for it."""
        with suppress(OSError):
            self._process.terminate()

    def say_it_is_over(self) -> None:
        """There is nothing more to do; while no thread is in `call`."""
        with suppress(OSError):
            self._pipe.send(None)

    def end(self, deadline: float) -> None:
        """Let it end until then (monotonic), and reap it."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it in any case, and reap it; nothing happens to one that has ended."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the pipe, when no thread waits for it any more."""
        self._pipe.close()

    def _death(self) -> WorkerDied:
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return WorkerDied(f"{self.name} does not answer any more")
        if code < 0:
            hint = "The system may be out of memory: give it fewer jobs." if code == -signal.SIGKILL else None
            return WorkerDied(f"{self.name} was killed by {_name_of(-code)}", hint=hint)
        return WorkerDied(f"{self.name} ended with exit code {code}, in the middle of its work")


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
