"""The accounts of a server with their grants: written as SQL, one statement a line, and taken back from it."""

import re
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from functools import partial

from pymysql import err

from penstock.api import DumpFailed, LeftOut, RestoreFailed
from penstock.api.servers import whole_text
from penstock_mysql.attempts import Attempt, said_of
from penstock_mysql.connection import Connection, code_of, execute, is_lost, quoted, rows

__all__ = ["ACCOUNTS_END", "AccountScript", "accounts_as_sql", "accounts_readable", "partly_revoked"]

ACCOUNTS_END = b"-- Accounts completed\n"
#: The definitions of accounts are small; whatever is larger is something else (bytes).
_LARGEST = 256 << 20
#: The server makes them for itself.
_OWN = {"mysql.sys", "mysql.session", "mysql.infoschema", "mariadb.sys"}

_ACCOUNT = r"(?:'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`)(?:@(?:'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`))?"
_DEFAULT_ROLE = re.compile(rf" DEFAULT ROLE (?P<roles>{_ACCOUNT}(?:,{_ACCOUNT})*)")
#: Of MariaDB 10.11 and later: whoever connects has what is granted to it. Nothing makes it, and nothing quotes it.
_PUBLIC = "PUBLIC"
_MADE = re.compile(rf"CREATE (?:USER|ROLE) IF NOT EXISTS (?P<name>{_ACCOUNT})")

_SERVER = re.compile(r"CREATE SERVER `((?:[^`]|``)*)` ")
_HASH = r"'(?:[^'\\]|\\.|'')*'"
_IDENTIFIED = re.compile(
    rf" IDENTIFIED (?:BY PASSWORD {_HASH}|VIA \w+(?: USING {_HASH})?(?: OR \w+(?: USING {_HASH})?)*)"
)


def accounts_readable(connection: Connection) -> bool:
    """Whether the account that is connected may read all others."""
    try:
        rows(connection, "SELECT COUNT(*) FROM mysql.user")
    except err.Error as error:
        if is_lost(error):
            raise
        return False
    return True


def partly_revoked(connection: Connection) -> list[str]:
    """Accounts from whose privileges on the whole server single databases are taken away again (MySQL)."""
    if connection.is_mariadb or connection.version.numbers < (8, 0, 16):
        return []
    query = (
        "SELECT User, Host FROM mysql.user WHERE JSON_CONTAINS_PATH(User_attributes, 'one', '$.Restrictions') "
        "ORDER BY User, Host"
    )
    return [f"{_text(user)}@{_text(host)}" for user, host in rows(connection, query)]


def accounts_as_sql(connection: Connection) -> bytes:
    """All accounts and roles, then servers, then grants, in the order of their names. Raises `DumpFailed`."""
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
        # MariaDB repeats the password in a grant, which would make one that has expired valid again.
        grants = [_IDENTIFIED.sub("", str(line[0])) for line in rows(connection, f"SHOW GRANTS FOR {name}")]
        # The grants of a role come before those who have it, and before it is somebody's default.
        grant = [*grants, *grant] if role else [*grant, *grants]
    grant += _grants_to_public(connection)
    lines = [*make, *_servers(connection), *sorted(grant, key=lambda line: line.startswith("SET DEFAULT"))]
    if broken := [re.split(" IDENTIFIED| OPTIONS", line)[0] for line in lines if "\n" in line]:
        raise DumpFailed(f"the definition of an account has a line break in it: {broken[0]!r}")
    return (
        b"-- Accounts and grants\n"
        + "".join(f"{line}{'' if line.startswith('--') else ';'}\n" for line in lines).encode()
        + ACCOUNTS_END
    )


def _knows_public(connection: Connection) -> bool:
    """Whether PUBLIC is everybody, and no account that somebody gave this name."""
    return connection.is_mariadb and connection.version.numbers >= (10, 11)


def _grants_to_public(connection: Connection) -> list[str]:
    query = "SELECT 1 FROM mysql.user WHERE User = 'PUBLIC' AND Host = ''"
    if not _knows_public(connection) or not rows(connection, query):
        return []
    lines = [str(line) for (line,) in rows(connection, f"SHOW GRANTS FOR {_PUBLIC}")]
    return [line for line in lines if _grantee(line) == _PUBLIC]  # it shows those of its roles too


def _servers(connection: Connection) -> Iterator[str]:
    """What makes the servers of CREATE SERVER, which are in no dump of a database; their passwords are in it."""
    query = (
        "SELECT Server_name, Wrapper, Host, Db, Username, Password, Socket, Owner, Port FROM mysql.servers ORDER BY 1"
    )
    words = ("HOST", "DATABASE", "USER", "PASSWORD", "SOCKET", "OWNER")
    for name, wrapper, *texts, port in rows(connection, query):
        options = [f"{word} {connection.driver.escape(text)}" for word, text in zip(words, texts, strict=True) if text]
        options += [f"PORT {int(port)}"] if port else []
        yield f"CREATE SERVER {quoted(name)} FOREIGN DATA WRAPPER {quoted(wrapper)} OPTIONS ({', '.join(options)})"


