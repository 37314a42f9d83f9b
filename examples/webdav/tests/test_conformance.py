from collections.abc import Callable

import pytest

from penstock.api import Sink
from penstock.testing.sink_conformance import SinkConformance
from penstock_webdav.sink import WebDavSink


class TestWebDavSink(SinkConformance):
    many_objects = 200  # a folder comes in one answer, without pages, and this server takes its time over each file

    @pytest.fixture
    def sink(self, make_sink: Callable[..., WebDavSink]) -> Sink:
        return make_sink()

    @pytest.fixture
    def sibling(self, make_sink: Callable[..., WebDavSink]) -> Sink:
        return make_sink()

    @pytest.fixture
    def silent(self, make_sink: Callable[..., WebDavSink], silent_port: int) -> Sink:
        return make_sink(address=f"http://127.0.0.1:{silent_port}/a", deadline=1.5)

    @pytest.fixture
    def refusing(self, make_sink: Callable[..., WebDavSink], closed_port: int) -> Sink:
        return make_sink(address=f"http://127.0.0.1:{closed_port}/a")
