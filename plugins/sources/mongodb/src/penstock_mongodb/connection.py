"""Connections to a deployment: how they are made, what their errors mean, and how the tools get the same ones."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pymongo
from pymongo import errors
from pymongo.server_description import ServerDescription

from penstock.api import Secret, SecretRef, SourceDenied, SourceError, SourceUnreachable
from penstock.api.servers import TLS_HINT, leaves_machine, piped
from penstock_mongodb.settings import MongoSettings
from penstock_mongodb.speech import spoken

__all__ = ["Connection", "connect", "tool_configuration", "translated"]

Connection = pymongo.MongoClient[dict[str, Any]]

#: An answer of the server takes no longer, but for exact counts (seconds).
_ANSWER_SECONDS = 120.0
#: Enough for the threads that make indexes.
_CONNECTIONS = 6
_DENIED = {13, 18, 31, 8000}  # Unauthorized, AuthenticationFailed, RoleNotFound, Atlas' own
_CERTIFICATE = re.compile(r"certificate|SSL|TLS", re.IGNORECASE)


@contextmanager
def connect(settings: MongoSettings, *, read: bool = False, patient: bool = False) -> Iterator[Connection]:
    """A connection for the length of the block; to a server of the read preference with `read`, else to the primary.

    With `patient` it waits for an answer as long as that takes: an index may take hours.

    Raises `SourceUnreachable`, `SourceDenied`, or `SourceError` for any other refusal.
    """
    password = _resolved(settings.password)
    key_password = _resolved(settings.tls_key_password)
    options: dict[str, Any] = {
        "username": settings.user,
        "password": password.reveal() if password else None,
        "authSource": _auth_source(settings),
        "authMechanism": settings.auth_mechanism,
        "replicaSet": settings.replica_set,
        "directConnection": settings.direct or None,
        "tls": _tls(settings),
        "tlsCAFile": str(settings.tls_ca) if settings.tls_ca else None,
        "tlsCertificateKeyFile": str(settings.tls_cert) if settings.tls_cert else None,
        "tlsCertificateKeyFilePassword": key_password.reveal() if key_password else None,
        "tlsInsecure": settings.tls == "require" or None,
        "readPreference": settings.read_preference if read else None,
        "server_selector": _only_here if settings.tls == "auto" and _tls(settings) is None else None,
    }
    milliseconds = max(1, round(settings.connect_timeout * 1000))
    patient = patient or settings.row_counts == "exact"
    connection: Connection | None = None
    try:
        with translated(f"cannot connect to {settings.location}", settings, password):
            try:
                connection = pymongo.MongoClient(
                    f"mongodb+srv://{settings.hosts[0]}/" if settings.srv else list(settings.hosts),
                    **{name: value for name, value in options.items() if value is not None},
                    serverSelectionTimeoutMS=milliseconds,
                    connectTimeoutMS=milliseconds,
                    socketTimeoutMS=None if patient else round(_ANSWER_SECONDS * 1000),
                    maxPoolSize=_CONNECTIONS,
                    appname="penstock",
                )
            except (OSError, ValueError) as error:  # a file of TLS that is missing or broken
                raise SourceError(f"cannot connect to {settings.location}: {error}") from error
            connection.admin.command("ping", read_preference=connection.read_preference)
        yield connection
    finally:
        if connection is not None:
            connection.close()


@contextmanager
def translated(doing: str, settings: MongoSettings, *hidden: Secret | None) -> Iterator[None]:
    """Turns the driver's errors within the block into ours: `doing` says what failed."""
    try:
        yield
    except errors.PyMongoError as error:
        raise _refusal(doing, error, settings, [secret for secret in hidden if secret]) from None


