"""Which servers and client programs tests ran with, as these tell it themselves."""

import re
import subprocess
from functools import cache
from pathlib import Path

from tests.servers.azure import AzureServer
from tests.servers.gcs import GcsServer
from tests.servers.mongodb import MongoServer, find_tools
from tests.servers.mysql import MySQLServer
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server


@cache
def engine(server: PostgresServer | MySQLServer | MongoServer) -> str:
    """The engine with its version, asked from the server: `PostgreSQL 18.6`, `MariaDB 10.11.14`."""
    match server:
        case PostgresServer():
            return f"PostgreSQL {_number(str(server.query('SHOW server_version')[0][0]))}"
        case MySQLServer():
            told = str(server.query("SELECT VERSION()")[0][0])
            return f"{'MariaDB' if 'MariaDB' in told else 'MySQL'} {_number(told)}"
        case MongoServer():
            with server.connected() as client:
                return f"MongoDB {client.server_info()['version']}"


@cache
def client(server: PostgresServer | MySQLServer | MongoServer) -> str:
    """The program that dumps it, asked for its version: `pg_dump 18.6`; `-` where there is none."""
    match server:
        case PostgresServer():
            return _program(server.bin / "pg_dump") if server.bin else "-"
        case MySQLServer():
            return _program(server.bin / ("mariadb-dump" if server.vendor == "mariadb" else "mysqldump"))
        case MongoServer():
            return _program(find_tools() / "mongodump")


def of_fixture(value: object) -> dict[str, str]:
    """What a fixture's value says of the columns SOURCE, CLIENT and SINK: nothing, unless it is a server."""
    match value:
        case PostgresServer() | MySQLServer() | MongoServer():
            return {"SOURCE": engine(value), "CLIENT": client(value)}
        case S3Server() | GcsServer() | AzureServer():
            return {"SINK": value.version}
        case _:
            return {}


def _program(program: Path) -> str:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    # MariaDB's tells another number before its own.
    found = re.search(r"Distrib ([0-9.]+)", told) or re.search(r"([0-9]+\.[0-9.]*[0-9])", told)
    return f"{program.name} {found[1] if found else told.strip()}"


def _number(told: str) -> str:
    return re.split(r"[- ]", told, maxsplit=1)[0]
