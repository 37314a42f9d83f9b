"""The settings of a WebDAV sink, and the URLs that stand for them."""

from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from penstock.api import PluginSettings, SecretRef, UsageError

__all__ = ["WebDavSettings", "settings_from_url"]

_LOCAL = ("127.0.0.1", "::1", "localhost")
_SCHEMES = {"webdav": "http", "webdavs": "https"}


class WebDavSettings(PluginSettings):
    """Which folder of which server, and who writes there."""

    address: str = Field(description="https://host/folder; the folder is made when it is not there")
    user: str | None = Field(None, min_length=1)
    password: SecretRef | None = None
    ca_file: Path | None = Field(None, description="left out: the system's authorities")
    insecure: bool = Field(False, description="send the password over plain http to another host")
    timeout: float = Field(60, gt=0, description="seconds that the server may be silent")
    deadline: float = Field(300, gt=0, description="seconds that one call may take, with all its attempts")

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write it like https://host/folder")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("has no user, password, query or fragment: there are settings for the first two")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _keep_the_password_safe(self) -> Self:
        parts = urlsplit(self.address)
        if self.password and parts.scheme == "http" and parts.hostname not in _LOCAL and not self.insecure:
            raise ValueError(
                "over plain http everybody on the way can read the password: use https, or insecure = true"
            )
        return self

    @property
    def root(self) -> str:
        """The folder's path as it stands in requests, without a slash at its end."""
        return quote(unquote(urlsplit(self.address).path), safe="/")


def settings_from_url(url: str) -> dict[str, Any]:
    """`webdavs://user@host/folder` (https) or `webdav://…` (http) as keyword arguments of `WebDavSettings`.

    Raises `UsageError`, which does not repeat the URL: there may be a password in it.
    """
    parts = urlsplit(url)
    credentials, _, place = parts.netloc.rpartition("@")
    if ":" in credentials or "password" in parts.query:
        raise UsageError(
            "the URL holds a password, which everyone on this host could read",
            hint='write it into the settings: password = { env = "NAME" }, { file = "…" } or { command = ["…"] }',
        )
    if parts.query or parts.fragment or not place:
        raise UsageError("a webdav URL names a host and a folder", hint="write it like webdavs://user@host/folder")
    found = {"address": f"{_SCHEMES[parts.scheme]}://{place}{parts.path}", "user": unquote(credentials)}
    return {name: value for name, value in found.items() if value}
