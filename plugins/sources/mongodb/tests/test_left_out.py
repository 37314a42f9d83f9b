"""One index that the target refuses costs that index: documents, and all other indexes, are restored."""

from collections.abc import Callable
from typing import Any

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from pymongo.errors import OperationFailure
from tests.servers.mongodb import VERSIONS, Client, MongoServer, MongoServers
from tests.servers.streams import dump_all, read_all, restore_all

from penstock.api import DumpFailed, Interrupted, PenstockError, RestoreFailed, RestoreTarget, StopToken, StreamSpec
from penstock.testing.hearing import Heard
from penstock_mongodb import restore
from penstock_mongodb.building import converted
from penstock_mongodb.source import MongoSource
from penstock_mongodb.speech import spoken

pytestmark = pytest.mark.server

FILLER = 20_000


def fill(client: Client, size: int = 2000) -> None:
    """More than the pipe and the buffers of a connection hold."""
    client.shop.orders.insert_many({"_id": i, "sku": f"sku-{i}", "n": i, "data": "x" * size} for i in range(FILLER))


def dumped_during(source: MongoSource, work: Callable[[], object], *, after: int = 1) -> tuple[StreamSpec, bytes]:
    """A dump of one stream, during which something is done: `after` so many bytes the pipe is full, and it waits."""
    with source.dump() as held:
        (spec,) = held.plan.streams
        stream = held.open(spec)
        first = bytearray()
        while len(first) < after:
            part = memoryview(bytearray(after - len(first)))
            count = stream.readinto(part)
            assert count > 0
            first += part[:count]
        work()
        return spec, bytes(first) + read_all(stream)


def with_other_metadata(server: MongoServer, source: MongoSource, old: str, new: str) -> list[tuple[StreamSpec, bytes]]:
    """A dump whose prelude says something else, in as many bytes; the server is empty then."""
    ((spec, data),) = dump_all(source).values()
    assert data.count(old.encode()) == 1
    server.wipe()
    return [(spec, data.replace(old.encode(), new.ljust(len(old)).encode()))]


def indexes_of(client: Client) -> set[str]:
    return {*client.shop.orders.index_information()} - {"_id_"}


def said_by(source: MongoSource) -> Heard:
    source.report = said = Heard()
    return said


def test_duplicates_under_a_unique_index_cost_the_index_alone(mongo: MongoServer, source_of: MakeSource) -> None:
    source = source_of(mongo, database="shop")  # one of several databases: at no one point in time
    with mongo.connected() as client:
        fill(client, 5000)
        client.shop.orders.create_index("sku", unique=True)
        client.shop.orders.create_index("n")

        def move() -> None:
            client.shop.orders.delete_one({"_id": 0})
            client.shop.orders.insert_one({"_id": FILLER, "sku": "sku-0"})

        dump = [dumped_during(source, move, after=1 << 20)]
        mongo.wipe()
        said = said_by(source)
        restore_all(source, dump)
        assert client.shop.orders.count_documents({}) == FILLER + 1
        assert indexes_of(client) == {"n_1"}
        (one,) = said.lost
        assert (one.kind, one.name, one.database, one.lost) == ("index", "sku_1 of orders", "shop", True)
        assert "E11000 duplicate key" in one.reason
        assert "sku-0" not in one.reason  # it is a value of theirs
        # The statement does it, once the duplicate is gone.
        command = eval(one.statement.removeprefix('db.getSiblingDB("shop").runCommand'), {"true": True, "null": None})
        with pytest.raises(OperationFailure, match="E11000"):
            client.shop.command(command)
        client.shop.orders.delete_one({"_id": 0})
        client.shop.command(command)
        assert client.shop.orders.index_information()["sku_1"]["unique"]

        mongo.wipe()
        with pytest.raises(RestoreFailed, match=r"index sku_1 of orders: E11000") as caught:
            restore_all(source, dump, RestoreTarget(strict=True))
        assert "--strict" in (caught.value.hint or "")
        assert "shop" not in client.list_database_names()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("more", ['"sparse":true', '"safe":true,"v":1'])
def test_an_index_that_only_old_servers_took_is_converted(
    version: str, more: str, mongo_servers: MongoServers, source_of: MakeSource
) -> None:
    server = mongo_servers.get(version)
    server.wipe()
    with server.connected() as client:
        client.shop.orders.insert_many({"_id": i, "a": i} for i in range(100))
        client.shop.orders.create_index("a", sparse=True)
        source = source_of(server, database="shop")
        old = '"key":{"a":{"$numberInt":"1"}},"name":"a_1","sparse":true'
        dump = with_other_metadata(server, source, old, f'"key":{{"a":true}},"name":"a_1",{more}')
        said = said_by(source)
        restore_all(source, dump)
        assert client.shop.orders.count_documents({}) == 100
        assert client.shop.orders.index_information()["a_1"]["key"] == [("a", 1)]
        assert not said.lost
        assert any("index a_1 of shop.orders" in warning and "converted" in warning for warning in said.warnings)
        restore_all(source, dump, RestoreTarget(strict=True, clean=True))
    server.wipe()


