from collections.abc import Callable

import pytest

from penstock.api import Sink
from penstock.testing.sink_conformance import SinkConformance
from penstock_webdav.sink import WebDavSink


class TestWebDavSink(SinkConformance):
    @pytest.fixture
    def sink(self, make_sink: Callable[..., WebDavSink]) -> Sink:
        return make_sink()

    @pytest.fixture
    def sibling(self, make_sink: Callable[..., WebDavSink]) -> Sink:
        return make_sink()
