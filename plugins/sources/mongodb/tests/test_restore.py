import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from pymongo.errors import OperationFailure
from tests.processes import descendants
from tests.servers.mongodb import VERSIONS, MongoServer, MongoServers, find_tools
from tests.servers.streams import Dump, blocks_of, dump_all, restore_all

from penstock.api import (
    ClientTooOld,
    DamagedObject,
    RestoreFailed,
    RestorePlan,
    RestoreTarget,
    SourceDenied,
    SourceUnreachable,
    StreamSpec,
    TargetNotEmpty,
    UsageError,
)
from penstock.testing.dumping import restore_one
from penstock_mongodb import restore

pytestmark = pytest.mark.server


@pytest.fixture
def small(mongo: MongoServer, source_of: MakeSource) -> Dump:
    """An archive with the oplog of two databases, which are gone again."""
    return dump_of_two(mongo, source_of)


def dump_of_two(server: MongoServer, source_of: MakeSource) -> Dump:
    rnd = random.Random(11)
    with server.connected() as client:
        client.shop.orders.insert_many({"_id": i, "data": rnd.randbytes(100)} for i in range(3000))
        client.shop.orders.create_index("data")
        client.shop.lines.insert_one({"_id": 1})
        client.stock.items.insert_one({"_id": 1})
    dump = dump_all(source_of(server))
    server.wipe()
    return dump


def held(server: MongoServer) -> dict[str, int]:
    """How many documents there are."""
    with server.connected() as client:
        return {
            f"{name}.{collection}": client[name][collection].count_documents({})
            for name in client.list_database_names()
            if name not in ("admin", "config", "local")
            for collection in sorted(client[name].list_collection_names())
        }


WHOLE = {"shop.lines": 1, "shop.orders": 3000, "stock.items": 1}


def damaged(data: bytes) -> Iterator[memoryview]:
    """All of the data, and then the news that it was not what was stored."""
    yield from blocks_of(data)
    raise DamagedObject("packs/aa/aa", "its digest is wrong")


def options(clean: bool = False, **words: str) -> RestoreTarget:
    return RestoreTarget(clean=clean, options=words)


def test_a_target_that_is_not_empty_is_refused_and_kept(mongo: MongoServer, source_of: MakeSource, small: Dump) -> None:
    with mongo.connected() as client:
        client.stock.mine.insert_one({"_id": 1})
        client.elsewhere.mine.insert_one({"_id": 1})
    with pytest.raises(TargetNotEmpty, match=r"the database stock is not empty.*mine"):
        restore_all(source_of(mongo), small)
    assert held(mongo) == {"stock.mine": 1, "elsewhere.mine": 1}


def test_a_clean_restore_replaces_the_databases_of_the_dump_and_no_others(
    mongo: MongoServer, source_of: MakeSource, small: Dump
) -> None:
    with mongo.connected() as client:
        client.stock.mine.insert_one({"_id": 1})
        client.shop.orders.insert_one({"_id": 1, "data": "changed"})
        client.elsewhere.mine.insert_one({"_id": 1})
    restore_all(source_of(mongo), small, options(clean=True))
    assert held(mongo) == WHOLE | {"elsewhere.mine": 1}


def test_a_restore_under_other_names_needs_to_give_up_the_oplog(
    mongo: MongoServer, source_of: MakeSource, small: Dump
) -> None:
    source = source_of(mongo)
    restore_all(source, small)
    for words in ({"rename": "shop=copy"}, {"databases": "stock"}, {"accounts": "no"}):
        with pytest.raises(UsageError) as caught:
            restore_all(source, small, RestoreTarget(options=words))
        assert "replay=no" in (caught.value.hint or "")
    restore_all(source, small, options(replay="no", databases="shop", rename="shop=copy"))
    assert held(mongo) == WHOLE | {"copy.lines": 1, "copy.orders": 3000}
    mongo.wipe()
    restore_all(source, small, options(replay="no", databases="shop", rename="shop.orders=old.o*rders"))
    assert held(mongo) == {"shop.lines": 1, "old.o*rders": 3000}


