"""Over a network a server has to prove who it is, unless the settings say otherwise, which each run then tells."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugins.sources.mysql.tests.conftest import MakeSource, dump_all, restore_all
from tests.servers.certificate import write_certificate
from tests.servers.mysql import MySQLServer, MySQLServers
from tests.servers.network import over_a_network

from penstock.api import SourceError, SourceUnreachable
from penstock_mysql.settings import MySQLSettings

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def certificates() -> Iterator[Path]:
    """Two certificates, where the server's user can read them."""
    with tempfile.TemporaryDirectory(prefix="mysql-tls-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        for name in ("server", "other"):
            write_certificate(Path(folder) / f"{name}.crt", Path(folder) / f"{name}.key")
            (Path(folder) / f"{name}.key").chmod(0o644)
        yield Path(folder)


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def secure(request: pytest.FixtureRequest, mysql_servers: MySQLServers, certificates: Path) -> MySQLServer:
    files = (f"--ssl-cert={certificates}/server.crt", f"--ssl-key={certificates}/server.key")
    return mysql_servers.get(request.param, *files, f"--ssl-ca={certificates}/server.crt")


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def plain(request: pytest.FixtureRequest, mysql_servers: MySQLServers) -> MySQLServer:
    return mysql_servers.get(request.param, "--skip-ssl" if request.param == "mariadb" else "--tls-version=")


def test_a_server_without_tls_is_refused_unless_the_settings_say_otherwise(
    plain: MySQLServer, source_of: MakeSource
) -> None:
    with plain.database("far") as name, over_a_network(plain.host, plain.port) as (host, port):
        far = {"host": host, "port": port}
        with pytest.raises(SourceError) as caught:
            source_of(plain, name, **far).inspect()
        assert not isinstance(caught.value, SourceUnreachable)
        assert "tls_ca" in (caught.value.hint or "")
        source = source_of(plain, name, **far, tls="disable")
        warning = f"the connection to {host} is not verified: tls = disable"
        assert source.inspect().warnings.count(f"{warning} [unverified-server]") == 1
        dump = dump_all(source)
        plain.drop("far_copy")
        target = source_of(plain, "far_copy", **far, tls="disable")
        said = restore_all(target, dump)
        assert said.warnings.count(f"{warning} [unverified-server]") == 1
        plain.drop("far_copy")
        told = source_of(plain, "far_copy", **far, tls="disable", warnings={"ignore": ["unverified-server"]})
        assert not any("not verified" in one for one in restore_all(told, dump).warnings)
        plain.drop("far_copy")


def test_a_server_with_a_certificate_is_taken_if_its_authority_is_known(
    secure: MySQLServer, source_of: MakeSource, certificates: Path
) -> None:
    with secure.database("far") as name, over_a_network(secure.host, secure.port) as (host, port):
        secure.execute("CREATE TABLE t AS SELECT 'transported' AS what", name)
        far = {"host": host, "port": port}
        source = source_of(secure, name, **far, tls_ca=certificates / "server.crt")
        assert not any("not verified" in warning for warning in source.inspect().warnings)
        dump = dump_all(source)
        assert b"transported" in dump["db/far.sql"][1]
        secure.drop("far_copy")
        restore_all(source_of(secure, "far_copy", **far, tls_ca=certificates / "server.crt"), dump)
        assert secure.query("SELECT what FROM t", "far_copy") == [("transported",)]
        secure.drop("far_copy")
        for settings in ({"tls_ca": certificates / "other.crt"}, {}):
            with pytest.raises(SourceError, match=r"certificate|CERTIFICATE") as caught:
                source_of(secure, name, **far, **settings).inspect()
            assert 'tls = "require"' in (caught.value.hint or "")
        assert any("tls = require" in one for one in source_of(secure, name, **far, tls="require").inspect().warnings)


def test_nobody_over_a_network_is_asked_for_the_key_to_encrypt_a_password_with() -> None:
    from penstock_mysql.dialect import DIALECTS

    for settings in ({"host": "db"}, {"host": "db", "tls": "require"}, {"host": "db", "tls": "verify-ca"}):
        word = MySQLSettings.model_validate(settings).effective_tls
        assert word != "prefer"
        assert "get-server-public-key" not in DIALECTS["mysql"].tls[word]
    assert MySQLSettings.model_validate({"host": "127.0.0.1"}).effective_tls == "prefer"
    assert MySQLSettings.model_validate({"socket": "/run/s"}).effective_tls == "prefer"
