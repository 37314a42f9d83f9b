"""A view, or an option of a collection, that the target refuses costs itself: documents come back where possible."""

from datetime import UTC, datetime
from typing import Any

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from plugins.sources.mongodb.tests.nasty import contents
from tests.servers.mongodb import Client, MongoServer
from tests.servers.streams import Dump, dump_all, restore_all

from penstock.api import RestoreFailed, RestoreTarget
from penstock.testing.hearing import Heard
from penstock_mongodb.source import MongoSource

pytestmark = pytest.mark.server


def run(client: Client, statement: str) -> dict[str, Any]:
    """What the shell would do with a statement that is plain JSON."""
    database, _, command = statement.removeprefix("db.getSiblingDB(").partition(").runCommand(")
    words = {"true": True, "false": False, "null": None}
    return dict(client[eval(database)].command(eval(command.removesuffix(")"), words)))


def edited(dump: Dump, *changes: tuple[str, str]) -> Dump:
    """The dump with other words in its prelude, each in as many bytes."""
    ((name, (spec, data)),) = dump.items()
    for old, new in changes:
        assert data.count(old.encode()) == 1, old
        data = data.replace(old.encode(), new.ljust(len(old)).encode())
        assert len(new) <= len(old)
    return {name: (spec, data)}


def restored(server: MongoServer, source: MongoSource, dump: Dump, target: RestoreTarget | None = None) -> Heard:
    server.wipe()
    source.report = said = Heard()
    restore_all(source, dump, target)
    return said


@pytest.fixture(params=["point in time", "as read", "one database"])
def way(request: pytest.FixtureRequest) -> tuple[dict[str, Any], RestoreTarget]:
    """Settings of the dump, and the target of the restore."""
    settings = {"database": "shop"} if request.param == "one database" else {}
    return settings, RestoreTarget(options={"replay": "no"} if request.param == "as read" else {})


Way = tuple[dict[str, Any], RestoreTarget]


def test_a_view_that_the_target_refuses_costs_the_view(mongo: MongoServer, source_of: MakeSource, way: Way) -> None:
    with mongo.connected() as client:
        client.shop.orders.insert_many({"_id": i} for i in range(100))
        client.shop.orders.create_index("a")
        client.shop.command("create", "bad", viewOn="orders", pipeline=[{"$match": {"a": 12345}}])
        client.shop.command("create", "good", viewOn="orders", pipeline=[{"$limit": 3}])
        client.shop.command("create", "of_good", viewOn="good", pipeline=[])
        before = contents(client, "shop")
        source = source_of(mongo, **way[0])
        dump = edited(dump_all(source), ('"$match"', '"$mitch"'))
        said = restored(mongo, source, dump, way[1])
        after = contents(client, "shop")
        assert after == {name: held for name, held in before.items() if name != "bad"}
        (one,) = said.lost
        assert (one.kind, one.name, one.database) == ("view", "bad", "shop")
        assert "$mitch" in one.reason
        run(client, one.statement.replace("$mitch", "$match"))
        assert contents(client, "shop") == before
        mongo.wipe()
        with pytest.raises(RestoreFailed, match="view bad"):
            restore_all(source, dump, RestoreTarget(options=way[1].options, strict=True))
        assert "shop" not in client.list_database_names()


@pytest.mark.parametrize(
    ("options", "changes", "lost", "word"),
    [
        ({"validator": {"a": {"$exists": False}}}, [('"$exists"', '"$exits"')], ["validator"], "collMod"),
        (
            {"validator": {"$jsonSchema": {"required": ["_id"]}}, "validationLevel": "moderate"},
            [('"required"', '"requir"')],
            ["validator, validationLevel"],
            "collMod",
        ),
        ({"collation": {"locale": "de"}}, [], ["collation"], "create"),
        (
            {"storageEngine": {"wiredTiger": {"configString": "block_compressor=zlib"}}},
            [("block_compressor=zlib", "block_compressor=zlab")],
            ["storageEngine"],
            "create",
        ),
        (
            {"capped": True, "size": 100_000, "validator": {"a": {"$exists": False}}},
            [('"size":{"$numberInt":"100096"}', '"size":{"$numberInt":"-9"}'), ('"$exists"', '"$exits"')],
            ["capped, size", "validator"],
            "",
        ),
        (
            {"clusteredIndex": {"key": {"_id": 1}, "unique": True}},
            [('"clusteredIndex"', '"clusteredIndx"')],
            ["clusteredIndx"],
            "create",
        ),
        (
            {"changeStreamPreAndPostImages": {"enabled": True}},
            [('"enabled":true', '"enable":true')],
            ["changeStreamPreAndPostImages"],
            "collMod",
        ),
    ],
    ids=["operator", "schema", "collation", "storage", "two of them", "clustered", "pre-images"],
)  # fmt: skip
def test_an_option_that_the_target_refuses_costs_the_option(
    mongo: MongoServer,
    source_of: MakeSource,
    way: Way,
    options: dict[str, Any],
    changes: list[tuple[str, str]],
    lost: list[str],
    word: str,
) -> None:
    with mongo.connected() as client:
        client.shop.command("create", "orders", **options)
        client.shop.orders.insert_many({"_id": i, "n": i} for i in range(100))
        client.shop.orders.create_index("n", collation={"locale": "simple"})
        client.shop.others.insert_one({"_id": 1})
        source = source_of(mongo, **way[0])
        data = dump_all(source)
        if "collation" in options:  # it stands in the index of _id, too
            ((name, (spec, bytes_)),) = data.items()
            data = {name: (spec, bytes_.replace(b'"locale":"de"', b'"locale":"qq"'))}
        else:
            data = edited(data, *changes)
        said = restored(mongo, source, data, way[1])
        assert client.shop.orders.count_documents({}) == 100
        assert client.shop.others.count_documents({}) == 1
        assert "n_1" in client.shop.orders.index_information()
        assert sorted((one.kind, one.name) for one in said.lost) == [("option", f"{name} of orders") for name in lost]
        assert all(one.reason and one.database == "shop" and word in one.statement for one in said.lost)
        if "capped" in options:
            assert any("convertToCapped" in one.statement for one in said.lost)
        mongo.wipe()
        with pytest.raises(RestoreFailed, match=f"option {lost[0]} of orders"):
            restore_all(source, data, RestoreTarget(options=way[1].options, strict=True))
        assert "shop" not in client.list_database_names()


