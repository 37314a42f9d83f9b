"""Objects below the prefix of one container, by the REST API (https://learn.microsoft.com/rest/api/storageservices).

The API is spoken directly: the SDK copies an object on its way up and down, knows no deadline over a call, and needs
three distributions for what is a header or two here. Its identities (azure-identity) are used.
"""

import base64
import hashlib
import threading
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote, urlencode

from penstock.api import Deadline, ObjectInfo, SinkError, SinkUnreachable
from penstock.api.object_store import ByteRange, Page
from penstock.api.object_store.http import Answer, Buffer, Http
from penstock_azure.credentials import Account, account_of
from penstock_azure.refusals import refused, service_of
from penstock_azure.settings import AzureSettings

__all__ = ["AzureStore"]

_API = "the API of Azure Blob Storage"
#: The object's own metadata that names the call which made it.
_MARK = "x-ms-meta-penstockput"
_PAGE = "1000"


class AzureStore:
    """Single attempts, a request each."""

    batch = 1

    def __init__(self, settings: AzureSettings) -> None:
        self._settings = settings
        self._service = service_of(settings)
        self._http = Http(
            self._service,
            ca=settings.trusted(),
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            connections=settings.connections,
        )
        self._lock = threading.Lock()
        self._account: Account | None = None

    def put(self, key: str, data: Buffer, deadline: Deadline, *, if_absent: bool, mark: str) -> None:
        """One Put Blob, whatever the size."""
        headers = {
            "x-ms-blob-type": "BlockBlob",
            "content-type": "application/octet-stream",
            "content-md5": _md5(data),
            _MARK: mark,
            **self._put_headers(),
        }
        if if_absent:
            headers["if-none-match"] = "*"
        self._send("put", key, "PUT", deadline, headers=headers, body=(data,))

    def is_own(self, key: str, data: Buffer, deadline: Deadline, *, mark: str) -> bool:
        """By the mark."""
        del data
        return self._properties(key, deadline).get(_MARK) == mark

    def get(self, key: str, wanted: ByteRange, deadline: Deadline) -> bytes:
        """One Get Blob; a whole object is compared with the MD5 that the service keeps of it."""
        headers = {} if wanted.is_whole else {"x-ms-range": wanted.header}
        answer = self._send("get", key, "GET", deadline, headers=headers)
        told, given = answer.headers, answer.headers.get("content-range")
        if "x-ms-blob-type" not in told:
            raise self._service.unreadable(key, _API)
        data = wanted.taken(key, answer.body, given)
        md5 = told.get("x-ms-blob-content-md5") or told.get("content-md5")
        if md5 and wanted.is_all(answer.body, given) and md5 != _md5(answer.body):
            raise SinkUnreachable(key, "the transfer was damaged: its MD5 is not that of the object")
        return data

    def stat(self, key: str, deadline: Deadline) -> ObjectInfo:
        """Size and time."""
        told = self._properties(key, deadline)
        try:
            return ObjectInfo(key, int(told["content-length"]), _moment(told.get("last-modified")))
        except (KeyError, ValueError) as error:
            raise self._service.unreadable(key, _API) from error

    def list_page(self, prefix: str, token: str | None, deadline: Deadline) -> Page:
        """Up to 1,000 objects."""
        root = self._settings.root
        query = {"prefix": root + prefix, "maxresults": _PAGE} | ({} if token is None else {"marker": token})
        answer = self._list(prefix, query, deadline)
        try:
            # The operator's own service; Python's expat bounds the growth of entities.
            listing = ET.fromstring(answer.body)  # noqa: S314
            if listing.tag != "EnumerationResults":
                raise ValueError(listing.tag)
            if listing.tag != "EnumerationResults":
                raise ValueError(listing.tag)
            blobs = [blob for blob in listing.iter("Blob") if blob.findtext("Properties/ResourceType") != "directory"]
            return Page([_info(root, blob) for blob in blobs], listing.findtext("NextMarker") or None)
        except (ET.ParseError, ValueError) as error:
            raise self._service.unreadable(prefix, _API) from error

    def delete(self, keys: Sequence[str], deadline: Deadline) -> None:
        """One Delete Blob."""
        (key,) = keys
        self._send("delete", key, "DELETE", deadline, fine="BlobNotFound")

    def retain(self, key: str, until: datetime, deadline: Deadline) -> None:
        """Lengthen the immutability policy, unless it is long enough."""
        held = _moment(self._properties(key, deadline).get("x-ms-immutability-policy-until-date"))
        if held is None or held < until:
            query = {"comp": "immutabilityPolicies"}
            self._send("retain", key, "PUT", deadline, query=query, headers=self._policy(until))

    def look(self, deadline: Deadline) -> None:
        """A listing of at most one object."""
        self._list("", {"prefix": self._settings.root, "maxresults": "1"}, deadline)

    def close(self) -> None:
        """Close the idle connections."""
        self._http.close()

    def _list(self, prefix: str, query: Mapping[str, str], deadline: Deadline) -> Answer:
        asked = {"restype": "container", "comp": "list", **query}
        return self._send("list", prefix, "GET", deadline, query=asked, path="")

    def _properties(self, key: str, deadline: Deadline) -> Mapping[str, str]:
        return self._send("stat", key, "HEAD", deadline).headers

    def _send(
        self,
        action: str,
        key: str,
        method: str,
        deadline: Deadline,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: tuple[Buffer, ...] = (),
        path: str | None = None,
        fine: str = "",
    ) -> Answer:
        """Send a signed request; raises `SinkError` unless it succeeds or is refused with the code `fine`."""
        account = self._connected()
        place = f"/{quote(self._settings.root + key, safe='/~')}" if path is None else path
        url = f"{account.address}/{self._settings.container}{place}"
        if query:
            url += f"?{urlencode(query, quote_via=quote, safe='~')}"
        asked = dict(headers or {})
        if method == "PUT":
            asked["content-length"] = str(sum(memoryview(part).nbytes for part in body))
        try:
            url, asked = account.signed(method, url, asked)
        except SinkError as error:
            raise type(error)(key, error.reason, hint=error.hint) from error.__cause__
        answer = self._http.send(key, method, url, deadline, headers=asked, body=body)
        if answer.is_success:
            return answer
        refusal = refused(action, answer)
        if fine and refusal.code == fine:
            return answer
        raise self._service.refused(key, refusal) from refusal

    def _connected(self) -> Account:
        with self._lock:  # not taken by `close`: a secret may come from a command that hangs
            if self._account is None:
                self._account = account_of(self._settings)
            return self._account

    def _put_headers(self) -> dict[str, str]:
        settings = self._settings
        found: dict[str, str] = {}
        if settings.access_tier is not None:
            found["x-ms-access-tier"] = settings.access_tier
        if settings.encryption_scope is not None:
            found["x-ms-encryption-scope"] = settings.encryption_scope
        if settings.locked_until is not None:
            found |= self._policy(settings.locked_until)
        if settings.legal_hold:
            found["x-ms-legal-hold"] = "true"
        return found

    def _policy(self, until: datetime) -> dict[str, str]:
        return {
            "x-ms-immutability-policy-until-date": format_datetime(until.astimezone(UTC), usegmt=True),
            "x-ms-immutability-policy-mode": self._settings.object_lock.capitalize(),
        }


def _md5(data: Buffer) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _info(root: str, blob: ET.Element) -> ObjectInfo:
    key = blob.findtext("Name", "").removeprefix(root)
    size = int(blob.findtext("Properties/Content-Length", ""))
    return ObjectInfo(key, size, _moment(blob.findtext("Properties/Last-Modified")))


def _moment(text: str | None) -> datetime | None:
    return None if not text else parsedate_to_datetime(text).astimezone(UTC)
