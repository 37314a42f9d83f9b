"""A sink as a repair would leave it, while nothing is written."""

import pytest

from penstock.api import ObjectMissing
from penstock.repository.upkeep.pretending import PretendedSink
from penstock.testing import MemorySink


def names(sink: PretendedSink, prefix: str = "") -> list[str]:
    return sorted(info.key for info in sink.list(prefix))


def test_what_was_taken_is_read_where_it_was_taken_from() -> None:
    inner, first, second = MemorySink(), MemorySink(), MemorySink()
    inner.put("a/1", b"damaged")
    inner.put("b/1", b"whole")
    first.put("a/1", b"mended")
    second.put("a/2", b"found again")
    pretended = PretendedSink(inner)
    assert names(pretended) == ["a/1", "b/1"]
    pretended.take("a/1", first)
    pretended.take("a/2", second)
    assert pretended.get("a/1") == b"mended"
    assert pretended.get("a/2", start=6) == b"again"
    assert pretended.get("b/1") == b"whole"
    assert pretended.stat("a/1").size == 6
    assert names(pretended) == ["a/1", "a/2", "b/1"]
    assert names(pretended, "a/") == ["a/1", "a/2"]
    assert names(pretended, "b/") == ["b/1"]


def test_nothing_is_written_or_deleted() -> None:
    inner = MemorySink()
    inner.put("a/1", b"there")
    pretended = PretendedSink(inner)
    pretended.put("a/2", b"new", if_absent=True)
    pretended.put("a/1", b"other")
    pretended.delete("a/1")
    pretended.delete_many(["a/1"])
    pretended.close()
    assert inner.contents() == {"a/1": b"there"}
    with pytest.raises(ObjectMissing):
        inner.get("a/2")
