"""What a target will not take, or may lack, is in the plan of a restore, which changes nothing."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from tests.servers.mongodb import MongoServer, MongoServers
from tests.servers.streams import Dump, dump_all, restore_all

from penstock.api import Need, RestorePlan, RestoreTarget, SourceDenied, UsageError
from penstock.testing.hearing import Heard
from penstock_mongodb.source import MongoSource

pytestmark = pytest.mark.server


def plan(source: MongoSource, dump: Dump, target: RestoreTarget | None = None) -> RestorePlan:
    return source.plan_restore([spec for spec, _ in dump.values()], target or RestoreTarget())


def needed(made: RestorePlan, kind: str) -> Need:
    (one,) = (need for need in made.needs if need.kind == kind)
    return one


def left_out(made: RestorePlan) -> list[tuple[str, str, str]]:
    return sorted((one.kind, one.name, one.database) for one in made.left_out)


def with_attributes(dump: Dump, **attributes: str) -> Dump:
    return {
        name: (replace(spec, attributes={**spec.attributes, **attributes}), data) for name, (spec, data) in dump.items()
    }


@pytest.fixture
def modern(mongo: MongoServer, source_of: MakeSource) -> Dump:
    """Collections with what newer servers have; they are gone again."""
    with mongo.connected() as client:
        shop = client.shop
        shop.create_collection("clustered", clusteredIndex={"key": {"_id": 1}, "unique": True})
        shop.clustered.insert_many({"_id": i} for i in range(20))
        shop.create_collection("changes", changeStreamPreAndPostImages={"enabled": True}).insert_one({"_id": 1})
        shop.create_collection("weather", timeseries={"timeField": "at"}, expireAfterSeconds=10**9)
        shop.weather.insert_one({"at": datetime(2024, 1, 1, tzinfo=UTC)})
        shop.plain.insert_one({"_id": 1})
    dump = dump_all(source_of(mongo))
    mongo.wipe()
    return dump


OPTIONS = [
    ("option", "changeStreamPreAndPostImages of changes", "shop"),
    ("option", "clusteredIndex of clustered", "shop"),
]


def test_options_that_the_compatibility_of_the_target_rules_out_are_known_before(
    mongo_servers: MongoServers, source_of: MakeSource, modern: Dump
) -> None:
    with mongo_servers.fresh("6.0") as server, server.connected() as client:
        client.admin.command("setFeatureCompatibilityVersion", "5.0")
        source = source_of(server)
        made = plan(source, modern)
        assert left_out(made) == OPTIONS
        assert all("create" in one.statement and "older version" in one.reason for one in made.left_out)
        assert {need.name for need in made.needs if need.kind == "features"} == {"MongoDB 5.3", "MongoDB 6.0"}
        assert "shop" not in client.list_database_names()
        source.report = said = Heard()
        restore_all(source, modern)
        assert said.lost == []  # the plan has said it
        assert client.shop.clustered.count_documents({}) == 20
        assert client.shop.changes.count_documents({}) == 1
        assert client.shop.weather.count_documents({}) == 1
    with mongo_servers.fresh("6.0") as server:
        assert plan(source_of(server), modern).left_out == ()


def test_what_an_older_server_lacks_is_known_before(
    mongo_servers: MongoServers, source_of: MakeSource, modern: Dump
) -> None:
    server = mongo_servers.get("4.4")
    server.wipe()
    source = source_of(server)
    with pytest.raises(UsageError, match=r"needs MongoDB 5\.0.*timeseries of the collection shop\.weather") as caught:
        plan(source, modern, RestoreTarget(options={"older_server": "yes"}))
    assert "replay=no" in (caught.value.hint or "")
    target = RestoreTarget(options={"older_server": "yes", "replay": "no", "rename": "shop=copy"})
    made = plan(source, modern, target)
    assert left_out(made) == sorted(
        [(kind, name, "copy") for kind, name, _ in OPTIONS] + [("time-series collection", "weather", "copy")]
    )
    source.report = said = Heard()
    restore_all(source, modern, target)
    assert said.lost == []
    with server.connected() as client:
        assert sorted(client.copy.list_collection_names()) == ["changes", "clustered", "plain"]
        assert client.copy.clustered.count_documents({}) == 20
    server.wipe()


def test_who_may_make_no_users_leaves_them_out_or_is_refused(
    mongo_servers: MongoServers, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mongo_servers.get(auth=True)
    server.wipe()
    monkeypatch.setenv("ROLE_PASSWORD", "pw")
    as_user: dict[str, Any] = {"user": "writer", "password": {"env": "ROLE_PASSWORD"}}
    with server.connected() as client:
        client.shop.orders.insert_one({"_id": 1})
        client.shop.command("createUser", "app", pwd="pw", roles=["read"])
        whole, parts = dump_all(source_of(server)), dump_all(source_of(server, oplog="no"))
        server.wipe()
        client.admin.command("createUser", "writer", pwd="pw", roles=["readWriteAnyDatabase", "dbAdminAnyDatabase"])
        source = source_of(server, **as_user)
        with pytest.raises(SourceDenied, match="may not make users and roles") as caught:
            plan(source, whole)
        assert "replay=no" in (caught.value.hint or "")
        for dump, words in ((whole, {"replay": "no"}), (parts, {})):
            made = plan(source, dump, RestoreTarget(options=words))
            assert left_out(made) == [("accounts", "users and roles", "admin")]
            restore_all(source, dump, RestoreTarget(options=words))
            assert client.shop.orders.count_documents({}) == 1
            assert client.shop.command("usersInfo")["users"] == []
            client.drop_database("shop")
        assert plan(source, parts, RestoreTarget(options={"accounts": "no"})).left_out == ()
        assert plan(source_of(server), whole).left_out == ()
    server.wipe()


def test_room_on_the_disk_is_compared_where_the_server_tells(
    mongo_servers: MongoServers, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mongo_servers.get(auth=True)
    server.wipe()
    monkeypatch.setenv("ROLE_PASSWORD", "pw")
    with server.connected() as client:
        client.shop.orders.insert_many({"_id": i, "data": "x" * 1000} for i in range(1000))
        dump = dump_all(source_of(server))
        server.wipe()
        client.admin.command("createUser", "restore", pwd="pw", roles=["restore"])
        assert needed(plan(source_of(server), dump), "free space").met is True
        large = with_attributes(dump, stored=str(10**18))
        need = needed(plan(source_of(server), large), "free space")
        assert (need.name, need.met) == (f"{10**18} bytes", False)
        assert "bytes are free" in need.note
        restorer = source_of(server, user="restore", password={"env": "ROLE_PASSWORD"})
        assert needed(plan(restorer, large), "free space").met is None
    server.wipe()


def test_old_indexes_are_in_the_plan(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        client.shop.orders.insert_one({"_id": 1})
    dump = with_attributes(dump_all(source_of(mongo)), old_indexes='["a_1 of shop.orders"]')
    mongo.wipe()
    steps = [step.action for step in plan(source_of(mongo), dump).steps]
    assert "convert the index a_1 of shop.orders, which only servers before 3.4 took" in steps
    elsewhere = plan(source_of(mongo), dump, RestoreTarget(options={"replay": "no", "databases": "other"}))
    assert not any("convert" in step.action for step in elsewhere.steps)
