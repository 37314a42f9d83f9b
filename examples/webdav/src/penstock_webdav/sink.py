"""The sink: a folder of a WebDAV server, one file an object."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote

from penstock.api import (
    Capability,
    Deadline,
    ObjectExists,
    ObjectInfo,
    ObjectMissing,
    PluginSettings,
    Sink,
    SinkError,
    retrying,
    validate_key,
    validate_prefix,
)
from penstock_webdav.connection import Answer, Connections, refusal
from penstock_webdav.multistatus import PROPFIND, Resource, resources
from penstock_webdav.settings import WebDavSettings, settings_from_url

__all__ = ["WebDavSink"]

T = TypeVar("T")
_Resources = list[Resource]  # within the class, `list` is a method

_GONE = (404, 410)
#: No valid key has this name, so it is never listed.
_PROBE = ".conditional-put~"


class WebDavSink(Sink):
    """Keeps objects as files of a WebDAV server whose PUTs are atomic, as those of Apache and nginx are.

    `put(if_absent=True)` is a PUT with `If-None-Match: *`. That the server minds it is tried before the first one.
    """

    name: ClassVar[str] = "webdav"
    schemes: ClassVar[tuple[str, ...]] = ("webdav", "webdavs")
    Settings: ClassVar[type[PluginSettings]] = WebDavSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONDITIONAL_PUT})

    settings: WebDavSettings

    def __init__(self, settings: PluginSettings) -> None:
        assert isinstance(settings, WebDavSettings)
        super().__init__(settings)
        self._connections = Connections(settings)
        self._lock = threading.Lock()
        self._folders: set[str] = set()
        self._minds_conditions = False

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`webdavs://user@host/folder`; no password."""
        return settings_from_url(url)

    @property
    def location(self) -> str:
        """The folder's URL."""
        return self.settings.address

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """As the contract says: one PUT, and the folders before it."""
        validate_key(key)
        if if_absent:
            self._try_conditions()
        unsure = False

        def attempt(deadline: Deadline) -> None:
            nonlocal unsure
            before, unsure = unsure, True
            answer = self._put(key, data, deadline, if_absent=if_absent)
            if answer.status in (200, 201, 204):
                return
            if answer.status == 412 and if_absent:
                # An attempt whose answer was lost may have made what is in this one's way.
                if before and self._get(key, {}, deadline).body == bytes(data):
                    return
                raise ObjectExists(key, "there already")
            raise refusal(key, answer, "write")

        self._retrying(attempt)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """As the contract says."""
        validate_key(key)
        if length == 0:
            self.stat(key)
            return b""
        end = None if length is None else start + length
        headers = {} if start == 0 and length is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}

        def attempt(deadline: Deadline) -> bytes:
            answer = self._get(key, headers, deadline)
            if answer.status == 416:  # the range starts past the end
                return b""
            # A server may ignore a range.
            return answer.body if answer.status == 206 else answer.body[start:end]

        return self._retrying(attempt)

    def stat(self, key: str) -> ObjectInfo:
        """As the contract says."""
        validate_key(key)
        found = self._retrying(lambda deadline: self._find(key, deadline))
        if found is None:
            raise ObjectMissing(key, "no object of that name")
        return ObjectInfo(key, found.size, found.modified)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """As the contract says: folder by folder, since many servers refuse to list a tree at once."""
        validate_prefix(prefix)
        folders = [prefix.rpartition("/")[0]]
        while folders:
            for found in self._children(folders.pop()):
                key = found.path.removeprefix(unquote(self.settings.root) + "/")
                if found.is_folder:
                    if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                        folders.append(key)
                elif key.startswith(prefix) and _is_valid(key):
                    yield ObjectInfo(key, found.size, found.modified)

    def delete(self, key: str) -> None:
        """As the contract says. Looks first: a DELETE on a folder would take everything in it along."""
        validate_key(key)

        def attempt(deadline: Deadline) -> None:
            if self._find(key, deadline) is None:
                return
            answer = self._connections.request("DELETE", self._path(key), deadline, key=key)
            if answer.status not in (200, 204, *_GONE):
                raise refusal(key, answer, "delete")

        self._retrying(attempt)

    def close(self) -> None:
        """As the contract says."""
        self._connections.close()

    def _put(self, key: str, data: bytes | bytearray | memoryview, deadline: Deadline, *, if_absent: bool) -> Answer:
        headers = {"Content-Type": "application/octet-stream"} | ({"If-None-Match": "*"} if if_absent else {})
        self._make_folder(key.rpartition("/")[0], deadline)
        answer = self._connections.request("PUT", self._path(key), deadline, key=key, body=data, headers=headers)
        if answer.status in (404, 409):  # somebody removed the folder
            with self._lock:
                self._folders.clear()
            self._make_folder(key.rpartition("/")[0], deadline)
            answer = self._connections.request("PUT", self._path(key), deadline, key=key, body=data, headers=headers)
        return answer

    def _get(self, key: str, headers: dict[str, str], deadline: Deadline) -> Answer:
        answer = self._connections.request("GET", self._path(key), deadline, key=key, headers=headers)
        if answer.status in (200, 206, 416):
            return answer
        # What a server answers for a folder, or below a file, is its own affair.
        if answer.status in _GONE or (answer.status < 500 and self._find(key, deadline) is None):
            raise ObjectMissing(key, "no object of that name")
        raise refusal(key, answer, "read")

    def _find(self, key: str, deadline: Deadline) -> Resource | None:
        found = [one for one in self._propfind(key, "0", deadline) if not one.is_folder]
        return found[0] if found else None

    def _children(self, folder: str) -> _Resources:
        own = unquote(f"{self.settings.root}/{folder}").rstrip("/")
        found = self._retrying(lambda deadline: self._propfind(folder, "1", deadline))
        return [one for one in found if one.path != own or not one.is_folder]

    def _propfind(self, key: str, depth: str, deadline: Deadline) -> _Resources:
        path = self._path(key) + ("/" if depth == "1" else "")
        headers = {"Depth": depth, "Content-Type": "application/xml"}
        answer = self._connections.request("PROPFIND", path, deadline, key=key, body=PROPFIND, headers=headers)
        if answer.status in (*_GONE, 409):
            return []
        if answer.status != 207:
            raise refusal(key, answer, "look")
        try:
            return list(resources(answer.body))
        except ValueError as error:
            raise SinkError(
                key, f"{self.settings.address} is no WebDAV server: its answer is not understood"
            ) from error

    def _make_folder(self, folder: str, deadline: Deadline) -> None:
        """Make a folder and all above it, unless this instance has seen them."""
        parts = folder.split("/") if folder else []
        for depth in range(len(parts) + 1):
            path = "/".join(parts[:depth])
            with self._lock:
                known = path in self._folders
            if known:
                continue
            answer = self._connections.request("MKCOL", f"{self._path(path)}/", deadline, key=folder)
            # 405: it is there. The root may be one that cannot be made, or asked about: the PUT will tell.
            if answer.status not in (200, 201, 405) and path:
                raise refusal(folder, answer, "make the folder")
            with self._lock:
                self._folders.add(path)

    def _try_conditions(self) -> None:
        """Refuse a server that would overwrite: of two puts of the probe, the second must be refused."""
        if self._minds_conditions:
            return

        def attempt(deadline: Deadline) -> bool:
            return any(self._put(_PROBE, b"", deadline, if_absent=True).status == 412 for _ in range(2))

        if not self._retrying(attempt):
            raise SinkError(
                "",
                f"{self.settings.address} ignores If-None-Match, and would overwrite what is there",
                hint="use a server that minds conditions (RFC 9110, section 13)",
            )
        self._minds_conditions = True

    def _path(self, key: str) -> str:
        # Of a key, only `~` of the probe could need an escape, and it does not (RFC 3986).
        return f"{self.settings.root}/{key}".rstrip("/")

    def _retrying(self, attempt: Callable[[Deadline], T]) -> T:
        deadline = Deadline(self.settings.deadline)
        return retrying(lambda: attempt(deadline), deadline=deadline)


def _is_valid(key: str) -> bool:
    try:
        validate_key(key)
    except SinkError:
        return False
    return True
