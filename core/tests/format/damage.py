"""Ways to damage encoded data."""

from collections.abc import Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from tests.soak import examples

__all__ = ["EFFORT", "JSON_VALUES", "damaged", "every_damage", "with_one_value_replaced"]

#: For each property test. No deadline: other work on the same machine must not fail a test.
EFFORT = settings(max_examples=examples(60), deadline=None)

#: Wrong values to put in place of right ones: every type, and numbers around every limit.
JSON_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, 16, 255, 2**16, 2**31, 2**32, 2**53, 2**62, 2**63, 2**64, 10**40]),
    st.sampled_from([0.0, -0.5, 1.0, 1e300]),
    st.sampled_from(["", "x", "00" * 16, "FF" * 16, "é" * 32, "0x" + "0" * 30, "ab" * 32, "ab " * 32]),
    st.sampled_from([[], {}, [[]], [1], {"a": 1}, ["00" * 16]]),
)


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` with a bit flipped, the end cut off, bytes added, a part removed, doubled or zeroed."""
    place = st.integers(0, max(0, len(data) - 1))
    flipped = st.builds(lambda at, bit: _flip(data, at, bit), place, st.integers(0, 7))
    cut = place.map(lambda at: data[:at])
    longer = st.binary(min_size=1, max_size=20).map(lambda more: data + more)
    before = st.binary(min_size=1, max_size=4).map(lambda more: more + data)
    without = st.builds(lambda at, size: data[:at] + data[at + size :], place, st.integers(1, 20))
    doubled = st.builds(lambda at, size: data[: at + size] + data[at:], place, st.integers(1, 20))
    zeroed = st.builds(lambda at, size: data[:at] + bytes(len(data[at : at + size])) + data[at + size :], place, place)
    return st.one_of(flipped, cut, longer, before, without, doubled, zeroed).filter(lambda other: other != data)


def every_damage(data: bytes) -> Iterator[bytes]:
    """`data` with one bit of each byte flipped, each proper prefix, and `data` with more appended."""
    for at in range(len(data)):
        yield _flip(data, at, at % 8)
        yield data[:at]
    yield data + b"\0"
    yield data + data


def _flip(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            for path in _paths(value[key]):
                yield (key, *path)


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy: Any = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


def _removed(value: Any, path: tuple[Any, ...]) -> Any:
    copy: Any = value.copy()
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _removed(value[path[0]], path[1:])
    return copy


def with_one_value_replaced(value: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """`value` with one value in it, however deep, replaced or removed."""
    paths = st.sampled_from([path for path in _paths(value) if path])
    replaced = st.builds(lambda path, new: _replaced(value, path, new), paths, JSON_VALUES)
    return st.one_of(replaced, paths.map(lambda path: _removed(value, path)))
