from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.servers.mysql import MySQLServer

from penstock.api import DumpStream, RestoreFailed, RestoreTarget, StreamSpec
from penstock.testing.hearing import Heard
from penstock_mysql.settings import MySQLSettings
from penstock_mysql.source import MySQLSource

Dump = dict[str, tuple[StreamSpec, bytes]]
_DATA = Path(__file__).resolve().parents[4] / "tests" / "data"


class MakeSource(Protocol):
    def __call__(self, server: MySQLServer, *databases: str, **settings: Any) -> MySQLSource: ...


@pytest.fixture
def source_of(monkeypatch: pytest.MonkeyPatch) -> MakeSource:
    """Makes sources of a server's databases, which use the client programs of the server's own make."""

    def make(server: MySQLServer, *databases: str, **settings: Any) -> MySQLSource:
        chosen: dict[str, Any] = {"host": server.host, "port": server.port, "user": server.user}
        chosen |= {"database": databases[0]} if len(databases) == 1 else {"databases": databases}
        chosen |= {"client_path": server.bin, "accounts": "no"}
        if server.password:
            monkeypatch.setenv("TEST_SERVER_PASSWORD", server.password)
            chosen["password"] = {"env": "TEST_SERVER_PASSWORD"}
        if "user" in settings:
            monkeypatch.setenv("TEST_ACCOUNT_PASSWORD", settings.pop("account_password", "p"))
            chosen["password"] = {"env": "TEST_ACCOUNT_PASSWORD"}
        return MySQLSource(MySQLSettings.model_validate(chosen | settings))

    return make


def fill_nasty(server: MySQLServer, database: str) -> None:
    """Everything that dumps get wrong."""
    for script in ("mysql-nasty.sql", f"mysql-nasty-{server.vendor}.sql"):
        server.run_script((_DATA / script).read_bytes(), database)


def fill(server: MySQLServer, database: str, rows: int = 20_000) -> None:
    """More than a pipe and its buffers hold: a child that nobody reads from cannot have ended."""
    server.execute("CREATE TABLE filled (i INT PRIMARY KEY, filler TEXT)", database)
    server.execute(
        "INSERT INTO filled WITH RECURSIVE n AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
        f"SELECT a.i * 1000 + b.i, REPEAT(SHA2(CONCAT(a.i, b.i), 256), 15) FROM n a, n b WHERE a.i < {rows // 1000}",
        database,
    )


def read_all(stream: DumpStream) -> bytes:
    """Everything that a stream gives, closed."""
    data = bytearray()
    try:
        buffer = memoryview(bytearray(1 << 20))
        while count := stream.readinto(buffer):
            data += buffer[:count]
    except BaseException:
        stream.abort()
        raise
    stream.close()
    return bytes(data)


def dump_all(source: MySQLSource) -> Dump:
    """All streams of one dump, by name, with the attributes that only the dump has shown."""
    found = {}
    with source.dump() as held:
        for spec in held.plan.streams:
            stream = held.open(spec)
            data = read_all(stream)
            found[spec.name] = (replace(spec, attributes={**spec.attributes, **stream.outcome().attributes}), data)
    return found


def blocks_of(data: bytes, size: int = 100_000) -> Iterator[memoryview]:
    """The data in blocks that are overwritten as soon as the next one is asked for."""
    for start in range(0, len(data), size):
        block = bytearray(data[start : start + size])
        yield memoryview(block)
        block[:] = b"\xff" * len(block)


def restore_all(
    source: MySQLSource,
    streams: Dump | Iterable[tuple[StreamSpec, bytes]],
    *,
    clean: bool = False,
    strict: bool = False,
    **options: str,
) -> Heard:
    """Check the target and restore the streams in the order of their phases; gives what was said."""
    target = RestoreTarget(clean=clean, options=options, strict=strict)
    found = sorted(streams.values() if isinstance(streams, dict) else streams, key=lambda one: one[0].phase)
    said = Heard()
    source.report = said
    plan = source.plan_restore([spec for spec, _ in found], target)
    said.warnings.extend(plan.warnings)
    for one in plan.left_out:
        if strict and one.lost:
            raise RestoreFailed(f"the target cannot take everything: {one}")
        said.left_out(one)
    with source.restore(plan) as restoring:
        for spec, data in found:
            restoring.write(spec, blocks_of(data))
        restoring.finish()
    return said
