"""How a server is reached: TLS, password files and service files, for our own connection and for the children's."""

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.processes import descendants
from tests.servers.certificate import write_certificate
from tests.servers.pgbouncer import pooled
from tests.servers.postgres import PASSWORD, PostgresServer, PostgresServers
from tests.servers.streams import Dump, dump_all, restore_all

from penstock.api import RestoreTarget, SourceDenied, SourceError, SourceUnreachable
from penstock.testing.dumping import restore_one
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.source import PostgresSource

pytestmark = pytest.mark.server

OWNER = "penstock tests"


@pytest.fixture(scope="module")
def secure(postgres_servers: PostgresServers) -> Iterator[PostgresServer]:
    """A server that is reached by TLS alone, with a role that needs a certificate."""
    server = postgres_servers.tls()
    server.execute(f'DROP ROLE IF EXISTS "{OWNER}"; CREATE ROLE "{OWNER}" SUPERUSER LOGIN')
    with server.database("secure") as name:
        server.execute("CREATE TABLE t AS SELECT 'transported' AS what", name)
        yield server
    server.drop("secure_copy")


def files(server: PostgresServer) -> dict[str, str]:
    assert server.certificates is not None
    return {path.name: str(path) for path in server.certificates.iterdir()}


def round_trip(make: MakeSource, server: PostgresServer, **settings: Any) -> Dump:
    """Dump and restore, so that psycopg, pg_dump, pg_dumpall and pg_restore all connect."""
    dump = dump_all(make(server, "secure", **settings))
    server.drop("secure_copy")
    restore_all(make(server, "secure_copy", **settings), dump)
    assert server.query("SELECT what FROM t", "secure_copy") == [("transported",)]
    return dump


@pytest.mark.parametrize(("host", "tls"), [("127.0.0.1", "verify-full"), ("localhost", "verify-ca")])
def test_the_server_is_verified_by_us_and_by_the_children(
    secure: PostgresServer, source_of: MakeSource, host: str, tls: str
) -> None:
    settings = {"host": host, "tls": tls, "tls_ca": files(secure)["server.crt"]}
    assert b"transported" in round_trip(source_of, secure, **settings)["secure.dump"][1]


def test_a_client_certificate_takes_the_place_of_a_password(secure: PostgresServer, source_of: MakeSource) -> None:
    found = files(secure)
    settings = {
        "user": OWNER,
        "password": None,
        "tls": "verify-full",
        "tls_ca": found["server.crt"],
        "tls_cert": found["client.crt"],
        "tls_key": found["client.key"],
    }
    round_trip(source_of, secure, **settings)
    url = "&".join(f"{name}={value}" for name, value in settings.items() if name.startswith("tls"))
    from_url = PostgresSource.settings_from_url(f"postgres://penstock%20tests@127.0.0.1:{secure.port}/secure?{url}")
    PostgresSource(PostgresSettings.model_validate(from_url | {"client_path": secure.bin})).inspect()


