"""Objects as files of a WebDAV server (RFC 4918): single attempts, a few requests each."""

import http.client
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import quote, unquote, urlsplit

from penstock.api import Deadline, ObjectInfo, ObjectMissing, SinkDenied, SinkError, SinkFull, SinkUnreachable
from penstock.api.object_store import ByteRange, Page, Refusal, Service
from penstock.api.object_store.http import Answer, Buffer, Http, refused_by
from penstock.api.object_store.refusals import Table
from penstock_webdav.login import Login
from penstock_webdav.multistatus import PROPFIND, Resource, resources
from penstock_webdav.settings import WebDavSettings

__all__ = ["WebDavStore"]

_GONE = (404, 410)
#: Not a valid key, so it is never listed.
_PROBE = ".conditional-put~"
_UNAUTHORIZED = Refusal(
    SinkDenied, "cannot {action}: {said}", "Check user and password, and what the user may do there."
)
_BUSY = Refusal(SinkUnreachable, "cannot {action}: {said}")
_TABLE: Table = {
    **dict.fromkeys((401, 403), _UNAUTHORIZED),
    **dict.fromkeys((413, 507), Refusal(SinkFull, "cannot {action}: {said}")),
    **dict.fromkeys((408, 423, 425, 429, 500, 502, 503, 504), _BUSY),
    404: Refusal(SinkError, "cannot {action}: {said}"),
}


