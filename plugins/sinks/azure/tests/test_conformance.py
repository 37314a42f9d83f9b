from collections.abc import Iterator
from typing import Any

import pytest
from tests.servers.azure import AzureServer

from penstock.api import Sink
from penstock.testing.sink_conformance import NotApplicable, SinkConformance
from penstock_azure import AzureSettings, AzureSink


def at(server: AzureServer, port: int, **more: Any) -> AzureSink:
    values = server.settings("shop-backups", **{**more, "endpoint": f"http://127.0.0.1:{port}/{server.account}"})
    return AzureSink(AzureSettings.model_validate(values))


@pytest.mark.server
class TestAzurite(SinkConformance):
    many_objects = 1_100  # two pages; the emulator takes its time over each object

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

    @pytest.fixture
    def locking(self) -> NotApplicable:
        return NotApplicable("Azurite keeps no immutability policies: see test_deletions")

    @pytest.fixture
    def silent(self, azure: AzureServer, silent_port: int) -> Iterator[Sink]:
        sink = at(azure, silent_port, deadline=1.5)
        yield sink
        sink.close()

    @pytest.fixture
    def refusing(self, azure: AzureServer, closed_port: int) -> Iterator[Sink]:
        sink = at(azure, closed_port)
        yield sink
        sink.close()
