import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.servers.redis import PASSWORD, RedisServers

from penstock.api import (
    ChildOutput,
    ClientMissing,
    DumpFailed,
    Interrupted,
    RestoreFailed,
    RestoreTarget,
    SourceDenied,
    StopToken,
    StreamSpec,
    UsageError,
)
from penstock.testing.dumping import dump_all, read_all, restore_all, restore_one
from penstock_redis import primary
from penstock_redis.rdb import RdbStream
from penstock_redis.settings import RedisSettings, settings_from_url
from penstock_redis.source import RedisSource

_RDB = b"REDIS0010" + b"\x00\x03key\x05value" * 100 + b"\xff" + bytes(range(8))
_MARK = b"0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(PASSWORD, encoding="utf-8")
    return file


def settings_of(**chosen: object) -> RedisSettings:
    return RedisSettings.model_validate(chosen)


def stream_of(data: bytes, folder: Path) -> RdbStream:
    file = folder / "data"
    file.write_bytes(data)
    return RdbStream(ChildOutput(["cat", str(file)], name="cat"), "dump.rdb")


@pytest.mark.parametrize("mark", [b"", _MARK], ids=["with its length", "with a mark"])
@pytest.mark.parametrize("size", [1, 7, 40, 1 << 20])
def test_the_file_is_the_same_however_it_was_sent(mark: bytes, size: int, tmp_path: Path) -> None:
    assert read_all(stream_of(_RDB + mark, tmp_path), [size] * 60) == _RDB


@pytest.mark.parametrize("data", [b"", b"REDIS", _RDB[:-1], _RDB[:-9], b"X" + _RDB[1:], _RDB + _MARK[:-1], _MARK])
def test_what_is_not_a_whole_file_fails_the_dump(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DumpFailed, match="does not begin and end as an RDB file does"):
        read_all(stream_of(data, tmp_path))


def test_a_url_stands_for_settings() -> None:
    assert settings_from_url("redis://me@[::1]:7000") == {"user": "me", "host": "::1", "port": 7000}
    assert settings_of(host="::1", port=7000, user="m e").location == "redis://m%20e@[::1]:7000"
    for url in ("redis://host/0", "redis://host?x=y", "redis://host:port"):
        with pytest.raises(UsageError):
            settings_from_url(url)


@pytest.mark.server
def test_a_wrong_password_is_denied(redis_servers: RedisServers, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not it", encoding="utf-8")
    settings = RedisSettings.model_validate({"port": redis_servers.get().port, "password": {"file": wrong}})
    with pytest.raises(SourceDenied) as caught:
        RedisSource(settings).inspect()
    assert "not it" not in repr(caught.value)


@pytest.mark.server
def test_a_user_with_few_rights_can_dump(redis_servers: RedisServers, password: Path) -> None:
    server = redis_servers.get()
    server.pipe([("FLUSHALL",), ("SET", "a", "b")])
    rights = ("+psync", "+sync", "+replconf", "+info", "+ping", "+auth")
    server.run("ACL", "SETUSER", "backup", "on", f">{PASSWORD}", *rights)
    settings = {"port": server.port, "user": "backup", "password": {"file": password}}
    ((_, data),) = dump_all(RedisSource(RedisSettings.model_validate(settings))).values()
    assert data.startswith(b"REDIS")


@pytest.mark.server
def test_a_stranger_gets_nothing_of_a_restore_and_the_target_is_what_it_was(
    redis_servers: RedisServers, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, target = redis_servers.get(), redis_servers.get("target")
    server.pipe([("FLUSHALL",), ("SET", "a", "x" * 1000)])
    target.run("FLUSHALL")
    target.run("CONFIG", "SET", "masterauth", "before")
    got: list[bytes] = []
    make = socket.create_server

    def intruded(address: tuple[str, int], **more: Any) -> socket.socket:
        listener = make(address, **more)

        def intrude() -> None:
            with socket.create_connection(listener.getsockname()) as link, link.makefile("rb") as answers:
                link.sendall(b"*2\r\n$4\r\nAUTH\r\n$5\r\nguess\r\n")
                # The answer is read before more is sent: a close with something unread may throw it away.
                got.append(answers.readline())
                with suppress(ConnectionError):
                    link.sendall(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")
                    got.append(answers.read())

        intruder = threading.Thread(target=intrude)
        intruder.start()
        intruders.append(intruder)
        return listener

    intruders: list[threading.Thread] = []
    sources = [
        RedisSource(RedisSettings.model_validate({"port": one.port, "password": {"file": password}}))
        for one in (server, target)
    ]
    dump = dump_all(sources[0])
    monkeypatch.setattr(socket, "create_server", intruded)
    restore_all(sources[1], dump)
    intruders[0].join(30)
    assert b"".join(got) == b"-WRONGPASS\r\n"
    assert target.run("GET", "a") == b"x" * 1000
    assert target.run("CONFIG", "GET", "masterauth") == [b"masterauth", b"before"]
    assert b"role:master" in target.run("INFO", "replication")
    target.run("CONFIG", "SET", "masterauth", "")


@pytest.mark.server
def test_a_target_that_cannot_reach_this_host_is_told_what_to_do(
    redis_servers: RedisServers, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(primary, "_HANDSHAKE_SECONDS", 0.5)
    target = redis_servers.get("target")
    source = RedisSource(RedisSettings.model_validate({"port": target.port, "password": {"file": password}}))
    with pytest.raises(RestoreFailed, match="did not connect") as caught:
        restore_one(source, StreamSpec("dump.rdb", "rdb"), iter([]), RestoreTarget(options={"address": "0.0.0.1"}))
    assert "address" in (caught.value.hint or "")
    assert b"role:master" in target.run("INFO", "replication")


@pytest.mark.server
def test_a_stop_ends_the_wait_for_a_target_that_does_not_connect(redis_servers: RedisServers, password: Path) -> None:
    target = redis_servers.get("target")
    source = RedisSource(settings_of(port=target.port, password={"file": password}))
    source.stop = StopToken()
    source.stop.stop()
    with pytest.raises(Interrupted):
        restore_one(source, StreamSpec("dump.rdb", "rdb"), iter([]), RestoreTarget(options={"address": "0.0.0.1"}))
    assert b"role:master" in target.run("INFO", "replication")


@pytest.mark.server
def test_what_is_not_an_rdb_file_is_not_given_to_the_server(redis_servers: RedisServers, password: Path) -> None:
    target = redis_servers.get("target")
    target.pipe([("FLUSHALL",), ("SET", "a", "old")])
    source = RedisSource(settings_of(port=target.port, password={"file": password}))
    for data in (b"", b"RED", b"PGDMP" + bytes(1000)):
        with pytest.raises(RestoreFailed, match="not an RDB file"):
            restore_one(source, StreamSpec("dump.rdb", "rdb"), iter([memoryview(data)]), RestoreTarget(clean=True))
    assert target.run("GET", "a") == b"old"
    assert b"role:master" in target.run("INFO", "replication")


@pytest.mark.parametrize("version", [None, "", "7", "7.x.1", "²7.0.15", "9" * 5000 + ".0.0"])
def test_a_version_that_penstock_does_not_record_is_refused(version: str | None) -> None:
    spec = StreamSpec("dump.rdb", "rdb", attributes={} if version is None else {"server_version": version})
    with pytest.raises(RestoreFailed, match="records an unusable server_version"):
        RedisSource(settings_of()).plan_restore([spec], RestoreTarget(clean=True))


def test_a_missing_client_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ClientMissing, match="cannot run"):
        RedisSource(settings_of(client_path=tmp_path)).inspect()
