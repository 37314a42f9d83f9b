"""The settings of a Redis source, and the URLs that stand for them."""

from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field

from penstock.api import PluginSettings, SecretRef, UsageError

__all__ = ["RedisSettings", "settings_from_url"]


class RedisSettings(PluginSettings):
    """Where the server is, and who asks."""

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(6379, ge=1, le=65535)
    user: str | None = Field(None, min_length=1, description="left out: the user `default`")
    password: SecretRef | None = None
    client_path: Path | None = Field(None, description="the folder of redis-cli; left out: PATH")
    connect_timeout: float = Field(15, gt=0, description="seconds")
    stall_timeout: float = Field(900, gt=0, description="seconds that a dump, or the loading of one, may make no step")

    @property
    def location(self) -> str:
        """What a URL of these settings would be; it never has a password."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{user}{host}:{self.port}"


def settings_from_url(url: str) -> dict[str, Any]:
    """`redis://user@host:6379` as keyword arguments of `RedisSettings`.

    Raises `UsageError`, which does not repeat the URL: there may be a password in it.
    """
    parts = urlsplit(url)
    credentials, _, _ = parts.netloc.rpartition("@")
    if ":" in credentials or "password" in parts.query:
        raise UsageError(
            "the URL holds a password, which everyone on this host could read",
            hint='Write it into the settings: password = { env = "NAME" }, { file = "…" } or { command = ["…"] }.',
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise UsageError("a redis URL names a user, a host and a port: all databases of a server are dumped at once")
    try:
        found = {"user": unquote(parts.username or ""), "host": parts.hostname, "port": parts.port}
    except ValueError:
        raise UsageError("the port of a redis URL is a number from 1 to 65535") from None
    return {name: value for name, value in found.items() if value}
