"""Deletion that frees what it deletes, in buckets that keep versions too."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from penstock.api import Deadline, ObjectLocked, SinkDenied
from penstock.api.object_store import Refused
from penstock_s3.client import ClientOfAll
from penstock_s3.refusals import DELETE_VERSION, refused_by
from penstock_s3.settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["NO_LOCK", "Versions"]

#: What a service says of an object without a lock.
NO_LOCK = {"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"}
#: What it says of a lock where the bucket knows none.
_NO_LOCKS = {*NO_LOCK, "InvalidRequest", "NotImplemented", "MethodNotAllowed"}
_MISSING = {"NoSuchKey", "NoSuchVersion", "404"}
_LOCK_IN_WORDS = re.compile(r"object.?lock|locked|worm|retention|legal.?hold", re.IGNORECASE)

T = TypeVar("T")

#: What one request takes.
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of an object, or a delete marker. Without `id`: the object of a bucket that keeps no versions."""

    key: str
    id: str | None = None
    is_latest: bool = True


@dataclass(slots=True)
class _Left:
    """What deletions left: versions that were refused, and keys that a marker hides in place of being deleted."""

    refused: dict[_Version, Refused] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)


class Versions:
    """Deletes all versions of objects. A plain DELETE is never sent where it would leave a marker, and the bytes.

    Of each object the latest version goes last, and only if all others went: whoever reads meanwhile sees the object or
    nothing, and an object of which a version is locked stays as it was.
    """

    def __init__(self, settings: S3Settings, client: ClientOfAll) -> None:
        self._settings = settings
        self._client = client
        self._keeps: bool | None = None
        self._takes_batches = True

    def delete(self, keys: Sequence[str], deadline: Deadline) -> None:
        """Free these objects; raises one `ObjectLocked` for all that are locked, when the others are gone."""
        refused: dict[_Version, Refused] = {}
        if not self._keeps_versions(keys[0], deadline):
            left = self._send([_Version(key) for key in keys], deadline)
            refused, keys = left.refused, left.hidden
        if keys:
            self._keeps = True  # also where it was turned on since it was asked for, and a marker hides these keys
            refused |= self._free([self._of(key, deadline) for key in keys], deadline)
        self._raise(refused, deadline)

    def _free(self, found: Sequence[Sequence[_Version]], deadline: Deadline) -> dict[_Version, Refused]:
        """Delete the versions of each object; what was refused."""
        refused = self._send([one for versions in found for one in _before_the_last(versions)], deadline).refused
        kept = {version.key for version in refused}
        last = [one for versions in found for one in _last(versions) if one.key not in kept]
        return refused | self._send(last, deadline).refused

    def _keeps_versions(self, key: str, deadline: Deadline) -> bool:
        """Whether the bucket may hold versions: where nobody says, it may."""
        if self._keeps is None:
            with self._client.within(key, deadline) as client:
                try:
                    self._keeps = "Status" in client.get_bucket_versioning(Bucket=self._settings.bucket)
                except ClientError as error:
                    told = refused_by(error)
                    if told.status in {405, 501} or told.code == "NotImplemented":
                        self._keeps = False
                    elif told.status == 403 and told.code in {"AccessDenied", "403"}:
                        self._keeps = True
                    else:
                        raise
        return self._keeps

    def _of(self, key: str, deadline: Deadline) -> list[_Version]:
        """All versions of the object, and its delete markers."""
        name, found = self._settings.root + key, []
        place: Any = {"Bucket": self._settings.bucket, "Prefix": name}
        while True:
            with self._client.within(key, deadline) as client:
                page: Any = client.list_object_versions(**place)
            entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
            found += [_Version(key, one["VersionId"], one["IsLatest"]) for one in entries if one["Key"] == name]
            # Longer names with that beginning come after it.
            if not page.get("IsTruncated") or page.get("NextKeyMarker") != name:
                return found
            place |= {"KeyMarker": name, "VersionIdMarker": page["NextVersionIdMarker"]}

    def _send(self, versions: Sequence[_Version], deadline: Deadline) -> _Left:
        """Delete them, and tell what is left of them."""
        left = _Left()
        for first in range(0, len(versions), _AT_ONCE):
            some = versions[first : first + _AT_ONCE]
            if not self._is_sent_at_once(some, left, deadline):
                for one in some:
                    with self._client.within(one.key, deadline) as client:
                        self._delete_one(client, one, left)
        return left

    def _is_sent_at_once(self, versions: Sequence[_Version], left: _Left, deadline: Deadline) -> bool:
        """Whether one request did for all of them.

        Ceph denies it as such, whatever it is about, to a user whose policy is for a part of the bucket.
        """
        if len(versions) == 1 or not self._takes_batches:
            return False
        try:
            with self._client.within(versions[0].key, deadline) as client:
                self._delete_many(client, versions, left)
        except SinkDenied as error:
            if not isinstance(error.__cause__, Refused) or error.__cause__.code != "AccessDenied":
                raise
            self._takes_batches = False
        return self._takes_batches

    def _delete_one(self, client: "S3Client", version: _Version, left: _Left) -> None:
        try:
            answer = client.delete_object(Bucket=self._settings.bucket, **self._named(version))
        except ClientError as error:
            told = refused_by(error)
            told.__cause__ = error
            if told.code in _MISSING:
                return
            if not _may_be_a_lock(told):
                raise
            left.refused[version] = _about(version, told)
        else:
            if version.id is None and answer.get("DeleteMarker", False):
                left.hidden.append(version.key)

    def _delete_many(self, client: "S3Client", versions: Iterable[_Version], left: _Left) -> None:
        by_name = {(self._settings.root + one.key, one.id or ""): one for one in versions}
        by_key = {name: one for (name, _), one in by_name.items()}  # for services that do not repeat the version
        asked: Any = {"Objects": [self._named(one) for one in by_name.values()], "Quiet": False}
        answer = client.delete_objects(Bucket=self._settings.bucket, Delete=asked)
        for error in answer.get("Errors", ()):
            told = Refused("delete", 0, code=error.get("Code", ""), said=error.get("Message", ""))
            name = str(error.get("Key", ""))
            version = by_name.get((name, error.get("VersionId") or "")) or by_key.get(name) or _Version(name)
            if told.code not in _MISSING:
                left.refused[version] = _about(version, told)
        marked = [(str(one.get("Key")), "") for one in answer.get("Deleted", ()) if one.get("DeleteMarker")]
        left.hidden += [by_name[place].key for place in marked if place in by_name]

    def _raise(self, refused: dict[_Version, Refused], deadline: Deadline) -> None:
        """Raise what was refused: one `ObjectLocked` if it was for locks alone, or else the first other error."""
        locked: dict[str, datetime | None] = {}
        other: tuple[str, Refused] | None = None
        for version, told in refused.items():
            is_locked, until = self._lock_of(version, told, deadline)
            if not is_locked:
                other = other or (version.key, told)
            elif version.key not in locked or until is None:
                locked[version.key] = until
            elif (known := locked[version.key]) is not None:
                locked[version.key] = max(known, until)
        if other is not None:
            key, told = other
            raise self._client.failures.service.refused(key, told) from told
        if locked:
            raise ObjectLocked.of(locked) from next(iter(refused.values()))

    def _lock_of(self, version: _Version, told: Refused, deadline: Deadline) -> tuple[bool, datetime | None]:
        """Whether the version is locked, and until when: services refuse what is locked as they refuse strangers."""
        place: Any = {"Bucket": self._settings.bucket, **self._named(version)}
        if not _may_be_a_lock(told):
            return False, None
        with self._client.within(version.key, deadline) as client:
            held = _asked(lambda: client.get_object_legal_hold(**place)["LegalHold"].get("Status") == "ON")
            if held:
                return True, None
            until = _asked(lambda: client.get_object_retention(**place)["Retention"].get("RetainUntilDate"))
        if until is not None and until > self._client.clock.now():
            return True, until
        return _is_a_lock_in_words(told), None

    def _named(self, version: _Version) -> Any:
        named = {"Key": self._settings.root + version.key}
        return named if version.id is None else {**named, "VersionId": version.id}


