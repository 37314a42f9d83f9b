"""What sinks over object stores share: settings, URLs, and a client that is made on first use.

Nothing obliges a sink to use it: the contract is `Sink`.
"""

import re
import threading
from abc import abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import Field, field_validator

from penstock.api.errors import SinkError, UsageError
from penstock.api.models import ObjectInfo
from penstock.api.plugin import Capability, PluginSettings
from penstock.api.sink import Sink, validate_key, validate_prefix

__all__ = ["ObjectStore", "ObjectStoreSettings", "ObjectStoreSink", "content_range", "settings_of_query", "split_url"]

_PREFIX = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[A-Za-z0-9!_.*'()-]+(?:/|\Z))*")


class ObjectStoreSettings(PluginSettings):
    """The settings that mean the same for every object store.

    A subclass says what else there is, and narrows `object_lock` to the modes that its service has.
    """

    prefix: str = Field("", max_length=500, description="what the names in the bucket begin with: backups/shop")
    endpoint: str | None = Field(None, description="https://host:port of another service, or of a private endpoint")

    object_lock: str = Field("none", description="keep every object from deletion for object_lock_days")
    object_lock_days: int | None = Field(None, ge=1, le=36500)

    tls_ca: Path | None = Field(None, description="a file of certificate authorities to trust instead of the usual")
    connect_timeout: float = Field(10, gt=0, le=3600, description="seconds")
    read_timeout: float = Field(60, gt=0, le=3600, description="seconds without a byte")
    deadline: float = Field(300, gt=0, le=86400, description="seconds that one call may take with all its retries")
    max_connections: int = Field(32, ge=1, le=1000)

    @field_validator("prefix")
    @classmethod
    def _tidy_prefix(cls, value: str) -> str:
        value = value.strip("/")
        if not _PREFIX.fullmatch(value):
            raise ValueError("is made of letters, digits and !_.*'()- between single slashes")
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
    def location(self) -> str:
        """The URL, and the endpoint where there is one."""
        return f"{self.url} at {self.endpoint}" if self.endpoint else self.url

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL of the place below which the objects are."""

    @property
    def root(self) -> str:
        """What stands before every key in the bucket."""
        return f"{self.prefix}/" if self.prefix else ""

    @property
    def retention(self) -> timedelta | None:
        """How long an object is locked from its PUT on."""
        return None if self.object_lock_days is None else timedelta(days=self.object_lock_days)

    @property
    def locked_until(self) -> datetime | None:
        """Until when an object is locked that is put now (UTC)."""
        return None if self.retention is None else datetime.now(UTC) + self.retention


class ObjectStore(Protocol):
    """All requests to a service. Keys and ranges are valid ones; errors are `SinkError`s. As `Sink`, but for `list`."""

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool) -> None:
        """As `Sink.put`."""

    def get(self, key: str, *, start: int, length: int | None) -> bytes:
        """As `Sink.get`."""

    def stat(self, key: str) -> ObjectInfo:
        """As `Sink.stat`."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As `Sink.list`; may also give what is no valid key."""

    def delete(self, key: str) -> None:
        """As `Sink.delete`."""

    def retain(self, key: str, until: datetime) -> None:
        """As `Sink.retain`; only called for a sink that locks."""

    def close(self) -> None:
        """As `Sink.close`."""


Store = TypeVar("Store", bound=ObjectStore)


class _Abilities:
    """`capabilities`: of the class, what the sink may be able to do; of an instance, what it was found to be."""

    def __get__(
        self, sink: "ObjectStoreSink[Any] | None", owner: type["ObjectStoreSink[Any]"]
    ) -> frozenset[Capability]:
        return owner.possible_capabilities if sink is None else sink.found_capabilities()


class ObjectStoreSink(Sink, Generic[Store]):
    """A sink whose requests an `ObjectStore` makes, which is made on first use: no SDK is imported before.

    One store serves all threads. Objects in the bucket that no key can name are passed over.
    """

    #: What the class may be able to do; see `found_capabilities`.
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.CONDITIONAL_PUT, Capability.OBJECT_LOCK}
    )
    if TYPE_CHECKING:
        capabilities: ClassVar[frozenset[Capability]]
    else:
        capabilities = _Abilities()

    settings: ObjectStoreSettings

    def __init__(self, settings: PluginSettings) -> None:
        super().__init__(settings)
        self._lock = threading.Lock()
        self._made: Store | None = None

    @abstractmethod
    def connect(self) -> Store:
        """Make the store; called once, on first use."""

    def found_capabilities(self) -> frozenset[Capability]:
        """What `capabilities` of this instance gives: here, everything but a lock that the settings do not ask for."""
        possible = self.possible_capabilities
        return possible if self.settings.object_lock != "none" else possible - {Capability.OBJECT_LOCK}

    @property
    def location(self) -> str:
        """The URL, and the endpoint where there is one."""
        return self.settings.location

    @property
    def retention(self) -> timedelta | None:
        """`object_lock_days`."""
        return self.settings.retention

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """One request, with a checksum that the service compares; it answers when the object is durable."""
        validate_key(key)
        self.store.put(key, data, if_absent=if_absent)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes, or a range of them; an answer that breaks off is asked for again."""
        validate_key(key)
        if start < 0 or (length is not None and length < 0):
            raise SinkError(key, "a range of bytes cannot be negative")
        return self.store.get(key, start=start, length=length)

    def stat(self, key: str) -> ObjectInfo:
        """The object's size and the time when it was written."""
        validate_key(key)
        return self.store.stat(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects with that prefix, page by page."""
        validate_prefix(prefix)
        return (info for info in self.store.list(prefix) if _is_valid(info.key))

    def delete(self, key: str) -> None:
        """Remove the object. A service with versions keeps it as a former one; a locked object goes on being held."""
        validate_key(key)
        self.store.delete(key)

    def retain(self, key: str, until: datetime) -> None:
        """Lengthen the object's lock, where the settings ask for locks; a longer one is never shortened."""
        validate_key(key)
        if self.settings.object_lock == "none":
            raise SinkError(key, "this sink locks no objects", hint="Set object_lock and object_lock_days.")
        self.store.retain(key, until)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._made is not None:
                self._made.close()

    @property
    def store(self) -> Store:
        """The store, made when it is first asked for."""
        with self._lock:
            if self._made is None:
                self._made = self.connect()
            return self._made


def _is_valid(key: str) -> bool:
    try:
        validate_key(key)
    except SinkError:
        return False
    return True


def split_url(url: str, *, scheme: str, names: str, example: str, hint: str) -> SplitResult:
    """The parts of a sink's URL, whose authority names a bucket or an account alone.

    `names` says what the URL names ("a bucket"), `example` shows one, `hint` says where credentials belong instead.
    Raises `UsageError`, which does not repeat the URL: there may be a secret in it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError("not a URL that can be read", hint=f"Write it like {example}.") from None
    if "@" in parts.netloc or ":" in parts.netloc:
        raise UsageError(f"a {scheme}: URL names {names} alone: no credentials, and no port", hint=hint)
    if not parts.netloc or parts.fragment:
        raise UsageError(f"a {scheme}: URL names {names}", hint=f"Write it like {example}.")
    return parts


def settings_of_query(
    parts: SplitResult,
    settings: dict[str, Any],
    *,
    model: type[PluginSettings],
    credentials: tuple[str, ...],
    hint: str,
) -> dict[str, Any]:
    """`settings`, which the rest of a URL gave, and those of its query: any of `model` but these and `credentials`.

    Raises `UsageError` for what there is not, for what is said twice, and for credentials, with `hint`.
    """
    own = settings.keys() | {"prefix"}
    found = dict(settings)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in credentials:
            raise UsageError("the URL holds credentials, which everyone on this host could read", hint=hint)
        if name in own or name not in model.model_fields:
            allowed = ", ".join(sorted(model.model_fields.keys() - own - {*credentials}))
            raise UsageError("the URL has a parameter that there is not", hint=f"There are: {allowed}.")
        if name in found:
            raise UsageError(f"the URL says twice what {name} is")
        found[name] = value
    return found


def content_range(text: str) -> tuple[int, int]:
    """First byte and total size of `bytes 0-9/100` (RFC 9110, section 14.4); -1 where it is something else."""
    try:
        places, _, total = text.removeprefix("bytes").strip().partition("/")
        return int(places.partition("-")[0]), int(total)
    except ValueError:
        return -1, -1
