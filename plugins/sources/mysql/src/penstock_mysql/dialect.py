"""What tells MySQL and MariaDB apart, as one value each: programs, options and the way TLS is asked for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import total_ordering
from typing import Literal

__all__ = [
    "CHILD_ENVIRONMENT",
    "DIALECTS",
    "MARIADB",
    "MYSQL",
    "Dialect",
    "Vendor",
    "Version",
    "client_version",
    "server_version",
]

Vendor = Literal["mysql", "mariadb"]

#: MySQL's programs read a file of logins in the home folder whatever option file they are given, and prefer it.
CHILD_ENVIRONMENT = {"MYSQL_TEST_LOGIN_FILE": "/nonexistent/login"}


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A version of a server or of a client program; `text` is how it calls itself."""

    vendor: Vendor
    numbers: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        return f"{DIALECTS[self.vendor].title} {self.text}"

    def __lt__(self, other: "Version") -> bool:
        return self.numbers < other.numbers

    @property
    def major(self) -> tuple[int, ...]:
        """What a client must not be older than: 5.7, 8, 9 of MySQL, 10, 11 of MariaDB."""
        return self.numbers[: 2 if self.numbers[0] < 8 else 1]

    @property
    def series(self) -> tuple[int, ...]:
        """What a dump must not be newer than: 8.0, 8.4, 10.11."""
        return self.numbers[:2]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The differences between the two families of servers and client programs."""

    vendor: Vendor
    title: str
    dump_programs: tuple[str, ...]
    client_programs: tuple[str, ...]
    #: Beyond what both know.
    dump_options: tuple[str, ...]
    client_options: tuple[str, ...]
    #: Of the option file, for each word of the setting `tls`.
    tls: Mapping[str, tuple[str, ...]]
    #: In every session of a restore.
    restore_session: str
    #: In every session of a dump, where the dump program does not do so by itself; with the first version of it that
    #: can be made to.
    dump_session: str
    dump_session_since: tuple[int, ...]
    #: Without it the bodies of others' routines are hidden.
    routine_privileges: tuple[str, ...]
    packages: str


MYSQL = Dialect(
    "mysql",
    "MySQL",
    ("mysqldump",),
    ("mysql",),
    # `loose`: histograms and their option came with 8.0, and a restore has the server make them anew.
    # `network-timeout` raises net_write_timeout: nobody may read the dump for a while.
    ("--set-gtid-purged=OFF", "--loose-column-statistics=0", "--loose-network-timeout"),
    (),
    {
        "disable": ("ssl-mode=DISABLED", "get-server-public-key"),
        "prefer": ("ssl-mode=PREFERRED",),
        "require": ("ssl-mode=REQUIRED",),
        "verify-ca": ("ssl-mode=VERIFY_CA",),
        "verify-full": ("ssl-mode=VERIFY_IDENTITY",),
    },
    "SET SESSION wait_timeout=604800, net_read_timeout=3600, net_write_timeout=3600",
    "",
    (),
    ("SELECT", "SHOW_ROUTINE"),
    "mysql-client (MySQL's own)",
)
MARIADB = Dialect(
    "mariadb",
    "MariaDB",
    ("mariadb-dump", "mysqldump"),
    ("mariadb", "mysql"),
    ("--loose-max-statement-time=0",),
    # It would quote the statement that failed, and with it the rows of somebody.
    ("--loose-print-query-on-error=0",),
    {
        "disable": ("skip-ssl",),
        # From 11.4 on the client asks for a certificate that it can verify, unless it is told not to.
        "prefer": ("ssl", "skip-ssl-verify-server-cert"),
        "require": ("ssl", "skip-ssl-verify-server-cert"),
        "verify-ca": ("ssl", "ssl-verify-server-cert"),
        "verify-full": ("ssl", "ssl-verify-server-cert"),
    },
    "SET SESSION wait_timeout=604800, net_read_timeout=3600, net_write_timeout=3600, max_statement_time=0",
    # As long as the stall of a sink may take, or the turn of a dump that was started together with others.
    "SET SESSION net_write_timeout=604800",
    (10, 9),
    ("SELECT", "SHOW CREATE ROUTINE"),
    "mariadb-client",
)
DIALECTS: dict[Vendor, Dialect] = {"mysql": MYSQL, "mariadb": MARIADB}


def server_version(text: str) -> Version:
    """Of `SELECT VERSION()`: `10.11.6-MariaDB-0+deb12u1-log`, `5.5.5-10.6.1-MariaDB`, `8.0.36-28`."""
    vendor: Vendor = "mariadb" if "mariadb" in text.lower() else "mysql"
    text = re.sub(r"^(?:MySQL|MariaDB) ", "", text)
    text = re.sub(r"-log$", "", text)
    if vendor == "mariadb":
        text = text.removeprefix("5.5.5-")
    return Version(vendor, _numbers(text), re.split(r"-MariaDB", text, flags=re.IGNORECASE)[0])


def client_version(text: str) -> Version | None:
    """Of what a client program says to `--version`; None for any other program.

    `Ver 10.19 Distrib 10.11.6-MariaDB`, `from 11.4.2-MariaDB, client 15.2`, `Ver 8.0.36-28 for Linux`,
    `Ver 14.14 Distrib 5.7.44, for Linux`.
    """
    if found := re.search(r"(\d+\.\d+[\d.]*)-MariaDB", text, re.IGNORECASE):
        return Version("mariadb", _numbers(found[1]), found[1])
    if found := re.search(r"\bDistrib (\d+\.\d+[\d.]*)", text) or re.search(r"\bVer (\d+\.\d+\.[\d.]*)", text):
        return Version("mysql", _numbers(found[1]), found[1])
    return None


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else (0,)
