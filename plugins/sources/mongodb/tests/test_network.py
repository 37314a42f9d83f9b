"""Over a network a server has to prove who it is, unless the settings say otherwise, which each run then tells."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from plugins.sources.mongodb.tests.conftest import MakeSource
from tests.servers.certificate import write_certificate
from tests.servers.mongodb import MongoServer, MongoServers
from tests.servers.network import over_a_network
from tests.servers.streams import dump_all, restore_all

from penstock.api import SourceError
from penstock.testing.hearing import Heard
from penstock_mongodb.connection import _only_here
from penstock_mongodb.settings import MongoSettings


@pytest.mark.server
def test_a_server_without_tls_is_refused_unless_the_settings_say_otherwise(
    mongo: MongoServer, source_of: MakeSource
) -> None:
    with mongo.connected() as client:
        client.far.t.insert_one({"_id": 1})
    with over_a_network(mongo.host, mongo.port) as (host, port):
        far = {"hosts": f"{host}:{port}", "direct": True, "replica_set": None, "connect_timeout": 3}
        with pytest.raises(SourceError) as caught:
            source_of(mongo, **far).inspect()
        assert "tls_ca" in (caught.value.hint or "")
        source = source_of(mongo, **far, tls="disable")
        warning = f"the connection to {host} is not verified: tls = disable"
        assert source.inspect().warnings.count(f"{warning} [unverified-server]") == 1
        dump = dump_all(source)
        mongo.wipe()
        source.report = said = Heard()
        restore_all(source, dump)
        assert said.warnings.count(f"{warning} [unverified-server]") == 1
        mongo.wipe()
        told = source_of(mongo, **far, tls="disable", warnings={"ignore": ["unverified-server"]})
        told.report = quiet = Heard()
        restore_all(told, dump)
        assert not any("not verified" in one for one in quiet.warnings)
    with mongo.connected() as client:
        assert client.far.t.count_documents({}) == 1


@pytest.mark.server
def test_a_server_with_a_certificate_is_taken_if_its_authority_is_known(
    mongo_servers: MongoServers, source_of: MakeSource, tmp_path: Path
) -> None:
    server = mongo_servers.get(auth=True, tls=True)
    write_certificate(tmp_path / "other.pem", tmp_path / "other.key")
    with over_a_network(server.host, server.port) as (host, port):
        far = {"hosts": f"{host}:{port}", "direct": True, "replica_set": None, "connect_timeout": 3}
        source = source_of(server, **far)
        assert not any("not verified" in warning for warning in source.inspect().warnings)
        assert dump_all(source)
        for settings in ({"tls_ca": tmp_path / "other.pem"}, {"tls_ca": None}):
            with pytest.raises(SourceError, match=r"certificate|CERTIFICATE") as caught:
                source_of(server, **far, **settings).inspect()
            assert 'tls = "require"' in (caught.value.hint or "")
        anybody = source_of(server, **far, tls_ca=None, tls="require").inspect()
        assert any("tls = require" in warning for warning in anybody.warnings)


def test_members_that_a_replica_set_names_over_a_network_are_not_asked_without_tls() -> None:
    here = SimpleNamespace(address=("127.0.0.1", 27017))
    assert _only_here([here]) == [here]  # type: ignore[list-item]
    with pytest.raises(SourceError, match=r"members over a network.*db2:27018") as caught:
        _only_here([here, SimpleNamespace(address=("db2", 27018))])  # type: ignore[list-item]
    assert "direct = true" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, None),
        ({"hosts": ["localhost:27017", "[::1]:27018"]}, None),
        ({"tls_ca": "/ca.pem"}, "verify-full"),
        ({"hosts": "db:27017"}, "verify-full"),
        ({"hosts": ["127.0.0.1", "db"]}, "verify-full"),
        ({"hosts": "cluster.example.org", "srv": True}, "verify-full"),
        ({"hosts": "db", "tls": "disable"}, "disable"),
        ({"hosts": "db", "tls": "false"}, "disable"),
        ({"hosts": "db", "tls": "require"}, "require"),
    ],
)
def test_what_the_setting_means(settings: dict[str, object], word: str | None) -> None:
    assert MongoSettings.model_validate(settings).effective_tls == word
