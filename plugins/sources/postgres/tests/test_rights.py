"""What a role that is no superuser needs, as the README says: for a dump, and for each kind of restore."""

from collections.abc import Iterator

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer
from tests.servers.streams import dump_all, restore_all

from penstock.api import RestoreTarget, SourceDenied, TargetMissing

pytestmark = pytest.mark.server

#: For whoever restores without being a member of the roles that own things.
PLAIN = {"owners": "no", "privileges": "no"}


@pytest.fixture
def modest(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server with a role that may read everything, one that restores, and a database with some of each."""
    postgres.execute("CREATE ROLE dumper LOGIN; CREATE ROLE restorer LOGIN; CREATE ROLE owning")
    try:
        with postgres.database("modest") as name:
            postgres.execute(
                """
                CREATE SCHEMA s AUTHORIZATION owning;
                CREATE TABLE s.t AS SELECT 'kept' AS what;
                ALTER TABLE s.t OWNER TO owning;
                GRANT SELECT ON s.t TO dumper;
                SELECT lo_from_bytea(4711, 'large');
                """,
                name,
            )
            yield postgres
    finally:
        for name in ("copy", "copy_old"):
            postgres.drop(name)
        postgres.execute("DROP ROLE IF EXISTS dumper, restorer, owning")


def dumped(server: PostgresServer, source_of: MakeSource) -> bytes:
    """Grant what a dump needs, one after the other, and make it."""
    source = source_of(server, "modest", user="dumper", accounts="no")
    with pytest.raises(SourceDenied, match=r"s\.t|permission"):
        source.inspect()
    server.execute("GRANT pg_read_all_data TO dumper")
    with pytest.raises(SourceDenied, match="large object 4711"):
        source.inspect()
    server.execute("GRANT SELECT ON LARGE OBJECT 4711 TO dumper", "modest")
    return dump_all(source)["modest.dump"][1]


def test_a_reader_dumps_and_an_owner_restores(modest: PostgresServer, source_of: MakeSource) -> None:
    assert b"kept" in dumped(modest, source_of)
    dump = dump_all(source_of(modest, "modest", user="dumper", accounts="no"))
    target = source_of(modest, "copy", user="restorer")

    def restore(**more: object) -> None:
        restore_all(target, dump, RestoreTarget(options=PLAIN, **more))  # type: ignore[arg-type]
        assert modest.query("SELECT what FROM s.t", "copy") == [("kept",)]
        assert modest.query("SELECT count(*) FROM pg_largeobject_metadata", "copy") == [(1,)]

    # A new database takes CREATEDB ...
    with pytest.raises(TargetMissing, match="restorer may not create it"):
        restore()
    modest.execute("ALTER ROLE restorer CREATEDB")
    restore()
    # ... a clean restore that replaces it, the same ...
    modest.execute("CREATE TABLE s.later (i integer)", "copy")
    restore(clean=True)
    assert modest.query("SELECT to_regclass('s.later')", "copy") == [(None,)]
    # ... and one into an empty database, or that replaces the content, to own that database.
    modest.execute("ALTER ROLE restorer NOCREATEDB")
    modest.drop("copy")
    modest.execute("CREATE DATABASE copy OWNER restorer")
    restore()
    restore(clean=True)


def test_a_member_of_the_owners_keeps_them(modest: PostgresServer, source_of: MakeSource) -> None:
    dumped(modest, source_of)
    dump = dump_all(source_of(modest, "modest", user="dumper", accounts="no"))
    modest.execute("ALTER ROLE restorer CREATEDB; GRANT owning TO restorer; GRANT postgres TO restorer")
    restore_all(source_of(modest, "copy", user="restorer"), dump)
    assert modest.query("SELECT tableowner FROM pg_tables WHERE schemaname = 's'", "copy") == [("owning",)]
    granted = modest.query("SELECT relacl::text FROM pg_class WHERE oid = 's.t'::regclass", "copy")
    assert "dumper=r/owning" in granted[0][0]