def test_streams_of_single_databases_are_chosen_and_renamed(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        client.one.things.insert_one({"_id": 1})
        client.two.things.insert_one({"_id": 1})
    dump = dump_all(source_of(mongo, oplog="no"))
    restore_all(source_of(mongo), dump, options(databases="two", rename="two=copy"))
    assert held(mongo) == {"one.things": 1, "two.things": 1, "copy.things": 1}


def test_one_database_goes_into_the_one_that_the_target_names(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        client.one.things.insert_one({"_id": 1})
        client.two.things.insert_one({"_id": 1})
    dump = dump_all(source_of(mongo, databases=["one", "two"]))
    restore_all(source_of(mongo, database="copy"), [dump["two.archive"]])
    assert held(mongo) == {"one.things": 1, "two.things": 1, "copy.things": 1}
    with pytest.raises(UsageError, match="2 databases cannot be restored into one"):
        restore_all(source_of(mongo, database="other"), dump)
    with pytest.raises(UsageError, match="rename names three"):
        restore_all(source_of(mongo), dump, options(rename="three=four"))


def test_a_whole_deployment_goes_into_no_single_database(
    mongo: MongoServer, source_of: MakeSource, small: Dump
) -> None:
    with pytest.raises(UsageError, match="the one database shop") as caught:
        restore_all(source_of(mongo, database="shop"), small)
    assert "authSource" in (caught.value.hint or "")


def test_a_restore_that_is_left_before_its_end_leaves_nothing(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        client.one.things.insert_one({"_id": 1})
    ((spec, data),) = dump_all(source_of(mongo, database="one")).values()
    mongo.wipe()
    for finished in (False, True):
        with source_of(mongo).restore(RestorePlan((spec,), RestoreTarget())) as restoring:
            restoring.write(spec, blocks_of(data))
            assert held(mongo) == {"one.things": 1}
            if finished:
                restoring.finish()
        assert held(mongo) == ({"one.things": 1} if finished else {})


@pytest.mark.parametrize(
    "words",
    [
        {"nonsense": "1"}, {"replay": "perhaps"}, {"rename": "shop"}, {"rename": "a=b,a=c"}, {"rename": "a.b=c"},
        {"rename": "=x"},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(
    mongo: MongoServer, source_of: MakeSource, words: dict[str, str]
) -> None:
    with pytest.raises(UsageError):
        source_of(mongo).plan_restore([], RestoreTarget(options=words))


@pytest.mark.parametrize("undo", ["yes", "no"])
def test_damage_that_is_found_late_leaves_nothing_unless_asked_for(
    mongo: MongoServer, source_of: MakeSource, small: Dump, undo: str
) -> None:
    ((spec, data),) = small.values()

    def late(data: bytes) -> Iterator[memoryview]:
        yield from blocks_of(data)
        deadline = time.monotonic() + 120
        while not held(mongo) and time.monotonic() < deadline:
            time.sleep(0.05)
        raise DamagedObject("packs/aa/aa", "its digest is wrong")

    with pytest.raises(DamagedObject):
        restore_one(source_of(mongo), spec, late(data), options(undo=undo))
    assert (held(mongo) == {}) == (undo == "yes")


@pytest.mark.parametrize("cut", [4, 100, 200_000])
def test_an_archive_that_is_cut_off_fails_and_says_what_is_left(
    mongo: MongoServer, source_of: MakeSource, small: Dump, cut: int
) -> None:
    ((spec, data),) = small.values()
    with pytest.raises(RestoreFailed) as caught:
        restore_one(source_of(mongo), spec, blocks_of(data[:-cut]), RestoreTarget())
    said = "\n".join(caught.value.details)
    assert "Failed: " in said
    assert "the database shop, which was restored in part, was dropped again" in said
    assert "users and roles" in said
    assert held(mongo) == {}


def test_what_was_in_the_target_is_never_dropped_after_a_failure(
    mongo: MongoServer, source_of: MakeSource, small: Dump
) -> None:
    ((spec, data),) = small.values()
    with mongo.connected() as client:
        client.shop.orders.insert_one({"_id": 5, "data": "mine"})
    with pytest.raises(RestoreFailed) as caught:
        restore_one(source_of(mongo), spec, blocks_of(data), RestoreTarget())
    assert "E11000" in "\n".join(caught.value.details)
    assert "the database shop is restored in part" in "\n".join(caught.value.details)
    with mongo.connected() as client:
        assert client.shop.orders.find_one({"_id": 5}) == {"_id": 5, "data": "mine"}


def test_nothing_is_dropped_before_the_first_block_is_there(
    mongo: MongoServer, source_of: MakeSource, small: Dump
) -> None:
    ((spec, _),) = small.values()
    with mongo.connected() as client:
        client.shop.orders.insert_one({"_id": 5})
    with pytest.raises(DamagedObject):
        restore_one(source_of(mongo), spec, damaged(b""), options(clean=True))
    assert held(mongo) == {"shop.orders": 1}


@pytest.mark.parametrize("dropped", [True, False])
def test_an_interrupted_drop_is_told_and_drops_nothing_more(
    mongo: MongoServer, source_of: MakeSource, small: Dump, monkeypatch: pytest.MonkeyPatch, dropped: bool
) -> None:
    really = restore._empty

    def interrupted(connection: Any, name: str) -> None:
        if dropped:
            really(connection, name)
        raise KeyboardInterrupt

    with mongo.connected() as client:
        client.shop.orders.insert_one({"_id": 5})
    monkeypatch.setattr(restore, "_empty", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        restore_all(source_of(mongo), small, options(clean=True))
    assert caught.value.__notes__ == ["shop was being dropped: look whether it is still there"]
    assert held(mongo) == ({} if dropped else {"shop.orders": 1})


def test_a_refused_drop_is_no_loss(
    mongo: MongoServer, source_of: MakeSource, small: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(connection: Any, name: str) -> None:
        raise OperationFailure("not authorized on shop to execute command dropDatabase", 13)

    with mongo.connected() as client:
        client.shop.orders.insert_one({"_id": 5})
    monkeypatch.setattr(restore, "_empty", refused)
    with pytest.raises(SourceDenied) as caught:
        restore_all(source_of(mongo), small, options(clean=True))
    assert caught.value.details == ()


def test_what_is_gone_is_told_although_the_server_is_gone_too(
    mongo: MongoServer, source_of: MakeSource, small: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object) -> None:
        monkeypatch.setattr(restore, "connect", unreachable)
        raise RestoreFailed("mongorestore exited with 1")

    def unreachable(*arguments: object) -> None:
        raise SourceUnreachable("nobody answers")

    with mongo.connected() as client:
        client.shop.orders.insert_one({"_id": 5})
    monkeypatch.setattr(restore, "_run", failing)
    with pytest.raises(RestoreFailed) as caught:
        restore_all(source_of(mongo), small, options(clean=True))
    assert "nobody answers; what shop held before is gone" in caught.value.details[-1]


def test_versions_are_compared(mongo: MongoServer, source_of: MakeSource, small: Dump, tmp_path: Path) -> None:
    ((spec, data),) = small.values()

    def of(**attributes: str) -> StreamSpec:
        return replace(spec, attributes={**spec.attributes, **attributes})

    source = source_of(mongo)
    with pytest.raises(UsageError, match=r"MongoDB 8\.0\.1.*target is 6\.0"):
        source.plan_restore([of(server_version="8.0.1")], RestoreTarget())
    with pytest.raises(ClientTooOld, match=r"100\.12\.0.*100\.7"):
        source.plan_restore([of(client_version="100.12.0")], RestoreTarget())
    source.plan_restore(
        [of(server_version="8.0.1", client_version="100.12.0")], options(older_server="yes", older_client="yes")
    )
    with pytest.raises(UsageError, match="format"):
        restore_one(source, replace(spec, format="sql"), blocks_of(data), RestoreTarget())


def test_an_older_servers_dump_restores_into_a_newer_one(
    mongo_servers: MongoServers, mongo: MongoServer, source_of: MakeSource
) -> None:
    old = mongo_servers.get("4.4")
    old.wipe()
    with old.connected() as client:
        client.shop.orders.insert_many({"_id": i} for i in range(100))
    dump = dump_all(source_of(old))
    restore_all(source_of(mongo), dump)
    assert held(mongo) == {"shop.orders": 100}
    with pytest.raises(UsageError, match="older server"):
        restore_all(source_of(old), dump_all(source_of(mongo)), options(clean=True))
    old.wipe()


def test_users_and_roles_come_back_and_those_that_exist_are_kept(
    mongo_servers: MongoServers, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (mongo_servers.get(auth=True, name=name) for name in ("", "second"))
    first.wipe()
    second.wipe()
    with first.connected() as client:
        client.admin.command("createRole", "packer", privileges=[], roles=[{"role": "read", "db": "shop"}])
        client.shop.command("createUser", "app", pwd="of the dump", roles=["readWrite"])
        client.shop.command("createUser", "both", pwd="of the dump", roles=["readWrite"])
        client.shop.orders.insert_one({"_id": 1})
    dump = dump_all(source_of(first, oplog="no"))
    with second.connected() as client:
        client.shop.command("createUser", "both", pwd="of the target", roles=["read"])
    restore_all(source_of(second), dump, options(accounts="no"))
    with second.connected() as client:
        assert [user["user"] for user in client.shop.command("usersInfo")["users"]] == ["both"]
        assert not client.admin.command("rolesInfo")["roles"]
    restore_all(source_of(second), dump, options(clean=True))
    with second.connected() as client:
        assert [role["role"] for role in client.admin.command("rolesInfo")["roles"]] == ["packer"]
        assert {user["user"] for user in client.shop.command("usersInfo")["users"]} == {"app", "both"}
    for user, password in (("app", "of the dump"), ("both", "of the target")):
        with second.connected(username=user, password=password, authSource="shop") as client:
            assert client.shop.orders.find_one() == {"_id": 1}
    second.wipe()
    first.wipe()


@pytest.mark.parametrize("version", VERSIONS)
def test_who_may_not_replay_the_oplog_is_told_before_the_restore(
    version: str, mongo_servers: MongoServers, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mongo_servers.get(version, auth=True)
    server.wipe()
    small = dump_of_two(server, source_of)
    roles = ["restore", "readAnyDatabase", *(["dbAdminAnyDatabase"] if version == "5.0" else [])]
    monkeypatch.setenv("ROLE_PASSWORD", "pw")
    with server.connected() as client:
        client.admin.command("createUser", "writer", pwd="pw", roles=["readWriteAnyDatabase"])
        client.admin.command("createUser", "restorer", pwd="pw", roles=roles)
    as_user: dict[str, Any] = {"password": {"env": "ROLE_PASSWORD"}}
    with pytest.raises(SourceDenied, match="replay"):
        source_of(server, user="writer", **as_user).plan_restore([small["deployment.archive"][0]], RestoreTarget())
    restore_all(source_of(server, user="restorer", **as_user), small)
    assert held(server) == WHOLE
    server.wipe()


def test_no_secret_is_in_the_command_line_of_mongorestore(
    mongo_servers: MongoServers, source_of: MakeSource, small: Dump
) -> None:
    server = mongo_servers.get(auth=True, tls=True)
    server.wipe()
    ((spec, data),) = small.values()
    seen: list[bytes] = []

    def blocks() -> Iterator[memoryview]:
        for place, block in enumerate(blocks_of(data)):
            if place == 2:
                seen.extend(process.arguments for process in descendants())
            yield block

    restore_one(source_of(server), spec, blocks(), RestoreTarget())
    assert any(b"mongorestore\0--config=/dev/fd/" in command for command in seen)
    assert not any(server.password.encode() in command for command in seen)
    assert held(server) == WHOLE
    server.wipe()


def test_a_mongorestore_that_fails_is_quoted_without_the_documents(
    mongo: MongoServer, source_of: MakeSource, small: Dump, tmp_path: Path
) -> None:
    ((spec, data),) = small.values()
    real = find_tools() / "mongorestore"
    said = (
        "applying oplog: applyOps: (Unauthorized) not authorized on admin to execute command { applyOps: [ secret ] }"
    )
    text = f'#!/bin/sh\n[ "$1" = --version ] && exec {real} "$@"\ncat >/dev/null; echo "Failed: {said}" >&2; exit 1\n'
    (tmp_path / "mongorestore").write_text(text, encoding="utf-8")
    (tmp_path / "mongorestore").chmod(0o755)
    with pytest.raises(RestoreFailed) as caught:
        restore_one(source_of(mongo, client_path=tmp_path), spec, blocks_of(data), RestoreTarget())
    assert "secret" not in "\n".join(caught.value.details)
    assert "anyAction" in (caught.value.hint or "")


def test_a_line_break_in_a_name_is_never_passed_over(mongo: MongoServer, source_of: MakeSource) -> None:
    """The patterns of mongorestore fit no line break, and it says nothing of what it leaves out."""
    odd = "new\nline *"
    with mongo.connected() as client:
        client.shop[odd].insert_one({"_id": 1})
        client.shop.plain.insert_one({"_id": 1})
        client.other.plain.insert_one({"_id": 1})
    whole = held(mongo)
    source = source_of(mongo)
    assert any(repr(f"shop.{odd}") in warning for warning in source.inspect().warnings)
    dump = dump_all(source)
    mongo.wipe()
    with pytest.raises(UsageError, match="line break") as refused:
        restore_all(source, dump)
    assert "replay=no" in (refused.value.hint or "")
    with pytest.raises(UsageError, match="cannot rename"):
        restore_all(source, dump, options(replay="no", rename="shop=copy"))
    assert held(mongo) == {}
    restore_all(source, dump, options(replay="no"))
    assert held(mongo) == whole
    mongo.wipe()
    restore_all(source, dump, options(replay="no", databases="shop"))
    assert held(mongo) == {f"shop.{odd}": 1, "shop.plain": 1}


def test_a_line_break_in_a_name_comes_back_with_its_database(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        client.shop["new\nline"].insert_one({"_id": 1})
        client.other.plain.insert_one({"_id": 1})
    whole = held(mongo)
    source = source_of(mongo, databases=["shop", "other"])
    dump = dump_all(source)
    mongo.wipe()
    restore_all(source, dump)
    assert held(mongo) == whole


def test_a_plan_says_what_is_written_and_needed_and_changes_nothing(
    mongo_servers: MongoServers, source_of: MakeSource, small: Dump
) -> None:
    server = mongo_servers.get(auth=True)
    server.wipe()
    with server.connected() as client:
        client.shop.mine.insert_one({"_id": 1})
    (spec, _) = small["deployment.archive"]
    plan = source_of(server).plan_restore([spec], options(clean=True))
    assert [step.action for step in plan.steps] == [
        "add users and roles that are not there",
        "drop the database shop, which holds 1 collection or view, and fill it",
        "make the database stock and fill it",
        "replay the oplog of the time that the dump took",
        "make the indexes, each by itself where the target refuses several",
    ]
    assert {(need.kind, need.name.partition(" ")[0], need.met) for need in plan.needs} == {
        ("client program", "mongorestore", True),
        ("server", "MongoDB", True),
        ("privilege", "applyOps", True),
        ("privilege", "anyAction", None),
        ("role", "restore", True),
        ("free space", spec.attributes["stored"], True),
    }
    assert held(server) == {"shop.mine": 1}
    plan = source_of(server).plan_restore([spec], options(clean=True, replay="no", databases="stock"))
    assert next(step.action for step in plan.steps) == "make the database stock and fill it"
    newer = replace(spec, attributes={**spec.attributes, "server_version": "8.0.1"})
    plan = source_of(server).plan_restore([newer], options(clean=True, older_server="yes"))
    assert [need.met for need in plan.needs if need.kind == "server"] == [False]
    server.wipe()
