"""Databases that others have published: where `tests/install-servers` has put them, and how they come into a server."""

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bson import encode, json_util
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure
from tests.servers.mongodb import MongoServer
from tests.servers.mysql import MySQLServer
from tests.servers.postgres import PostgresServer, missing

#: Of more than a hundred thousand, nearly each a statement of its own.
_ZABBIX_LINES = 3_000
_SAMPLES = Path(__file__).parents[2] / ".servers" / "samples"
#: Of PostgreSQL's regression tests these leave most of the objects behind, for the least time.
_REGRESSION = """
    test_setup alter_generic alter_operator alter_table arrays collate.utf8 compression constraints create_aggregate
    create_cast create_function_sql create_misc create_operator create_procedure create_schema create_table
    create_table_like create_type create_view domain enum event_trigger fast_default foreign_data
    generated_stored generated_virtual identity index_including indexing inherit matview multirangetypes
    namespace object_address plpgsql polymorphism publication rangetypes replica_identity rowsecurity rules sequence
    stats_import triggers tsdicts typed_table updatable_views without_overlaps xml
""".split()  # noqa: SIM905 - easier to read


def sample(package: str, *parts: str) -> Path:
    """A file or folder of a package; skips or fails the test when it is not there."""
    path = _SAMPLES.joinpath(package, *parts)
    if not path.exists():
        missing("samples", f"the sample {package} is not installed: run tests/install-servers")
    return path


def psql(server: PostgresServer, database: str, script: bytes, *, errors: bool = False) -> None:
    """Let psql run a script, which with `errors` may fail in parts."""
    assert server.bin is not None
    done = subprocess.run(
        [
            *(str(server.bin / "psql"), "--no-psqlrc", "--quiet", "--set", f"ON_ERROR_STOP={0 if errors else 1}"),
            *(f"--host={server.host}", f"--port={server.port}", f"--username={server.user}", database),
        ],
        env={"PATH": os.environ["PATH"], "PGOPTIONS": "-c client_min_messages=error", "PGPASSWORD": server.password},
        input=script,
        capture_output=True,
    )
    assert errors or done.returncode == 0, done.stderr[-2000:].decode(errors="replace")


def zabbix_in_postgres(server: PostgresServer, database: str) -> None:
    """The whole schema of Zabbix, with its images and some of its templates."""
    psql(server, database, b"BEGIN;\n%b\nCOMMIT;\n" % _zabbix("zabbix-server-pgsql"))


def _zabbix(package: str) -> bytes:
    texts = [gzip.decompress(sample(package, package, f"{name}.sql.gz").read_bytes()) for name in ("schema", "images")]
    lines = gzip.decompress(sample(package, package, "data.sql.gz").read_bytes()).splitlines()
    # In an order that foreign keys take. Most rows have a line, and some have many.
    end = next(number for number in range(_ZABBIX_LINES, len(lines)) if lines[number].startswith(b"INSERT INTO "))
    return b"\n".join([*texts, *lines[:end]])


def regression(server: PostgresServer, database: str) -> None:
    """What PostgreSQL's own regression tests leave behind; their C functions and files of data are not here.

    It goes through pg_dump once: a child's column that its parent got later moves to another place then, and stays.
    """
    folder = sample("pglast", "postgres_regress")
    with server.database(f"{database} as made") as made:
        for name in _REGRESSION:
            psql(server, made, (folder / f"{name}.sql").read_bytes(), errors=True)
        assert server.bin is not None
        place = [f"--host={server.host}", f"--port={server.port}", f"--username={server.user}"]
        dump = subprocess.run(
            [str(server.bin / "pg_dump"), *place, made],
            check=True,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "PGPASSWORD": server.password},
        )
        psql(server, database, dump.stdout)


def zabbix_in_mysql(server: MySQLServer, database: str) -> None:
    """The whole schema of Zabbix, with its images and some of its templates."""
    server.run_script(b"SET autocommit = 0;\n%b\nCOMMIT;\n" % _zabbix("zabbix-server-mysql"), database)


def world_and_orders(server: MySQLServer, database: str) -> None:
    """The world's cities and countries, and the tables of TPC-H, as MariaDB's own tests have them."""
    folder = sample("mariadb-test-data", "include")
    for name in ("world_schema", "world", "dbt3_s001"):
        script = (folder / f"{name}.inc").read_text(encoding="utf-8")
        # Lines that are for the test program, not for the server.
        kept = (line for line in script.splitlines() if not line.startswith(("--", "let ", "eval ")))
        # They are older than the strict mode.
        server.run_script("\n".join(["SET sql_mode = '';", *kept]).encode(), database)


def bson_corpus(server: MongoServer) -> None:
    """Every valid document of the corpus that MongoDB's drivers are tested with, byte for byte."""
    refused = 0
    with server.connected() as client:
        for path in sorted(sample("pymongo", "bson_corpus").glob("*.json")):
            client.corpus.create_collection(path.stem)
            for number, case in enumerate(json.loads(path.read_text(encoding="utf-8")).get("valid", ())):
                document = RawBSONDocument(bytes.fromhex(case["canonical_bson"]))
                try:
                    # As a part of a larger one: some have fields of names that a document itself may not have.
                    client.corpus[path.stem].insert_one({"_id": number, "document": document})
                except OperationFailure:
                    refused += 1
        kept = sum(client.corpus[name].estimated_document_count() for name in client.corpus.list_collection_names())
    # A server keeps one of the subtypes of binary to itself.
    assert refused < 3
    assert kept > 100


def countries(server: MongoServer) -> None:
    """The countries, and their shapes."""
    with server.connected() as client:
        found = json.loads(sample("world-countries", "countries.json").read_text(encoding="utf-8"))
        client.world.countries.insert_many({"_id": one["cca3"], **one} for one in found)
        client.world.shapes.insert_many(_shapes())
        client.world.countries.create_index([("region", 1), ("name.common", -1)])
        client.world.countries.create_index([("name.official", "text")])


def _shapes() -> Iterator[dict[str, Any]]:
    for path in sorted(sample("world-countries", "data").glob("*.geo.json")):
        document = json_util.loads(path.read_text(encoding="utf-8"))
        if len(encode(document)) < 15_000_000:
            yield {"_id": path.name, **document}
