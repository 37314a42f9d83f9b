from collections.abc import Iterator
from typing import Any

import pytest
from tests.servers.gcs import GcsServer

from penstock.api import Sink
from penstock.testing.sink_conformance import SinkConformance
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
    def silent(self, silent_port: int) -> Iterator[Sink]:
        sink = at(silent_port, deadline=1.5)
        yield sink
        sink.close()

    @pytest.fixture
    def refusing(self, closed_port: int) -> Iterator[Sink]:
        sink = at(closed_port)
        yield sink
        sink.close()
