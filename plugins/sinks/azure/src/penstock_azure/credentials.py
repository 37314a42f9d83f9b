"""Credentials: a key, a shared access signature, a connection string, or what azure-identity finds."""

import base64
import binascii
import hashlib
import hmac
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from penstock.api import SettingsError, SinkDenied, SinkUnreachable
from penstock_azure.settings import AzureSettings

__all__ = ["Account", "account_of"]

#: The first version with all that is used here: the tier Cold.
_VERSION = "2021-12-02"
#: Headers that Shared Key signs, in its order, in addition to all that begin with x-ms-.
_SIGNED = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


class Signer(Protocol):
    """Adds the credentials to a request."""

    def sign(self, method: str, url: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """The request's URL and all its headers. Names of headers are in lower case."""


@dataclass(frozen=True, slots=True)
class Account:
    """The address of an account, and how requests to it are signed."""

    address: str
    signer: Signer

    def signed(self, method: str, url: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """The request with what every request has, and signed."""
        common = {"x-ms-version": _VERSION, "x-ms-date": formatdate(usegmt=True)}
        return self.signer.sign(method, url, common | dict(headers))


class _SharedKey:
    """https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key."""

    def __init__(self, account: str, key: str) -> None:
        self._account = account
        try:
            self._key = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            raise SinkDenied("", "account_key is not base64", hint="Copy it whole from the account.") from None

    def sign(self, method: str, url: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        parts = urlsplit(url)
        lines = [method, *("" if headers.get(name) == "0" else headers.get(name, "") for name in _SIGNED)]
        lines += [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
        lines.append(f"/{self._account}{parts.path}")
        lines += [f"{name.lower()}:{value}" for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))]
        digest = hmac.digest(self._key, "\n".join(lines).encode(), hashlib.sha256)
        signature = base64.b64encode(digest).decode()
        return url, {**headers, "authorization": f"SharedKey {self._account}:{signature}"}


class _Sas:
    def __init__(self, token: str) -> None:
        self._token = token.strip().lstrip("?")

    def sign(self, method: str, url: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        del method
        return f"{url}{'&' if '?' in url else '?'}{self._token}", dict(headers)


class _Identity:
    """Tokens of azure-identity, which keeps them until they expire."""

    def __init__(self, credential: Any) -> None:
        self._credential = credential
        self._errors = importlib.import_module("azure.core.exceptions")

    def sign(self, method: str, url: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        del method
        try:
            token = self._credential.get_token("https://storage.azure.com/.default").token
        except self._errors.ClientAuthenticationError as error:  # its words name all that was tried, line by line
            hint = "Set account_key, sas_token or connection_string, or log in: `az login`, or a managed identity."
            raise SinkDenied("", "azure-identity found no credentials that work", hint=hint) from error
        except self._errors.AzureError as error:
            raise SinkUnreachable("", "no token for the credentials: the token service does not answer") from error
        return url, {**headers, "authorization": f"Bearer {token}"}


def account_of(settings: AzureSettings) -> Account:
    """The account with the credentials of the settings.

    Raises `SettingsError`, `SecretUnavailable` and `SinkDenied`.
    """
    if settings.connection_string is not None:
        return _of_connection_string(settings, settings.connection_string.resolve().reveal())
    if settings.account_key is not None:
        key = settings.account_key.resolve().reveal()
        return Account(settings.address, _SharedKey(settings.account, key))
    if settings.sas_token is not None:
        return Account(settings.address, _Sas(settings.sas_token.resolve().reveal()))
    return Account(settings.address, _Identity(_found_by_identity(settings)))


def _of_connection_string(settings: AzureSettings, text: str) -> Account:
    # Whatever goes wrong here must not quote the text.
    told = {name.strip().lower(): value.strip() for name, _, value in (p.partition("=") for p in text.split(";"))}
    name = told.get("accountname", settings.account)
    if name != settings.account:
        raise SettingsError(f"connection_string is for the account {name}, not {settings.account}")
    address = told.get("blobendpoint", "").rstrip("/")
    if not address:
        protocol, suffix = told.get("defaultendpointsprotocol", "https"), told.get("endpointsuffix")
        address = f"{protocol}://{settings.account}.blob.{suffix or 'core.windows.net'}"
    scheme, host = _scheme_and_host(address)
    if scheme not in {"http", "https"} or not host or not {"accountkey", "sharedaccesssignature"} & told.keys():
        hint = "Copy it whole from the account: DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…"
        raise SettingsError("connection_string cannot be parsed", hint=hint)
    if key := told.get("accountkey"):
        return Account(address, _SharedKey(settings.account, key))
    if scheme == "http" and host != "127.0.0.1":
        raise SettingsError("connection_string would send its signature over http://")
    return Account(address, _Sas(told["sharedaccesssignature"]))


def _scheme_and_host(address: str) -> tuple[str, str | None]:
    try:
        parts = urlsplit(address)
        return parts.scheme, parts.hostname
    except ValueError:
        return "", None


def _found_by_identity(settings: AzureSettings) -> Any:
    if settings.address.startswith("http:"):
        raise SettingsError("tokens are not sent over http://", hint="Set account_key, or use https://.")
    try:
        identity = importlib.import_module("azure.identity")  # an optional dependency
    except ImportError:
        raise SettingsError(
            "no account_key, sas_token or connection_string is set, and azure-identity is not installed",
            hint="Set one of them, or install azure-identity (the extra `identity` of penstock-azure).",
        ) from None
    return identity.DefaultAzureCredential(
        connection_timeout=min(settings.connect_timeout, settings.deadline),
        read_timeout=min(settings.read_timeout, settings.deadline),
        retry_total=1,
    )
