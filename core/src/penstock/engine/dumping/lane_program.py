"""What a process of `Lanes` runs: it sets up its bench, and then does what its owner says.

    python -m penstock.engine.dumping.lane_program DESCRIPTOR

DESCRIPTOR is its end of a pipe. Through it come the owner's `sys.path`, the bench, and calls; results and what is told
meanwhile go the other way. The end of the pipe is the end of the owner.
"""

import gc
import os
import pickle
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from penstock.api.errors import Interrupted, RepositoryError
from penstock.api.models import LeftOut
from penstock.api.stopping import StopToken

__all__ = ["main"]

#: How long it may take to end when its owner is gone (seconds). A dump that is broken off has a child to kill.
_END_SECONDS = 10.0


class _Telling:
    """`Told` of a process, whose owner passes it on."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def tell(self, what: str, content: object) -> None:
        with self._lock:
            try:
                self._pipe.send((what, content))
            except ConnectionError:
                raise Interrupted("whoever began the dump is gone") from None

    def note(self, message: str) -> None:
        self.tell("note", (message,))

    def warn(self, message: str) -> None:
        self.tell("warn", (message,))

    def retry(self, message: str) -> None:
        self.tell("retry", (message,))

    def left_out(self, one: LeftOut) -> None:
        self.tell("left_out", (one,))

    def progress(self, stream: str, done: int) -> None:
        self.tell("progress", (stream, done))

    def damage(self, error: RepositoryError) -> None:
        self.tell("damage", (error,))


def main(descriptor: int) -> None:
    """Work until there is nothing more to do, or the owner is gone."""
    os.set_inheritable(descriptor, False)  # or a child that outlives this process would hide its end
    stop = StopToken()
    orders: SimpleQueue[Any] = SimpleQueue()

    def told_to_stop(*_: object) -> None:
        stop.stop()
        orders.put(None)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: its owner gets it too, and decides
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, told_to_stop)
    # As in the command: threads give way at every call into native code, and that is enough.
    sys.setswitchinterval(0.02)
    pipe = Connection(descriptor)
    telling = _Telling(pipe)
    ended = threading.Event()
    try:
        sys.path[:] = pipe.recv()
        bench = pipe.recv()
        threading.Thread(target=_listen, args=(pipe, orders, stop, ended), name="penstock-orders", daemon=True).start()
        order = orders.get()
        with bench.open(stop, telling):
            gc.freeze()  # what exists by now stays to the end: no collection has to look at it again
            # Stopped before it has begun: then it is for another process to do.
            while order is not None and not stop.stopped:
                if isinstance(order, Exception):
                    raise order
                telling.tell("begun", ())
                function, args, kwargs = order
                telling.tell("done", function(*args, **kwargs))
                order = orders.get()
    except BaseException as error:  # noqa: BLE001 - its owner raises it
        with suppress(Interrupted):
            telling.tell("failed", _portable(error))
    finally:
        ended.set()


def _listen(pipe: Connection, orders: "SimpleQueue[Any]", stop: StopToken, ended: threading.Event) -> None:
    """Take orders; after the last one, or when the owner is gone, see to it that this process ends."""
    while True:
        try:
            order = pipe.recv()
        except (EOFError, ConnectionError):
            break
        except Exception as error:  # noqa: BLE001 - of whatever the order would have been made of here
            order = error
        orders.put(order)
        if order is None:
            return
    stop.stop()
    orders.put(None)
    # Something may hang that takes no notice. Children go with this process.
    ended.wait(_END_SECONDS)
    os._exit(1)


def _portable(error: BaseException) -> BaseException:
    """The error, or if it does not come through a pipe, what it is."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    except Exception:  # noqa: BLE001 - of a plugin, whatever it does
        return RuntimeError(f"{type(error).__name__} in a worker")
    return error


if __name__ == "__main__":
    main(int(sys.argv[1]))
