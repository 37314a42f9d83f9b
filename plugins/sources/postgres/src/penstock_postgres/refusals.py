"""What libpq says when it cannot connect, and what stands in the way before it tries."""

import os
import re

import psycopg

from penstock.api import Secret, SourceDenied, SourceError, SourceUnreachable
from penstock.api.servers import TLS_HINT, Advice
from penstock_postgres.settings import PostgresSettings

__all__ = ["MissingDatabase", "check_files", "refusal"]

_DENIED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects|permission denied|"
    r'role ".*" does not exist|is not permitted to log in|requires a valid client certificate'
)
_BUSY = re.compile(
    r"too many (clients|connections)|remaining connection slots|starting up|shutting down|in recovery mode"
)
#: What is wrong with TLS, or with the files that the settings name, and what to do about it.
_NOT_AS_SET = Advice(
    {
        "certificate verify failed|root certificate file .* does not exist": TLS_HINT,
        "does not match host name": "Connect by a name that the certificate has, or check only who signed it: "
        "tls = verify-ca.",
        "alert unknown ca|alert certificate": "Set tls_cert to a certificate that the server accepts.",
        "does not support SSL": f"Switch TLS on in the server. {TLS_HINT}",
        "private key file": "Set tls_key to the key of the certificate in tls_cert, readable only by its owner.",
        "root certificate|client certificate|certificate": "Check the files that tls_ca, tls_cert and tls_key name.",
        "SSL error|SSL SYSCALL": "Check the setting tls, and what the server offers.",
        "definition of service|service file": "Set service to a section of PGSERVICEFILE, ~/.pg_service.conf "
        "or the system's pg_service.conf.",
    }
)
_NO_DATABASE = re.compile(r'database ".*" does not exist', re.DOTALL)


class MissingDatabase(SourceError):
    """The server answered, and has no database of the name `database`."""

    database = ""


def check_files(settings: PostgresSettings) -> None:
    """Raises `SourceError` for what libpq would pass over in silence, or with a line that nobody reads."""
    for name, path in (("tls_crl", settings.tls_crl), ("passfile", settings.passfile)):
        if path is not None and not os.access(path, os.R_OK):
            raise SourceError(f"{name} names {path}, which cannot be read")
    if settings.passfile is not None and settings.passfile.stat().st_mode & 0o077:
        raise SourceError(
            f"passfile names {settings.passfile}, which others may read: libpq ignores it",
            hint=f"Run chmod 600 {settings.passfile}.",
        )


def refusal(error: psycopg.Error, settings: PostgresSettings, location: str, password: Secret | None) -> SourceError:
    """What libpq said when it could not connect to `location`, without the password, as an error of ours."""
    text = str(error)
    if password:
        text = text.replace(password.reveal(), "***")
    lines = [line.strip(" \t-") for line in text.splitlines() if line.strip()] or [type(error).__name__]
    # libpq: `connection to server at "db" (10.1.2.3), port 5432 failed: FATAL:  …`; the driver puts more before it.
    told = next((line for line in lines if "failed: " in line.removeprefix("connection failed: ")), lines[0])
    reason = re.sub(r"^.*?failed: (?=\S)", "", told.removeprefix("connection failed: "))
    reason = re.sub(r"^(FATAL|ERROR):\s*", "", reason)
    where = f"cannot connect to {location}"
    others = tuple(line for line in lines if line is not told)
    connection = error.pgconn
    asked = bool(connection and (connection.needs_password or connection.used_password))
    if _NO_DATABASE.search(text):
        missing = MissingDatabase(f"{where}: {reason}", hint="Name the database in the settings or in the URL.")
        missing.database = connection.db.decode() if connection else settings.database or ""
        return missing
    if _BUSY.search(text):
        return SourceUnreachable(f"{where}: {reason}", details=others)
    # By what was tried first: with sslmode = prefer, libpq goes on without TLS, and is told something else.
    if (hint := _NOT_AS_SET.find(reason)) and not _DENIED.search(reason):
        return SourceError(f"{where}: {reason.removeprefix('connection is bad: ')}", hint=hint, details=others)
    # In a server that speaks another language than English, that a password was asked for says enough.
    if _DENIED.search(text) or (asked and "FATAL" in text):
        hint = _password_hint(reason, asked and password is None)
        return SourceDenied(f"{where}: {reason}", hint=hint, details=others)
    if "FATAL" in text:
        return SourceError(f"{where}: {reason}", details=others)
    hint = "Check that the server runs there, and that no firewall is in between."
    return SourceUnreachable(f"{where}: {reason}", hint=hint, details=others)


def _password_hint(reason: str, without: bool) -> str | None:
    if "pg_hba.conf" in reason:
        return "Check the server's pg_hba.conf: who may connect from where, and with which encryption."
    if "requires a valid client certificate" in reason:
        return "Name one that the server accepts with tls_cert and tls_key."
    if without or "no password supplied" in reason:
        return 'Give a password with PGPASSWORD, with a password file, or in the settings: password = { env = "NAME" }.'
    return None
