import pytest

from penstock.api import Sink, SinkError
from penstock.testing import FaultySink, MemorySink
from penstock.testing.sink_conformance import NotApplicable, SinkConformance

_HERE = NotApplicable("the storage is the memory of this process")


class TestMemorySink(SinkConformance):
    shared = _HERE

    @pytest.fixture
    def sink(self) -> Sink:
        return MemorySink()


class TestFaultySinkWithoutFaults(SinkConformance):
    shared = _HERE

    @pytest.fixture
    def sink(self) -> Sink:
        return FaultySink(MemorySink())


def test_contents_are_a_copy() -> None:
    sink = MemorySink()
    sink.put("a", b"1")
    sink.contents().clear()
    assert sink.contents() == {"a": b"1"}


def test_a_negative_range_is_refused() -> None:
    sink = MemorySink()
    sink.put("a", b"1")
    for start, length in ((-1, None), (0, -1)):
        with pytest.raises(SinkError, match="negative"):
            sink.get("a", start=start, length=length)
