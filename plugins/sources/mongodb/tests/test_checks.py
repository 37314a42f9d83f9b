"""Each thing that is looked for before a dump has a name, a reason, and a deployment that shows it."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from tests.servers.mongodb import MongoServer, MongoServers

from penstock.api import found_by
from penstock_mongodb.building import is_old
from penstock_mongodb.checks import CHECKS, Facts
from penstock_mongodb.probe import Deployment
from penstock_mongodb.settings import CheckName, MongoSettings

SOUND = Facts(Deployment("replica set", "6.0.27", True), "100.7.0", MongoSettings.model_validate({}))


def of(**changes: Any) -> Facts:
    return replace(SOUND, deployment=replace(SOUND.deployment, **changes))


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (
            "unverified-server",
            replace(SOUND, settings=MongoSettings.model_validate({"hosts": "far.example", "tls": "require"})),
        ),
        ("newer-server", of(version="8.0.1")),
        ("older-server", of(version="3.6.0")),
        ("sharded-cluster", of(topology="sharded cluster")),
        ("standalone", of(topology="standalone")),
        ("chosen-databases", replace(SOUND, settings=MongoSettings.model_validate({"database": "shop"}))),
        ("line-break-in-name", of(collections={"shop": [{"name": "new\nline"}]})),
        ("old-index", of(old_indexes=("a_1 of shop.orders",))),
        ("accounts-left-out", replace(SOUND, unreadable_accounts=("users and roles are left out",))),
    ],
)
def test_each_check_finds_what_it_is_named_after(name: str, facts: Facts) -> None:
    found = {check.name: [*check.find(facts)] for check in CHECKS}
    assert [check for check, said in found.items() if said] == [name]
    assert [*found_by(CHECKS, facts, facts.settings.warnings)] == [f"{said} [{name}]" for said in found[name]]
    quiet = MongoSettings.model_validate({"warnings": {"ignore": [name]}})
    assert [*found_by(CHECKS, facts, quiet.warnings)] == []


def test_the_settings_know_all_names_and_each_has_a_reason() -> None:
    assert tuple(check.name for check in CHECKS) == get_args(CheckName)
    assert all(check.reason for check in CHECKS)
    assert [*found_by(CHECKS, SOUND, SOUND.settings.warnings)] == []


def test_an_index_is_old_that_no_newer_server_takes() -> None:
    assert is_old({"v": 1, "key": {"a": True}, "name": "a"})
    assert is_old({"v": 1, "key": {"a": 1}, "name": "a", "dropDups": True})
    assert not is_old({"v": 2, "key": {"a": -1, "b": "2dsphere", "$**": 1}, "name": "a", "sparse": True})


@pytest.mark.server
def test_what_servers_make_today_is_not_old(every_mongo: MongoServer, source_of: MakeSource) -> None:
    with every_mongo.connected() as client:
        shop = client.shop
        shop.orders.create_index([("text", "text")], weights={"text": 5}, default_language="german")
        shop.orders.create_index([("place", "2dsphere")])
        shop.orders.create_index([("where", "2d")], bits=20)
        shop.orders.create_index([("sku", "hashed")])
        shop.orders.create_index([("$**", 1)], wildcardProjection={"text": 0})
        shop.orders.create_index("name", collation={"locale": "fr"}, unique=True, sparse=True)
        shop.orders.create_index("state", hidden=True, partialFilterExpression={"a": 1})
        shop.orders.create_index("at", expireAfterSeconds=10**9, background=True)
        shop.command("create", "seen", viewOn="orders", pipeline=[])
    assert source_of(every_mongo).inspect().warnings == ()


@pytest.mark.server
def test_a_standalone_server_is_warned_of(mongo_servers: MongoServers, source_of: MakeSource) -> None:
    (warning,) = source_of(mongo_servers.get(replica_set=False)).inspect().warnings
    assert "replica set of one" in warning


@pytest.mark.server
def test_thousands_of_collections_are_not_measured_one_by_one(
    mongo: MongoServer, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_mongodb.probe.MAX_MEASURED", 3)
    with mongo.connected() as client:
        for name in ("a", "b", "c", "d"):
            client.shop[name].insert_many({"_id": i, "data": "x" * 100} for i in range(10))
        total = client.shop.command("dbStats")["dataSize"]
    found = source_of(mongo).inspect()
    items = [item for item in found.inventory if item.name.startswith("shop.")]
    assert [(item.rows, item.size) for item in items] == [(10, None)] * 4
    assert found.size_estimate is not None
    assert total <= found.size_estimate < total + 100_000
    (stream,) = source_of(mongo, database="shop").inspect().streams
    assert stream.size_estimate is not None
