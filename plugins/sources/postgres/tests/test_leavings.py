"""What a failed restore cannot take back is said, and hides nothing of why it failed."""

import socket
from typing import Any

import pytest
from tests.servers.postgres import PostgresServer, PostgresServers

from penstock.api import RestoreFailed
from penstock_postgres.archives import _schemas
from penstock_postgres.attributes import ArchiveAttributes
from penstock_postgres.connection import connect
from penstock_postgres.database import drop_database
from penstock_postgres.settings import PostgresSettings


def settings_of(server: PostgresServer, database: str, monkeypatch: pytest.MonkeyPatch) -> PostgresSettings:
    chosen: dict[str, Any] = {"host": server.host, "port": server.port, "user": server.user, "database": database}
    if server.password:
        monkeypatch.setenv("TEST_SERVER_PASSWORD", server.password)
        chosen["password"] = {"env": "TEST_SERVER_PASSWORD"}
    return PostgresSettings.model_validate(chosen)


def test_a_server_that_is_gone_is_said_and_not_raised() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        settings = PostgresSettings.model_validate({"host": "127.0.0.1", "port": taken.getsockname()[1], "user": "me"})
        assert "refused" in (drop_database(settings, "made") or "")


@pytest.mark.server
def test_what_the_server_refuses_is_said_and_not_raised(
    postgres_servers: PostgresServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = postgres_servers.newest()
    settings = settings_of(server, "postgres", monkeypatch)
    assert "template" in (drop_database(settings, "template0") or "")
    with server.database("leavings") as name:
        assert drop_database(settings, name) is None
        with connect(settings) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchall()
        assert found == []


@pytest.mark.server
@pytest.mark.parametrize("used", [False, True])
def test_a_schema_that_somebody_uses_meanwhile_is_left_and_named(
    postgres_servers: PostgresServers, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    server = postgres_servers.newest()
    recorded = ArchiveAttributes.model_construct(needs_schemas=("made", "public"))
    with server.database("leavings") as name:
        settings = settings_of(server, name, monkeypatch)

        def fail() -> None:
            with connect(settings) as connection, _schemas(connection, recorded):
                if used:
                    server.execute("CREATE TABLE made.anothers ()", name)
                raise RestoreFailed("the restore broke off")

        with pytest.raises(RestoreFailed, match="broke off") as raised:
            fail()
        with connect(settings) as connection:
            found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'made'").fetchall()
        assert found == ([(1,)] if used else [])
    told = [line for line in raised.value.details if "which the restore had made, is left" in line]
    assert len(told) == used
    assert all('"made"' in line for line in told)