def test_only_the_option_is_missing_that_was_refused(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        client.shop.command(
            "create", "ring", capped=True, size=100_096, max=50, collation={"locale": "de"},
            validator={"a": {"$exists": False}},
        )  # fmt: skip
        client.shop.ring.insert_many({"_id": i} for i in range(60))
        before = contents(client, "shop")["ring"]
        source = source_of(mongo)
        said = restored(mongo, source, edited(dump_all(source), ('"$exists"', '"$exits"')))
        (one,) = said.lost
        run(client, one.statement.replace("$exits", "$exists"))
        after = contents(client, "shop")["ring"]
        assert after["options"].items() >= before["options"].items()
        assert (after["documents"], after["indexes"]) == (before["documents"], before["indexes"])


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        (
            '"granularity":"minutes"',
            '"granularity":"minutos"',
            "timeseries.granularity, timeseries.bucketMaxSpanSeconds",
        ),
        (
            '"expireAfterSeconds":{"$numberLong":"1000000000"}',
            '"expireAfterSeconds":{"$numberLong":"-1"}',
            "expireAfterSeconds",
        ),
    ],
)  # fmt: skip
def test_an_option_of_a_time_series_costs_no_measurement(
    mongo: MongoServer, source_of: MakeSource, way: Way, old: str, new: str, lost: str
) -> None:
    with mongo.connected() as client:
        client.shop.create_collection(
            "weather", timeseries={"timeField": "at", "metaField": "where", "granularity": "minutes"},
            expireAfterSeconds=10**9,
        )  # fmt: skip
        client.shop.weather.insert_many({"at": datetime(2024, 1, 1, tzinfo=UTC), "where": i} for i in range(50))
        client.shop.orders.insert_one({"_id": 1})
        source = source_of(mongo, **way[0])
        said = restored(mongo, source, edited(dump_all(source), (old, new)), way[1])
        assert client.shop.weather.count_documents({}) == 50
        assert [one.name for one in said.lost] == [f"{lost} of weather"]
        (one,) = client.shop.list_collections(filter={"name": "weather"})
        assert one["type"] == "timeseries"


def test_a_time_series_that_the_target_cannot_take_at_all_is_left_out_where_no_oplog_needs_it(
    mongo: MongoServer, source_of: MakeSource
) -> None:
    with mongo.connected() as client:
        client.shop.create_collection("weather", timeseries={"timeField": "at"})
        client.shop.weather.insert_one({"at": datetime(2024, 1, 1, tzinfo=UTC)})
        client.shop.weather.create_index("n")
        client.shop.orders.insert_one({"_id": 1})
        source = source_of(mongo)
        dump = edited(dump_all(source), ('"timeField":"at"', '"timeFeld":"at"'))
        with pytest.raises(RestoreFailed, match=r"the collection shop\.weather of the oplog") as caught:
            restored(mongo, source, dump)
        assert "replay=no" in (caught.value.hint or "")
        assert "shop" not in client.list_database_names()
        said = restored(mongo, source, dump, RestoreTarget(options={"replay": "no"}))
        assert client.shop.list_collection_names() == ["orders"]
        assert [(one.kind, one.name) for one in said.lost] == [("time-series collection", "weather")]


def test_a_validator_with_a_regular_expression_comes_back_as_it_was(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        since = datetime(2024, 1, 1, tzinfo=UTC)
        rule = {"name": {"$regex": "^a", "$options": "i", "$in": ["ab", "AC"]}, "at": {"$gt": since}}
        client.shop.create_collection("ruled", validator=rule)
        before = contents(client, "shop")
        source = source_of(mongo)
        assert not restored(mongo, source, dump_all(source)).lost
        assert contents(client, "shop") == before
