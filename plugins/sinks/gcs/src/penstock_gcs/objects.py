"""Objects below the prefix of one bucket: each call of the sink as requests to the service."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from penstock.api import ObjectInfo, SinkError, SinkUnreachable, content_range
from penstock_gcs.connection import Answer, Call, Connection, object_path, objects_path
from penstock_gcs.refusals import NoBucket, Refused
from penstock_gcs.settings import GcsSettings
from penstock_gcs.transfer import Upload, crc32c, told_crc32c

__all__ = ["Objects"]

#: Names the call that made an object: what tells our own put, whose answer was lost, from somebody else's.
_MARK = "penstock-put"
#: Of a retention or a hold: the object that a lost answer was about may not be replaced.
_IN_THE_WAY = {403, 412}


class Objects:
    """All requests. Keys are valid ones; errors are `SinkError`s."""

    def __init__(self, settings: GcsSettings) -> None:
        self._settings = settings
        self._root = settings.root
        self._connection = Connection(settings)

    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool) -> None:
        """One request, whatever the size. With `if_absent` the service decides (generation 0 is none)."""
        mark, checksum = uuid.uuid4().hex, crc32c(data)
        unsure = False

        def attempt(call: Call) -> None:
            nonlocal unsure
            begun_before, unsure = unsure, True
            upload = Upload(self._metadata(key, mark, checksum), data)
            try:
                answer = call.send(
                    "POST",
                    f"/upload{objects_path(self._settings.bucket)}",
                    query=self._put_query(if_absent=if_absent),
                    headers={"Content-Type": upload.content_type, "Content-Length": str(upload.size)},
                    body=lambda: upload.blocks(call.deadline),
                )
            except Refused as refused:
                if refused.status == 404:
                    raise NoBucket from refused
                # An attempt whose answer was lost may have made what is in this one's way.
                if begun_before and refused.status in _IN_THE_WAY and self._is_ours(call, mark, checksum):
                    return
                raise
            if answer.json().get("crc32c", checksum) != checksum:
                raise SinkError(key, "the service keeps other bytes than were sent", hint="Delete the object.")

        self._connection.call(key, attempt)

    def get(self, key: str, *, start: int, length: int | None) -> bytes:
        """The object's bytes, or a range of them."""
        if length == 0:
            self.stat(key)
            return b""
        return self._connection.call(key, lambda call: self._get(call, start, length))

    def stat(self, key: str) -> ObjectInfo:
        """Size and time."""
        return self._connection.call(key, lambda call: _info(key, self._look_at(call, "size,timeCreated")))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects with that prefix, page by page."""
        query = {"prefix": self._root + prefix, "fields": "items(name,size,timeCreated),nextPageToken"}

        def page(call: Call) -> dict[str, Any]:
            try:
                return call.send("GET", objects_path(self._settings.bucket), query=query).json()
            except Refused as refused:
                if refused.status == 404:
                    raise NoBucket from refused
                raise

        while True:
            answer = self._connection.call(prefix, page)
            for one in answer.get("items", ()):
                key = str(one["name"]).removeprefix(self._root)
                yield _info(key, one)
            following = answer.get("nextPageToken")
            if not following:
                return
            if following == query.get("pageToken"):
                raise SinkError(prefix, "the service says that its listing goes on, but not from where")
            query["pageToken"] = following

    def delete(self, key: str) -> None:
        """Remove the object."""

        def attempt(call: Call) -> None:
            try:
                call.send("DELETE", self._path(key))
            except Refused as refused:
                if refused.status != 404:
                    raise
                self._expect_bucket(call, refused)

        self._connection.call(key, attempt)

    def retain(self, key: str, until: datetime) -> None:
        """Keep the object locked at least until then."""

        def attempt(call: Call) -> None:
            held = self._look_at(call, "retention").get("retention", {}).get("retainUntilTime")
            if held is None or _moment(held) < until:
                body = json.dumps({"retention": self._retention(until)}).encode()
                call.send("PATCH", self._path(key), headers={"Content-Type": "application/json"}, body=body)

        self._connection.call(key, attempt)

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()

    def _path(self, key: str) -> str:
        return object_path(self._settings.bucket, self._root + key)

    def _metadata(self, key: str, mark: str, checksum: str) -> dict[str, object]:
        settings = self._settings
        told: dict[str, object] = {
            "name": self._root + key,
            "contentType": "application/octet-stream",
            "crc32c": checksum,
            "metadata": {_MARK: mark},
        }
        if settings.storage_class is not None:
            told["storageClass"] = settings.storage_class
        if settings.event_based_hold:
            told["eventBasedHold"] = True
        if settings.locked_until is not None:
            told["retention"] = self._retention(settings.locked_until)
        return told

    def _put_query(self, *, if_absent: bool) -> dict[str, str]:
        query = {"uploadType": "multipart", "fields": "crc32c"}
        if if_absent:
            query["ifGenerationMatch"] = "0"
        if self._settings.kms_key is not None:
            query["kmsKeyName"] = self._settings.kms_key
        return query

    def _retention(self, until: datetime) -> dict[str, str]:
        mode = "Locked" if self._settings.object_lock == "locked" else "Unlocked"
        return {"mode": mode, "retainUntilTime": until.astimezone(UTC).isoformat().replace("+00:00", "Z")}

    def _look_at(self, call: Call, fields: str) -> dict[str, Any]:
        try:
            return call.send("GET", self._path(call.key), query={"fields": fields}).json()
        except Refused as refused:
            if refused.status == 404:
                self._expect_bucket(call, refused)
            raise

    def _expect_bucket(self, call: Call, refused: Refused) -> None:
        """After 404: raise `NoBucket` if it was the bucket that is missing, which only a listing says for sure."""
        if "No such object" in refused.said:
            return
        try:
            call.send("GET", objects_path(self._settings.bucket), query={"maxResults": "1", "fields": "kind"})
        except Refused as again:
            if again.status == 404:
                raise NoBucket from again

    def _is_ours(self, call: Call, mark: str, checksum: str) -> bool:
        try:
            found = self._look_at(call, "crc32c,metadata")
        except Refused:
            return False
        return bool(found.get("metadata", {}).get(_MARK) == mark and found.get("crc32c", checksum) == checksum)

    def _get(self, call: Call, start: int, length: int | None) -> bytes:
        whole = not start and length is None
        asked = {} if whole else {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"}
        try:
            answer = call.send("GET", self._path(call.key), query={"alt": "media"}, headers=asked)
        except Refused as refused:
            if refused.status == 416 and not whole:
                return b""
            if refused.status == 404:
                self._expect_bucket(call, refused)
            raise
        given = answer.headers.get("content-range")
        if not given:  # all of it was asked for, or the service has no ranges
            _verify(call, answer)
            return answer.body if whole else answer.body[start : None if length is None else start + length]
        first, total = content_range(given)
        end = total if length is None else min(start + length, total)
        if first != start or len(answer.body) != end - start:
            raise SinkUnreachable(call.key, f"asked for bytes {start} to {end}, the service gave {given}")
        if len(answer.body) == total:
            _verify(call, answer)
        return answer.body


def _verify(call: Call, answer: Answer) -> None:
    """Compare a whole object with the checksum that the service keeps of it."""
    told = told_crc32c(answer.headers.get("x-goog-hash"))
    if told is not None and told != crc32c(answer.body):
        raise SinkUnreachable(call.key, "the transfer was damaged: its CRC32C is not that of the object")


def _info(key: str, told: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(key, int(told["size"]), _moment(told["timeCreated"]))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
