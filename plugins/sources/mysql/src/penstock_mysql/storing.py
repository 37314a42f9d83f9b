"""Where the tables of a restore are stored: a server is tried with what they name, and what it refuses is taken out."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from pymysql import err

from penstock.api import Need, RestoreFailed, SourceDenied
from penstock.api.servers import listed
from penstock_mysql.attributes import DatabaseAttributes
from penstock_mysql.connection import Connection, code_of, execute, is_lost, quoted, rows, said_by
from penstock_mysql.options import RestoreOptions
from penstock_mysql.privileges import Privileges
from penstock_mysql.tablespaces import Place, RecordedSpace

__all__ = ["Storing", "check_storing"]

_PROBE = "penstock~probe"
_MISSING_TABLESPACE = 3510

#: MariaDB would not find the table again when it is started the next time.
_STAYS = "MariaDB leaves the files behind when the table moves to its place: restore with beside=no"

Wish = Literal["auto", "yes", "no"]


def check_storing(
    connection: Connection,
    allowed: Privileges,
    recorded: Sequence[DatabaseAttributes],
    options: RestoreOptions,
    *,
    beside: Collection[str],
) -> Iterator[Need]:
    """What tables need of the server, where those of the databases `beside` are loaded beside old ones.

    With `tablespaces=yes` it raises `SourceDenied` for what the server lacks.
    """
    if options.tablespaces == "no":
        return
    named: dict[tuple[str, str, str, bool], list[str]] = {}
    for attributes in recorded:
        for place in attributes.recorded_places:
            stays = _left_behind(connection, place, beside=attributes.database in beside)
            key = (place.kind, place.value, place.engine if place.kind == "folder" else "InnoDB", stays)
            named.setdefault(key, []).append(f"{attributes.database}.{place.table}")
    spaces = _spaces_of(connection) if any(kind == "tablespace" for kind, *_ in named) else None
    folders = _folders_of(connection)
    for (kind, value, engine, stays), tables in sorted(named.items()):
        met: bool | None
        if kind == "tablespace":
            met, note = _tablespace(connection, allowed, value, spaces)
        elif stays:
            met, note = False, _STAYS
        else:
            met = None if engine != "InnoDB" or _is_in(value, folders) else False
            note = "the server knows no such folder (innodb_directories)" if met is False else "it is tried"
        if met is False and options.tablespaces == "yes":
            raise SourceDenied(
                f"the server does not take {_tables(tables)} in the {kind} {value}: {note}",
                hint="Make it on the server, or restore with tablespaces=auto.",
            )
        if met is False:
            note += f"; {_tables(tables)} stored as the server does by default"
        yield Need(kind, value, met, note)


def _tablespace(
    connection: Connection, allowed: Privileges, name: str, spaces: Collection[str] | None
) -> tuple[bool | None, str]:
    if connection.is_mariadb:
        return True, "MariaDB has none, and passes over the name"
    if spaces is not None and name in spaces:
        return True, ""
    if allowed.anywhere("CREATE TABLESPACE"):
        return True, "it is made in the server's data folder"
    note = "the account lacks CREATE TABLESPACE"
    return (None, "it is tried: the account may not see whether it is there") if spaces is None else (False, note)


def _spaces_of(connection: Connection) -> set[str] | None:
    """The tablespaces of the server, or None where the account may not ask."""
    if connection.is_mariadb:
        return None
    try:
        return {str(name) for (name,) in rows(connection, "SELECT TABLESPACE_NAME FROM information_schema.FILES")}
    except err.Error as error:
        if is_lost(error):
            raise
        return None


def _folders_of(connection: Connection) -> list[str] | None:
    """The folders that the server's InnoDB uses, or None where it would take any."""
    names = ("innodb_directories", "innodb_data_home_dir", "innodb_undo_directory", "datadir")
    found = {
        name: str(value) for name, value in rows(connection, "SHOW GLOBAL VARIABLES WHERE Variable_name IN %s", [names])
    }
    if "innodb_directories" not in found:
        return None
    return [folder for value in found.values() for folder in value.split(";") if folder.startswith("/")]


def _is_in(folder: str, folders: Collection[str] | None) -> bool:
    return folders is None or any(f"{folder.rstrip('/')}/".startswith(f"{one.rstrip('/')}/") for one in folders)


