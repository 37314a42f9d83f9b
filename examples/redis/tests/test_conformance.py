import shutil
import socket
from pathlib import Path

import pytest
from tests.servers.redis import PASSWORD, RedisServer, RedisServers

from penstock.api import Source
from penstock.testing.source_conformance import (
    ChildProgram,
    Differences,
    NotApplicable,
    SourceConformance,
    SourceLab,
    Target,
)
from penstock_redis.settings import RedisSettings
from penstock_redis.source import RedisSource

pytestmark = pytest.mark.server


class RedisLab(SourceLab):
    secrets = (PASSWORD,)
    differences = Differences(512, "the time and the memory in the header, and the checksum")

    def __init__(self, server: RedisServer, empty: RedisServer, folder: Path) -> None:
        self.server = server
        self.empty = empty
        self._password = folder / "password"
        self._password.write_text(PASSWORD, encoding="utf-8")
        seed(server)
        self._source = self._make(server.port)

    @property
    def source(self) -> RedisSource:
        return self._source

    @property
    def program(self) -> ChildProgram:
        return ChildProgram(Path(shutil.which("redis-cli") or ""))

    def variant(self, *, program: Path | None = None, stall_timeout: float | None = None) -> Source:
        folder = program.parent if program else None
        return self._make(self.server.port, client_path=folder, stall_timeout=stall_timeout or 60)

    def unreachable(self) -> Source:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        return self._make(port)

    def silent(self, host: str, port: int) -> Source:
        return self._make(port, host=host, connect_timeout=0.5)

    def content(self) -> object:
        return content(self.server)

    def change(self) -> None:
        self.server.run("APPEND", "late", "x")

    def bad_objects(self) -> NotApplicable:
        return NotApplicable("a server takes an RDB as a whole or not at all")

    def target(self) -> Target:
        self.empty.pipe([("FLUSHALL",), ("FUNCTION", "FLUSH")])
        return Target(self._make(self.empty.port), lambda: content(self.empty))

    def _make(self, port: int, **more: object) -> RedisSource:
        return RedisSource(RedisSettings.model_validate({"port": port, "password": {"file": self._password}, **more}))


@pytest.fixture(scope="module")
def seeded(redis_servers: RedisServers, tmp_path_factory: pytest.TempPathFactory) -> SourceLab:
    return RedisLab(redis_servers.get(), redis_servers.get("target"), tmp_path_factory.mktemp("lab"))


class TestRedisSource(SourceConformance):
    @pytest.fixture
    def lab(self, seeded: SourceLab) -> SourceLab:
        return seeded


def seed(server: RedisServer) -> None:
    """Every type, small and large, which Redis encodes differently; any bytes; keys that expire; functions."""
    library = "#!lua name=shop\nredis.register_function('twice', function(keys, args) return args[1] * 2 end)"
    server.pipe(
        [
            ("FLUSHALL",),
            ("FUNCTION", "FLUSH"),
            ("FUNCTION", "LOAD", library),
            *(("SET", f"string:{n}", f"ördér {n} ".encode() * 9 + bytes(range(n % 256))) for n in range(1000)),
            ("SET", b"\x00\xff key \r\n", bytes(range(256))),
            ("SET", "number", "-12345"),
            ("SETBIT", "bits", "100000", "1"),
            ("PFADD", "distinct", *map(str, range(500))),
            ("RPUSH", "list", *map(str, range(2000)), b"\r\n\x00"),
            ("SADD", "numbers", *map(str, range(100))),
            ("SADD", "words", *(f"word {n}" for n in range(1000))),
            ("ZADD", "scores", "-inf", "a", "0.1", "b", "+inf", "c"),
            ("HSET", "small", "a", "1", b"\xff", b"\x00"),
            ("HSET", "large", *(part for n in range(1000) for part in (f"field {n}", "x" * 70))),
            ("XADD", "stream", "1-1", "a", "1"),
            ("XADD", "stream", "2-1", "b", "2"),
            ("XGROUP", "CREATE", "stream", "group", "1-1"),
            ("XREADGROUP", "GROUP", "group", "somebody", "STREAMS", "stream", ">"),
            ("SET", "expires", "later"),
            ("PEXPIREAT", "expires", "4102444800123"),
        ]
    )
    server.run("SET", "elsewhere", "x", database=3)


_READING: dict[bytes, tuple[str, ...]] = {
    b"string": ("GET",),
    b"list": ("LRANGE", "0", "-1"),
    b"set": ("SORT", "ALPHA"),
    b"zset": ("ZRANGE", "0", "-1", "WITHSCORES"),
    b"hash": ("HGETALL",),
    b"stream": ("XRANGE", "-", "+"),
}


def content(server: RedisServer) -> object:
    """All keys with their values and expiries, and the functions, each as the server tells it."""
    found: dict[object, object] = {"functions": server.run("FUNCTION", "LIST", "WITHCODE")}
    for database in range(4):
        names = sorted(server.run("KEYS", "*", database=database))
        kinds = server.pipe([("TYPE", name) for name in names], database)
        values = server.pipe([_reading(*pair) for pair in zip(kinds, names, strict=True)], database)
        expiries = server.pipe([("PEXPIRETIME", name) for name in names], database)
        groups = server.pipe([("XINFO", "GROUPS", name) for name in names], database)
        for name, kind, value, expiry, group in zip(names, kinds, values, expiries, groups, strict=True):
            in_order = sorted(zip(value[::2], value[1::2], strict=True)) if kind == b"hash" else value
            found[database, name] = (kind, in_order, expiry, group if kind == b"stream" else None)
    return found


def _reading(kind: bytes, name: bytes) -> list[str | bytes]:
    command, *more = _READING[kind]
    return [command, name, *more]