class AccountScript:
    """The accounts of a dump on their way into a server: made first, granted when everything else is there.

    Those that the server has stay as they are, with their grants. Raises `RestoreFailed` for half a script.
    """

    def __init__(self, blocks: Iterable[memoryview]) -> None:
        script = whole_text(blocks, "the definitions of accounts", max_bytes=_LARGEST)
        if not script.endswith(ACCOUNTS_END):
            raise RestoreFailed("the definitions of accounts do not end as they should")
        lines = [line.removesuffix(";") for line in script.decode().split("\n") if line and not line.startswith("--")]
        self._makes = [line for line in lines if _MADE.match(line)]
        self._grants = [line for line in lines if not _MADE.match(line)]
        self._created: list[str] = []
        self._servers: list[str] = []
        self._public = False
        #: Accounts that the server had before, as statements name them.
        self.kept: list[str] = []

    def make(self, connection: Connection) -> list[LeftOut]:
        """Make the accounts that the server lacks; gives those that it does not take."""
        there = {(user, host) for user, host, _ in _accounts(connection)}
        found = []
        if any(_grantee(line) == _PUBLIC for line in self._grants) and _grants_to_public(connection):
            self.kept.append(_PUBLIC)
        for line in self._makes:
            made = _MADE.match(line)
            name = made["name"] if made else ""
            if _parts(name) in there:
                self.kept.append(name)
                continue
            try:
                self._created.append(made[0] if made else "")
                execute(connection, line)
            except err.Error as error:
                if is_lost(error):
                    raise
                self._created.pop()
                found.append(LeftOut("account", name, said_of(error, secret=True), f"{line};", secret=True))
        return found

    def grants(self, connection: Connection, known: Container[tuple[str, str]] = ()) -> list[Attempt]:
        """The grants of the accounts that were made; not of those in `known`, by kind and name."""
        kept = {_plain(name) for name in self.kept}
        there: set[str] = set()
        if any(_SERVER.match(line) for line in self._grants):
            with suppress(err.OperationalError):  # the account may not ask: the server refuses those that it has
                there = {name for (name,) in rows(connection, "SELECT Server_name FROM mysql.servers")}
        attempts = []
        for line in self._grants:
            if server := _SERVER.match(line):
                if (name := server[1].replace("``", "`")) not in there:
                    one = LeftOut("server", name, "", f"{line};", secret=True)
                    attempts.append(Attempt(one, partial(self._make_server, connection, name, line)))
                continue
            grantee = _grantee(line)
            user, host = _parts(grantee)
            if _plain(grantee) in kept or ("grants", f"{_text(user)}@{_text(host)}") in known:
                continue
            one = LeftOut("grant", grantee, "", f"{line};", secret=" IDENTIFIED " in line or " USING " in line)
            run = self._grant_to_public if grantee == _PUBLIC else execute
            attempts.append(Attempt(one, partial(run, connection, line)))
        return attempts

    def _grant_to_public(self, connection: Connection, line: str) -> None:
        execute(connection, line)
        self._public = True

    def _make_server(self, connection: Connection, name: str, line: str) -> None:
        execute(connection, line)
        self._servers.append(name)

    def undo(self, connection: Connection) -> str:
        """Drop the accounts that were made again; says what is left."""
        created, self._created = self._created, []
        try:
            for server in self._servers:
                execute(connection, f"DROP SERVER IF EXISTS {quoted(server)}")
            if self._public:  # to which nothing was granted before
                execute(connection, f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {_PUBLIC}")
            for statement in reversed(created):
                kind, name = statement.split(" IF NOT EXISTS ", 1)
                execute(connection, f"{kind.replace('CREATE', 'DROP', 1)} IF EXISTS {name}")
        except err.Error:
            # The next restore would take them for the server's own, and leave out their grants.
            return "accounts that the restore had made are left, perhaps without grants: drop them first"
        return ""

    def keep(self) -> None:
        """Nothing is undone from now on."""
        self._created.clear()
        self._servers.clear()
        self._public = False


def _accounts(connection: Connection) -> Iterator[tuple[str, str, bool]]:
    role = "is_role = 'Y'" if connection.is_mariadb else "FALSE"
    found = rows(connection, f"SELECT User, Host, {role} FROM mysql.user")  # noqa: S608
    for user, host, is_role in sorted(found):
        if user not in _OWN and not (user == _PUBLIC and not host and _knows_public(connection)):
            yield user, host, bool(is_role)


def _text(value: str) -> str:
    return "'{}'".format(value.replace("\\", "\\\\").replace("'", "''"))


def _grantee(line: str) -> str:
    """Whom a statement of SHOW GRANTS is about: what stands last after TO, but for options."""
    found = re.findall(rf" (?:TO|FROM|FOR) ({_ACCOUNT}|{_PUBLIC})(?= |$)", line)
    return found[-1] if found else ""


def _plain(account: str) -> str:
    user, host = _parts(account)
    return f"{user}@{host}"


def _parts(account: str) -> tuple[str, str]:
    if account == _PUBLIC:
        return _PUBLIC, ""
    names = [
        part[1:-1].replace(part[0] * 2, part[0]).replace("\\\\", "\\")
        for part in re.findall(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`", account)
    ]
    return (names[0] if names else "", names[1] if len(names) > 1 else "")
