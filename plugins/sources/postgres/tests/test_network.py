"""Over a network a server has to prove who it is, unless the settings say otherwise, which each run then tells."""

from pathlib import Path

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.network import over_a_network
from tests.servers.postgres import PostgresServer, PostgresServers
from tests.servers.streams import dump_all, restore_all

from penstock.api import SourceError, SourceUnreachable
from penstock.testing.hearing import Heard
from penstock_postgres.connection import about_tls, connect
from penstock_postgres.settings import PostgresSettings

pytestmark = pytest.mark.server


def test_a_server_without_tls_is_refused_unless_the_settings_say_otherwise(
    newest_postgres: PostgresServer, source_of: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")  # which is not a word of the settings
    with (
        newest_postgres.database("far") as name,
        over_a_network(newest_postgres.host, newest_postgres.port) as (host, port),
    ):
        far = {"host": host, "port": port}
        with pytest.raises(SourceError) as caught:
            source_of(newest_postgres, name, **far).inspect()
        assert not isinstance(caught.value, SourceUnreachable)
        assert "tls_ca" in (caught.value.hint or "")
        for tls in ("disable", "prefer"):
            source = source_of(newest_postgres, name, **far, tls=tls)
            warning = f"the connection to {host} is not verified: tls = {tls}"
            assert source.inspect().warnings.count(f"{warning} [unverified-server]") == 1
            dump = dump_all(source)
            newest_postgres.drop("far_copy")
            target = source_of(newest_postgres, "far_copy", **far, tls=tls)
            target.report = said = Heard()
            restore_all(target, dump)
            assert said.warnings.count(f"{warning} [unverified-server]") == 1
            newest_postgres.drop("far_copy")
            told = source_of(newest_postgres, "far_copy", **far, tls=tls, warnings={"ignore": ["unverified-server"]})
            told.report = quiet = Heard()
            restore_all(told, dump)
            assert not any("not verified" in one for one in quiet.warnings)
        newest_postgres.drop("far_copy")


def test_a_server_with_a_certificate_is_taken_if_its_authority_is_known(
    postgres_servers: PostgresServers, source_of: MakeSource
) -> None:
    server = postgres_servers.tls()
    assert server.certificates is not None
    ours, other = server.certificates / "server.crt", server.certificates / "client.crt"
    with server.database("far") as name, over_a_network(server.host, server.port) as (host, port):
        far = {"host": host, "port": port}
        source = source_of(server, name, **far, tls_ca=str(ours))
        assert not any("not verified" in warning for warning in source.inspect().warnings)
        restored = dump_all(source)
        server.drop("far_copy")
        restore_all(source_of(server, "far_copy", **far, tls_ca=str(ours)), restored)
        server.drop("far_copy")
        for settings in ({"tls_ca": str(other)}, {}):
            with pytest.raises(SourceError, match=r"certificate") as caught:
                source_of(server, name, **far, **settings).inspect()
            assert 'tls = "require"' in (caught.value.hint or "")
        assert source_of(server, name, **far, tls="require").inspect().warnings


def test_where_libpq_says_where_the_server_is_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services = tmp_path / "services"
    services.write_text("[far]\nhost=db.invalid\n[near]\nhost=/run\n", encoding="utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    for settings, variables, warned in (
        ({"service": "far"}, {}, "db.invalid"),
        ({"service": "near"}, {}, None),
        ({}, {"PGHOST": "a.invalid,/run"}, "a.invalid"),
        ({"host": "/run"}, {"PGHOST": "a.invalid"}, None),
        ({"host": "b.invalid"}, {"PGHOSTADDR": "127.0.0.1"}, None),
        ({"host": "localhost"}, {"PGHOSTADDR": "192.0.2.7"}, "192.0.2.7"),
        ({}, {"PGSERVICE": "far"}, "db.invalid"),
    ):
        with monkeypatch.context() as environment:
            for name, value in variables.items():
                environment.setenv(name, value)
            found = about_tls(PostgresSettings.model_validate({**settings, "tls": "prefer"}))
            assert found == ((f"the connection to {warned} is not verified: tls = prefer",) if warned else ())
    with pytest.raises(SourceUnreachable):
        connect(PostgresSettings.model_validate({"service": "far"}))