@pytest.mark.parametrize("key", ['{"a":"nosuch"}', "{}", '{"":1}'])
def test_an_index_that_no_server_takes_is_left_out_and_named(
    mongo: MongoServer, source_of: MakeSource, key: str
) -> None:
    with mongo.connected() as client:
        client.shop.orders.insert_many({"_id": i, "a": i} for i in range(100))
        client.shop.orders.create_index("a", name="bad")
        client.shop.orders.create_index("b")
        client.shop.others.create_index("c")
        source = source_of(mongo)
        dump = with_other_metadata(mongo, source, '"key":{"a":{"$numberInt":"1"}}', f'"key":{key}')
        said = said_by(source)
        restore_all(source, dump)
        assert client.shop.orders.count_documents({}) == 100
        assert indexes_of(client) == {"b_1"}
        assert "c_1" in client.shop.others.index_information()
        assert [one.name for one in said.lost] == ["bad of orders"]
        assert all(one.reason for one in said.lost)


def test_indexes_go_where_their_collections_are_renamed_to(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        for name in ("orders", "lines"):
            client.shop[name].insert_one({"_id": 1})
            client.shop[name].create_index("a")
        client.stock.items.create_index("b")
        dump = dump_all(source_of(mongo))
        mongo.wipe()
        said = said_by(source := source_of(mongo))
        words = {"replay": "no", "databases": "shop", "rename": "shop.orders=old.orders"}
        restore_all(source, dump, RestoreTarget(options=words))
        assert "a_1" in client.old.orders.index_information()
        assert "a_1" in client.shop.lines.index_information()
        assert {"old", "shop"} == {*client.list_database_names()} - {"admin", "config", "local"}
        assert client.shop.list_collection_names() == ["lines"]
        assert not said.lost


def test_indexes_that_change_during_the_dump_are_as_they_were_at_its_end(
    every_mongo: MongoServer, source_of: MakeSource
) -> None:
    source = source_of(every_mongo)
    with every_mongo.connected() as client:
        orders = client.shop.orders
        fill(client)
        orders.create_index("n", expireAfterSeconds=10**8)
        orders.create_index("sku")

        def change() -> None:
            orders.drop_index("sku_1")
            orders.create_index("late", unique=True, sparse=True)
            client.shop.command("collMod", "orders", index={"name": "n_1", "expireAfterSeconds": 10**9})
            client.shop.command("collMod", "orders", index={"keyPattern": {"n": 1}, "hidden": True})
            client.made.things.create_index([("x", 1), ("y", -1)])

        dump = [dumped_during(source, change)]
        before = orders.index_information(), client.made.things.index_information()
        every_mongo.wipe()
        said = said_by(source)
        restore_all(source, dump)
        assert (orders.index_information(), client.made.things.index_information()) == before
        assert before[0]["n_1"]["expireAfterSeconds"] == 10**9
        assert not said.lost


def first_user_during_the_dump(server: MongoServer, source: MongoSource) -> list[tuple[StreamSpec, bytes]]:
    """A dump of a server that has had users and roles, but has none until the dump runs."""
    with server.connected() as client:
        fill(client)
        client.shop.command("createUser", "old", pwd="x", roles=[])
        client.shop.command("createRole", "old", privileges=[], roles=[])
        client.shop.command("dropUser", "old")
        client.shop.command("dropRole", "old")

        def create() -> None:
            client.shop.command("createRole", "packer", privileges=[], roles=["read"])
            client.shop.command("createUser", "app", pwd="of the dump", roles=["packer"])

        return [dumped_during(source, create)]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_user_that_the_dump_saw_comes_to_a_server_that_never_had_one(
    version: str, mongo_servers: MongoServers, source_of: MakeSource
) -> None:
    with mongo_servers.fresh(version) as first, mongo_servers.fresh(version) as second:
        dump = first_user_during_the_dump(first, source_of(first))
        restore_all(source_of(second), dump)
        with second.connected() as client:
            assert client.shop.orders.count_documents({}) == FILLER
            assert [user["user"] for user in client.shop.command("usersInfo")["users"]] == ["app"]
            assert [role["role"] for role in client.shop.command("rolesInfo")["roles"]] == ["packer"]
        with second.connected(username="app", password="of the dump", authSource="shop") as client:
            assert client.shop.orders.find_one({"_id": 0}, {"sku": 1}) == {"_id": 0, "sku": "sku-0"}


def test_a_user_that_the_server_refuses_is_not_quoted(
    mongo_servers: MongoServers, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mongo_servers.fresh("6.0") as first, mongo_servers.fresh("6.0") as second:
        dump = first_user_during_the_dump(first, source_of(first))
        monkeypatch.setattr(restore, "_provide", lambda *_: None)
        with pytest.raises(RestoreFailed) as caught:
            restore_all(source_of(second), dump)
    told = everything_said(caught.value)
    assert "applyOps" in told
    assert not [word for word in ("salt", "storedKey", "serverKey", "iterationCount", "of the dump") if word in told]


def everything_said(error: PenstockError) -> str:
    return f"{error} {error.hint} {error.details} {error.__cause__} {error!r}"


def test_a_collection_that_is_renamed_during_the_dump_is_said_and_may_be_tried_again(
    mongo: MongoServer, source_of: MakeSource
) -> None:
    with mongo.connected() as client:
        fill(client)

        def out() -> None:
            for _ in range(2):
                client.shop.orders.aggregate([{"$limit": 5}, {"$project": {"data": 0}}, {"$out": "report"}])

        with pytest.raises(DumpFailed) as caught:
            dumped_during(source_of(mongo), out)
        assert caught.value.retryable
        assert "$out" in (caught.value.hint or "")
        assert "oplog = no" in (caught.value.hint or "")
        assert len(dumped_during(source_of(mongo), lambda: None)[1]) > FILLER * 2000


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_user_of_all_during_the_dump_is_said_and_may_be_tried_again(
    version: str, mongo_servers: MongoServers, source_of: MakeSource
) -> None:
    with mongo_servers.fresh(version) as server, server.connected() as client:
        fill(client)
        with pytest.raises(DumpFailed) as caught:
            dumped_during(
                source_of(server), lambda: client.shop.command("createUser", "app", pwd="pw", roles=["readWrite"])
            )
        assert caught.value.retryable
        assert "first user" in (caught.value.hint or "")


class Stopping(Heard):
    """Stops the run as soon as the indexes are begun."""

    def __init__(self, stop: StopToken) -> None:
        super().__init__()
        self.stop = stop

    def note(self, message: str) -> None:
        super().note(message)
        self.stop.stop()


def test_a_stop_while_indexes_are_made_ends_the_restore_and_leaves_nothing(
    mongo: MongoServer, source_of: MakeSource
) -> None:
    with mongo.connected() as client:
        fill(client)
        client.shop.orders.create_index("n")
        source = source_of(mongo)
        dump = dump_all(source)
        mongo.wipe()
        source.stop = StopToken()
        source.report = said = Stopping(source.stop)
        with pytest.raises(Interrupted):
            restore_all(source, dump)
        assert said.notes == ["making 1 index of 1 collection"]
        assert "shop" not in client.list_database_names()


def test_old_directions_become_new_ones() -> None:
    old: dict[str, Any] = {"a": True, "b": -1.5, "c": 0, "d": "2dsphere", "e": "", "f": None, "g": float("nan")}
    assert converted({"key": old, "name": "x", "dropDups": True, "unique": True}) == {
        "key": {"a": 1, "b": -1.5, "c": 1, "d": "2dsphere", "e": 1, "f": 1, "g": 1},
        "name": "x",
        "unique": True,
    }


@pytest.mark.parametrize(
    "line",
    [
        'Failed: applyOps: (NamespaceNotFound) cannot: { op: "i", o: { credentials: { SHA-1: { salt: "S3CR" } } } }',
        'error inserting {"_id":"shop.app","credentials":{"SCRAM-SHA-256":{"storedKey":"S3CR"}}}',
        'user document storedKey: "S3CR", serverKey: "S3CR"',
        "user document storedKey='S3CR'",
        "iterationCount 15000 salt S3CR",
        'createUser: pwd: "S3CR"',
        "error applying oplog: applyOps: [map[o:map[credentials:S3CR]]]",
        'dup key: { token: "S3CR" }',
    ],
)
def test_no_credential_is_repeated_whatever_the_wording(line: str) -> None:
    assert "S3CR" not in spoken(line)
    assert spoken(line)


def test_what_has_no_credential_is_said_as_it_is() -> None:
    line = "Failed: restore error: shop.orders: error creating collection: (Unauthorized) not authorized on shop"
    assert spoken(line) == line
