"""The settings that mean the same for every sink over a network."""

import re
from abc import abstractmethod
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from penstock.api.errors import SettingsError
from penstock.api.plugin import PluginSettings

__all__ = ["ConnectionSettings", "ObjectStoreSettings"]

_PREFIX = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[A-Za-z0-9!_.*'()-]+(?:/|\Z))*")


class ConnectionSettings(PluginSettings):
    """How the service is reached, and how long a call may take."""

    former: ClassVar[dict[str, str]] = {"max_connections": "connections"}

    tls_ca: Path | None = Field(None, description="a file of certificate authorities to trust instead of the system's")
    connect_timeout: float = Field(10, gt=0, le=3600, description="seconds")
    read_timeout: float = Field(60, gt=0, le=3600, description="seconds without a byte")
    deadline: float = Field(300, gt=0, le=86400, description="seconds that one call may take with all its retries")
    connections: int = Field(default=8, ge=1, le=1000, description="requests at once")

    @property
    @abstractmethod
    def location(self) -> str:
        """Where the objects are, for people and logs; holds no secret."""

    @property
    def retention(self) -> timedelta | None:
        """How long an object is locked from its PUT on; None for a service without locks."""
        return None

    def trusted(self) -> Path | None:
        """`tls_ca`; raises `SettingsError` when the file does not exist."""
        if self.tls_ca is not None and not self.tls_ca.is_file():
            raise SettingsError(f"tls_ca: no such file: {self.tls_ca}")
        return self.tls_ca


class ObjectStoreSettings(ConnectionSettings):
    """The settings that mean the same for every object store.

    A subclass adds its own, and narrows `object_lock` to the modes that its service has.
    """

    prefix: str = Field("", max_length=500, description="what the names in the bucket begin with: backups/shop")
    endpoint: str | None = Field(None, description="https://host:port of another service, or of a private endpoint")

    object_lock: str = Field("none", description="keep every object from deletion for object_lock_days")
    object_lock_days: int | None = Field(None, ge=1, le=36500)

    @field_validator("prefix")
    @classmethod
    def _tidy_prefix(cls, value: str) -> str:
        value = value.strip("/")
        if not _PREFIX.fullmatch(value):
            raise ValueError("must be letters, digits and !_.*'()- between single slashes")
        return value

    @field_validator("endpoint")
    @classmethod
    def _plain_endpoint(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        else:
            valid = valid and "@" not in parts.netloc and not parts.query and not parts.fragment
        if not valid:
            raise ValueError("must be https://host or https://host:port, without credentials or a query")
        return value.rstrip("/")

    def model_post_init(self, context: object, /) -> None:
        """Refuse settings that contradict each other; a subclass calls this too."""
        del context
        if (self.object_lock == "none") is not (self.object_lock_days is None):
            raise ValueError("object_lock and object_lock_days go together")

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL of the place below which the objects are."""

    @property
    def location(self) -> str:
        """The URL, and the endpoint where one is set."""
        return f"{self.url} at {self.endpoint}" if self.endpoint else self.url

    @property
    def root(self) -> str:
        """What stands before every key in the bucket."""
        return f"{self.prefix}/" if self.prefix else ""

    @property
    def retention(self) -> timedelta | None:
        """How long an object is locked from its PUT on."""
        return None if self.object_lock_days is None else timedelta(days=self.object_lock_days)

    def locked_until(self, now: datetime) -> datetime | None:
        """Until when an object is locked that is put at `now`, which is the service's time: see `ServiceClock`."""
        return None if self.retention is None else now + self.retention
