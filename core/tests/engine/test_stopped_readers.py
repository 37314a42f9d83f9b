"""A stop ends whatever reads, within seconds, though the sink never answers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from core.tests.repository.hanging_sink import HangingSink, stop_when_it_hangs
from core.tests.repository.lab import MIB, BytesSource, Lab, noise

from penstock.api import Interrupted
from penstock.engine import cat, diff, find_previous, show
from penstock.format.encoding import new_id
from penstock.repository import Repository
from penstock.repository.notices import distrust
from penstock.repository.snapshots import find_snapshot, list_snapshots

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow


@pytest.fixture
def sink() -> Iterator[HangingSink]:
    """No thread outlives the test: at its end all calls are answered."""
    sink = HangingSink()
    yield sink
    sink.let_go.set()


@pytest.fixture
def lab(tmp_path: Path, sink: HangingSink) -> Lab:
    lab = Lab(tmp_path, sink)
    lab.backup({"d": noise(3 * MIB)})
    lab.backup({"d": noise(3 * MIB) + b"!"})
    distrust(lab.repository.domain, {new_id(): "a test"})
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


def comparing(lab: Lab, repository: Repository) -> object:
    after = find_snapshot(repository, "latest")
    return diff(find_previous(repository, after, warn=lab.warnings.append), after, listener=lab.events.append)


READERS = [restoring, restoring_unverified, giving_out, checking, checking_data, listing, showing, comparing]
CASES = [
    pytest.param(call, hanging, id=f"{call.__name__}, {hanging}")
    for call in READERS
    for hanging in ("get notices/", "get packs/", "get sessions/", "get snapshots/", "get parts/", "list ")
    if (call is not listing or hanging in ("get notices/", "get snapshots/", "list "))
    and (call not in (showing, comparing) or hanging != "get packs/")
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("call", "hanging"), CASES)
def test_a_stop_ends_it_though_the_sink_never_answers(lab: Lab, sink: HangingSink, call: Call, hanging: str) -> None:
    repository = lab.open()
    sink.call = hanging
    stop_when_it_hangs(sink)
    with pytest.raises(Interrupted):
        call(lab, repository)
    assert sink.hangs.is_set()
