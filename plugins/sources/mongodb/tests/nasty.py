"""A deployment with one of everything that MongoDB knows, and what it looks like as plain values."""

import hashlib
import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import gridfs
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from tests.servers.mongodb import Client, MongoServer

RAW = CodecOptions(document_class=RawBSONDocument)
ODD_DATABASE = "ünïcode-数据_1"
ODD_COLLECTIONS = [
    "with space",
    "with.dots.in.it",
    "ünï/cödé 数据",
    "a*b",
    "per%20cent",
    "x" * 180,
    "quo'te\"s\\",
    "-dash",
]

Contents = dict[str, Any]


def every_type() -> list[dict[str, Any]]:
    nested: dict[str, Any] = {"deepest": True}
    for level in range(80):
        nested = {"level": level, "in": [nested]}
    values: list[Any] = [
        1.5, float("nan"), float("inf"), float("-inf"), -0.0, 5e-324,
        "", "text\x00with\x00zeros", "\U0001f40d \u202e ünïcode", "x" * 100_000,
        {}, [], [[], [[]]], {"": "empty name"}, {"a.b": 1, "$odd": 2},
        *(Binary(b"\x00\xff" * 8, subtype) for subtype in (0, 1, 5, 6, 128, 255)), Binary(b"", 0),
        Binary.from_uuid(uuid.UUID(int=2**127 + 5)), Binary(bytes(range(16)), 3), Binary(b"\x00" * 16, 4),
        ObjectId("0123456789abcdef01234567"), True, False, None,
        datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
        bson.DatetimeMS(-(2**62)),
        Regex("^a.*b$", "imsx"), Regex("", ""), Code("function () { return 1; }"), Code("x", {"scope": 1}),
        2**31 - 1, -(2**31), Int64(1), Int64(2**63 - 1), Int64(-(2**63)), Timestamp(1, 2),
        Timestamp(2**32 - 1, 2**32 - 1),
        Decimal128("1.000"), Decimal128("NaN"), Decimal128("-Infinity"),
        Decimal128("9.999999999999999999999999999999999E+6144"),
        MinKey(), MaxKey(), DBRef("coll", 1), DBRef("coll", "x", "db", extra=1), nested,
    ]  # fmt: skip
    return [{"_id": place, "value": value, "again": [value]} for place, value in enumerate(values)]


def fill_nasty(server: MongoServer, *, large: int = 15 * 1024 * 1024) -> None:
    """Put one of everything there; `large` is what the largest documents hold (bytes)."""
    rnd = random.Random(7)
    with server.connected() as client:
        shop = client.shop
        shop.everything.insert_many(every_type())
        for odd in (Binary(b"id"), {"nested": 1}, "text", 1.5, Timestamp(5, 5), None):
            shop.odd_ids.insert_one({"_id": odd})
        shop.large.insert_many({"_id": i, "data": rnd.randbytes(large - i), "end": "here"} for i in range(2))
        shop.orders.insert_many(
            {
                "_id": i, "n": i, "sku": f"sku-{i}", "name": f"Näme {i % 17}", "text": "der Hund läuft " * (i % 5),
                "at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=i), "where": [i % 90, i % 45],
                "place": {"type": "Point", "coordinates": [i % 90, i % 45]}, "state": "open" if i % 3 else "closed",
            }
            for i in range(2000)
        )  # fmt: skip
        shop.create_collection("empty")
        shop.create_collection(
            "empty_with_index", collation={"locale": "de", "strength": 1, "caseLevel": True}
        ).create_index("name")
        _indexes(shop.orders)
        _options(client, server.version)
        files = gridfs.GridFSBucket(shop, bucket_name="files")
        files.upload_from_stream_with_id(1, "big.bin", rnd.randbytes(1_000_000), metadata={"kind": "random"})
        files.upload_from_stream_with_id(2, "none.bin", b"")
        for name in ODD_COLLECTIONS:
            collection = client[ODD_DATABASE][name]
            collection.insert_one({"_id": name, "feld.mit.punkt": 1} if server.version >= "5.0" else {"_id": name})
            collection.create_index("näme", name="ïndex mit $ * .")
        client["CamelCase"].things.insert_one({"_id": 1})


