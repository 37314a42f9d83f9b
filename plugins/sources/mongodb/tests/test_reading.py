"""An archive is understood on its way to mongorestore, however its bytes are cut into blocks."""

import itertools
import json
import struct
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_mongodb.indexes import Indexes
from penstock_mongodb.reading import ArchiveReader, Described

MAGIC = struct.pack("<I", 0x8199E26D)
END = b"\xff\xff\xff\xff"


def header(database: str, collection: str, *, last: bool = False) -> bytes:
    return bson.encode({"db": database, "collection": collection, "EOF": last, "CRC": bson.Int64(7)})


def described(database: str, collection: str, *indexes: dict[str, Any]) -> bytes:
    metadata = json.dumps({"indexes": list(indexes), "type": "collection"})
    return bson.encode(
        {"db": database, "collection": collection, "metadata": metadata, "size": 0, "type": "collection"}
    )


def entry(command: dict[str, Any], namespace: str = "shop.$cmd") -> bytes:
    return bson.encode({"ts": bson.Timestamp(1, 1), "op": "c", "ns": namespace, "o": command})


def archive(prelude: list[bytes], blocks: list[tuple[bytes, list[bytes]]]) -> bytes:
    whole = MAGIC + bson.encode({"version": "0.1", "concurrent_collections": 1}) + b"".join(prelude) + END
    return whole + b"".join(head + b"".join(documents) + END for head, documents in blocks)


def read(data: bytes, cuts: list[int]) -> tuple[bool, list[Described], list[bytes]]:
    collections: list[Described] = []
    entries: list[bytes] = []
    reader = ArchiveReader(collections.append, entries.append)
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        reader.feed(memoryview(data)[start:end])
    return reader.understood, collections, entries


ENTRIES = [entry({"create": "x"}), entry({"drop": "y"})]
WHOLE = archive(
    [described("shop", "orders", {"key": {"a": 1}, "name": "a_1"}), described("shop", "empty")],
    [
        (header("shop", "orders"), [bson.encode({"_id": i, "data": b"\xff" * i}) for i in range(40)]),
        (header("shop", "empty"), []),
        (header("shop", "orders"), [header("", "oplog"), *ENTRIES]),
        (header("shop", "orders", last=True), []),
        (header("", "oplog"), ENTRIES),
        (header("", "oplog", last=True), []),
    ],
)


@pytest.mark.slow
@given(st.lists(st.integers(0, 1 << 20), max_size=60))
def test_wherever_it_is_cut_the_same_is_understood(cuts: list[int]) -> None:
    understood, collections, entries = read(WHOLE, cuts)
    assert understood
    assert [(one.database, one.collection, len(one.indexes)) for one in collections] == [
        ("shop", "orders", 1),
        ("shop", "empty", 0),
    ]
    assert entries == ENTRIES  # and not what only looks like them, in a document of a collection


@given(st.binary(max_size=300), st.lists(st.integers(0, 1 << 20), max_size=10))
def test_whatever_comes_is_taken_without_an_error(data: bytes, cuts: list[int]) -> None:
    for start in (b"", MAGIC, WHOLE[:200]):
        if start + data:
            read(start + data, cuts)
    assert not read(b"no archive" + data, cuts)[0]


@pytest.mark.parametrize("place", [4, 300, len(WHOLE) - 60])
def test_a_length_that_no_document_has_ends_the_understanding(place: int) -> None:
    # What follows is mongorestore's to refuse; nothing of it is guessed at.
    data = WHOLE[:4] + struct.pack("<i", 3) + WHOLE[8:]
    assert read(data, [place])[0] is False


def made(*entries: bytes) -> dict[tuple[str, str], dict[str, Any]]:
    indexes = Indexes()
    specs = ({"key": {"_id": 1}, "name": "_id_"}, {"key": {"a": 1}, "name": "a_1"}, {"key": {"b": 1}, "name": "b_1"})
    indexes.describe(Described("shop", "orders", "collection", specs))
    indexes.describe(Described("shop", "weather", "timeseries", ({"key": {"at": 1}, "name": "at_1"},)))
    for one in entries:
        indexes.apply(one)
    return {(database, name): {spec["name"]: spec for spec in found} for database, name, found in indexes}


def test_the_oplog_makes_changes_and_drops_indexes() -> None:
    assert made().keys() == {("shop", "orders"), ("shop", "weather")}
    assert made()["shop", "orders"].keys() == {"a_1", "b_1"}
    spec = {"v": 2, "key": {"c": 1}, "name": "c_1"}
    assert made(entry({"createIndexes": "orders", **spec}))["shop", "orders"]["c_1"] == spec
    assert made(entry({"commitIndexBuild": "new", "indexes": [spec]}))["shop", "new"] == {"c_1": spec}
    inner = {"op": "c", "ns": "shop.$cmd", "o": {"createIndexes": "orders", **spec}}
    assert "c_1" in made(entry({"applyOps": [inner]}, "admin.$cmd"))["shop", "orders"]
    assert made(entry({"dropIndexes": "orders", "index": "a_1"}))["shop", "orders"].keys() == {"b_1"}
    assert ("shop", "orders") not in made(entry({"dropIndexes": "orders", "index": "*"}))
    assert made(entry({"drop": "orders"})).keys() == {("shop", "weather")}
    assert made(entry({"dropDatabase": 1})) == {}
    for change in ({"name": "a_1"}, {"keyPattern": {"a": 1}}):
        found = made(entry({"collMod": "orders", "index": {**change, "expireAfterSeconds": 5, "hidden": True}}))
        assert found["shop", "orders"]["a_1"] == {
            "key": {"a": 1},
            "name": "a_1",
            "expireAfterSeconds": 5,
            "hidden": True,
        }
        assert found["shop", "orders"]["b_1"] == {"key": {"b": 1}, "name": "b_1"}


def test_a_time_series_collection_is_known_by_its_buckets_too() -> None:
    assert ("shop", "weather") not in made(entry({"dropIndexes": "system.buckets.weather", "index": "at_1"}))
