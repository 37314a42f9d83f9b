"""The sink: a folder of a WebDAV server, one file an object."""

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.api import Capability, ObjectStoreSink, PluginSettings, SinkError
from penstock_webdav.settings import WebDavSettings, settings_from_url

if TYPE_CHECKING:
    from penstock_webdav.store import WebDavStore

__all__ = ["WebDavSink"]


class WebDavSink(ObjectStoreSink["WebDavStore"]):
    """Keeps objects as files of a WebDAV server whose PUTs are atomic, as those of Apache and nginx are.

    `put(if_absent=True)` is a PUT with `If-None-Match: *`. Whether the server heeds it is tried before the first one.
    """

    name: ClassVar[str] = "webdav"
    schemes: ClassVar[tuple[str, ...]] = ("webdav", "webdavs")
    Settings: ClassVar[type[PluginSettings]] = WebDavSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONDITIONAL_PUT})

    settings: WebDavSettings

    def __init__(self, settings: WebDavSettings) -> None:
        super().__init__(settings)
        self._trying = threading.Lock()
        self._heeds_conditions = False

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`webdavs://user@host/folder`; no password. Raises `UsageError`."""
        return settings_from_url(url)

    def connect(self) -> "WebDavStore":
        """Import the HTTP client."""
        from penstock_webdav.store import WebDavStore

        return WebDavStore(self.settings)

    def capabilities(self) -> frozenset[Capability]:
        """Conditional puts. Asks the server once; raises `SinkError` for one that would overwrite."""
        with self._trying:
            if not self._heeds_conditions and not self.store.call(self.store.store.heeds_conditions):
                raise SinkError(
                    "",
                    f"{self.location} ignores If-None-Match, and would overwrite existing objects",
                    hint="Use a server that heeds conditions (RFC 9110, section 13).",
                )
            self._heeds_conditions = True
        return super().capabilities()

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """One PUT, and the folders before it."""
        if if_absent:
            self.capabilities()
        super().put(key, data, if_absent=if_absent)
