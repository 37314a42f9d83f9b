from collections.abc import Iterator

import pytest
from tests.servers.azure import AzureServer

from penstock.api import Sink
from penstock.testing.sink_conformance import SinkConformance
from penstock_azure import AzureSettings, AzureSink


@pytest.mark.server
class TestAzurite(SinkConformance):
    @pytest.fixture
    def sink(self, azure: AzureServer) -> Iterator[Sink]:
        settings = azure.settings(azure.new_container(), prefix="shop/nightly", deadline=60)
        sink = AzureSink(AzureSettings.model_validate(settings))
        yield sink
        sink.close()

    @pytest.fixture
    def sibling(self, sink: Sink) -> Iterator[Sink]:
        sibling = AzureSink(AzureSettings.model_validate(sink.settings.model_dump()))
        yield sibling
        sibling.close()
