"""A stop ends whatever reads, within seconds, though the sink never answers."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from core.tests.repository.lab import MIB, BytesSource, Lab, noise

from penstock.api import Interrupted, ObjectInfo, StopToken
from penstock.engine import cat, show
from penstock.format.encoding import new_id
from penstock.repository import Repository
from penstock.repository.notices import distrust
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.testing import MemorySink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


class HangingSink(MemorySink):
    """Does not answer calls about keys with `hanging` in them until `gate` is open; `asked` says that one came."""

    def __init__(self) -> None:
        super().__init__()
        self.hanging: str | None = None
        self.asked = threading.Event()
        self.gate = threading.Event()

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if self.hanging is not None and self.hanging in key:
            self.asked.set()
            self.gate.wait()
        return super().get(key, start=start, length=length)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if self.hanging == "list":
            self.asked.set()
            self.gate.wait()
        yield from super().list(prefix)


@pytest.fixture
def sink() -> Iterator[HangingSink]:
    """No thread outlives the test: at its end all calls are answered."""
    sink = HangingSink()
    yield sink
    sink.gate.set()


@pytest.fixture
def lab(tmp_path: Path, sink: HangingSink) -> Lab:
    lab = Lab(tmp_path, sink)
    lab.backup({"d": noise(3 * MIB)})
    distrust(lab.repository.domain, {new_id(): "a test"})
    sink.stop = StopToken()
    return lab


Call = Callable[[Lab, Repository], object]


def restoring(lab: Lab, repository: Repository) -> object:
    return lab.restore(into=BytesSource({}), by=repository)


def restoring_unverified(lab: Lab, repository: Repository) -> object:
    return lab.restore(into=BytesSource({}), by=repository, verify_first=False)


def giving_out(lab: Lab, repository: Repository) -> object:
    return cat(find_snapshot(repository, "latest"), "d", out=len, listener=lab.events.append)


def checking(lab: Lab, repository: Repository) -> object:
    return lab.check(by=repository, read_data=False)


def checking_data(lab: Lab, repository: Repository) -> object:
    return lab.check(by=repository, read_data=True)


def listing(_: Lab, repository: Repository) -> object:
    return list_snapshots(repository)


def showing(_: Lab, repository: Repository) -> object:
    return show(find_snapshot(repository, "latest"))


READERS = [restoring, restoring_unverified, giving_out, checking, checking_data, listing, showing]
CASES = [
    pytest.param(call, hanging, id=f"{call.__name__}, {hanging}")
    for call in READERS
    for hanging in ("/notices/", "/packs/", "/sessions/", "/snapshots/", "/parts/", "list")
    if (call is not listing or hanging in ("/notices/", "/snapshots/", "list"))
    and (call is not showing or hanging != "/packs/")
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("call", "hanging"), CASES)
def test_a_stop_ends_it_though_the_sink_never_answers(lab: Lab, sink: HangingSink, call: Call, hanging: str) -> None:
    repository = lab.open()
    sink.hanging = hanging

    def stop() -> None:
        assert sink.asked.wait(60)
        sink.stop.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Interrupted):
        call(lab, repository)
    stopper.join()
    assert not sink.gate.is_set()
