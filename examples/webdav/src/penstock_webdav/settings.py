"""The settings of a WebDAV sink, and the URLs that stand for them."""

from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from penstock.api import ConnectionSettings, SecretRef, UsageError

__all__ = ["WebDavSettings", "settings_from_url"]

_LOCAL = ("127.0.0.1", "::1", "localhost")
_SCHEMES = {"webdav": "http", "webdavs": "https"}


class WebDavSettings(ConnectionSettings):
    """The folder of the server, and who writes there."""

    address: str = Field(description="https://host/folder; the folder is made when it is missing")
    user: str | None = Field(None, min_length=1)
    password: SecretRef | None = None
    insecure: bool = Field(False, description="send the password over plain http to another host")

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
        except ValueError:
            raise ValueError("cannot be parsed: write it like https://host/folder") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write it like https://host/folder")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("must not hold a query, a fragment, or user and password, which are settings of their own")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _keep_the_password_safe(self) -> Self:
        parts = urlsplit(self.address)
        if self.password and parts.scheme == "http" and parts.hostname not in _LOCAL and not self.insecure:
            raise ValueError(
                "everybody on the way can read a password sent over plain http: use https, or set insecure = true"
            )
        return self

    @property
    def location(self) -> str:
        """The folder's URL."""
        return self.address


def settings_from_url(url: str) -> dict[str, Any]:
    """`webdavs://user@host/folder` (https) or `webdav://…` (http) as keyword arguments of `WebDavSettings`.

    Raises `UsageError`, which does not repeat the URL: it may hold a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError("the webdav: URL cannot be parsed", hint="Write webdavs://user@host/folder.") from None
    credentials, _, place = parts.netloc.rpartition("@")
    if ":" in credentials or "password" in parts.query:
        raise UsageError(
            "the URL holds a password, which everyone on this host could read",
            hint='Write it into the settings: password = { env = "NAME" }, { file = "…" } or { command = ["…"] }.',
        )
    if parts.query or parts.fragment or not place:
        raise UsageError("a webdav: URL names a host and a folder", hint="Write webdavs://user@host/folder.")
    found = {"address": f"{_SCHEMES[parts.scheme]}://{place}{parts.path}", "user": unquote(credentials)}
    return {name: value for name, value in found.items() if value}
