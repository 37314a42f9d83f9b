"""The accounts of a server with their grants: written as SQL, one statement a line, and taken back from it."""

import re
from collections.abc import Iterable, Iterator

from pymysql import err

from penstock.api import DumpFailed, RestoreFailed, say_more
from penstock.api.servers import whole_text
from penstock_mysql.connection import Connection, code_of, execute, is_lost, rows, said_by

__all__ = ["ACCOUNTS_END", "accounts_as_sql", "accounts_readable", "restore_accounts"]

ACCOUNTS_END = b"-- Accounts completed\n"
#: The definitions of accounts are small; whatever is larger is something else (bytes).
_LARGEST = 256 << 20
#: The server makes them for itself.
_OWN = {"mysql.sys", "mysql.session", "mysql.infoschema", "mariadb.sys"}

_ACCOUNT = r"(?:'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`)(?:@(?:'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`))?"
_DEFAULT_ROLE = re.compile(rf" DEFAULT ROLE (?P<roles>{_ACCOUNT}(?:,{_ACCOUNT})*)")
_MADE = re.compile(rf"CREATE (?:USER|ROLE) IF NOT EXISTS (?P<name>{_ACCOUNT})")


def accounts_readable(connection: Connection) -> bool:
    """Whether the account that is connected may read all others."""
    try:
        rows(connection, "SELECT COUNT(*) FROM mysql.user")
    except err.Error as error:
        if is_lost(error):
            raise
        return False
    return True


def accounts_as_sql(connection: Connection) -> bytes:
    """All accounts and roles, then their grants, in the order of their names. Raises `DumpFailed`."""
    if not connection.is_mariadb and connection.version.numbers >= (8, 0, 17):
        execute(connection, "SET SESSION print_identified_with_as_hex = 1")  # a hash may be any bytes
    make: list[str] = []
    grant: list[str] = []
    for user, host, role in _accounts(connection):
        if role:
            name = _text(user)
            make.append(f"CREATE ROLE IF NOT EXISTS {name}")
        else:
            name = f"{_text(user)}@{_text(host)}"
            try:
                ((created,),) = rows(connection, f"SHOW CREATE USER {name}")
            except err.Error as error:
                if code_of(error) != 1133:
                    raise
                # A server that looks up no names (skip_name_resolve) does not know accounts of a named host.
                make.append(f"-- unknown to the server as it runs: {name}")
                continue
            statement = re.sub(r"^CREATE USER ", "CREATE USER IF NOT EXISTS ", str(created))
            if found := _DEFAULT_ROLE.search(statement):
                # A role is made and granted before it is somebody's default.
                statement = statement.replace(found[0], "", 1)
                grant.append(f"SET DEFAULT ROLE {found['roles']} TO {name}")
            make.append(statement)
        grants = [str(line[0]) for line in rows(connection, f"SHOW GRANTS FOR {name}")]
        # The grants of a role come before those who have it, and before it is somebody's default.
        grant = [*grants, *grant] if role else [*grant, *grants]
    lines = [*make, *sorted(grant, key=lambda line: line.startswith("SET DEFAULT"))]
    if broken := [line.split(" IDENTIFIED")[0] for line in lines if "\n" in line]:
        raise DumpFailed(f"the definition of an account has a line break in it: {broken[0]!r}")
    return (
        b"-- Accounts and grants\n"
        + "".join(f"{line}{'' if line.startswith('--') else ';'}\n" for line in lines).encode()
        + ACCOUNTS_END
    )


def restore_accounts(connection: Connection, blocks: Iterable[memoryview], *, keep: str) -> None:
    """Make the accounts that the server lacks, with their grants; existing ones stay as they are, as does `keep`.

    Nothing is done before the last block was read and found good. If a statement fails, the accounts that were made are
    dropped again. Raises `RestoreFailed`.
    """
    script = whole_text(blocks, "the definitions of accounts", max_bytes=_LARGEST)
    if not script.endswith(ACCOUNTS_END):
        raise RestoreFailed("the definitions of accounts do not end as they should")
    there = {(user, host) for user, host, _ in _accounts(connection)}
    lines = [line.removesuffix(";") for line in script.decode().split("\n") if line and not line.startswith("--")]
    skipped: set[str] = set()
    created: list[str] = []
    try:
        for line in lines:
            made = _MADE.match(line)
            if made:
                user, host = _parts(made["name"])
                if (user, host) in there or user == keep:
                    skipped.add(_plain(made["name"]))
                    continue
                created.append(made[0])
            elif _plain(_grantee(line)) in skipped:
                continue
            try:
                execute(connection, line)
            except err.Error as error:
                raise _failure(line, error) from None
    except BaseException as error:
        # The next restore would take them for the server's own, and leave out their grants.
        if not _dropped(connection, created):
            say_more(error, "accounts that the restore had made are left, perhaps without grants: drop them first")
        raise


def _dropped(connection: Connection, created: list[str]) -> bool:
    try:
        for statement in reversed(created):
            kind, name = statement.split(" IF NOT EXISTS ", 1)
            execute(connection, f"{kind.replace('CREATE', 'DROP', 1)} IF EXISTS {name}")
    except err.Error:
        return False
    return True


def _accounts(connection: Connection) -> Iterator[tuple[str, str, bool]]:
    role = "is_role = 'Y'" if connection.is_mariadb else "FALSE"
    found = rows(connection, f"SELECT User, Host, {role} FROM mysql.user")  # noqa: S608
    for user, host, is_role in sorted(found):
        if user not in _OWN and not (connection.is_mariadb and user == "PUBLIC"):
            yield user, host, bool(is_role)


def _text(value: str) -> str:
    return "'{}'".format(value.replace("\\", "\\\\").replace("'", "''"))


def _grantee(line: str) -> str:
    """Whom a statement of SHOW GRANTS is about: what stands last after TO, but for options."""
    found = re.findall(rf" (?:TO|FROM|FOR) ({_ACCOUNT})(?= |$)", line)
    return found[-1] if found else ""


def _plain(account: str) -> str:
    user, host = _parts(account)
    return f"{user}@{host}"


def _parts(account: str) -> tuple[str, str]:
    names = [
        part[1:-1].replace(part[0] * 2, part[0]).replace("\\\\", "\\")
        for part in re.findall(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`", account)
    ]
    return (names[0] if names else "", names[1] if len(names) > 1 else "")


def _failure(line: str, error: err.Error) -> RestoreFailed:
    # Never the statement as a whole: it holds a hash of a password.
    made = _MADE.match(line)
    what = made[0] if made else re.sub(r" IDENTIFIED .*", "", line)
    hint = "Restore as an administrator, or with accounts=no."
    if code_of(error) in (1049, 1146, 1305):
        hint = "Restore the databases first, or leave accounts out with accounts=no: a grant is on something missing."
    said = re.sub(r" near '.*", "", said_by(error), flags=re.DOTALL)  # what follows quotes the statement
    return RestoreFailed(f"{what}: {said}", hint=hint)
