"""Tables in tablespaces and folders of their own: made there if the server lets it, and elsewhere if not."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plugins.sources.mysql.tests.conftest import Dump, MakeSource, dump_all, restore_all
from tests.servers.mysql import MySQLServer, MySQLServers

from penstock.api import RestoreFailed, RestoreTarget, SourceDenied
from penstock_mysql.source import MySQLSource
from penstock_mysql.tablespaces import Place, changed, places_of, without

CREATE = (
    b"CREATE TABLE `t``; TABLESPACE` (\n  `i` int DEFAULT NULL COMMENT ' DATA DIRECTORY=''/c/'''\n"
    b") /*!50100 TABLESPACE `t``s` */ ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='/*!50100 TABLESPACE `x` */' "
    b"DATA DIRECTORY='/it''s/'\n/*!50100 PARTITION BY RANGE (`i`)\n"
    b"(PARTITION p0 VALUES LESS THAN (10) DATA DIRECTORY = '/p0' ENGINE = InnoDB,\n"
    b" PARTITION p1 VALUES LESS THAN MAXVALUE TABLESPACE = `innodb_system` ENGINE = InnoDB) */"
)
PLACES = [("tablespace", "t`s"), ("folder", "/it's"), ("folder", "/p0")]


def test_what_a_table_names_is_found_and_taken_out_but_not_in_its_texts() -> None:
    found = list(places_of(CREATE))
    assert [(one.kind, one.value) for one in found] == PLACES
    assert {(one.table, one.engine) for one in found} == {("t`; TABLESPACE", "InnoDB")}
    assert without(CREATE, []) == CREATE
    left = without(CREATE, [one.scope for one in found])
    assert list(places_of(left)) == []
    assert left == (
        CREATE.replace(b" /*!50100 TABLESPACE `t``s` */", b"")
        .replace(b" DATA DIRECTORY='/it''s/'\n/*", b"\n/*")
        .replace(b" DATA DIRECTORY = '/p0'", b"")
    )


@given(st.lists(st.integers(1, 400), max_size=12))
def test_however_a_dump_comes_only_its_tables_are_changed(cuts: list[int]) -> None:
    text = b"-- begin\n" + CREATE + b";\nINSERT INTO `t` VALUES\n(1);\n" + CREATE + b";\n" + CREATE + b";\n-- end\n"
    blocks, rest = [], text
    for cut in cuts:
        blocks.append(rest[:cut])
        rest = rest[cut:]
    assert b"".join(changed([*blocks, rest], lambda _: b"X")) == (
        b"-- begin\nX\nINSERT INTO `t` VALUES\n(1);\nX\nX\n-- end\n"
    )


@pytest.fixture
def spaced(oracle_mysql: MySQLServer, source_of: MakeSource) -> Iterator[Dump]:
    """A dump of a database with tables in two tablespaces, which are gone."""
    with oracle_mysql.database("spaced") as name, ExitStack() as cleaning:
        for space in ("t``s", "small"):
            cleaning.callback(forget, oracle_mysql, space)
        cleaning.callback(oracle_mysql.drop, name)
        oracle_mysql.execute("CREATE TABLESPACE `t``s` ADD DATAFILE 'odd name.ibd'")
        oracle_mysql.execute("CREATE TABLESPACE small ADD DATAFILE 'small.ibd' FILE_BLOCK_SIZE = 8192")
        oracle_mysql.execute("CREATE TABLE t (i INT PRIMARY KEY) TABLESPACE `t``s`", name)
        oracle_mysql.execute(
            "CREATE TABLE z (i INT PRIMARY KEY) TABLESPACE small ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8", name
        )
        for table in ("t", "z"):
            oracle_mysql.execute(f"INSERT INTO {table} VALUES (1), (2)", name)
        dump = dump_all(source_of(oracle_mysql, name))
        oracle_mysql.drop(name)
        for space in ("t``s", "small"):
            oracle_mysql.execute(f"DROP TABLESPACE `{space}`")
        yield dump


def forget(server: MySQLServer, space: str) -> None:
    if spaces(server, space.replace("``", "`")):
        server.execute(f"DROP TABLESPACE `{space}`")


def spaces(server: MySQLServer, *names: str) -> list[tuple[str, ...]]:
    query = "SELECT TABLESPACE_NAME, FILE_NAME FROM information_schema.FILES ORDER BY 1"
    return [row for row in server.query(query) if row[0] in names]


def created(server: MySQLServer, table: str) -> str:
    return str(server.query(f"SHOW CREATE TABLE {table}")[0][1])


@pytest.mark.server
def test_tablespaces_are_made_where_they_are_missing(
    oracle_mysql: MySQLServer, source_of: MakeSource, spaced: Dump
) -> None:
    source = source_of(oracle_mysql, "spaced")
    plan = source.plan_restore([spec for spec, _ in spaced.values()], RestoreTarget())
    assert [(need.kind, need.name, need.met) for need in plan.needs if need.kind == "tablespace"] == [
        ("tablespace", "small", True), ("tablespace", "t`s", True)
    ]  # fmt: skip
    assert not spaces(oracle_mysql, "t`s")
    said = restore_all(source, spaced)
    assert (said.lost, said.warnings) == ([], [])
    assert "TABLESPACE `t``s`" in created(oracle_mysql, "spaced.t")
    assert "TABLESPACE `small`" in created(oracle_mysql, "spaced.z")
    assert spaces(oracle_mysql, "t`s", "small") == [("small", "./small.ibd"), ("t`s", "./odd name.ibd")]
    assert restore_all(source, spaced, clean=True, tablespaces="yes").warnings == []
    assert oracle_mysql.query("SELECT COUNT(*) FROM z", "spaced") == [(2,)]


@pytest.mark.server
@pytest.mark.parametrize("wish", ["auto", "no"])
def test_without_the_right_to_make_them_the_tables_come_back_elsewhere(
    oracle_mysql: MySQLServer, source_of: MakeSource, spaced: Dump, wish: str
) -> None:
    with oracle_mysql.account("owner", "ALL ON `spaced%`.*") as user:
        source = source_of(oracle_mysql, "spaced", user=user)
        if wish == "auto":
            with pytest.raises(
                RestoreFailed, match=r"the tablespace .*: the table spaced\.. \(Access denied"
            ) as caught:
                restore_all(source, spaced, tablespaces="yes")
            assert "tablespaces=auto" in (caught.value.hint or "")
            assert not oracle_mysql.query("SHOW DATABASES LIKE 'spaced'")
        said = restore_all(source, spaced, tablespaces=wish)
    assert said.lost == []
    assert len(said.warnings) == (2 if wish == "auto" else 0)
    assert all("stored as the server does by default, not in the tablespace" in warning for warning in said.warnings)
    assert "TABLESPACE" not in created(oracle_mysql, "spaced.t") + created(oracle_mysql, "spaced.z")
    assert oracle_mysql.query("SELECT COUNT(*) FROM z", "spaced") == [(2,)]
    assert not spaces(oracle_mysql, "t`s", "small")


@pytest.mark.server
def test_a_plan_says_what_an_account_that_may_look_lacks(
    oracle_mysql: MySQLServer, source_of: MakeSource, spaced: Dump
) -> None:
    with oracle_mysql.account("owner", "ALL ON `spaced%`.*", "PROCESS ON *.*") as user:
        source = source_of(oracle_mysql, "spaced", user=user)
        specs = [spec for spec, _ in spaced.values()]
        needs = [n for n in source.plan_restore(specs, RestoreTarget()).needs if n.kind == "tablespace"]
        assert [(need.name, need.met) for need in needs] == [("small", False), ("t`s", False)]
        assert "the account lacks CREATE TABLESPACE; the table spaced.z stored as" in needs[0].note
        with pytest.raises(SourceDenied, match="lacks CREATE TABLESPACE"):
            source.plan_restore(specs, RestoreTarget(options={"tablespaces": "yes"}))


@pytest.mark.server
def test_a_restore_that_fails_leaves_no_tablespace(
    oracle_mysql: MySQLServer, source_of: MakeSource, spaced: Dump
) -> None:
    ((spec, data),) = spaced.values()
    with pytest.raises(RestoreFailed):
        restore_all(source_of(oracle_mysql, "spaced"), [(spec, data.replace(b"CREATE TABLE `z`", b"CREATE TABEL `z`"))])
    assert not spaces(oracle_mysql, "t`s", "small")


@pytest.fixture
def folder(oracle_mysql: MySQLServer) -> Iterator[Path]:
    """A folder that the servers may write to, and do not know."""
    folder = Path(tempfile.mkdtemp(prefix="some data"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def foldered(
    server: MySQLServer, source_of: MakeSource, cleaning: ExitStack, folder: Path, engine: str
) -> tuple[MySQLSource, Dump]:
    name = cleaning.enter_context(server.database("foldered"))
    path = str(folder).replace("'", "''")
    server.execute(f"CREATE TABLE t (i INT PRIMARY KEY) ENGINE={engine} DATA DIRECTORY='{path}'", name)
    if engine == "InnoDB":
        server.execute(
            "CREATE TABLE p (i INT PRIMARY KEY) PARTITION BY RANGE (i) (PARTITION p0 VALUES LESS THAN (10) "
            f"DATA DIRECTORY='{path}', PARTITION p1 VALUES LESS THAN MAXVALUE)",
            name,
        )
    else:
        server.execute(f"CREATE TABLE p (i INT PRIMARY KEY) ENGINE={engine} INDEX DIRECTORY='{path}'", name)
    for table in ("t", "p"):
        server.execute(f"INSERT INTO {table} VALUES (1), (20)", name)
    source = source_of(server, name)
    return source, dump_all(source)


@pytest.mark.server
@pytest.mark.parametrize("vendor", ["mariadb", "mysql"])
def test_tables_come_back_to_their_folders_and_elsewhere_where_a_server_refuses_these(
    mysql_servers: MySQLServers, source_of: MakeSource, folder: Path, vendor: str
) -> None:
    with ExitStack() as cleaning:
        options = [f"--innodb-directories={folder}"] if vendor == "mysql" else []
        server = mysql_servers.get("mysql" if vendor == "mysql" else "mariadb", *options)
        source, dump = foldered(server, source_of, cleaning, folder, "InnoDB")
        before = created(server, "foldered.t"), created(server, "foldered.p")
        assert all("DATA DIRECTORY" in one for one in before)
        if vendor == "mariadb":
            # Its RENAME TABLE would leave the files where they are, and what finds them behind.
            with pytest.raises(SourceDenied, match="beside=no"):
                restore_all(source, dump, clean=True, tablespaces="yes")
            said = restore_all(source, dump, clean=True)
            assert "beside=no" in said.warnings[-1]
            assert "DIRECTORY" not in created(server, "foldered.t") + created(server, "foldered.p")
        beside = "no" if vendor == "mariadb" else "yes"
        said = restore_all(source, dump, clean=True, tablespaces="yes", beside=beside)
        assert (said.lost, said.warnings) == ([], [])
        assert (created(server, "foldered.t"), created(server, "foldered.p")) == before
        assert restore_all(source, dump, clean=True, tablespaces="no").warnings == []
        assert "DIRECTORY" not in created(server, "foldered.t") + created(server, "foldered.p")
        assert server.query("SELECT COUNT(*) FROM p", "foldered") == [(2,)]
        if vendor == "mysql":
            other = mysql_servers.get("mysql")
            cleaning.callback(other.drop, "foldered")
            specs = [spec for spec, _ in dump.values()]
            plan = source_of(other, "foldered").plan_restore(specs, RestoreTarget())
            (need,) = [need for need in plan.needs if need.kind == "folder"]
            assert need.met is False
            assert "innodb_directories" in need.note
            said = restore_all(source_of(other, "foldered"), dump)
            server = other
        else:
            server.drop("foldered")
            shutil.rmtree(folder)
            folder.touch()
            said = restore_all(source, dump)
            folder.unlink()
            folder.mkdir()
        assert said.lost == []
        assert "2 tables: foldered.p, foldered.t (" in said.warnings[0]
        assert "DIRECTORY" not in created(server, "foldered.t") + created(server, "foldered.p")
        assert server.query("SELECT COUNT(*) FROM p", "foldered") == [(2,)]


@pytest.mark.server
@pytest.mark.parametrize("engine", ["MyISAM", "Aria"])
def test_files_of_other_engines_are_in_the_way_of_nothing(
    mariadb: MySQLServer, source_of: MakeSource, folder: Path, engine: str
) -> None:
    with ExitStack() as cleaning:
        source, dump = foldered(mariadb, source_of, cleaning, folder, engine)
        before = created(mariadb, "foldered.t"), created(mariadb, "foldered.p")
        said = restore_all(source, dump, clean=True)  # beside the old ones, whose files have the same names
        assert said.lost == []
        assert "not in the folder" in said.warnings[0]
        assert mariadb.query("SELECT COUNT(*) FROM p", "foldered") == [(2,)]
        mariadb.drop("foldered")
        assert restore_all(source, dump).warnings == []
        assert (created(mariadb, "foldered.t"), created(mariadb, "foldered.p")) == before


def test_a_place_in_innodb_is_one_for_all_its_tables() -> None:
    one, other = (Place("folder", "/x", table, "InnoDB") for table in "ab")
    assert one.scope == other.scope
    one, other = (Place("folder", "/x", table, "MyISAM") for table in "ab")
    assert one.scope != other.scope
