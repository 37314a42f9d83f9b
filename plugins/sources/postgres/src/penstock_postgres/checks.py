"""What a dump does not hold, or what may disturb it, though it will not fail for certain: one list."""

from collections.abc import Iterator
from dataclasses import dataclass

from penstock.api import Check
from penstock.api.servers import listed, unverified_server
from penstock_postgres import probe
from penstock_postgres.choice import Choice
from penstock_postgres.client import Client, major_of
from penstock_postgres.cluster import Databases
from penstock_postgres.connection import Connection, about_tls, rows
from penstock_postgres.relations import Relation
from penstock_postgres.settings import PostgresSettings

__all__ = ["DATABASE_CHECKS", "RESTORE_CHECKS", "SERVER_CHECKS", "DatabaseFacts", "ServerFacts"]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What is known of a server as a whole; `databases` is None where one is dumped."""

    connection: Connection
    settings: PostgresSettings
    client: Client
    databases: Databases | None
    #: Sentences about roles and tablespaces, or their passwords, that are left out.
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What is known of one database, which `connection` is to: its relations that are dumped."""

    connection: Connection
    found: list[Relation]
    choice: Choice
    by_tables: bool


def _standby(facts: ServerFacts) -> Iterator[str]:
    if probe.is_standby(facts.connection):
        yield (
            "the server is a standby: a long dump may be cancelled by what it replays "
            "(see max_standby_streaming_delay and hot_standby_feedback)"
        )


def _newer_client(facts: ServerFacts) -> Iterator[str]:
    server = facts.connection.info.parameter_status("server_version") or ""
    if facts.client.major > major_of(server) > 0:
        yield (
            f"pg_dump {facts.client.version} dumps a server {major_of(server)}: whoever restores it needs pg_restore "
            f"{facts.client.major} or newer. Install the client programs {major_of(server)} here, or those of "
            f"{facts.client.major} where it is restored"
        )


def _left_out(facts: ServerFacts) -> Iterator[str]:
    yield from facts.databases.warnings() if facts.databases else ()


def _accounts(facts: ServerFacts) -> Iterator[str]:
    yield from facts.unreadable


def _choice(facts: DatabaseFacts) -> Iterator[str]:
    if facts.choice.text:
        yield (f"the dump is a choice, and no complete backup of {facts.connection.info.dbname}: {facts.choice.text}")


def _idle(facts: DatabaseFacts) -> Iterator[str]:
    for idle in facts.choice.idle:
        yield f"{idle} matches nothing in the database {facts.connection.info.dbname}"


def _large_objects(facts: DatabaseFacts) -> Iterator[str]:
    if facts.choice.text and not facts.choice.large_objects and (objects := probe.large_objects(facts.connection)[0]):
        yield f"large objects are left out ({objects} of them): large_objects = yes takes them"


def _partitions(facts: DatabaseFacts) -> Iterator[str]:
    if not facts.choice.text:
        return
    taken = {relation.oid for relation in facts.found}
    query = """
    SELECT i.inhparent, i.inhrelid FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent
    WHERE c.relkind = 'p'
    """
    partly = {parent for parent, partition in rows(facts.connection, query) if partition not in taken}
    if titles := [relation.title for relation in facts.found if relation.oid in partly]:
        yield f"{listed(titles, 'partitioned table', 'partitioned tables')} is chosen without all of its partitions"


def _unlogged(facts: DatabaseFacts) -> Iterator[str]:
    unlogged = [relation.title for relation in facts.found if relation.persistence == "u" and relation.relkind == "r"]
    if unlogged and probe.is_standby(facts.connection):
        yield f"a standby has no rows of {listed(unlogged, 'unlogged table', 'unlogged tables')}"


def _foreign(facts: DatabaseFacts) -> Iterator[str]:
    if foreign := [relation.title for relation in facts.found if relation.relkind == "f"]:
        yield f"the rows of {listed(foreign, 'foreign table', 'foreign tables')} are elsewhere, and not in the dump"


def _of_extensions(facts: DatabaseFacts) -> Iterator[str]:
    own = [one.title for one in facts.found if one.relkind == "r" and one.of_extension and not one.configures_extension]
    if own:
        yield f"the rows of {listed(own, 'table', 'tables')} belong to extensions, and are not in the dump"


def _prepared(facts: DatabaseFacts) -> Iterator[str]:
    query = "SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()"
    if prepared := rows(facts.connection, query)[0][0]:
        yield (
            f"prepared transactions are open ({prepared} of them): what they wrote is not in the dump, "
            "and their locks may hold it up"
        )


