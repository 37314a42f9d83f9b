import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from plugins.sources.mongodb.tests.nasty import ODD_DATABASE, contents, fill_nasty, users_of
from pymongo import WriteConcern
from pymongo.read_concern import ReadConcern
from tests.servers.mongodb import Client, MongoServer, MongoServers
from tests.servers.streams import dump_all, read_all, restore_all

from penstock.api import RestoreTarget

pytestmark = pytest.mark.server

DATABASES = ("shop", ODD_DATABASE, "CamelCase")


def look(server: MongoServer) -> dict[str, Any]:
    with server.connected() as client:
        return {name: contents(client, name) for name in DATABASES}


@pytest.mark.slow
def test_everything_comes_back_as_it_was_at_one_point_in_time(every_mongo: MongoServer, source_of: MakeSource) -> None:
    with every_mongo.connected() as client:
        client.admin.command("createRole", "packer", privileges=[], roles=[{"role": "read", "db": "shop"}])
        client.shop.command("createUser", "änna", pwd="pässword", roles=[{"role": "packer", "db": "admin"}])
        fill_nasty(every_mongo)
        users = users_of(client)
    assert len(users) == 2
    before = look(every_mongo)
    source = source_of(every_mongo)
    dump = dump_all(source)
    every_mongo.wipe()
    restore_all(source, dump)
    after = look(every_mongo)
    for database in DATABASES:
        assert after[database].keys() == before[database].keys()
        for name, was in before[database].items():
            assert after[database][name] == was, f"{database}.{name}"
    with every_mongo.connected() as client:
        assert users_of(client) == users
    assert before["shop"]["everything"]["documents"][0] > 50


def test_everything_comes_back_from_a_standalone_server_database_by_database(
    mongo_servers: MongoServers, source_of: MakeSource
) -> None:
    server = mongo_servers.get(replica_set=False)
    server.wipe()
    fill_nasty(server)
    before = look(server)
    source = source_of(server)
    with source.dump() as held:
        assert held.plan.consistency.startswith("none: ")
        assert {spec.name for spec in held.plan.streams} == {
            "shop.archive", "ünïcode-数据_1.archive", "CamelCase.archive", "admin.archive",
        }  # fmt: skip
        dump = {spec.name: (spec, read_all(held.open(spec))) for spec in held.plan.streams}
    server.wipe()
    restore_all(source, dump)
    assert look(server) == before
    server.wipe()


def transfer(client: Client, stop: threading.Event, failures: list[BaseException]) -> None:
    """Moves money between two databases, in transactions: the sum stays the same."""
    accounts, others = (
        client[name].get_collection("accounts", write_concern=WriteConcern("majority")) for name in ("left", "right")
    )
    number = 0
    try:
        while not stop.is_set():
            number += 1
            with client.start_session() as session, session.start_transaction(read_concern=ReadConcern("snapshot")):
                accounts.update_one({"_id": number % 200}, {"$inc": {"balance": -1}}, session=session)
                others.update_one({"_id": (number * 7) % 200}, {"$inc": {"balance": 1}}, session=session)
            accounts.insert_one({"_id": f"log-{number}", "balance": 0})
    except BaseException as error:
        failures.append(error)
        raise


@pytest.mark.slow
def test_a_dump_of_a_deployment_that_is_written_to_is_of_one_moment(
    every_mongo: MongoServer, source_of: MakeSource
) -> None:
    with every_mongo.connected(directConnection=False, replicaSet=every_mongo.replica_set) as client:
        for name in ("left", "right"):
            client[name].accounts.insert_many({"_id": i, "balance": 1000} for i in range(200))
            client[name].filler.insert_many({"_id": i, "data": "x" * 2000} for i in range(20_000))
        stop = threading.Event()
        failures: list[BaseException] = []
        writer = threading.Thread(target=transfer, args=(client, stop, failures))
        writer.start()
        try:
            source = source_of(every_mongo)
            with source.dump() as held:
                assert held.plan.consistency == "point in time through the oplog"
                (spec,) = held.plan.streams
                data = read_all(held.open(spec))
        finally:
            stop.set()
            writer.join(30)
        assert not failures
        every_mongo.wipe()
        restore_all(source, [(spec, data)])
        balances = [
            sum(one["balance"] for one in client[name].accounts.find({"_id": {"$type": "int"}}))
            for name in ("left", "right")
        ]
        assert sum(balances) == 400_000
        assert balances[0] < 200_000
        # Each transfer is followed by an entry in the log: one may be under way, and no more.
        logged = client.left.accounts.count_documents({"_id": {"$type": "string"}})
        assert 0 <= (200_000 - balances[0]) - logged <= 1
        # What was only read, without the oplog, is no such moment, which makes the test worth something.
        every_mongo.wipe()
        restore_all(source, [(spec, data)], RestoreTarget(options={"replay": "no"}))
        assert client.left.accounts.count_documents({"_id": {"$type": "string"}}) < logged


@pytest.mark.slow
def test_what_is_made_while_the_dump_runs_comes_back_too(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        shop = client.shop
        shop.filler.insert_many({"_id": i, "data": "x" * 2000} for i in range(30_000))
        shop.create_collection("weather", timeseries={"timeField": "at", "metaField": "where"})
        shop.create_collection("log")
        stop, made = threading.Event(), threading.Event()

        def write() -> None:
            client.made.things.insert_one({"_id": 1})
            shop.create_collection("late", capped=True, size=10_000)
            shop.log.create_index("late")
            made.set()
            number = 0
            while not stop.is_set():
                shop.weather.insert_one({"at": datetime(2024, 1, 1, tzinfo=UTC), "where": number % 5})
                shop.log.insert_one({"_id": number})
                number += 1

        source = source_of(mongo)
        with source.dump() as held:
            (spec,) = held.plan.streams
            stream = held.open(spec)
            first = bytearray(1)
            assert stream.readinto(memoryview(first)) == 1
            writer = threading.Thread(target=write)
            writer.start()
            try:
                assert made.wait(120)  # the pipe is full, and the dump waits
                data = bytes(first) + read_all(stream)
            finally:
                stop.set()
                writer.join(30)
        mongo.wipe()
        restore_all(source, [(spec, data)])
        assert client.made.things.count_documents({}) == 1
        assert "late" in shop.list_collection_names()
        assert "late_1" in shop.log.index_information()
        assert 0 <= shop.weather.count_documents({}) - shop.log.count_documents({}) <= 1
        assert shop.log.count_documents({}) > 0
