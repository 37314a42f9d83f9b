"""What a dump would hold, and what would make it fail: one look at each database, and what follows from it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from penstock.api import (
    ClientMissing,
    DumpPlan,
    Inspection,
    InventoryItem,
    SourceDenied,
    SourceError,
    StreamSpec,
    found_by,
)
from penstock.api.servers import listed, path_like, settle
from penstock_postgres import probe
from penstock_postgres.checks import DATABASE_CHECKS, SERVER_CHECKS, DatabaseFacts, ServerFacts
from penstock_postgres.choice import Choice, choose
from penstock_postgres.client import Client
from penstock_postgres.cluster import Databases, find_databases
from penstock_postgres.connection import Connection, connect_anywhere, translated
from penstock_postgres.dumping import ACCOUNTS, ARCHIVE, DATABASES
from penstock_postgres.recorded import archive_attributes
from penstock_postgres.relations import Relation, relations
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.table_rows import parts_of
from penstock_postgres.views import View

__all__ = ["Chosen", "Look", "Survey", "about_server", "chosen_databases", "chosen_relations", "look_at", "version_of"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the settings choose of one database, and which relations these are."""

    choice: Choice
    relations: list[Relation]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at one database gave; `size` is what its archive will have, in bytes."""

    database: str
    chosen: Chosen
    size: int
    inventory: tuple[InventoryItem, ...]
    warnings: tuple[str, ...]
    #: The streams of a database by tables, without the attributes that all have; nothing for an archive.
    parts: tuple[StreamSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """All that was found: `warnings` are those of the server as a whole, `databases` is None where one is dumped."""

    server: str
    client: Client
    with_accounts: bool
    databases: Databases | None
    looks: tuple[Look, ...]
    warnings: tuple[str, ...]

    @property
    def inspection(self) -> Inspection:
        """For the contract: everything but the streams."""
        left_out = self.databases
        return Inspection(
            "postgres",
            self.server,
            self.client.version,
            sum(look.size for look in self.looks),
            (*self._inventory(), *(left_out.inventory() if left_out else ())),
            (
                *self.warnings,
                *(warning for look in self.looks for warning in look.warnings),
            ),
        )

    @property
    def streams(self) -> tuple[StreamSpec, ...]:
        """The streams of a dump, without most attributes: the accounts, then an archive or the parts of each look."""
        accounts = StreamSpec("accounts.sql", ACCOUNTS, 0, None, True, record_separator=b"\n")
        return (*([accounts] if self.with_accounts else []), *(spec for look in self.looks for spec in self._of(look)))

    @property
    def consistency(self) -> str:
        """How the streams belong together, for people."""
        words = "one transaction snapshot"
        if self.databases:
            words += " for each database, taken one after the other"
        if choice := self.looks[0].chosen.choice.text:
            words += f", of a choice ({choice})"
        return words + ("; roles and tablespaces beside it" if self.with_accounts else "")

    def plan(self, view: View | None, passwords: Connection) -> DumpPlan:
        """The plan of a dump that holds `view`, or takes a view of each database when its turn comes.

        `passwords` is a connection that says whether the role may read those of others.
        """
        common = {"server_version": self.server, "client_version": self.client.version}
        if self.databases:
            common["cluster"] = "yes"
        planned = []
        if self.with_accounts:
            allowed = "yes" if probe.may_read_passwords(passwords) else "no"
            attributes = {"database": passwords.info.dbname, **common, "passwords": allowed}
            planned.append(replace(self.streams[0], attributes=attributes))
        for look in self.looks:
            attributes = {"database": look.database, **common}
            recorded = {}
            if view is not None:
                attributes["snapshot"] = view.snapshot
                recorded = archive_attributes(view.connection, look.chosen.relations, look.chosen.choice)
            for spec in self._of(look):
                own = recorded if spec.format in DATABASES else {}
                planned.append(replace(spec, attributes={**attributes, **spec.attributes, **own}))
        return DumpPlan(self.inspection, tuple(planned), self.consistency)

    def _of(self, look: Look) -> tuple[StreamSpec, ...]:
        """The streams of one database."""
        folder = "db/" if self.databases else ""
        # Rows are lines of COPY in it.
        archive = StreamSpec(f"{folder}{path_like(look.database)}.dump", ARCHIVE, 1, look.size, record_separator=b"\n")
        return look.parts or (archive,)

    def _inventory(self) -> Iterator[InventoryItem]:
        for look in self.looks:
            if self.databases:
                yield InventoryItem("database", look.database, None, look.size)
            yield from look.inventory


def version_of(connection: Connection) -> str:
    """The version of the server."""
    return connection.info.parameter_status("server_version") or "unknown"


def chosen_databases(settings: PostgresSettings) -> Databases | None:
    """The databases to dump, or None where the settings are about one."""
    if not settings.databases:
        return None
    with (
        connect_anywhere(settings) as (connection, _, _),
        translated(f"cannot look for the databases of {settings.location}"),
    ):
        return find_databases(connection, settings)


def chosen_relations(connection: Connection, settings: PostgresSettings) -> Chosen:
    """What to dump of the database at hand; raises `SourceDenied` if the role may not read all of it."""
    choice = choose(connection, settings)
    found = list(choice.of(relations(connection)))
    probe.check_readable(connection, found, choice)
    return Chosen(choice, found)


def look_at(connection: Connection, settings: PostgresSettings, chosen: Chosen) -> Look:
    """Look at the database at hand; rows come from the statistics."""
    several = bool(settings.databases)
    database = connection.info.dbname
    items = probe.inventory(
        connection,
        chosen.relations,
        chosen.choice,
        settings.row_counts,
        prefix=f"{database}." if several else "",
    )
    size = probe.size_estimate(connection, chosen.relations, chosen.choice)
    facts = DatabaseFacts(connection, chosen.relations, chosen.choice, settings.layout == "tables")
    warnings = found_by(DATABASE_CHECKS, facts, settings.warnings)
    said = tuple(f"{database}: {one}" if several else one for one in warnings)
    parts = (
        tuple(parts_of(connection, chosen.relations, chosen.choice, settings.split_above))
        if settings.layout == "tables"
        else ()
    )
    return Look(database, chosen, size, tuple(items), said, parts)


def about_server(
    connection: Connection, settings: PostgresSettings, client: Client, databases: Databases | None
) -> tuple[bool, tuple[str, ...]]:
    """Whether roles and tablespaces are dumped, and warnings about the server as a whole."""
    unreadable: list[str] = []
    settle(
        settings.accounts,
        possible=probe.may_read_passwords(connection),
        refusal=SourceDenied(
            f"the role {connection.info.user} may not read the passwords of roles",
            hint="Dump as a superuser, or let accounts = auto leave the passwords out.",
        ),
        warning="roles are dumped without their passwords: only a superuser can read them",
        warnings=unreadable,
    )
    with_accounts = settle(
        settings.accounts,
        possible=client.has("pg_dumpall"),
        refusal=ClientMissing(
            f"{client.folder} has no pg_dumpall", hint="Install it, or leave roles out with accounts = no."
        ),
        warning=f"roles and tablespaces are left out: {client.folder} has no pg_dumpall",
        warnings=unreadable,
    )
    if with_accounts and (odd := probe.names_of_other_bytes(connection)):
        raise SourceError(
            f"pg_dumpall fails on {listed(odd, 'role or tablespace', 'roles and tablespaces')}: the name is not UTF-8",
            hint="Rename it, from a database of the encoding SQL_ASCII, or leave roles out with accounts = no.",
        )
    facts = ServerFacts(connection, settings, client, databases, tuple(unreadable))
    return with_accounts, tuple(found_by(SERVER_CHECKS, facts, settings.warnings))
