"""A MongoDB database as Penstock dumps it: `mongodump --archive`, one collection after another.

Every day 1,200 documents are updated, 200 inserted and 100 deleted, all chosen at random.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.kinds.kind import Changing, write_dump
from benchmarks.kinds.words import Chance
from bson import ObjectId
from pymongo import DeleteOne, UpdateOne
from tests.servers.mongodb import Client, MongoServer, MongoServers, find_tools

from penstock_mongodb.settings import MongoSettings
from penstock_mongodb.source import MongoSource

__all__ = ["documents", "mongodb"]

_DATABASE = "nights"
#: Documents at first, and a day's updates, inserts and deletes.
_COLLECTIONS = {"orders": (240_000, 900, 150, 80), "customers": (120_000, 300, 50, 20)}
_AT_ONCE = 5_000
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_MAGIC = b"\x6d\xe2\x99\x81"
_TERMINATOR = b"\xff\xff\xff\xff"

Document = dict[str, Any]


@contextmanager
def mongodb() -> Iterator[Changing]:
    """On a standalone server of the newest version."""
    with closing(MongoServers()) as servers:
        server = servers.get(replica_set=False)
        with server.connected() as client:
            client.drop_database(_DATABASE)
            yield _MongoDB(server, client)
            client.drop_database(_DATABASE)


def documents(dump: BinaryIO) -> Iterator[bytes]:
    """The documents of an archive, and those that describe it."""
    while head := dump.read(4):
        if head not in {_MAGIC, _TERMINATOR}:
            yield head + dump.read(int.from_bytes(head, "little") - 4)


class _MongoDB(Changing):
    def __init__(self, server: MongoServer, client: Client) -> None:
        self._server = server
        self._database = client[_DATABASE]
        self._ids: dict[str, list[ObjectId]] = {name: [] for name in _COLLECTIONS}
        self._last = 0
        chance = Chance(1)
        for name, (count, *_) in _COLLECTIONS.items():
            for _ in range(0, count, _AT_ONCE):
                self._insert(name, chance, _AT_ONCE)

    def change(self, night: int) -> None:
        chance = Chance(night)
        for name, (_, updates, inserts, deletes) in _COLLECTIONS.items():
            ids = self._ids[name]
            changes = [UpdateOne({"_id": one}, {"$set": _changed(chance, name)}) for one in chance.sample(ids, updates)]
            gone = chance.sample(ids, deletes)
            self._database[name].bulk_write([*changes, *(DeleteOne({"_id": one}) for one in gone)])
            self._ids[name] = sorted(set(ids) - set(gone))
            self._insert(name, chance, inserts)

    def dump(self, place: Path) -> bytes:
        host = f"{self._server.host}:{self._server.port}"
        settings = MongoSettings.model_validate(
            {"hosts": [host], "database": _DATABASE, "client_path": find_tools(), "accounts": "no", "direct": True}
        )
        return write_dump(MongoSource(settings), place)

    def _insert(self, name: str, chance: Chance, count: int) -> None:
        made = []
        for _ in range(count):
            self._last += 1
            made.append({"_id": self._id(), **(_order if name == "orders" else _customer)(chance)})
        self._ids[name] += [one["_id"] for one in made]
        self._database[name].insert_many(made)

    def _id(self) -> ObjectId:
        """As a client would make it: seconds, a random number for the process, a counter."""
        return ObjectId(f"{int(_BEGINNING.timestamp()) + self._last // 7:08x}5eed5eed5e{self._last:06x}")


def _order(chance: Chance) -> Document:
    lines = [
        {"sku": chance.hexadecimal(10).upper(), "quantity": chance.randrange(1, 10), "price": chance.random() * 500}
        for _ in range(chance.randrange(1, 6))
    ]
    return {
        "customer": {"name": chance.words(2).title(), "email": f"{chance.words(1)}@{chance.words(1)}.example"},
        "placed": _BEGINNING + timedelta(milliseconds=chance.randrange(10**10)),
        "lines": lines,
        "token": chance.randbytes(16),
        "shipped": chance.random() < 0.5,
        **_changed(chance, "orders"),
    }


def _customer(chance: Chance) -> Document:
    return {
        "name": chance.words(2).title(),
        "address": {"street": chance.words(2), "city": chance.words(1), "code": chance.randrange(100_000)},
        "tags": chance.words(4).split(),
        **_changed(chance, "customers"),
    }


def _changed(chance: Chance, name: str) -> Document:
    """What an update sets."""
    if name == "orders":
        return {"status": chance.words(1), "total": chance.random() * 5000, "note": chance.words(8)}
    return {"balance": chance.random() * 100, "seen": _BEGINNING + timedelta(milliseconds=chance.randrange(10**10))}
