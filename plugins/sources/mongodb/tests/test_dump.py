import os
import random
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from tests.processes import descendants, running
from tests.servers.mongodb import PASSWORD, MongoServer, MongoServers, find_tools
from tests.servers.postgres import free_port
from tests.servers.streams import dump_all, read_all

from penstock.api import (
    DumpFailed,
    DumpStalled,
    InventoryItem,
    SecretUnavailable,
    SourceDenied,
    SourceError,
    SourceUnreachable,
    StreamSpec,
    found_by,
)
from penstock_mongodb import probe
from penstock_mongodb.checks import CHECKS, Facts
from penstock_mongodb.settings import MongoSettings
from penstock_mongodb.source import MongoSource

pytestmark = pytest.mark.server


def fill(server: MongoServer, megabytes: int = 8) -> None:
    """More than the pipe and the buffers of a connection hold, which compresses to nothing."""
    rnd = random.Random(3)
    with server.connected() as client:
        client.shop.filled.insert_many({"_id": i, "data": rnd.randbytes(10_000)} for i in range(megabytes * 100))


def test_two_dumps_of_the_same_content_differ_in_a_few_bytes(mongo: MongoServer, source_of: MakeSource) -> None:
    fill(mongo)
    ((_, first),), ((_, second),) = (dump_all(source_of(mongo)).values() for _ in range(2))
    start, end = first.index(b"\xff\xff\xff\xff"), first.rindex(b"\x02db\x00\x05\x00\x00\x00shop\x00")
    # Before lies the prelude, in an order of its own in every run; after it the captured entries of the oplog.
    assert first[start:end] in second
    assert end - start > 8_000_000
    assert len(first) - (end - start) < 20_000


def test_the_databases_of_a_standalone_server_are_dumped_one_by_one(
    mongo_servers: MongoServers, source_of: MakeSource
) -> None:
    server = mongo_servers.get(replica_set=False)
    server.wipe()
    with server.connected() as client:
        for name in ("one", "two", "three"):
            client[name].things.insert_one({"_id": 1})
    source = source_of(server)
    with source.dump() as held:
        assert [spec.name for spec in held.plan.streams] == [
            "one.archive",
            "three.archive",
            "two.archive",
            "admin.archive",
        ]
        assert [spec.optional for spec in held.plan.streams] == [False, False, False, True]
        assert held.plan.consistency == "none: the server is not a member of a replica set, and has no oplog"
    with pytest.raises(SourceError, match="standalone server"):
        source_of(server, oplog="yes").inspect()
    for chosen in ({"databases": "tw*"}, {"database": "two"}):
        with source_of(server, **chosen).dump() as held:
            assert [spec.name for spec in held.plan.streams] == ["two.archive"]
    with source_of(server, exclude_databases=["two"], accounts="no").dump() as held:
        assert [spec.name for spec in held.plan.streams] == ["one.archive", "three.archive"]
    with pytest.raises(SourceError, match="databases = four matches no database"):
        source_of(server, databases=["four"]).inspect()
    server.wipe()


def test_two_dumps_of_one_source_are_independent(mongo: MongoServer, source_of: MakeSource) -> None:
    fill(mongo, 1)
    source = source_of(mongo, databases="shop", row_counts="exact")
    with source.dump() as first:
        with mongo.connected() as client:
            client.shop.later.insert_one({"what": "in the second alone"})
        with source.dump() as second:
            names = [{item.name for item in dump.plan.inspection.inventory} for dump in (first, second)]
            assert names[1] - names[0] == {"shop.later"}
            streams = [dump.open(dump.plan.streams[0]) for dump in (first, second)]
        # Each is a child of its own: the end of one dump ends no other.
        streams[1].abort()
        assert len(read_all(streams[0])) > 1000


def test_a_choice_of_databases_gives_up_the_point_in_time_and_says_so(
    mongo: MongoServer, source_of: MakeSource
) -> None:
    fill(mongo, 1)
    with source_of(mongo, databases="shop").dump() as held:
        assert held.plan.consistency == "none: databases are dumped one by one, without the oplog"
        assert any("not at one point in time" in warning for warning in held.plan.inspection.warnings)
    with source_of(mongo).dump() as held:
        assert held.plan.consistency == "point in time through the oplog"
        assert not held.plan.inspection.warnings


