"""What an account may do, from what the server says that it was granted."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from penstock_mysql.connection import Connection, rows

__all__ = ["Privileges", "granted"]

_NAME = r"\*|`(?:[^`]|``)*`"
_GRANT = re.compile(
    rf"(?P<verb>GRANT|REVOKE) (?P<what>.+?) ON (?P<database>{_NAME})\.(?P<object>{_NAME}) (?:TO|FROM) ", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class _Grant:
    given: bool
    privileges: frozenset[str]
    #: As it was granted, with the wildcards of LIKE; None for all databases.
    database: str | None
    #: None for all of the database.
    table: str | None


class Privileges:
    """The privileges of one account, its active roles among them."""

    def __init__(self, statements: list[str]) -> None:
        self._grants = list(_parsed(statements))

    def anywhere(self, *privileges: str) -> bool:
        """Whether it has any of these on the whole server."""
        return any(self._has(None, privilege) for privilege in privileges)

    def missing(self, database: str, *privileges: str) -> list[str]:
        """Those of `privileges` that it does not have on all of `database`."""
        return [privilege for privilege in privileges if not self._has(database, privilege)]

    def on_table(self, database: str, table: str, privilege: str) -> bool:
        """Whether it has the privilege on one table, granted there or above."""
        return self._has(database, privilege) or any(
            grant.given and grant.database == database and grant.table == table and _covers(grant, privilege)
            for grant in self._grants
        )

    def _has(self, database: str | None, privilege: str) -> bool:
        has = False
        for grant in self._grants:
            if grant.table is not None or not _covers(grant, privilege):
                continue
            if grant.database is None or (database is not None and _matches(grant.database, database)):
                has = has or grant.given
        # Of a privilege on the whole server, MySQL can take single databases away again.
        return has and not any(
            not grant.given and _covers(grant, privilege) and grant.database == database for grant in self._grants
        )


def granted(connection: Connection) -> Privileges:
    """The privileges of the account that is connected."""
    query = "SHOW GRANTS"
    if not connection.is_mariadb and connection.version.numbers >= (8, 0):
        ((roles,),) = rows(connection, "SELECT CURRENT_ROLE()")
        if roles and roles != "NONE":
            query = f"SHOW GRANTS FOR CURRENT_USER() USING {roles}"
    return Privileges([str(row[0]) for row in rows(connection, query)])


def _parsed(statements: list[str]) -> Iterator[_Grant]:
    for statement in statements:
        if found := _GRANT.match(statement):
            # What stands in parentheses are columns: no privilege on the whole table.
            words = [word.strip().upper() for word in re.sub(r"[^,]*\([^)]*\)", "", found["what"]).split(",")]
            database, table = (
                None if name == "*" else name[1:-1].replace("``", "`") for name in found.group("database", "object")
            )
            yield _Grant(found["verb"] == "GRANT", frozenset(words), database, table)


def _covers(grant: _Grant, privilege: str) -> bool:
    return privilege in grant.privileges or "ALL PRIVILEGES" in grant.privileges or "ALL" in grant.privileges


def _matches(pattern: str, name: str) -> bool:
    expression = "".join(
        {"%": ".*", "_": "."}.get(part, re.escape(part.removeprefix("\\") or part))
        for part in re.findall(r"\\.|.", pattern, re.DOTALL)
    )
    return pattern == name or re.fullmatch(expression, name, re.DOTALL | re.IGNORECASE) is not None