@contextmanager
def tool_configuration(settings: MongoSettings, *, read: bool) -> Iterator[tuple[list[str], int, tuple[Secret, ...]]]:
    """What makes a tool connect as `connect` does: arguments, a file descriptor for them, and the secrets within.

    The tool reads it from a pipe that only it has inherited: nothing is written to a disk, and nothing is left
    behind. The pipe is open for the length of the block, in which the tool is started.
    """
    secrets = tuple(secret for secret in (_resolved(settings.password),) if secret)
    entries = {"uri": _connection_string(settings, read=read)}
    if secrets:
        entries["password"] = secrets[0].reveal()
    if key_password := _resolved(settings.tls_key_password):
        entries["sslPEMKeyPassword"] = key_password.reveal()
        secrets = (*secrets, key_password)
    # A text of JSON is one of YAML, too.
    text = "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in entries.items())
    # A server that is lost half way would be waited for without end. Not in the connection string, where the tools
    # take the milliseconds for seconds.
    seconds = max(1, math.ceil(settings.connect_timeout))
    arguments = [f"--serverSelectionTimeout={seconds}", f"--dialTimeout={seconds}"]
    with piped(text) as descriptor:
        yield [f"--config=/dev/fd/{descriptor}", *arguments], descriptor, secrets


def _connection_string(settings: MongoSettings, *, read: bool) -> str:
    options: dict[str, str | None] = {
        "authSource": _auth_source(settings),
        "authMechanism": settings.auth_mechanism,
        "replicaSet": settings.replica_set,
        "directConnection": "true" if settings.direct else None,
        "tls": {True: "true", False: "false"}.get(_tls(settings)),  # type: ignore[arg-type]
        "tlsCAFile": str(settings.tls_ca) if settings.tls_ca else None,
        "tlsCertificateKeyFile": str(settings.tls_cert) if settings.tls_cert else None,
        "tlsInsecure": "true" if settings.tls == "require" else None,
        "readPreference": settings.read_preference if read and settings.read_preference != "primary" else None,
    }
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items() if value is not None)
    user = f"{quote(settings.user, safe='')}@" if settings.user else ""
    return f"mongodb{'+srv' if settings.srv else ''}://{user}{','.join(settings.hosts)}/?{query}"


def _auth_source(settings: MongoSettings) -> str | None:
    if settings.auth_source:
        return settings.auth_source
    external = settings.auth_mechanism in ("MONGODB-X509", "MONGODB-AWS", "GSSAPI", "PLAIN")
    return None if not settings.user or settings.srv else "$external" if external else "admin"


def _tls(settings: MongoSettings) -> bool | None:
    word = settings.effective_tls
    return None if word is None else word != "disable"


def _only_here(servers: list[ServerDescription]) -> list[ServerDescription]:
    """The members of a replica set are where it says that they are, whatever the settings name."""
    if far := sorted(f"{host}:{port}" for host, port in (one.address for one in servers) if leaves_machine([host])):
        raise SourceError(
            f"the replica set has members over a network, and is asked without TLS: {', '.join(far)}",
            hint=f"Set direct = true to speak to the one host alone. {TLS_HINT}",
        )
    return servers


def _resolved(reference: SecretRef | None) -> Secret | None:
    return reference.resolve() if reference else None


def _refusal(doing: str, error: errors.PyMongoError, settings: MongoSettings, hidden: Sequence[Secret]) -> SourceError:
    text = str(error)
    for secret in hidden:
        text = text.replace(secret.reveal(), "***")
    # The driver adds the whole answer, or what it knows of each server, to what it says.
    reason = re.split(r", full error: |, Timeout: |, Topology Description: | \(configured timeouts: ", text)[0].strip()
    reason = spoken(reason)
    if isinstance(error, errors.OperationFailure):
        if error.code in _DENIED or "auth" in reason.lower():
            return SourceDenied(f"{doing}: {reason}", hint=_denied_hint(error.code, settings))
        return SourceError(f"{doing}: {reason}")
    if isinstance(error, errors.ConfigurationError):
        return SourceError(f"{doing}: {reason}", hint="Check the settings.")
    if "certificate" in text or (_CERTIFICATE.search(text) and "handshake" in text):
        return SourceError(f"{doing}: {reason}", hint=TLS_HINT)
    return SourceUnreachable(
        f"{doing}: {reason}",
        hint="Check that the server runs there, that no firewall is in between, and whether it wants TLS. The members "
        "of a replica set are looked for by the names that it gives them: set direct = true to speak to one alone.",
    )


def _denied_hint(code: int | None, settings: MongoSettings) -> str | None:
    if code == 13:
        return "Grant the role backup for a dump, the role restore for a restore, both in the database admin."
    if settings.user and settings.password is None:
        return 'Give a password in the settings: password = { env = "NAME" }.'
    if settings.user:
        return f"Check auth_source: the user is looked for in the database {_auth_source(settings) or 'admin'}."
    return None