class Storing:
    """Prepares one server for the tables of several databases. With `yes` it must take what they name."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        #: Tablespaces that were made.
        self.made: list[str] = []
        #: What was taken out though nobody had asked for that, and why.
        self.warnings: list[str] = []

    def refused(
        self, connection: Connection, work: str, recorded: DatabaseAttributes, *, beside: bool
    ) -> frozenset[Place]:
        """The scopes of those places that tables made in the database `work` must do without; makes tablespaces.

        Raises `RestoreFailed`.
        """
        reasons: dict[Place, str] = {}
        spaces = {space.name: space for space in recorded.recorded_spaces}
        for scope in dict.fromkeys(place.scope for place in recorded.recorded_places):
            if self._wish == "no":
                reasons[scope] = ""
                continue
            if _left_behind(connection, scope, beside=beside):
                reasons[scope] = _STAYS
                continue
            try:
                self._try(connection, work, scope, spaces)
            except err.Error as error:
                if is_lost(error):
                    raise
                reasons[scope] = said_by(error)
        if self._wish == "no" or not reasons:
            return frozenset(reasons)
        said = list(_said(recorded, reasons))
        if self._wish == "yes":
            raise RestoreFailed(
                f"the server does not take {said[0]}",
                hint="Make what is missing on the server, or restore with tablespaces=auto: they are then stored as "
                "the server does by default.",
                details=tuple(said[1:]),
            )
        self.warnings += [f"stored as the server does by default, not in {one}" for one in said]
        return frozenset(reasons)

    def undo(self, connection: Connection) -> Iterator[str]:
        """Drop the tablespaces that were made again; says what is left."""
        made, self.made = self.made, []
        for name in made:
            try:
                execute(connection, f"DROP TABLESPACE {quoted(name)}")
            except err.Error as error:
                yield f"the tablespace {name}, which the restore had made, could not be dropped again: {said_by(error)}"

    def _try(self, connection: Connection, work: str, scope: Place, spaces: Mapping[str, RecordedSpace]) -> None:
        if scope.kind == "folder":
            folder = connection.driver.escape(scope.value)
            if scope.engine in ("", "InnoDB"):
                _probe(connection, work, _PROBE, f"ENGINE=InnoDB DATA DIRECTORY={folder}")
            else:  # files of other engines are in the folder itself, and those of another database may be there
                options = f"ENGINE={scope.engine} DATA DIRECTORY={folder} INDEX DIRECTORY={folder}"
                _probe(connection, work, scope.table, options)
            return
        space = spaces.get(scope.value) or RecordedSpace(scope.value)
        options = f"ENGINE=InnoDB TABLESPACE {quoted(space.name)}"
        if space.block_size:
            options += f" ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE={space.block_size // 1024}"
        if space.encrypted:
            options += " ENCRYPTION='Y'"
        try:
            _probe(connection, work, _PROBE, options)
        except err.Error as error:
            if code_of(error) != _MISSING_TABLESPACE:
                raise
            execute(connection, space.statement(connection.driver.escape(space.file_name)))
            self.made.append(space.name)
            _probe(connection, work, _PROBE, options)


def _left_behind(connection: Connection, place: Place, *, beside: bool) -> bool:
    return beside and connection.is_mariadb and place.kind == "folder" and place.engine in ("", "InnoDB")


def _probe(connection: Connection, database: str, table: str, options: str) -> None:
    execute(connection, f"CREATE TABLE {quoted(database, table)} (i INT PRIMARY KEY) {options}")
    execute(connection, f"DROP TABLE {quoted(database, table)}")


def _said(recorded: DatabaseAttributes, reasons: Mapping[Place, str]) -> Iterator[str]:
    places: dict[tuple[str, str, str], list[str]] = {}
    for place in recorded.recorded_places:
        if (reason := reasons.get(place.scope)) is not None:
            places.setdefault((place.kind, place.value, reason), []).append(f"{recorded.database}.{place.table}")
    for (kind, value, reason), tables in places.items():
        yield f"the {kind} {value}: {_tables(tables)} ({reason})"


def _tables(names: Iterable[str]) -> str:
    return listed(list(dict.fromkeys(names)), "table", "tables")
