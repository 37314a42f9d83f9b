from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.servers.gcs import GcsServer

from penstock.api import Sink
from penstock.testing.sink_conformance import EndLocks, SinkConformance
from penstock_gcs import GcsSettings, GcsSink


def at(port: int, **more: Any) -> GcsSink:
    values = {"bucket": "shop-backups", "endpoint": f"http://127.0.0.1:{port}", **more}
    return GcsSink(GcsSettings.model_validate(values))


@pytest.mark.server
class TestFakeGcsServer(SinkConformance):
    many_objects = 1_100  # two pages; the emulator takes its time over each object

    @pytest.fixture
    def sink(self, gcs: GcsServer) -> Iterator[Sink]:
        sink = GcsSink(GcsSettings.model_validate(gcs.settings(gcs.new_bucket(), prefix="shop/nightly", deadline=60)))
        yield sink
        sink.close()

    @pytest.fixture
    def sibling(self, sink: Sink) -> Iterator[Sink]:
        sibling = GcsSink(GcsSettings.model_validate(sink.settings.model_dump()))
        yield sibling
        sibling.close()

    @pytest.fixture
    def locking(self, gcs: GcsServer) -> Iterator[Sink]:
        lock = {"object_lock": "unlocked", "object_lock_days": 1}  # the emulator lengthens no others
        sink = GcsSink(GcsSettings.model_validate(gcs.settings(gcs.new_bucket(), prefix="shop", deadline=60, **lock)))
        yield sink
        sink.close()

    @pytest.fixture
    def end_locks(self, gcs: GcsServer, locking: Sink) -> EndLocks:
        """The emulator keeps and tells locks, and heeds none: the objects are put again without."""
        values = {**locking.settings.model_dump(), "object_lock": "none", "object_lock_days": None}

        def end(keys: Iterable[str]) -> None:
            with closing(GcsSink(GcsSettings.model_validate(values))) as without:
                for key in keys:
                    without.put(key, locking.get(key))

        return end

    @pytest.fixture
    def silent(self, silent_port: int) -> Iterator[Sink]:
        sink = at(silent_port, deadline=1.5)
        yield sink
        sink.close()

    @pytest.fixture
    def refusing(self, closed_port: int) -> Iterator[Sink]:
        sink = at(closed_port)
        yield sink
        sink.close()
