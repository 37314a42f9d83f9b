"""A check, or a restore, while a backup of the same repository begins, runs and ends."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from core.tests.repository.lab import BytesSource, Lab, noise

from penstock.api import ObjectInfo
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.testing import FaultySink, MemorySink


class InterruptedSink(FaultySink):
    """Lets `interruption` happen right after the first listing of `prefix`."""

    def __init__(self, inner: MemorySink, prefix: str, interruption: Callable[[], object]) -> None:
        super().__init__(inner)
        self._prefix = prefix
        self._interruption: Callable[[], object] | None = interruption

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from super().list(prefix)
        if prefix == self._prefix and self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            interruption()


PREFIXES = ["grants/", "snapshots/", "slots/", "sessions/", "index/", "packs/"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("host", ["the same host", "another host"])
def test_a_backup_that_ends_during_a_check_is_no_finding(lab: Lab, tmp_path: Path, prefix: str, host: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.backup({"d": noise(100_000)})
    lab.check(cache=lab.cache)
    cache = lab.cache if host == "the same host" else tmp_path / "elsewhere"
    sink = InterruptedSink(lab.sink, prefix, lambda: lab.backup({"d": noise(300_000)}, cache=cache))
    report = lab.check(by=lab.open(sink=sink), cache=lab.cache)
    assert report.findings == ()
    assert len(list_snapshots(lab.open())) == 2 or prefix == "slots/"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_backup_that_ends_during_a_restore_does_not_disturb_it(lab: Lab, prefix: str) -> None:
    assert isinstance(lab.sink, MemorySink)
    lab.backup({"d": noise(100_000)})
    snapshot = find_snapshot(lab.open(), "latest").id.hex()
    sink = InterruptedSink(lab.sink, prefix, lambda: lab.backup({"d": noise(300_000)}))
    target = BytesSource({})
    lab.restore(snapshot, into=target, by=lab.open(sink=sink), cache=lab.cache)
    assert target.restored == {"d": noise(100_000)}
