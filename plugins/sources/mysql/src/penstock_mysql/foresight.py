"""What a restore's target would do with what a dump records: asked before anything is changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pymysql import err

from penstock.api import LeftOut, Need, SourceDenied, StreamSpec, UsageError
from penstock.api.servers import listed
from penstock_mysql.attributes import AccountsAttributes, DatabaseAttributes
from penstock_mysql.connection import Connection, execute, is_lost, rows
from penstock_mysql.expressions import not_understood
from penstock_mysql.options import RestoreOptions
from penstock_mysql.privileges import Privileges
from penstock_mysql.probe import collations_of
from penstock_mysql.watching import FRAME

__all__ = ["Foreseen", "foresee", "session_settings"]

#: Variables of MySQL's that make it refuse tables that others take, with the tables that are recorded for each.
_STRICTER = {"sql_require_primary_key": "keyless", "restrict_fk_on_non_standard_key": "loose_keys"}
_SETTERS = "SESSION_VARIABLES_ADMIN"


@dataclass(slots=True)
class Foreseen:
    """Parts of a `RestorePlan`."""

    left_out: list[LeftOut] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def session_settings(connection: Connection) -> tuple[str, ...]:
    """What the sessions of a restore set, to take tables that the server would otherwise refuse, if the user may."""
    return tuple(f"{name}=0" for name in _STRICTER if _is_on(connection, name) and _may_relax(connection, name))


def foresee(
    connection: Connection,
    allowed: Privileges,
    databases: Mapping[str, tuple[StreamSpec, str]],
    accounts: Sequence[StreamSpec],
    options: RestoreOptions,
) -> Foreseen:
    """What will be left out or is needed; `databases` by their recorded names, each with its new one.

    Raises `UsageError` or `SourceDenied` for what would break or mislead the whole.
    """
    found = Foreseen()
    recorded = {name: (DatabaseAttributes.of(spec), new) for name, (spec, new) in databases.items()}
    _check_case(connection, recorded)
    _check_names(recorded, options, found)
    _check_definers(connection, allowed, recorded, options, found)
    _check_strictness(connection, recorded, found)
    _check_rows(connection, recorded, found)
    _check_collations(connection, recorded, found)
    _check_expressions(connection, recorded, found)
    if options.accounts != "no":
        for spec in accounts:
            _check_revokes(connection, AccountsAttributes.of(spec), found)
    return found


_Recorded = Mapping[str, tuple[DatabaseAttributes, str]]


def _check_case(connection: Connection, recorded: _Recorded) -> None:
    ((folds,),) = rows(connection, "SELECT @@GLOBAL.lower_case_table_names")
    if not int(folds):
        return
    why = "the server does not tell apart names that differ in their case alone (lower_case_table_names)"
    hint = "Restore into a server with lower_case_table_names = 0, or rename one of them before the dump."
    for attributes, new in recorded.values():
        if attributes.contents.clashes:
            tables = listed([f"{new}.{name}" for name in attributes.contents.clashes], "table", "tables")
            raise UsageError(f"{why}, and one would overwrite the other: {tables}", hint=hint)
    names = [new.lower() for _, new in recorded.values()]
    if twice := sorted({new for _, new in recorded.values() if names.count(new.lower()) > 1}):
        raise UsageError(f"{why}: {listed(twice, 'database', 'databases')}", hint=hint)


def _check_names(recorded: _Recorded, options: RestoreOptions, found: Foreseen) -> None:
    renamed = {name for name, (_, new) in recorded.items() if new != name}
    naming = [
        f"{kind} {new}.{title} ({', '.join(databases)})"
        for name, (attributes, new) in recorded.items()
        for kind, title, _, databases in attributes.contents.programs
        if databases and (name in renamed or renamed & set(databases))
    ]
    if not naming:
        return
    what = f"{listed(naming, 'object', 'objects')} with names of databases in their definitions, which stay as they are"
    if options.qualified_names == "no":
        raise UsageError(
            f"a copy under another name would read or write the databases that it names: {what}",
            hint="Restore under the old names into another server, or accept it with qualified_names=yes and look at "
            "each of them afterwards.",
        )
    found.warnings.append(f"look at {what}")


def _check_definers(
    connection: Connection, allowed: Privileges, recorded: _Recorded, options: RestoreOptions, found: Foreseen
) -> None:
    if options.definers == "mine" or allowed.anywhere("SUPER", "SET USER", "SET_USER_ID", "SET_ANY_DEFINER"):
        return
    ((me,),) = rows(connection, "SELECT CURRENT_USER()")
    foreign = [
        LeftOut(kind, title, f"its DEFINER is {who}, and only an administrator may name another: see definers=mine",
                database=new)
        for attributes, new in recorded.values()
        for kind, title, who, _ in attributes.contents.programs
        if who and who != me
    ]  # fmt: skip
    if foreign:
        privilege = "SET USER" if connection.is_mariadb else "SET_ANY_DEFINER"
        note = "views and programs of other definers are left out; with definers=mine they are the restoring account's"
        found.needs.append(Need("privilege", privilege, False, note))
        found.left_out += foreign


def _check_strictness(connection: Connection, recorded: _Recorded, found: Foreseen) -> None:
    for variable, what in _STRICTER.items():
        if not _is_on(connection, variable):
            continue
        names = [f"{new}.{name}" for one, new in recorded.values() for name in getattr(one.contents, what)]
        may = _may_relax(connection, variable)
        if names and not may:
            raise SourceDenied(
                f"the server refuses tables that the dump has, with {variable} = ON: {', '.join(names[:10])}",
                hint=f"Grant the account {_SETTERS}, so that the restore can turn it off for itself, or turn it off on "
                "the server.",
            )
        found.needs.append(Need("setting", f"{variable} = OFF", True, "turned off for the sessions of the restore"))


def _check_collations(connection: Connection, recorded: _Recorded, found: Foreseen) -> None:
    """Programs that were made under a collation that the server does not have; those of tables are checked before."""
    known = collations_of(connection)
    for attributes, new in recorded.values():
        lost: dict[tuple[str, str], str] = {}
        for collation, programs in attributes.contents.spoken.items():
            if collation not in known:
                lost |= dict.fromkeys(programs, f"it was made under the collation {collation}, which the server lacks")
        already = {(one.kind, one.name) for one in found.left_out if one.database == new}
        found.left_out += [
            LeftOut(kind, name, reason, database=new)
            for (kind, name), reason in lost.items()
            if (kind, name) not in already
        ]


def _check_expressions(connection: Connection, recorded: _Recorded, found: Foreseen) -> None:
    for attributes, new in recorded.values():
        if not attributes.contents.computed or attributes.server_version.startswith(_make(connection)):
            continue
        if attributes.expressions is None:
            tables = listed(attributes.contents.computed, "table", "tables")
            note = f"{tables} of {new}: whether the server understands their expressions is seen when they are made"
            found.needs.append(Need("syntax", "generated columns", None, note))
            found.warnings.append(f"generated columns may not be understood: {note}")
            continue
        refused = dict(not_understood(connection, attributes.recorded_expressions))
        if not connection.is_mariadb:
            reason = "its dump has values for them, which MySQL does not take"
            refused = {one.table: reason for one in attributes.recorded_expressions} | refused
        if refused:
            said = [f"{new}.{table} ({reason})" for table, reason in refused.items()]
            raise UsageError(
                f"{connection.version} does not take the generated columns of {listed(said, 'table', 'tables')}",
                hint="Leave the tables out of a dump for this server (exclude_tables), or give them other columns.",
            )
        found.needs.append(Need("syntax", "generated columns", True, f"the server understands those of {new}"))


def _check_rows(connection: Connection, recorded: _Recorded, found: Foreseen) -> None:
    ((most,),) = rows(connection, "SELECT @@GLOBAL.max_allowed_packet")
    for attributes, new in recorded.values():
        found.left_out += [
            LeftOut(
                "row of",
                table,
                "it is too large for any statement; penstock cat gives it out, with its stream",
                database=new,
            )
            for _, _, table in attributes.too_large
        ]
        longest = int(attributes.longest_row)
        if longest > int(most) - FRAME:
            raise SourceDenied(
                f"{new} has a row of {longest:,} bytes in the dump, and the server takes no statement of more than "
                f"{int(most):,}",
                hint="Raise max_allowed_packet on the server for the restore (SET GLOBAL max_allowed_packet = "
                "1073741824): binary data takes twice its size.",
            )


def _check_revokes(connection: Connection, accounts: AccountsAttributes, found: Foreseen) -> None:
    if not accounts.partly_revoked or _is_on(connection, "partial_revokes"):
        return
    reason = "the server has partial_revokes = OFF: it would give the privileges and not take away the exceptions"
    found.needs.append(Need("setting", "partial_revokes = ON", False, "grants with exceptions are left out"))
    found.left_out += [LeftOut("grants", name, reason) for name in accounts.partly_revoked]


def _make(connection: Connection) -> str:
    return "MariaDB " if connection.is_mariadb else "MySQL "


def _is_on(connection: Connection, name: str) -> bool:
    return [str(value).upper() for _, value in rows(connection, f"SHOW GLOBAL VARIABLES LIKE '{name}'")] == ["ON"]


def _may_relax(connection: Connection, name: str) -> bool:
    """Whether the account may turn a variable off for its own session, in which that does no harm."""
    try:
        execute(connection, f"SET SESSION {name} = 0")
    except err.Error as error:
        if is_lost(error):
            raise
        return False
    return True