def _subscriptions(facts: DatabaseFacts) -> Iterator[str]:
    query = """
    SELECT count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
    WHERE d.datname = pg_catalog.current_database() AND NOT (
        SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
    """
    if subscriptions := rows(facts.connection, query)[0][0]:
        yield f"subscriptions are left out ({subscriptions} of them): only a superuser can dump them"


def _mappings(facts: DatabaseFacts) -> Iterator[str]:
    # The view shows options to the mapping's own user and to superusers; pg_user_mapping itself to superusers alone.
    query = """
    SELECT m.srvname || ' for ' || m.usename FROM pg_catalog.pg_user_mappings m
    WHERE m.umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
    ORDER BY 1
    """
    if not facts.choice.narrow and (mappings := [name for (name,) in rows(facts.connection, query)]):
        yield (
            f"the options, such as passwords, of {listed(mappings, 'user mapping', 'user mappings')} are not in the "
            "dump, if there are any: only a superuser can read them"
        )


def _invalid_indexes(facts: DatabaseFacts) -> Iterator[str]:
    query = """
    SELECT i.indexrelid::pg_catalog.regclass::text, i.indrelid FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid AND c.relkind = 'i' ORDER BY 1
    """
    taken = {relation.oid for relation in facts.found if relation.dumped}
    if invalid := [name for name, table in rows(facts.connection, query) if table in taken]:
        yield (
            f"{listed(invalid, 'index', 'indexes')} is invalid, as CREATE INDEX CONCURRENTLY leaves it when it fails, "
            "and not in the dump: REINDEX or drop it"
        )


def _checksums(facts: DatabaseFacts) -> Iterator[str]:
    query = """
    SELECT checksum_failures, checksum_last_failure::text FROM pg_catalog.pg_stat_database
    WHERE datname = pg_catalog.current_database()
    """
    for failures, last in rows(facts.connection, query):
        if failures:
            yield (
                f"the server has found damaged pages in {facts.connection.info.dbname} ({failures} of them, the last "
                f"at {last}): keep the snapshots from before, and see pg_stat_database"
            )


def _locks(facts: DatabaseFacts) -> Iterator[str]:
    tables = sum(relation.dumped and relation.relkind in "rpmfS" for relation in facts.found)
    room = probe.room_for_locks(facts.connection)
    # By tables, the view holds locks of its own beside those of pg_dump.
    twice = facts.by_tables and 2 * tables > room
    if tables > room or twice:
        yield (
            f"the dump locks {tables} tables and sequences at once{', twice' if twice else ''}, and the server has "
            f"room for {room} locks: it may fail after minutes. Raise max_locks_per_transaction on the server"
        )


#: Of the server as a whole, in the order in which they are said; `settings.CheckName` has the names of all.
SERVER_CHECKS: tuple[Check[ServerFacts], ...] = (
    unverified_server(lambda facts: about_tls(facts.settings)),
    Check("standby", "a standby cancels queries that stand in the way of what it replays", _standby),
    Check("newer-client", "no pg_restore reads an archive of a newer pg_dump", _newer_client),
    Check("accounts-left-out", "a server without its roles and their passwords is of no use", _accounts),
    Check("databases-left-out", "what refuses connections cannot be dumped", _left_out),
)
#: Of each database.
DATABASE_CHECKS: tuple[Check[DatabaseFacts], ...] = (
    Check("choice", "a dump of chosen schemas or tables brings back only these", _choice),
    Check("idle-pattern", "a pattern that leaves nothing out is a mistake, or no longer needed", _idle),
    Check("large-objects-left-out", "large objects belong to no schema and no table", _large_objects),
    Check("partitions-left-out", "a partitioned table without a partition lacks rows", _partitions),
    Check("unlogged-on-standby", "a standby has no rows of unlogged tables", _unlogged),
    Check("foreign-tables", "pg_dump does not read the rows of foreign tables", _foreign),
    Check("extension-tables", "pg_dump leaves the rows of an extension's own tables out", _of_extensions),
    Check("prepared-transactions", "they hold locks, and are in no dump", _prepared),
    Check("subscriptions", "subscriptions hold passwords, which only a superuser may read", _subscriptions),
    Check("user-mappings", "user mappings hold passwords, which only a superuser may read", _mappings),
    Check("invalid-indexes", "pg_dump leaves them out", _invalid_indexes),
    Check("checksum-failures", "what cannot be read cannot be dumped, and may fail any night", _checksums),
    Check("locks", "pg_dump locks every table at once", _locks),
)
#: Before a restore, of the settings alone; `warnings.ignore` switches them off there, too.
RESTORE_CHECKS: tuple[Check[PostgresSettings], ...] = (unverified_server(about_tls),)