def test_a_sharded_cluster_is_refused_unless_inconsistency_is_accepted(
    mongo: MongoServer, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(mongo, 1)
    monkeypatch.setattr(probe, "look", lambda _: probe.Deployment("sharded cluster", "6.0.27", True))
    with pytest.raises(SourceError, match="sharded cluster") as caught:
        source_of(mongo).inspect()
    assert "oplog = no" in (caught.value.hint or "")
    with source_of(mongo, oplog="no").dump() as held:
        assert held.plan.consistency == "none: a sharded cluster was read while it was in use"
        assert any("sharded" in warning for warning in held.plan.inspection.warnings)


def test_the_inventory_has_everything_and_marks_what_is_estimated(mongo: MongoServer, source_of: MakeSource) -> None:
    with mongo.connected() as client:
        shop = client.shop
        shop.orders.insert_many({"_id": i} for i in range(30))
        shop.create_collection("ring", capped=True, size=10_000)
        shop.command("create", "seen", viewOn="orders", pipeline=[])
        shop.create_collection("weather", timeseries={"timeField": "at"})
    estimated = source_of(mongo).inspect()
    assert (estimated.engine, estimated.server_version[:2]) == ("mongodb", "6.")
    assert InventoryItem("collection", "shop.orders", 30, 30 * 14) in estimated.inventory
    assert {item.kind for item in estimated.inventory} == {
        "collection", "capped collection", "view", "time-series collection", "users", "roles",
    }  # fmt: skip
    assert estimated.size_estimate == 30 * 14
    with source_of(mongo, row_counts="exact").dump() as held:
        assert InventoryItem("collection", "shop.orders", 30, 30 * 14, exact=True) in held.plan.inspection.inventory
        assert InventoryItem("view", "shop.seen") in held.plan.inspection.inventory
        assert (
            InventoryItem("time-series collection", "shop.weather", 0, 0, exact=True) in held.plan.inspection.inventory
        )
    off = source_of(mongo, row_counts="off").inspect()
    assert all(item.rows is None for item in off.inventory if item.kind == "collection")


def open_elsewhere(settings: MongoSettings, spec: StreamSpec) -> bytes:
    return read_all(MongoSource(settings).attach(spec))


def test_another_process_may_open_a_stream_of_the_plan(mongo: MongoServer, source_of: MakeSource) -> None:
    fill(mongo, 1)
    source = source_of(mongo)
    with source.dump() as held, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert len(pool.submit(open_elsewhere, source.settings, held.plan.streams[0]).result()) > 1_000_000


@pytest.mark.parametrize("tls", [False, True])
def test_no_secret_is_in_any_command_line_or_environment(
    mongo_servers: MongoServers, source_of: MakeSource, tls: bool
) -> None:
    server = mongo_servers.get(auth=True, tls=tls)
    server.wipe()
    fill(server)
    source = source_of(server)
    with source.dump() as held:
        assert PASSWORD not in repr(held.plan)
        stream = held.open(held.plan.streams[0])
        stream.readinto(memoryview(bytearray(10)))
        seen = [process.arguments for process in descendants()]
        assert not [one for one in descendants() if one.program == "mongodump" and PASSWORD.encode() in one.environment]
        buffer = memoryview(bytearray(1 << 20))
        while stream.readinto(buffer):
            pass
        stream.close()
    assert any(b"mongodump\0--config=/dev/fd/" in command for command in seen)
    assert not any(PASSWORD.encode() in command for command in seen)


def test_a_wrong_password_is_said_before_anything_starts(
    mongo_servers: MongoServers, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mongo_servers.get(auth=True)
    monkeypatch.setenv("WRONG_PASSWORD", "hunter2")
    for settings in ({"password": {"env": "WRONG_PASSWORD"}}, {"auth_source": "elsewhere"}, {"user": "nobody"}):
        with pytest.raises(SourceDenied) as caught:
            source_of(server, **settings).inspect()
        assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.details}"
    with pytest.raises(SourceDenied):
        source_of(server, user=None, password=None).inspect()
    with pytest.raises(SecretUnavailable):
        source_of(server, password={"env": "UNSET_PASSWORD"}).inspect()


def test_a_role_that_may_not_see_everything_is_told_so(
    mongo_servers: MongoServers, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mongo_servers.get(auth=True)
    server.wipe()
    fill(server, 1)
    monkeypatch.setenv("ROLE_PASSWORD", "pw")
    with server.connected() as client:
        client.admin.command("createUser", "backup", pwd="pw", roles=["backup"])
        client.admin.command("createUser", "reader", pwd="pw", roles=[{"role": "read", "db": "shop"}])
    as_user: dict[str, Any] = {"password": {"env": "ROLE_PASSWORD"}}
    try:
        whole = dump_all(source_of(server, user="backup", **as_user))
        assert len(whole["deployment.archive"][1]) > 1_000_000
        with pytest.raises(SourceDenied, match="oplog"):
            source_of(server, user="reader", **as_user).inspect()
        with pytest.raises(SourceDenied, match="may not list all databases"):
            source_of(server, user="reader", oplog="no", **as_user).inspect()
        with pytest.raises(SourceDenied, match="users and roles"):
            source_of(server, user="reader", databases="shop", accounts="yes", **as_user).inspect()
        part = dump_all(source_of(server, user="reader", databases="shop", **as_user))
        assert list(part) == ["shop.archive"]
    finally:
        server.wipe()


def test_a_server_that_is_not_there_is_unreachable_soon(mongo: MongoServer, source_of: MakeSource) -> None:
    began = time.monotonic()
    for settings in ({"hosts": f"127.0.0.1:{free_port()}"}, {"replica_set": "another"}):
        with pytest.raises(SourceUnreachable) as caught:
            source_of(mongo, connect_timeout=0.5, **settings).inspect()
        assert "Topology" not in caught.value.message
    assert time.monotonic() - began < 20


def test_a_server_with_tls_is_verified(
    mongo_servers: MongoServers, source_of: MakeSource, mongo: MongoServer, tmp_path: Path
) -> None:
    server = mongo_servers.get(auth=True, tls=True)
    server.wipe()
    assert dump_all(source_of(server))
    assert dump_all(source_of(server, tls_ca=None, tls="require"))
    for settings in ({"tls_ca": None, "tls": "verify-full"}, {"tls_ca": tmp_path / "none.pem"}):
        with pytest.raises(SourceError):
            source_of(server, connect_timeout=2, **settings).inspect()
    with pytest.raises(SourceError):
        source_of(mongo, connect_timeout=2, tls="require").inspect()


def test_another_member_may_be_preferred(mongo: MongoServer, source_of: MakeSource) -> None:
    fill(mongo, 1)
    assert dump_all(source_of(mongo, read_preference="secondaryPreferred"))
    assert dump_all(source_of(mongo, replica_set=None, direct=True))
    with pytest.raises(SourceUnreachable):
        source_of(mongo, read_preference="secondary", connect_timeout=0.5).inspect()


def test_a_killed_mongodump_is_a_failed_dump(mongo: MongoServer, source_of: MakeSource) -> None:
    fill(mongo)
    source = source_of(mongo)
    with source.dump() as held:
        stream = held.open(held.plan.streams[0])
        assert stream.readinto(memoryview(bytearray(1000))) > 0
        (pid,) = running("mongodump")
        os.kill(pid, signal.SIGKILL)
        buffer = memoryview(bytearray(1 << 20))
        while stream.readinto(buffer):
            pass
        with pytest.raises(DumpFailed, match="mongodump of everything was killed by SIGKILL"):
            stream.close()
    assert not running("mongodump")


def test_an_aborted_stream_leaves_no_process(mongo: MongoServer, source_of: MakeSource) -> None:
    fill(mongo)
    source = source_of(mongo)
    with source.dump() as held:
        stream = held.open(held.plan.streams[0])
        stream.readinto(memoryview(bytearray(1000)))
        assert running("mongodump")
        stream.abort()
    assert not running("mongodump")


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ('"$real" "$@"; echo "Failed: half way" >&2; exit 1', DumpFailed, "exited with 1"),
        ('"$real" "$@" | head -c 100000', DumpFailed, "does not begin and end"),
        ("exec sleep 60", DumpStalled, "wrote nothing"),
    ],
)
def test_a_mongodump_that_does_not_end_well_is_a_failed_dump(
    mongo: MongoServer, source_of: MakeSource, tmp_path: Path, script: str, error: type[DumpFailed], words: str
) -> None:
    fill(mongo, 1)
    real = find_tools() / "mongodump"
    text = f'#!/bin/sh\nreal={real}\n[ "$1" = --version ] && exec "$real" "$@"\n{script}\n'
    (tmp_path / "mongodump").write_text(text, encoding="utf-8")
    (tmp_path / "mongodump").chmod(0o755)
    source = source_of(mongo, client_path=tmp_path, stall_timeout=2 if error is DumpStalled else 120)
    with source.dump() as held, pytest.raises(error, match=words):
        read_all(held.open(held.plan.streams[0]))


def test_a_member_that_dies_during_the_dump_fails_it(mongo_servers: MongoServers, source_of: MakeSource) -> None:
    server = mongo_servers.get(name="to be killed")
    fill(server, 40)
    source = source_of(server)
    with source.dump() as held:
        stream = held.open(held.plan.streams[0])
        stream.readinto(memoryview(bytearray(1000)))
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(DumpFailed) as caught:
            read_all(stream)
    assert "Failed: " in "\n".join(caught.value.details)


def test_newer_servers_than_the_tools_know_are_warned_of() -> None:
    facts = Facts(probe.Deployment("replica set", "7.0.5", True), "100.7.0", MongoSettings.model_validate({}))
    (warning,) = found_by(CHECKS, facts, facts.settings.warnings)
    assert "install newer Database Tools" in warning
    newer = replace(facts, client_version="100.9.0")
    assert not list(found_by(CHECKS, newer, newer.settings.warnings))
