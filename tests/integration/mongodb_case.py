"""MongoDB in the story: a replica set with one of everything, that asks for a password."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from plugins.sources.mongodb.tests import nasty
from tests.integration.cases import SourceCase, Target
from tests.integration.databases import Content
from tests.servers import versions
from tests.servers.mongodb import MongoServer, MongoServers, find_tools

_VARIABLE = "SHOP_PASSWORD"
#: What the largest documents hold (bytes); the plugin's own tests have them as large as MongoDB takes them.
_LARGE_BYTES = 300_000
_ORDERS = 6000


class MongoCase(SourceCase):
    """A deployment with every type, index and option that its version has, and with users and roles of its own."""

    name = "shop"

    def __init__(self, servers: MongoServers, version: str) -> None:
        self._servers = servers
        outside = servers.outside()
        if outside is not None and outside.version == version:
            self.server = outside
        else:
            self.server = servers.get(version, auth=True)
        self.versions = (versions.engine(self.server), versions.client(self.server))
        place = self._target(self.server)
        self.url, self.environ, self.settings = place.url, place.environ, place.settings

    def seed(self) -> None:
        self.forget()
        rnd = random.Random(23)
        with self.server.connected() as client:
            client.admin.command("createRole", "packer", privileges=[], roles=[{"role": "read", "db": "shop"}])
            client.shop.command("createUser", "änna", pwd="pässword", roles=[{"role": "packer", "db": "admin"}])
        nasty.fill_nasty(self.server, large=_LARGE_BYTES)
        with self.server.connected() as client:
            client.bench.orders.insert_many(
                {"_id": i, "note": rnd.randbytes(40).hex(), "raw": rnd.randbytes(200), "n": i} for i in range(_ORDERS)
            )
            client.bench.orders.create_index("n")

    def change(self) -> None:
        with self.server.connected() as client:
            client.shop.command("createUser", "new däve", pwd="d", roles=["readWrite"])
            client.shop.command("updateUser", "änna", customData={"since": 2024})
            orders = client.bench.orders
            orders.update_many({"_id": {"$mod": [997, 0]}}, {"$set": {"note": "changed"}})
            orders.delete_many({"_id": {"$mod": [1511, 7]}})
            orders.insert_many({"_id": _ORDERS + i, "n": -i} for i in range(200))
            orders.drop_index("n_1")
            orders.create_index([("n", -1), ("note", 1)])
            client.shop.everything.update_one({"_id": 3}, {"$set": {"again": "changed 🐘"}})
            client.shop.command("collMod", "ruled", validationAction="warn")
            client.bench.create_collection("new cöllection", capped=True, size=100_000).insert_one({"_id": 1})

    def content(self) -> Content:
        return _content(self.server)

    def rows(self) -> dict[str, int]:
        with self.server.connected() as client:
            return {
                "bench.orders": client.bench.orders.count_documents({}),
                "shop.everything": client.shop.everything.count_documents({}),
            }

    @contextmanager
    def fresh_target(self) -> Iterator[Target]:
        if self.server.pid is None:
            self.forget()
            yield self._target(self.server)
        else:
            with self._servers.fresh(self.server.version, auth=True) as server:
                yield self._target(server)

    def forget(self) -> None:
        """Leave the server as it was."""
        self.server.wipe()

    def _target(self, server: MongoServer) -> Target:
        words = {"replicaSet": server.replica_set or "", "client_path": str(find_tools()), "row_counts": "exact"}
        user = f"{server.user}@" if server.password else ""
        url = f"mongodb://{user}{server.host}:{server.port}/?{urlencode(words)}"
        environ = {_VARIABLE: server.password} if server.password else {}
        settings: dict[str, Any] = {"password": {"env": _VARIABLE}} if server.password else {}
        return Target(url, environ, lambda: _content(server), settings)


def _content(server: MongoServer) -> Content:
    """All documents, byte for byte, with indexes and options of their collections; and users and roles as stored."""
    content: Content = {}
    with server.connected() as client:
        for database in client.list_database_names():
            if database not in ("config", "local"):
                for collection, found in nasty.contents(client, database).items():
                    content[f"{database}.{collection}"] = repr(found)
        for one in nasty.users_of(client):
            content[f"user or role {one['_id']}"] = repr(one)
    return content
