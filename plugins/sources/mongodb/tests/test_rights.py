"""The least that the users of a dump and of a restore may be, as the plugin's page says."""

from typing import Any

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from plugins.sources.mongodb.tests.nasty import contents, fill_nasty
from tests.servers.mongodb import VERSIONS, MongoServers
from tests.servers.streams import dump_all, restore_all

from penstock.api import RestoreTarget, SourceDenied
from penstock.testing.hearing import Heard

pytestmark = pytest.mark.server


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("ROLE_PASSWORD", "pw")
    return {"password": {"env": "ROLE_PASSWORD"}}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_roles_backup_and_restore_are_enough(
    version: str, mongo_servers: MongoServers, source_of: MakeSource, as_user: dict[str, Any]
) -> None:
    server = mongo_servers.get(version, auth=True)
    server.wipe()
    fill_nasty(server, large=100_000)
    extra = ["dbAdminAnyDatabase"] if version == "5.0" else []
    with server.connected() as client:
        client.admin.command("createUser", "backup", pwd="pw", roles=["backup"])
        client.admin.command("createUser", "restore", pwd="pw", roles=["restore", *extra])
        client.shop.orders.rename("renamed")  # with such a newest entry in the oplog no dump of mongodump's can begin
        before = contents(client, "shop")
        saver, loader = source_of(server, user="backup", **as_user), source_of(server, user="restore", **as_user)
        loader.report = said = Heard()
        dump = dump_all(saver)
        for name in client.list_database_names():
            if name not in ("admin", "config", "local"):
                client.drop_database(name)
        client.shop.mine.insert_one({"_id": 1})
        restore_all(loader, dump, RestoreTarget(clean=True))
        assert contents(client, "shop") == before
        assert not said.lost
        plan = loader.plan_restore([spec for spec, _ in dump.values()], RestoreTarget(clean=True))
        assert all(need.met is not False for need in plan.needs)
    server.wipe()


@pytest.mark.parametrize("version", VERSIONS)
def test_stored_functions_that_may_not_be_removed_are_found_before_anything_is_dropped(
    version: str, mongo_servers: MongoServers, source_of: MakeSource, as_user: dict[str, Any]
) -> None:
    server = mongo_servers.get(version, auth=True)
    server.wipe()
    with server.connected() as client:
        client.shop.orders.insert_one({"_id": 1})
        client.shop["system.js"].insert_one({"_id": "one", "value": 1})
        client.admin.command("createUser", "restore", pwd="pw", roles=["restore"])
        dump = dump_all(source_of(server, database="shop"))
        before = contents(client, "shop")
        if version != "5.0":  # which asks for more rights anyway
            with pytest.raises(SourceDenied, match="not authorized on shop"):
                restore_all(source_of(server, user="restore", **as_user), dump, RestoreTarget(clean=True))
        assert contents(client, "shop") == before
        client.admin.command("grantRolesToUser", "restore", roles=["dbAdminAnyDatabase"])
        restore_all(source_of(server, user="restore", **as_user), dump, RestoreTarget(clean=True))
        assert contents(client, "shop") == before
    server.wipe()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_role_in_the_one_database_is_enough_for_that_one(
    version: str, mongo_servers: MongoServers, source_of: MakeSource, as_user: dict[str, Any]
) -> None:
    server = mongo_servers.get(version, auth=True)
    server.wipe()
    with server.connected() as client:
        client.shop.orders.insert_many({"_id": i, "a": i} for i in range(100))
        client.shop.orders.create_index("a", unique=True)
        client.admin.command("createUser", "reader", pwd="pw", roles=[{"role": "read", "db": "shop"}])
        writing = [{"role": role, "db": "shop"} for role in ("readWrite", "dbAdmin")]
        client.admin.command("createUser", "writer", pwd="pw", roles=writing)
        before = contents(client, "shop")
        dump = dump_all(source_of(server, user="reader", database="shop", **as_user))
        restore_all(source_of(server, user="writer", **as_user), dump, RestoreTarget(clean=True))
        assert contents(client, "shop") == before
    server.wipe()
