"""Which sources and sinks there are, and which of them run against one another.

The newest of every engine runs against every sink. What is older runs against a folder alone: to a sink, two majors of
an engine are two streams of bytes.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import pytest
from tests.integration.cases import Bench, FilesystemCase, PostgresCase, SinkCase, SourceCase, SqliteCase
from tests.integration.mongodb_case import MongoCase
from tests.integration.mysql_case import MySQLCase
from tests.integration.object_stores import AzureCase, GcsCase, S3Case
from tests.servers import mongodb, postgres
from tests.servers.mysql import VENDORS, Vendor

#: Gives the value of a fixture by its name, so that only the servers are started that are needed.
Ask = Callable[[str], Any]
MakeSource = Callable[[Bench, Ask], AbstractContextManager[SourceCase]]
MakeSink = Callable[[Bench, Ask], AbstractContextManager[SinkCase]]


@contextmanager
def _sqlite(bench: Bench, ask: Ask) -> Iterator[SourceCase]:
    yield SqliteCase(bench)


def _postgres(major: int) -> MakeSource:
    @contextmanager
    def made(bench: Bench, ask: Ask) -> Iterator[SourceCase]:
        case = PostgresCase(bench, major)
        try:
            yield case
        finally:
            case.close()

    return made


def _mysql(vendor: Vendor) -> MakeSource:
    @contextmanager
    def made(bench: Bench, ask: Ask) -> Iterator[SourceCase]:
        case = MySQLCase(ask("mysql_servers"), vendor)
        try:
            yield case
        finally:
            case.forget()

    return made


def _mongodb(version: str) -> MakeSource:
    @contextmanager
    def made(bench: Bench, ask: Ask) -> Iterator[SourceCase]:
        case = MongoCase(ask("mongo_servers"), version)
        try:
            yield case
        finally:
            case.forget()

    return made


@contextmanager
def _filesystem(bench: Bench, ask: Ask) -> Iterator[SinkCase]:
    yield FilesystemCase(bench)


def _store(case: type[S3Case] | type[GcsCase] | type[AzureCase], fixture: str) -> MakeSink:
    @contextmanager
    def made(bench: Bench, ask: Ask) -> Iterator[SinkCase]:
        with closing(case(ask(fixture))) as store:
            yield store

    return made


SOURCES: dict[str, MakeSource] = {
    "sqlite": _sqlite,
    **{f"postgres-{major}": _postgres(major) for major in postgres.MAJORS},
    **{vendor: _mysql(vendor) for vendor in VENDORS},
    **{f"mongodb-{version}": _mongodb(version) for version in mongodb.VERSIONS},
}
SINKS: dict[str, MakeSink] = {
    "filesystem": _filesystem,
    "s3": _store(S3Case, "s3"),
    "gcs": _store(GcsCase, "gcs"),
    "azure": _store(AzureCase, "azure"),
}
#: The newest of every engine.
NEWEST = ("sqlite", f"postgres-{postgres.MAJORS[-1]}", "mysql", "mariadb", f"mongodb-{mongodb.VERSIONS[-1]}")
#: Those that need no server.
LOCAL = {"sqlite", "filesystem"}


def pair(source: str, sink: str, *marks: pytest.MarkDecorator) -> Any:
    """One of each, for `pytest.mark.parametrize(("source", "sink"), …, indirect=True)`."""
    server = () if {source, sink} <= LOCAL else (pytest.mark.server,)
    return pytest.param(source, sink, marks=(*server, *marks), id=f"{source}-{sink}")


def _cell(source: str, sink: str) -> Any:
    # Of every engine once as an operator starts it.
    cold = (pytest.mark.cold,) if source in NEWEST and sink == "filesystem" else ()
    return pair(source, sink, pytest.mark.cell(f"{source} x {sink}"), *cold)


CELLS = [_cell(source, sink) for source in SOURCES for sink in SINKS if source in NEWEST or sink == "filesystem"]
