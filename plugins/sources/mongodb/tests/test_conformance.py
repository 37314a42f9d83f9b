import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers.mongodb import PASSWORD, MongoServer, MongoServers, find_tools
from tests.servers.postgres import free_port

from penstock.testing.source_conformance import (
    BadObject,
    ChildProgram,
    Differences,
    NotApplicable,
    SourceConformance,
    SourceLab,
    Target,
    dump_all,
)
from penstock_mongodb.settings import MongoSettings
from penstock_mongodb.source import MongoSource

pytestmark = pytest.mark.server


class MongoLab(SourceLab):
    secrets = (PASSWORD,)
    change_command = NotApplicable("a change is made by the server, which is another process anyway")
    differences = Differences(20_000, "the prelude, in another order each time, and the entries of the oplog")

    def __init__(self, server: MongoServer, empty: MongoServer, folder: Path) -> None:
        self.server = server
        self.empty = empty
        self._password = folder / "password"
        self._password.write_text(server.password, encoding="utf-8")
        server.wipe()
        with server.connected() as client:
            documents: Any = ({"_id": i, "what": f"ördér {i}", "raw": bytes([i % 256]) * 100} for i in range(1200))
            client.shop.orders.insert_many(documents)
            client.shop.orders.create_index("what", unique=True)
            client.shop.command("create", "dear", viewOn="orders", pipeline=[])
            client.other.ring.insert_one({"_id": "only"})
        self._source = self._make(server)

    @property
    def source(self) -> MongoSource:
        return self._source

    @property
    def program(self) -> ChildProgram:
        return ChildProgram(find_tools() / "mongodump")

    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> MongoSource:
        folder = program.parent if program else find_tools()
        return self._make(self.server, client_path=folder, stall_timeout=stall_timeout or 60)

    @property
    def restore_program(self) -> ChildProgram:  # type: ignore[override]
        return ChildProgram(find_tools() / "mongorestore")

    def restoring_with(self, program: Path) -> Target:
        return Target(self._make(self.empty, client_path=program.parent), self.target().content)

    def unreachable(self) -> MongoSource:
        return self._make(self.server, hosts=f"127.0.0.1:{free_port()}", connect_timeout=1)

    def silent(self, host: str, port: int) -> MongoSource:
        return self._make(self.server, hosts=f"{host}:{port}", connect_timeout=1)

    def content(self) -> object:
        return _content(self.server)

    def rows(self) -> dict[str, int]:
        with self.server.connected() as client:
            return {"shop.orders": client.shop.orders.count_documents({})}

    def change(self) -> None:
        with self.server.connected() as client:
            client.shop.orders.insert_one({"what": f"late {uuid.uuid4()}"})

    def bad_objects(self) -> list[BadObject]:
        rest = self.content()
        with self.server.connected() as client:
            client.shop.orders.create_index("a", name="bad")
            dump = dump_all(self.source)
            client.shop.orders.drop_index("bad")
        old, new = b'"key":{"a":{"$numberInt":"1"}}', b'"key":{"a":"nosuch"}'
        assert sum(data.count(old) for _, data in dump.values()) == 1
        spoilt = {name: (spec, data.replace(old, new.ljust(len(old)))) for name, (spec, data) in dump.items()}
        return [BadObject(spoilt, "bad of orders", rest)]

    def target(self) -> Target:
        self.empty.wipe()
        return Target(self._make(self.empty), lambda: _content(self.empty))

    def _make(self, server: MongoServer, **more: Any) -> MongoSource:
        chosen: dict[str, Any] = {
            "hosts": f"{server.host}:{server.port}",
            "replica_set": server.replica_set,
            "user": server.user,
        }
        chosen |= {"client_path": find_tools(), "password": {"file": self._password}, "row_counts": "exact"}
        return MongoSource(MongoSettings.model_validate(chosen | more))


def _content(server: MongoServer) -> object:
    with server.connected() as client:
        return {
            f"{database}.{collection}": [
                list(client[database][collection].find()),
                {} if collection == "dear" else client[database][collection].index_information(),
            ]
            for database in client.list_database_names()
            if database not in ("admin", "config", "local")
            for collection in client[database].list_collection_names(filter={"name": {"$ne": "system.views"}})
        }


@pytest.fixture(scope="module")
def seeded(mongo_servers: MongoServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceLab]:
    server, empty = mongo_servers.get(auth=True), mongo_servers.get(auth=True, name="empty")
    yield MongoLab(server, empty, tmp_path_factory.mktemp("lab"))
    server.wipe()


class TestMongoSource(SourceConformance):
    @pytest.fixture
    def lab(self, seeded: SourceLab) -> SourceLab:
        return seeded
