"""Making a repository in a store that does not do what it says: refused, and nothing is left in the way."""

import pytest
from core.tests.repository.lab import CHEAP

from penstock.api import ObjectExists, RepositoryExists, Secret, SinkDenied, SinkError
from penstock.repository import Repository, layout
from penstock.testing import MemorySink


class FramingSink(MemorySink):
    """Keeps more than it was given, of the keys that begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), bytes(data))
        super().put(key, framed if key.startswith(self.prefix) else data, if_absent=if_absent)


class FailingSink(MemorySink):
    """Refuses keys that begin with `prefix`."""

    def __init__(self, prefix: str, error: type[SinkError]) -> None:
        super().__init__()
        self.prefix = prefix
        self.error = error

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        if key.startswith(self.prefix):
            raise self.error(key, "refused")
        super().put(key, data, if_absent=if_absent)


def create(sink: MemorySink) -> Repository:
    return Repository.create(sink, passphrase=Secret("correct horse battery"), cost=CHEAP)


@pytest.mark.parametrize("prefix", ["", layout.CONFIG])
def test_a_store_that_keeps_other_bytes_is_refused_and_left_empty(prefix: str) -> None:
    sink = FramingSink(prefix)
    with pytest.raises(SinkError, match="does not give back what it was given") as caught:
        create(sink)
    assert "endpoint" in str(caught.value.hint)
    assert sink.contents() == {}
    sink.prefix = "nothing of ours"
    create(sink)


def test_a_refusal_in_the_middle_leaves_nothing_in_the_way() -> None:
    sink = FailingSink(layout.CONFIG, SinkDenied)
    with pytest.raises(SinkDenied):
        create(sink)
    assert sink.contents() == {}


def test_what_another_made_meanwhile_is_left_alone() -> None:
    other = MemorySink()
    create(other)

    class LateSink(FailingSink):
        def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
            if key == layout.CONFIG:
                MemorySink.put(self, key, other.get(key))
            super().put(key, data, if_absent=if_absent)

    sink = LateSink(layout.CONFIG, ObjectExists)
    with pytest.raises(ObjectExists):
        create(sink)
    assert sink.contents() == {layout.CONFIG: other.get(layout.CONFIG)}
    with pytest.raises(RepositoryExists):
        create(sink)