def test_what_is_wrong_with_tls_is_said_and_is_not_tried_again(
    secure: PostgresServer, source_of: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = files(secure)
    write_certificate(tmp_path / "other.crt", tmp_path / "other.key")
    (tmp_path / "other.key").chmod(0o600)
    shutil.copy(found["client.key"], tmp_path / "loose.key")
    (tmp_path / "loose.key").chmod(0o644)
    other, own = str(tmp_path / "other.crt"), {"user": OWNER, "password": None}
    cases: list[tuple[dict[str, Any], type[SourceError], str, str]] = [
        ({"tls": "verify-ca", "tls_ca": other}, SourceError, "certificate verify failed", "tls_ca"),
        ({"tls": "verify-full", "tls_ca": "/nowhere"}, SourceError, '"/nowhere" does not exist', ""),
        ({"tls": "disable"}, SourceDenied, "no encryption", "pg_hba.conf"),
        (own, SourceDenied, "requires a valid client certificate", "tls_cert"),
        (own | {"tls_cert": other, "tls_key": str(tmp_path / "other.key")}, SourceError, "unknown ca", "tls_cert"),
        (own | {"tls_cert": found["client.crt"], "tls_key": other}, SourceError, "private key file", "tls_key"),
        (
            own | {"tls_cert": found["client.crt"], "tls_key": str(tmp_path / "loose.key")},
            SourceError,
            "group or world access",
            "only by its owner",
        ),
        ({"tls": "verify-ca", "tls_ca": found["server.crt"], "tls_crl": "/nowhere"}, SourceError, "tls_crl", ""),
    ]
    for settings, kind, message, hint in cases:
        with pytest.raises(kind, match=message) as caught:
            source_of(secure, "secure", **settings).inspect()
        assert type(caught.value) is kind
        assert not caught.value.retryable
        assert hint in (caught.value.hint or "")
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    named = {"host": "db.example", "tls_ca": found["server.crt"]}
    with pytest.raises(SourceError, match=r'does not match host name "db.example"') as caught:
        source_of(secure, "secure", tls="verify-full", **named).inspect()
    assert "verify-ca" in (caught.value.hint or "")
    round_trip(source_of, secure, tls="verify-ca", **named)


def test_a_server_without_tls_is_refused_where_it_is_required(
    newest_postgres: PostgresServer, source_of: MakeSource
) -> None:
    with pytest.raises(SourceError, match="does not support SSL") as caught:
        source_of(newest_postgres, "postgres", tls="require").inspect()
    assert not isinstance(caught.value, SourceUnreachable)


class TestFilesOfLibpq:
    """Nothing but a service file and a password file says where the server is, and who asks."""

    @pytest.fixture
    def service(self, secure: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        lines = {
            "host": "127.0.0.1",
            "port": str(secure.port),
            "user": "postgres",
            "dbname": "secure",
            "sslmode": "verify-full",
            "sslrootcert": files(secure)["server.crt"],
            "application_name": "from the service",
        }
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (tmp_path / "services").write_text(f"[other]\nhost=nowhere\n[shop]\n{text}", encoding="utf-8")
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        passwords = tmp_path / "pgpass"
        escaped = PASSWORD.replace("\\", r"\\").replace(":", r"\:")
        passwords.write_text(f"other:*:*:*:wrong\n127.0.0.1:{secure.port}:*:postgres:{escaped}\n", encoding="utf-8")
        passwords.chmod(0o600)
        return passwords

    def source(self, server: PostgresServer, **settings: Any) -> PostgresSource:
        return PostgresSource(PostgresSettings.model_validate({"client_path": server.bin, **settings}))

    @pytest.mark.parametrize("where", ["setting", "PGPASSFILE", "~/.pgpass"])
    def test_they_hold_for_the_connection_and_for_the_children_and_no_argv_has_the_password(
        self, secure: PostgresServer, service: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
    ) -> None:
        settings = {"service": "shop", **({"passfile": str(service)} if where == "setting" else {})}
        if where == "PGPASSFILE":
            monkeypatch.setenv("PGPASSFILE", str(service))
        if where == "~/.pgpass":
            service.rename(tmp_path / ".pgpass")
            monkeypatch.setenv("HOME", str(tmp_path))
        dump = dump_all(self.source(secure, **settings))
        assert b"transported" in dump["secure.dump"][1]
        secure.drop("secure_copy")
        target = self.source(secure, **settings)
        seen: list[bytes] = []

        def watched() -> Iterator[memoryview]:
            seen.extend(process.arguments for process in descendants())
            yield memoryview(data)

        spec, data = dump["secure.dump"]
        rename = RestoreTarget(options={"rename": "secure=secure_copy"})
        target.plan_restore([spec], rename)
        restore_one(target, spec, watched(), rename)
        assert any(b"pg_restore" in command for command in seen)
        assert not any(PASSWORD.encode() in command for command in seen)
        assert secure.query("SELECT what FROM t", "secure_copy") == [("transported",)]

    def test_what_is_wrong_with_them_is_said(
        self, secure: PostgresServer, service: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(SourceError, match='definition of service "none" not found') as caught:
            self.source(secure, service="none").inspect()
        assert "PGSERVICEFILE" in (caught.value.hint or "")
        assert not caught.value.retryable
        with pytest.raises(SourceError, match="passfile names /nowhere"):
            self.source(secure, service="shop", passfile="/nowhere").inspect()
        service.chmod(stat.S_IRUSR | stat.S_IRGRP)
        with pytest.raises(SourceError, match="others may read") as caught:
            self.source(secure, service="shop", passfile=str(service)).inspect()
        assert "chmod 600" in (caught.value.hint or "")
        monkeypatch.setenv("PGSERVICEFILE", "/nowhere")
        with pytest.raises(SourceError, match='service file "/nowhere" not found'):
            self.source(secure, service="shop").inspect()


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_is_refused_before_its_session_is_changed(
    newest_postgres: PostgresServer, source_of: MakeSource, mode: str
) -> None:
    with newest_postgres.database("pooled") as name, pooled(newest_postgres, mode=mode) as pooler:
        pooler.query("SELECT 1", name)
        source = source_of(pooler, name)
        for attempt in (source.inspect, lambda: dump_all(source)):
            with pytest.raises(SourceError, match="connection pooler") as caught:
                attempt()
            assert "past the pooler" in (caught.value.hint or "")
        query = "SELECT current_setting('search_path'), current_setting('lock_timeout')"
        assert pooler.query(query, name) == newest_postgres.query(query, name)
