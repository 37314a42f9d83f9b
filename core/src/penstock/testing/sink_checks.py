"""Whether a sink gives what was put, said in words where it does not."""

from collections import Counter
from collections.abc import Iterable, Mapping

from penstock.api import ObjectInfo, Sink
from penstock.testing.kit import must_work

__all__ = ["check_bytes", "check_listing", "check_range", "check_size"]

#: How many keys a failure names.
_NAMED = 5


def check_bytes(found: object, wanted: bytes, doing: str) -> None:
    """Compare what a call gave with what was put; `doing` names the call."""
    assert type(found) is bytes, f"{doing} gave a {type(found).__name__}, not bytes"
    assert len(found) == len(wanted), f"{doing} gave {len(found)} bytes, where {len(wanted)} were put"
    assert found == wanted, f"{doing} gave {len(found)} bytes that are not those that were put"


def check_range(sink: Sink, key: str, start: int, length: int | None, wanted: bytes) -> None:
    """Compare what a range gives with that part of what was put."""
    doing = f"get({key!r}, start={start}, length={length})"
    with must_work(f"{doing}, where {len(wanted)} bytes exist,"):
        found = sink.get(key, start=start, length=length)
    check_bytes(found, wanted, doing)


def check_size(found: ObjectInfo, size: int) -> None:
    """Compare the size that `stat` gave with that of what was put."""
    assert found.size == size, f"stat of {found.key} gave a size of {found.size} bytes, where {size} were put"


def check_listing(found: Iterable[ObjectInfo], wanted: Mapping[str, int], which: str) -> None:
    """A listing gives these objects, each once and with its size; `which` says what is listed."""
    listed = [(info.key, info.size) for info in found]
    keys = Counter(key for key, _ in listed)
    twice = [key for key, count in keys.items() if count > 1]
    wrong = [f"{key} with {size} of {wanted[key]} bytes" for key, size in listed if size != wanted.get(key, size)]
    problems = {
        "lacks": sorted(wanted.keys() - keys.keys()),
        "shows": sorted(repr(key) for key in keys.keys() - wanted.keys()),
        "gives more than once": twice,
        "gives": wrong,
    }
    said = [f"{what} {', '.join(names[:_NAMED])}" for what, names in problems.items() if names]
    assert not said, f"a listing {which} {'; and '.join(said)}, where there are {len(wanted)} objects"
