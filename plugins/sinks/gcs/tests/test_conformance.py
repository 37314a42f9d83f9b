from collections.abc import Iterator

import pytest
from tests.servers.gcs import GcsServer

from penstock.api import Sink
from penstock.testing.sink_conformance import SinkConformance
from penstock_gcs import GcsSettings, GcsSink


@pytest.mark.server
class TestFakeGcsServer(SinkConformance):
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
