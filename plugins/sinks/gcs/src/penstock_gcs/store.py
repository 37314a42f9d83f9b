"""Objects below the prefix of one bucket, by the JSON API (https://cloud.google.com/storage/docs/json_api/v1).

The API is spoken directly, not through google-cloud-storage, which sends anything above 8 MiB in several requests (a
resumable upload), copies the object twice on its way up, and knows no deadline over a call. Its credentials
(google-auth) and its checksum (google-crc32c) are used.
"""

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import google_crc32c

from penstock.api import Deadline, ObjectInfo, ObjectLocked, SinkError
from penstock.api.object_store import ByteRange, DamagedTransfer, Page
from penstock.api.object_store.http import Answer, Buffer, Http
from penstock_gcs.credentials import Authority
from penstock_gcs.refusals import NO_BUCKET, refused, service_of
from penstock_gcs.settings import GcsSettings

__all__ = ["GcsStore", "Lock", "crc32c", "lock_of"]

_HOST = "https://storage.googleapis.com"
#: The object's own metadata that names the call which made it.
_MARK = "penstock-put"
_SUMMED_AT_ONCE = 1024 * 1024
_OF_VERSIONS = "name,generation,timeDeleted,temporaryHold,eventBasedHold,retentionExpirationTime,retention"


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps a version of an object; `until` is None for a hold, which ends when somebody releases it."""

    until: datetime | None


class GcsStore:
    """Single attempts: one request, and another where only that tells a missing object from a missing bucket."""

    batch = 1

    def __init__(self, settings: GcsSettings) -> None:
        self._settings = settings
        self._service = service_of(settings)
        self._http = Http(
            self._service,
            ca=settings.trusted(),
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            connections=settings.connections,
        )
        self._authority = Authority(settings, self._http.pools)
        self._bucket = f"/storage/v1/b/{quote(settings.bucket, safe='')}/o"

    @property
    def generation(self) -> int:
        """How often the credentials were replaced."""
        return self._authority.kept.generation

    def renew(self, generation: int) -> bool:
        """Whether others than those of `generation` are in use now."""
        return self._authority.kept.renew(generation)

    def put(self, key: str, data: Buffer, deadline: Deadline, *, if_absent: bool, mark: str) -> None:
        """One `multipart/related` request (RFC 2387), whatever the size. Generation 0 is an absent object."""
        checksum = crc32c(data)
        boundary = secrets.token_hex(16)  # random, so that the data cannot hold it
        metadata = json.dumps(self._metadata(key, mark, checksum))
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n"
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        query = {"uploadType": "multipart", "fields": "crc32c"}
        if if_absent:
            query["ifGenerationMatch"] = "0"
        if self._settings.kms_key is not None:
            query["kmsKeyName"] = self._settings.kms_key
        answer = self._send(
            "put", key, "POST", f"/upload{self._bucket}", deadline,
            query=query,
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            body=(head.encode(), data, f"\r\n--{boundary}--\r\n".encode()),
        )  # fmt: skip
        if self._parsed(key, answer).get("crc32c", checksum) != checksum:
            raise SinkError(key, "the service keeps other bytes than were sent", hint="Delete the object.")

    def is_own(self, key: str, data: Buffer, deadline: Deadline, *, mark: str) -> bool:
        """By the mark and the checksum."""
        found, checksum = self._look_at(key, "crc32c,metadata", deadline), crc32c(data)
        return bool(found.get("metadata", {}).get(_MARK) == mark and found.get("crc32c", checksum) == checksum)

    def get(self, key: str, wanted: ByteRange, deadline: Deadline) -> bytes:
        """One request; a whole object is compared with the checksum that the service keeps of it."""
        query = {"alt": "media"}
        answer = self._send("get", key, "GET", self._path(key), deadline, query=query, headers=wanted.headers)
        given = answer.headers.get("content-range")
        data = wanted.taken(key, answer.body, given)
        told = _told_crc32c(answer.headers.get("x-goog-hash"))
        if told is not None and wanted.is_all(answer.body, given) and told != crc32c(answer.body):
            raise DamagedTransfer(key, "its CRC32C is not the one that the service keeps")
        return data

    def stat(self, key: str, deadline: Deadline) -> ObjectInfo:
        """Size and time."""
        found = self._look_at(key, "size,timeCreated", deadline)
        try:
            return _info(key, found)
        except (KeyError, ValueError) as error:
            raise self._service.unreadable(key, "the JSON API of Cloud Storage") from error

    def list_page(self, prefix: str, token: str | None, deadline: Deadline) -> Page:
        """Up to 1,000 objects."""
        root = self._settings.root
        query = {"prefix": root + prefix, "fields": "items(name,size,timeCreated),nextPageToken"}
        if token is not None:
            query["pageToken"] = token
        found = self._parsed(prefix, self._send("list", prefix, "GET", self._bucket, deadline, query=query))
        try:
            objects = [_info(str(one["name"]).removeprefix(root), one) for one in found.get("items", ())]
        except (KeyError, ValueError) as error:
            raise self._service.unreadable(prefix, "the JSON API of Cloud Storage") from error
        return Page(objects, found.get("nextPageToken") or None)

    def delete(self, keys: Sequence[str], deadline: Deadline) -> None:
        """A listing of the object's versions, with what locks them, and a request for each.

        A request that names no generation would make a live object a noncurrent one where the bucket keeps versions,
        locked or not: hidden, and paid for. The live one goes last, so that none of the others comes to light.
        """
        (key,) = keys
        versions = self._versions(key, deadline)
        now = self._http.clock.now()
        locks = [lock for one in versions if (lock := lock_of(one, now)) is not None]
        if locks:
            ends = [lock.until for lock in locks if lock.until is not None]
            raise ObjectLocked.of({key: max(ends) if len(ends) == len(locks) else None})
        for one in sorted(versions, key=lambda one: "timeDeleted" not in one):
            query = {"generation": str(one["generation"])}
            self._send("delete", key, "DELETE", self._path(key), deadline, query=query, missing_is_fine=True)

    def retain(self, key: str, until: datetime, deadline: Deadline) -> None:
        """Lengthen the retention, unless it is long enough."""
        held = self._look_at(key, "retention", deadline).get("retention", {}).get("retainUntilTime")
        if held is None or _moment(held) < until:
            body = json.dumps({"retention": self._retention(until)}).encode()
            json_headers = {"Content-Type": "application/json"}
            self._send("retain", key, "PATCH", self._path(key), deadline, headers=json_headers, body=(body,))

    def look(self, deadline: Deadline) -> None:
        """A listing of at most one object."""
        query = {"prefix": self._settings.root, "maxResults": "1", "fields": "kind"}
        self._send("list", "", "GET", self._bucket, deadline, query=query)

    def close(self) -> None:
        """Close the idle connections."""
        self._http.close()

    def _send(
        self,
        action: str,
        key: str,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: tuple[Buffer, ...] = (),
        missing_is_fine: bool = False,
    ) -> Answer:
        """Send a request, and once more with a new token where the service wants one; raises `SinkError`."""
        asked = dict(query or {})
        if self._settings.project is not None:
            asked["userProject"] = self._settings.project
        url = f"{self._settings.endpoint or _HOST}{path}?{urlencode(asked)}"

        def send(*, anew: bool) -> Answer:
            authorized = {**(headers or {}), **self._authority.headers(key, method, url, deadline, anew=anew)}
            return self._http.send(key, method, url, deadline, headers=authorized, body=body)

        answer = send(anew=False)
        if answer.status == 401 and not self._settings.sends_no_credentials:
            answer = send(anew=True)
        if answer.is_success:
            return answer
        refusal = refused(action, answer)
        if refusal.status == 404 and refusal.code != NO_BUCKET and "No such object" not in refusal.said:
            self.look(deadline)  # says for sure whether it is the bucket that is missing
        if refusal.status == 404 and refusal.code != NO_BUCKET and missing_is_fine:
            return answer
        raise self._service.refused(key, refusal) from refusal

    def _parsed(self, key: str, answer: Answer) -> dict[str, Any]:
        try:
            return answer.json()
        except ValueError as error:
            raise self._service.unreadable(key, "the JSON API of Cloud Storage") from error

    def _versions(self, key: str, deadline: Deadline) -> list[dict[str, Any]]:
        """What the service keeps of the object, live and noncurrent, with the fields that `lock_of` reads."""
        name, found = self._settings.root + key, []
        query = {"prefix": name, "versions": "true", "fields": f"items({_OF_VERSIONS}),nextPageToken"}
        while True:
            page = self._parsed(key, self._send("list", key, "GET", self._bucket, deadline, query=query))
            items = page.get("items", ())
            found += [one for one in items if one.get("name") == name]
            # Longer names with that beginning come after it.
            if not page.get("nextPageToken") or not items or items[-1].get("name") != name:
                return found
            query["pageToken"] = str(page["nextPageToken"])

    def _look_at(self, key: str, fields: str, deadline: Deadline) -> dict[str, Any]:
        return self._parsed(key, self._send("stat", key, "GET", self._path(key), deadline, query={"fields": fields}))

    def _path(self, key: str) -> str:
        return f"{self._bucket}/{quote(self._settings.root + key, safe='')}"

    def _metadata(self, key: str, mark: str, checksum: str) -> dict[str, object]:
        settings = self._settings
        told: dict[str, object] = {
            "name": settings.root + key,
            "contentType": "application/octet-stream",
            "crc32c": checksum,
            "metadata": {_MARK: mark},
        }
        if settings.storage_class is not None:
            told["storageClass"] = settings.storage_class
        if settings.event_based_hold:
            told["eventBasedHold"] = True
        if (until := settings.locked_until(self._http.clock.now())) is not None:
            told["retention"] = self._retention(until)
        return told

    def _retention(self, until: datetime) -> dict[str, str]:
        mode = "Locked" if self._settings.object_lock == "locked" else "Unlocked"
        return {"mode": mode, "retainUntilTime": until.astimezone(UTC).isoformat().replace("+00:00", "Z")}


def lock_of(version: Mapping[str, Any], now: datetime) -> Lock | None:
    """What keeps a version from being deleted: a hold, its own retention, or the bucket's retention policy."""
    if version.get("temporaryHold") or version.get("eventBasedHold"):
        return Lock(None)
    told = (version.get("retentionExpirationTime"), version.get("retention", {}).get("retainUntilTime"))
    ends = [_moment(one) for one in told if one]
    return Lock(max(ends)) if ends and max(ends) > now else None


def crc32c(data: Buffer) -> str:
    """The checksum (RFC 3720, appendix B.4) as the service writes it: base64 of four bytes, the highest first."""
    value = 0
    with memoryview(data) as whole, whole.cast("B") as view:
        for start in range(0, len(view), _SUMMED_AT_ONCE):
            value = google_crc32c.extend(value, bytes(view[start : start + _SUMMED_AT_ONCE]))
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def _told_crc32c(header: str | None) -> str | None:
    """The checksum in an `x-goog-hash` header, such as `crc32c=n03x6A==,md5=…`; None without one."""
    for part in (header or "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "crc32c":
            return value
    return None


def _info(key: str, told: Mapping[str, Any]) -> ObjectInfo:
    return ObjectInfo(key, int(told["size"]), _moment(told["timeCreated"]))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
