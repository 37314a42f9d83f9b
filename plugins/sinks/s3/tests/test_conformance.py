from collections.abc import Iterator
from typing import Any

import pytest
from tests.servers.s3 import S3Server

from penstock.api import Sink
from penstock.testing.sink_conformance import SinkConformance
from penstock_s3 import S3Settings, S3Sink


def at(server: S3Server, port: int, **more: Any) -> S3Sink:
    values = server.settings("bucket", **{"conditional_put": "yes", **more, "endpoint": f"http://127.0.0.1:{port}"})
    return S3Sink(S3Settings.model_validate(values))


@pytest.mark.server
class TestRealService(SinkConformance):
    many_objects = 1_100  # two pages; a cluster on one disk takes its time over each object

    @pytest.fixture
    def sink(self, s3: S3Server) -> Iterator[Sink]:
        settings = s3.settings(s3.new_bucket(), prefix="shop/nightly", deadline=60)
        sink = S3Sink(S3Settings.model_validate(settings))
        yield sink
        sink.close()

    @pytest.fixture
    def sibling(self, sink: Sink) -> Iterator[Sink]:
        sibling = S3Sink(S3Settings.model_validate(sink.settings.model_dump()))
        yield sibling
        sibling.close()

    @pytest.fixture
    def silent(self, s3: S3Server, silent_port: int) -> Iterator[Sink]:
        sink = at(s3, silent_port, deadline=1.5)
        yield sink
        sink.close()

    @pytest.fixture
    def refusing(self, s3: S3Server, closed_port: int) -> Iterator[Sink]:
        sink = at(s3, closed_port)
        yield sink
        sink.close()
