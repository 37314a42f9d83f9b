"""Credentials: a key, a shared access signature, a connection string, or what azure-identity finds."""

import importlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.storage.blob import BlobServiceClient

from penstock.api import Secret, SettingsError
from penstock_azure.settings import AzureSettings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

__all__ = ["client_of", "secret_of"]


def secret_of(settings: AzureSettings) -> Secret | None:
    """The secret of the settings as it is kept now; None where azure-identity finds credentials, and renews them."""
    reference = settings.connection_string or settings.account_key or settings.sas_token
    return None if reference is None else reference.resolve()


def client_of(settings: AzureSettings, secret: Secret | None, **options: Any) -> BlobServiceClient:
    """A client with the `secret_of` the settings. Raises `SettingsError`."""
    if settings.connection_string is not None and secret is not None:
        return _of_connection_string(settings, secret.reveal(), options)
    credential: AzureNamedKeyCredential | AzureSasCredential | TokenCredential
    if settings.account_key is not None and secret is not None:
        credential = AzureNamedKeyCredential(settings.account, secret.reveal())
    elif settings.sas_token is not None and secret is not None:
        credential = AzureSasCredential(secret.reveal().strip().lstrip("?"))
    else:
        credential = _found_by_identity(settings)
    return BlobServiceClient(settings.address, credential=credential, **options)


def _of_connection_string(settings: AzureSettings, text: str, options: dict[str, Any]) -> BlobServiceClient:
    # Whatever goes wrong here must not quote the text.
    hint = "Copy it whole from the account: DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…"
    try:
        client = BlobServiceClient.from_connection_string(text.strip(), **options)
        parts = urlsplit(client.url)  # with the signature, where there is one
    except (ValueError, KeyError, TypeError):
        raise SettingsError("connection_string cannot be parsed", hint=hint) from None
    if client.account_name not in {None, settings.account}:
        raise SettingsError(f"connection_string is for the account {client.account_name}, not {settings.account}")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not (client.credential or parts.query):
        raise SettingsError("connection_string cannot be parsed", hint=hint)
    if parts.scheme == "http" and parts.query and parts.hostname != "127.0.0.1":
        raise SettingsError("connection_string would send its signature over http://")
    return client


def _found_by_identity(settings: AzureSettings) -> "TokenCredential":
    if settings.address.startswith("http:"):
        raise SettingsError("tokens are not sent over http://", hint="Set account_key, or use https://.")
    try:
        identity = importlib.import_module("azure.identity")  # an optional dependency
    except ImportError:
        raise SettingsError(
            "no account_key, sas_token or connection_string is set, and azure-identity is not installed",
            hint="Set one of them, or install azure-identity (the extra `identity` of penstock-azure).",
        ) from None
    try:
        found: TokenCredential = identity.DefaultAzureCredential(
            connection_timeout=min(settings.connect_timeout, settings.deadline),
            read_timeout=min(settings.read_timeout, settings.deadline),
            retry_total=1,
        )
    except ValueError as error:
        hint = "Check the variables of the environment that begin with AZURE_."
        raise SettingsError("azure-identity cannot use what the environment says", hint=hint) from error
    return found
