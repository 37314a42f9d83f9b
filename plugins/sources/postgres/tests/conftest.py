from typing import Any, Protocol

import pytest
from tests.servers.postgres import PostgresServer, PostgresServers

from penstock_postgres.settings import PostgresSettings
from penstock_postgres.source import PostgresSource


class MakeSource(Protocol):
    def __call__(self, server: PostgresServer, database: str | None, **settings: Any) -> PostgresSource: ...


@pytest.fixture
def source_of(monkeypatch: pytest.MonkeyPatch) -> MakeSource:
    """Makes sources of a server's databases, which use the server's own client programs."""

    def make(server: PostgresServer, database: str | None, **settings: Any) -> PostgresSource:
        chosen: dict[str, Any] = {"host": server.host, "port": server.port, "user": server.user, "database": database}
        chosen["client_path"] = server.bin
        if server.password:
            monkeypatch.setenv("TEST_SERVER_PASSWORD", server.password)
            chosen["password"] = {"env": "TEST_SERVER_PASSWORD"}
        return PostgresSource(PostgresSettings.model_validate(chosen | settings))

    return make


@pytest.fixture(scope="session")
def spare(postgres_servers: PostgresServers) -> PostgresServer:
    """A server as initdb leaves it but for its small table of locks; who uses it leaves it as it was."""
    return postgres_servers.private(settings=("max_locks_per_transaction=10", "max_connections=15"))