def _before_the_last(versions: Sequence[_Version]) -> Iterator[_Version]:
    """All but the latest one; the only one, too, since nothing else has to go before it."""
    yield from (one for one in versions if not one.is_latest or len(versions) == 1)


def _last(versions: Sequence[_Version]) -> Iterator[_Version]:
    yield from (one for one in versions if one.is_latest and len(versions) > 1)


def _may_be_a_lock(told: Refused) -> bool:
    return told.status == 403 or told.code in {"AccessDenied", "InvalidRequest"} or _is_a_lock_in_words(told)


def _is_a_lock_in_words(told: Refused) -> bool:
    return bool(_LOCK_IN_WORDS.search(f"{told.code} {told.said}"))


def _about(version: _Version, told: Refused) -> Refused:
    """The refusal, which names the permission that deleting a version takes."""
    if version.id is None:
        return told
    found = Refused(DELETE_VERSION, told.status, code=told.code, said=told.said, wait=told.wait)
    found.__cause__ = told.__cause__
    return found


def _asked(ask: Callable[[], T]) -> T | None:
    """What the service says of a lock; None where it knows none, or does not say."""
    try:
        return ask()
    except ClientError as error:
        told = refused_by(error)
        if told.code in _NO_LOCKS | _MISSING or told.status in {403, 404, 405, 501}:
            return None
        raise
