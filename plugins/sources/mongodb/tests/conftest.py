from typing import Any, Protocol

import pytest
from tests.servers.mongodb import MongoServer, find_tools

from penstock_mongodb.settings import MongoSettings
from penstock_mongodb.source import MongoSource


class MakeSource(Protocol):
    def __call__(self, server: MongoServer, **settings: Any) -> MongoSource: ...


@pytest.fixture
def source_of(monkeypatch: pytest.MonkeyPatch) -> MakeSource:
    """Makes sources of servers, which use the Database Tools that were installed for the tests."""

    def make(server: MongoServer, **settings: Any) -> MongoSource:
        chosen: dict[str, Any] = {"hosts": f"{server.host}:{server.port}", "client_path": find_tools()}
        if server.replica_set:
            chosen["replica_set"] = server.replica_set
        if server.password:
            monkeypatch.setenv("TEST_MONGODB_PASSWORD", server.password)
            chosen |= {"user": server.user, "password": {"env": "TEST_MONGODB_PASSWORD"}}
        if server.ca:
            chosen |= {"tls_ca": server.ca}
        return MongoSource(MongoSettings.model_validate(chosen | settings))

    return make
