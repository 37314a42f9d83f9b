"""A sink that does not answer, and the operator who gives up on it."""

import threading
from collections.abc import Iterator

from penstock.api import Capability, ObjectInfo, StopToken
from penstock.repository.layout import DOMAINS
from penstock.testing import MemorySink

__all__ = ["HangingSink", "stop_when_it_hangs"]


class HangingSink(MemorySink):
    """Does not answer calls that begin with `call` until `let_go` is set; `hangs` says that one came.

    A call is its method and its key without the domain: `get packs/`, `list index/`, `preflight`.
    """

    def __init__(self, call: str = "") -> None:
        super().__init__()
        self.call = call
        self.hangs = threading.Event()
        self.let_go = threading.Event()

    def _hang(self, call: str, key: str = "") -> None:
        inside = key.split("/", 2)[2] if key.startswith(DOMAINS) else key
        if self.call and f"{call} {inside}".startswith(self.call):
            self.hangs.set()
            self.let_go.wait()

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        self._hang("put", key)
        super().put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._hang("get", key)
        return super().get(key, start=start, length=length)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._hang("list", prefix)
        return super().list(prefix)

    def capabilities(self) -> frozenset[Capability]:
        self._hang("capabilities")
        return super().capabilities()

    def preflight(self) -> None:
        self._hang("preflight")
        super().preflight()


def stop_when_it_hangs(sink: HangingSink) -> None:
    """Give it a token that another thread stops as soon as a call hangs."""
    token = sink.stop = StopToken()

    def stop() -> None:
        sink.hangs.wait(600)
        token.stop()

    threading.Thread(target=stop, daemon=True).start()
