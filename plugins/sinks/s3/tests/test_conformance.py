from collections.abc import Iterator

import pytest
from tests.servers.s3 import S3Server

from penstock.api import Sink
from penstock.testing.sink_conformance import SinkConformance
from penstock_s3 import S3Settings, S3Sink


@pytest.mark.server
class TestRealService(SinkConformance):
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
