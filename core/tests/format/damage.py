"""Ways to damage encoded data."""

import json
import struct
from collections.abc import Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from tests.soak import examples

__all__ = ["EFFORT", "JSON_VALUES", "damaged", "every_damage", "flipped", "same", "spelled", "with_one_value_replaced"]

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
    if not data:
        return st.binary(min_size=1, max_size=20)
    place = st.integers(0, len(data) - 1)
    changed = st.builds(lambda at, bit: flipped(data, at, bit), place, st.integers(0, 7))
    cut = place.map(lambda at: data[:at])
    longer = st.binary(min_size=1, max_size=20).map(lambda more: data + more)
    before = st.binary(min_size=1, max_size=4).map(lambda more: more + data)
    without = st.builds(lambda at, size: data[:at] + data[at + size :], place, st.integers(1, 20))
    doubled = st.builds(lambda at, size: data[: at + size] + data[at:], place, st.integers(1, 20))
    zeroed = st.builds(lambda at, size: data[:at] + bytes(len(data[at : at + size])) + data[at + size :], place, place)
    return st.one_of(changed, cut, longer, before, without, doubled, zeroed).filter(lambda other: other != data)


def every_damage(data: bytes) -> Iterator[bytes]:
    """`data` with one bit of each byte flipped, its proper prefixes, and `data` with more appended.

    In the middle of large data, which is mostly ciphertext, every third byte and some of the prefixes have to do.
    """
    for at in range(len(data)):
        outside = len(data) < 1000 or at < 200 or at > len(data) - 200
        if outside or at % 3 == 0:
            yield flipped(data, at, at % 8)
        if outside or at % 61 == 0:
            yield data[:at]
    yield data + b"\0"
    yield data + data


def flipped(data: bytes, at: int, bit: int) -> bytes:
    """`data` with one bit changed."""
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


def spelled(header: dict[str, Any], body: bytes = b"") -> bytes:
    """A record of any JSON: `encode_record` writes no numbers that readers refuse."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return struct.pack("<I", len(text)) + text + body


def same(one: Any, other: Any) -> bool:
    """Whether these are the same JSON: 1 is neither true nor 1.0, and a missing entry is null."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same(_in_order(one, name), _in_order(other, name)) for name in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def _in_order(content: dict[str, Any], name: str) -> Any:
    # These are sets of digests in documents, and written in order; in heads it is one.
    value = content.get(name)
    return sorted(value) if name in {"previous", "log"} and isinstance(value, list) else value