def _indexes(orders: Any) -> None:
    orders.create_index("sku", unique=True)
    orders.create_index([("n", 1), ("name", -1)])
    orders.create_index("n", name="partial", partialFilterExpression={"state": "open"})
    orders.create_index("missing", sparse=True, unique=True)
    orders.create_index("at", expireAfterSeconds=10**9)
    orders.create_index([("text", "text"), ("name", "text")], default_language="german", weights={"text": 5})
    orders.create_index([("place", "2dsphere")])
    orders.create_index([("where", "2d")], bits=20)
    orders.create_index([("sku", "hashed")])
    orders.create_index([("$**", 1)], wildcardProjection={"text": 0, "place": 0})
    orders.create_index("name", name="collated", collation={"locale": "fr", "strength": 2})
    orders.create_index("state", hidden=True)


def _options(client: Client, version: str) -> None:
    shop = client.shop
    shop.create_collection("capped", capped=True, size=1_000_000, max=100).insert_many(
        {"_id": (i * 37) % 251, "i": i} for i in range(150)
    )
    shop.ruled.insert_one({"_id": "older than the rule"})
    shop.command(
        "collMod", "ruled", validator={"$jsonSchema": {"required": ["price"]}}, validationLevel="strict",
        validationAction="error",
    )  # fmt: skip
    shop.ruled.insert_one({"_id": "good", "price": Decimal128("1.10")})
    shop.command("create", "open_orders", viewOn="orders", pipeline=[{"$match": {"state": "open"}}])
    shop.command("create", "view_of_view", viewOn="open_orders", pipeline=[{"$limit": 3}])
    shop.command("create", "german_view", viewOn="orders", pipeline=[], collation={"locale": "de"})
    shop["system.js"].insert_one({"_id": "twice", "value": Code("function (x) { return 2 * x; }")})
    if version >= "5.0":
        shop.create_collection(
            "weather", timeseries={"timeField": "at", "metaField": "where", "granularity": "minutes"},
            expireAfterSeconds=10**9,
        ).insert_many(
            {"at": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=i), "where": {"room": i % 3}, "value": i / 7}
            for i in range(1000)
        )  # fmt: skip
        shop.weather.create_index([("where.room", 1), ("at", -1)])
    if version >= "6.0":
        shop.create_collection("clustered", clusteredIndex={"key": {"_id": 1}, "unique": True}).insert_many(
            {"_id": f"{i:03}"} for i in range(20)
        )
        shop.create_collection("changes", changeStreamPreAndPostImages={"enabled": True}).insert_one({"_id": 1})


def users_of(client: Client) -> list[dict[str, Any]]:
    """Users and roles as they are stored, without root and without the identities that a restore gives them."""
    users = [dict(user) for user in client.admin["system.users"].find({"user": {"$ne": "root"}}, sort=[("_id", 1)])]
    roles = [dict(role) for role in client.admin["system.roles"].find({}, sort=[("_id", 1)])]
    return users + roles


def contents(client: Client, database: str) -> Contents:
    """All documents, as the bytes that they are, indexes and options of everything in a database."""
    found: Contents = {}
    for one in client[database].list_collections():
        name = one["name"]
        if name.startswith("system.") and name != "system.js":
            continue
        entry: dict[str, Any] = {"type": one["type"], "options": _plain(one["options"])}
        if one["type"] != "view":
            entry["indexes"] = sorted((_plain(dict(index)) for index in client[database][name].list_indexes()), key=str)
        digest = hashlib.sha256()
        count = 0
        ordered = one["type"] != "timeseries"
        collection: Any = client[database].get_collection(name, RAW)
        documents = (document.raw for document in collection.find())
        for raw in documents if ordered else sorted(documents):
            digest.update(raw)
            count += 1
        entry["documents"] = (count, digest.hexdigest())
        found[name] = entry
    return found


def _plain(value: Any) -> Any:
    # The order of options says nothing, and is not kept; that of an index's fields is kept as pairs.
    if isinstance(value, dict):
        value = {name: part for name, part in value.items() if name not in ("uuid", "ns")}
        return {
            name: [*value[name].items()] if name == "key" and isinstance(value[name], dict) else _plain(value[name])
            for name in sorted(value)
        }
    return [_plain(part) for part in value] if isinstance(value, list) else value