class WebDavStore:
    """The requests. What a status means beyond the table, each method knows itself.

    It is a `RenewingStore`: after a refusal the password is read again, and where it is another, the call made again.
    """

    batch = 1

    def __init__(self, settings: WebDavSettings) -> None:
        parts = urlsplit(settings.address)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._root = quote(unquote(parts.path), safe="/")
        self._service = Service(settings.address, _TABLE, names={}, connect_timeout=settings.connect_timeout)
        self._http = Http(
            self._service,
            ca=settings.trusted(),
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            connections=settings.connections,
        )
        self._login = Login(settings)
        self._lock = threading.Lock()
        self._folders: set[str] = set()

    @property
    def generation(self) -> int:
        """How often the password was replaced."""
        return self._login.generation

    def renew(self, generation: int) -> bool:
        """Whether another password than that of `generation` is in use now."""
        return self._login.renew(generation)

    def put(self, key: str, data: Buffer, deadline: Deadline, *, if_absent: bool, mark: str) -> None:
        """One PUT, after a MKCOL for each folder that was not seen yet. The mark has no place to be kept."""
        del mark
        answer = self._put(key, data, deadline, if_absent=if_absent)
        if not answer.is_success:
            raise self._refused("write", key, answer)

    def is_own(self, key: str, data: Buffer, deadline: Deadline, *, mark: str) -> bool:
        """By the bytes: a server keeps nothing else of a put."""
        del mark
        return self.get(key, ByteRange(), deadline) == bytes(data)

    def get(self, key: str, wanted: ByteRange, deadline: Deadline) -> bytes:
        """One GET."""
        answer = self._request(key, "GET", deadline, headers=wanted.headers)
        if answer.is_success:
            given = answer.headers.get("content-range") if answer.status == 206 else None
            return wanted.taken(key, answer.body, given)
        # What a server answers for a folder, or below a file, is its own affair.
        if answer.status in _GONE or (answer.status < 500 and answer.status != 416 and not self._exists(key, deadline)):
            raise ObjectMissing(key, "no such object")
        raise self._refused("read", key, answer)

    def stat(self, key: str, deadline: Deadline) -> ObjectInfo:
        """One PROPFIND."""
        found = [one for one in self._propfind(key, "0", deadline) if not one.is_folder]
        if not found:
            raise ObjectMissing(key, "no such object")
        return ObjectInfo(key, found[0].size, found[0].modified)

    def list_page(self, prefix: str, token: str | None, deadline: Deadline) -> Page:
        """One folder, since many servers refuse to list a tree at once. The token holds the folders to come."""
        folder, *folders = [prefix.rpartition("/")[0]] if token is None else token.split("\n")
        own, objects = unquote(f"{self._root}/{folder}").rstrip("/"), []
        for found in self._propfind(folder, "1", deadline):
            key = found.path.removeprefix(unquote(self._root) + "/")
            if not found.is_folder:
                if key.startswith(prefix):
                    objects.append(ObjectInfo(key, found.size, found.modified))
            elif found.path != own and "\n" not in key and f"{key}/".startswith(prefix[: len(key) + 1]):
                folders.append(key)
        return Page(objects, "\n".join(folders) or None)

    def delete(self, keys: Sequence[str], deadline: Deadline) -> None:
        """One DELETE, after a look: a DELETE on a folder would take everything in it along."""
        (key,) = keys
        if self._exists(key, deadline):
            answer = self._request(key, "DELETE", deadline)
            if not answer.is_success and answer.status not in _GONE:
                raise self._refused("delete", key, answer)

    def retain(self, key: str, until: datetime, deadline: Deadline) -> None:
        """Refuse: no server locks files for days."""
        del until, deadline
        raise SinkError(key, "this sink locks no objects")

    def look(self, deadline: Deadline) -> None:
        """One PROPFIND of the folder, which may be missing."""
        self._propfind("", "0", deadline)

    def heeds_conditions(self, deadline: Deadline) -> bool:
        """Whether the server refuses to overwrite when it is told to: of two puts of the probe, the second."""
        return any(self._put(_PROBE, b"", deadline, if_absent=True).status == 412 for _ in range(2))

    def close(self) -> None:
        """Close the idle connections."""
        self._http.close()

    def _put(self, key: str, data: Buffer, deadline: Deadline, *, if_absent: bool) -> Answer:
        headers = {"Content-Type": "application/octet-stream"} | ({"If-None-Match": "*"} if if_absent else {})
        folder = key.rpartition("/")[0]
        self._make_folder(folder, deadline)
        answer = self._request(key, "PUT", deadline, headers=headers, body=(data,))
        if answer.status in (404, 409):  # somebody removed the folder
            with self._lock:
                self._folders.clear()
            self._make_folder(folder, deadline)
            answer = self._request(key, "PUT", deadline, headers=headers, body=(data,))
        return answer

    def _exists(self, key: str, deadline: Deadline) -> bool:
        return any(not one.is_folder for one in self._propfind(key, "0", deadline))

    def _propfind(self, key: str, depth: str, deadline: Deadline) -> list[Resource]:
        headers = {"Depth": depth, "Content-Type": "application/xml"}
        slash = "/" if depth == "1" else ""
        answer = self._request(key, "PROPFIND", deadline, headers=headers, body=(PROPFIND,), slash=slash)
        if answer.status in (*_GONE, 409):
            return []
        if answer.status != 207:
            raise self._refused("look", key, answer)
        try:
            return list(resources(answer.body))
        except ValueError as error:
            raise self._service.unreadable(key, "WebDAV") from error

    def _make_folder(self, folder: str, deadline: Deadline) -> None:
        """Make a folder and all above it, unless this instance has seen them."""
        parts = folder.split("/") if folder else []
        for depth in range(len(parts) + 1):
            path = "/".join(parts[:depth])
            with self._lock:
                known = path in self._folders
            if known:
                continue
            answer = self._request(path, "MKCOL", deadline, slash="/")
            # 405: it exists. The root may be one that cannot be made, or asked about: the PUT will tell.
            if answer.status not in (200, 201, 405) and path:
                raise self._refused("make the folder", folder, answer)
            with self._lock:
                self._folders.add(path)

    def _request(
        self,
        key: str,
        method: str,
        deadline: Deadline,
        *,
        headers: Mapping[str, str] | None = None,
        body: tuple[Buffer, ...] = (),
        slash: str = "",
    ) -> Answer:
        # Of a key, only the `~` of the probe might need an escape, and it does not (RFC 3986).
        url = f"{self._origin}{self._root}/{key}".rstrip("/") + slash
        return self._http.send(
            key, method, url, deadline, headers={**(headers or {}), **self._login.headers()}, body=body
        )

    def _refused(self, action: str, key: str, answer: Answer) -> SinkError:
        """The error that a status means; nothing of the body is repeated, which may be a page of any size."""
        refused = refused_by(action, answer, said=http.client.responses.get(answer.status, ""))
        error = self._service.refused(key, refused)
        error.__cause__ = refused
        return error
