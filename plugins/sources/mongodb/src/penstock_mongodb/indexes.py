"""Which indexes a restore has to make: those of the archive's prelude, and what the oplog made of them."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import bson

from penstock_mongodb.reading import DECODING, Described

__all__ = ["Indexes", "users_changed"]

_BUCKETS = "system.buckets."
#: The entry is a command; the name of its field comes before, whatever else there is.
_COMMAND = b"\x02op\x00\x02\x00\x00\x00c\x00"
_USERS = {name: b"\x02ns\x00" + bytes([len(name) + 1, 0, 0, 0]) + name.encode() + b"\0" for name in (
    "admin.system.users", "admin.system.roles",
)}  # fmt: skip

Spec = dict[str, Any]


def users_changed(entry: bytes) -> str | None:
    """`system.users` or `system.roles`, where an entry of the oplog is about one of these."""
    return next((name.partition(".")[2] for name, mark in _USERS.items() if mark in entry), None)


class Indexes:
    """The indexes of each collection, by name; without those that a collection has by itself."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], dict[str, Spec]] = {}

    def __iter__(self) -> Iterator[tuple[str, str, list[Spec]]]:
        """Each collection that has any: database, collection, specifications."""
        for (database, collection), specs in sorted(self._of.items()):
            if specs:
                yield database, collection, list(specs.values())

    def without(self, namespaces: Collection[str]) -> "Indexes":
        """Those of other collections."""
        others = Indexes()
        others._of = {key: specs for key, specs in self._of.items() if ".".join(key) not in namespaces}
        return others

    def describe(self, one: Described) -> None:
        """Take those of the prelude."""
        for spec in one.indexes:
            self._add(one.database, one.collection, spec)

    def apply(self, entry: bytes) -> None:
        """Do what an entry of the oplog did to indexes; raises nothing for entries of other kinds."""
        if _COMMAND in entry:
            self._apply(bson.decode(entry, DECODING))

    def _apply(self, told: Mapping[str, Any]) -> None:
        if told.get("op") != "c":
            return
        database, done = str(told["ns"]).partition(".")[0], told["o"]
        word = next(iter(done), "")
        collection = done.get(word)
        if word == "applyOps":
            for inner in collection:
                self._apply(inner)
        elif word == "createIndexes":
            self._add(database, collection, {name: value for name, value in done.items() if name != word})
        elif word == "commitIndexBuild":
            for spec in done["indexes"]:
                self._add(database, collection, spec)
        elif word in ("dropIndexes", "deleteIndexes"):
            self._drop(database, collection, str(done.get("index", "*")))
        elif word == "drop":
            self._of.pop((database, str(collection)), None)
        elif word == "dropDatabase":
            for key in [key for key in self._of if key[0] == database]:
                del self._of[key]
        elif word == "collMod" and isinstance(done.get("index"), Mapping):
            self._change(database, collection, done["index"])

    def _add(self, database: str, collection: str, spec: Mapping[str, Any]) -> None:
        name = str(spec.get("name"))
        # Every collection has this one, or is clustered by it.
        if name != "_id_" and not spec.get("clustered"):
            self._of.setdefault((database, collection), {})[name] = dict(spec)

    def _both(self, database: str, collection: str) -> Iterator[dict[str, Spec]]:
        """The prelude knows a time-series collection by its name, the oplog by that of its buckets."""
        for name in {collection, collection.removeprefix(_BUCKETS)}:
            if (database, name) in self._of:
                yield self._of[database, name]

    def _drop(self, database: str, collection: str, name: str) -> None:
        for specs in self._both(database, collection):
            if name == "*":
                specs.clear()
            specs.pop(name, None)

    def _change(self, database: str, collection: str, change: Mapping[str, Any]) -> None:
        for specs in self._both(database, collection):
            for name, spec in specs.items():
                if change.get("name", name) == name and change.get("keyPattern", spec.get("key")) == spec.get("key"):
                    spec |= {word: value for word, value in change.items() if word not in ("name", "keyPattern")}
