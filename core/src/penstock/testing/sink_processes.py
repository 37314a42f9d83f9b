"""A sink in another process on the same storage, as another host would have it: no lock of this process reaches it."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from penstock.api import ObjectExists, PluginSettings, Sink

__all__ = ["Elsewhere", "elsewhere"]

_READY = "ready"
_SECONDS = 60.0


class Elsewhere:
    """Puts objects from the other process. One call at a time."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def begin(self, key: str, data: bytes) -> None:
        """Put with `if_absent`, and do not wait for the end."""
        self._pipe.send((key, data))

    def won(self) -> bool:
        """Whether that made the object; False where there was one."""
        ended = self._answer()
        assert isinstance(ended, bool), f"put(if_absent=True) in another process must work, and raised {ended}"
        return ended

    def wait_until_ready(self) -> None:
        """Until the other process has its sink."""
        ended = self._answer()
        assert ended == _READY, f"a sink cannot be made in another process from its settings alone: {ended}"

    def _answer(self) -> object:
        assert self._pipe.poll(_SECONDS), f"the other process has not answered after {_SECONDS:g} seconds"
        try:
            return self._pipe.recv()
        except EOFError:
            return "the process died"


@contextmanager
def elsewhere(kind: type[Sink], settings: PluginSettings) -> Iterator[Elsewhere]:
    """A process with a sink of these settings, for the length of the block."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=_put_all, args=(other, kind, settings))
    process.start()
    other.close()
    try:
        found = Elsewhere(pipe)
        found.wait_until_ready()
        yield found
    finally:
        process.kill()
        process.join()
        process.close()
        pipe.close()


def _put_all(pipe: Connection, kind: type[Sink], settings: PluginSettings) -> None:
    """Put what is asked for, until this process is killed."""
    try:
        sink = kind(settings)
        sink.capabilities()  # imports what it needs, before the first race
    except Exception as error:  # noqa: BLE001 - told to the process that started this one
        pipe.send(f"{type(error).__name__}: {error}")
        return
    ended: bool | str = _READY
    while True:
        pipe.send(ended)
        key, data = pipe.recv()
        try:
            sink.put(key, data, if_absent=True)
            ended = True
        except ObjectExists:
            ended = False
        except Exception as error:  # noqa: BLE001 - as above
            ended = f"{type(error).__name__}: {error}"
