"""What a look at the target of a restore has found: the parts of its plan."""

from collections.abc import Iterator

from penstock.api import Need, RestoreStep, StreamSpec
from penstock_postgres.attributes import ArchiveAttributes
from penstock_postgres.connection import Connection, rows
from penstock_postgres.options import RestoreOptions
from penstock_postgres.probe import room_for_locks

__all__ = ["Findings"]


class Findings:
    """Gathers steps, needs and warnings, one database after the other."""

    def __init__(self) -> None:
        self.steps: list[RestoreStep] = []
        self.needs: list[Need] = []
        self.warnings: list[str] = []

    def step(self, action: str, spec: StreamSpec) -> None:
        """The next step, which reads a stream."""
        self.steps.append(RestoreStep(action, spec.name))

    def look_at(
        self,
        connection: Connection,
        spec: StreamSpec,
        options: RestoreOptions,
        name: str,
        *,
        exists: bool,
        made: bool,
    ) -> None:
        """What the restore of an archive does and needs; `connection` is to the database `name` if that `exists`.

        `made` says whether the restore makes a database, if only to let it take the place of the old one.
        """
        recorded = ArchiveAttributes.of(spec)
        if not exists:
            self.step(f"make the database {name} and fill it", spec)
        elif made:
            self.step(f"fill a new database, which takes the name and place of {name} at the end", spec)
        else:
            self.step(f"fill the database {name}, in one transaction", spec)
        needs = [*_extensions(connection, recorded, made=made)]
        if options.owners == "yes":
            needs += _owners(connection, recorded)
        if exists and made:
            needs += _sessions(connection, name)
        if options.single_transaction == "yes" or (options.single_transaction == "auto" and not made):
            needs += _locks(connection, recorded)
        self.needs += [need for need in needs if need not in self.needs]
        self.warnings += [
            f"{spec.name}: {need.kind} {need.name}: {need.note}" for need in needs if need.met is False and need.note
        ]


def _extensions(connection: Connection, recorded: ArchiveAttributes, *, made: bool) -> Iterator[Need]:
    query = """
    SELECT a.name, i.extname IS NOT NULL,
        coalesce((SELECT bool_or(v.superuser AND NOT v.trusted) FROM pg_catalog.pg_available_extension_versions v
            WHERE v.name = a.name AND v.version = a.default_version), true)
    FROM pg_catalog.pg_available_extensions a LEFT JOIN pg_catalog.pg_extension i ON i.extname = a.name
    WHERE a.name = ANY (%(names)s)
    """
    found = {name: rest for name, *rest in rows(connection, query, {"names": list(recorded.extensions)})}
    ((superuser,),) = rows(connection, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user")
    for name in recorded.extensions:
        if name not in found:
            yield Need(
                "extension", name, False, "the server does not have it; install its package there, or what uses it "
                "is left out"
            )  # fmt: skip
            continue
        installed, for_superusers = found[name]
        if (installed and not made) or superuser or not for_superusers:
            yield Need("extension", name)
        else:
            yield Need(
                "extension", name, False, "only a superuser may make it; let the provider make it in the target "
                "first, or what uses it is left out"
            )  # fmt: skip


def _owners(connection: Connection, recorded: ArchiveAttributes) -> Iterator[Need]:
    """Roles that own something, and whether the role that restores may give it to them."""
    query = """
    SELECT rolname, pg_catalog.pg_has_role(session_user, oid, 'MEMBER') FROM pg_catalog.pg_roles
    WHERE rolname = ANY (%(names)s) ORDER BY 1
    """
    for name, member in rows(connection, query, {"names": sorted(recorded.needed_roles)}):
        note = "" if member else f"{connection.info.user} is no member of it, and what it owns would keep another owner"
        yield Need("role", name, member, note)


def _locks(connection: Connection, recorded: ArchiveAttributes) -> Iterator[Need]:
    """Room for the locks of one transaction."""
    room = room_for_locks(connection)
    note = (
        f"one transaction locks {recorded.objects} objects, and the server has room for {room} locks; restore into a "
        "database that does not exist yet, raise it on the server, or accept single_transaction=no"
    )
    fits = recorded.objects <= room
    yield Need("setting", "max_locks_per_transaction", fits, "" if fits else note)


def _sessions(connection: Connection, name: str) -> Iterator[Need]:
    """Sessions that must end before the database can be replaced, and that the role may not end."""
    query = """
    SELECT a.pid::text, a.usename, a.application_name FROM pg_catalog.pg_stat_activity a
        JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid, pg_catalog.pg_roles me
    WHERE a.datname = %(name)s AND a.pid <> pg_catalog.pg_backend_pid() AND me.rolname = session_user
        AND NOT me.rolsuper AND (r.rolsuper OR NOT (pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')
            OR pg_catalog.pg_has_role(session_user, 'pg_signal_backend', 'MEMBER')))
    ORDER BY a.pid
    """
    for pid, role, program in rows(connection, query, {"name": name}):
        what = f"{pid} of {role}" + (f" ({program})" if program else "")
        yield Need(
            "session", what, False, "the restore may not end it, and waits for it before it replaces the database"
        )
