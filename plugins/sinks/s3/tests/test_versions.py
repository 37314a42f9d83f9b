"""Deletion in buckets that keep versions: it frees all of an object, or leaves the object as it was."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from plugins.sinks.s3.tests.real import make
from tests.servers.s3 import S3Server

from penstock.api import Deadline, ObjectLocked, SinkDenied
from penstock_s3 import S3Sink
from penstock_s3.client import ClientOfAll

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.server


class Bucket:
    """A bucket at a real service, and what it keeps."""

    def __init__(self, server: S3Server, client: "S3Client", *, lock: bool = False) -> None:
        self.server = server
        self.client = client
        self.name = server.new_bucket(lock=lock)

    def versioning(self, status: Any) -> None:
        self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": status})

    def deny(self, *actions: str) -> None:
        resource = [f"arn:aws:s3:::{self.name}", f"arn:aws:s3:::{self.name}/*"]
        statement = {"Effect": "Deny", "Principal": "*", "Action": actions, "Resource": resource}
        self.client.put_bucket_policy(
            Bucket=self.name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        )

    def put(self, key: str, *, until: datetime | None = None) -> str:
        more: Any = {} if until is None else {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}
        return self.client.put_object(Bucket=self.name, Key=key, Body=b"precious", **more).get("VersionId", "null")

    def kept(self) -> dict[str, int]:
        """How many versions and markers of each name there are."""
        counts: dict[str, int] = {}
        found = self.client.list_object_versions(Bucket=self.name)
        for one in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]:
            counts[one["Key"]] = counts.get(one["Key"], 0) + 1
        return counts

    def markers(self) -> int:
        return len(self.client.list_object_versions(Bucket=self.name).get("DeleteMarkers", []))

    def sink(self, **more: Any) -> S3Sink:
        return make(self.server, self.name, **more)


@pytest.fixture
def client(s3: S3Server) -> Iterator["S3Client"]:
    with closing(s3.client()) as client:
        yield client


@pytest.fixture
def bucket(s3: S3Server, client: "S3Client") -> Bucket:
    found = Bucket(s3, client)
    found.versioning("Enabled")
    return found


@pytest.fixture
def locked(s3: S3Server, client: "S3Client") -> Bucket:
    return Bucket(s3, client, lock=True)


@pytest.mark.parametrize("checksums", ["auto", "when_required"])
def test_nothing_is_left_of_what_was_put_twice_and_hidden_once(bucket: Bucket, checksums: str) -> None:
    with closing(bucket.sink(prefix="db", checksums=checksums)) as sink:
        for key in ("a", "ab", "a", "c", "a"):
            sink.put(key, key.encode())
        bucket.client.delete_object(Bucket=bucket.name, Key="db/a")
        sink.put("a", b"again")
        bucket.client.delete_object(Bucket=bucket.name, Key="db/c")
        assert bucket.kept() == {"db/a": 5, "db/ab": 1, "db/c": 2}
        sink.delete("a")
        assert bucket.kept() == {"db/ab": 1, "db/c": 2}, "what begins with the same letters stays"
        sink.delete_many(["gone", "c", "ab"])
        assert bucket.kept() == {}


def test_versions_are_freed_when_no_new_ones_are_kept(bucket: Bucket) -> None:
    with closing(bucket.sink()) as sink:
        sink.put("a", b"1")
        bucket.versioning("Suspended")
        sink.put("a", b"2")
        bucket.put("b")
        assert bucket.kept() == {"a": 2, "b": 1}
        sink.delete_many(["a", "b"])
        assert bucket.kept() == {}


def test_what_was_there_before_versions_were_kept_is_freed(s3: S3Server, client: "S3Client") -> None:
    bucket = Bucket(s3, client)
    with closing(bucket.sink()) as sink:
        for key in ("a", "b", "c", "d"):
            sink.put(key, b"x")
        sink.delete("d")
        bucket.versioning("Enabled")  # which this sink has not asked for again
        sink.put("b", b"y")
        sink.delete("a")
        sink.delete_many(["b", "c"])
        assert bucket.kept() == {}


def test_more_versions_than_fit_a_page_are_freed(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(bucket.sink()) as sink:
        for key in ("a", "a", "a", "a", "a", "ab"):
            sink.put(key, b"x")
        # Pages of 1,000 versions take too long to make.
        with ClientOfAll.within(sink.store.store._client, "a", Deadline(60)) as used:
            original = used.list_object_versions
            monkeypatch.setattr(used, "list_object_versions", lambda **asked: original(**asked, MaxKeys=2))
        sink.delete("a")
        assert bucket.kept() == {"ab": 1}


def test_of_several_objects_the_locked_ones_stay_and_say_until_when(locked: Bucket) -> None:
    soon, late = (datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) for days in (1, 9))
    for key, until in (("a", None), ("b", soon), ("c", late), ("d", None)):
        locked.put(key, until=until)
    locked.put("d")
    with closing(locked.sink()) as sink:
        for keys in (["a", "b", "c", "d"], ["c", "b"]):
            with pytest.raises(ObjectLocked, match=f"c: locked until {late:%Y-%m-%d}") as caught:
                sink.delete_many(keys)
            assert caught.value.locked == {"b": soon, "c": late}
            assert locked.kept() == {"b": 1, "c": 1}
            assert locked.markers() == 0
            assert sink.get("b") == b"precious"


def test_a_legal_hold_has_no_end_that_anybody_knows(locked: Bucket) -> None:
    locked.put("a", until=datetime.now(UTC) + timedelta(days=1))
    locked.client.put_object_legal_hold(Bucket=locked.name, Key="a", LegalHold={"Status": "ON"})
    with closing(locked.sink()) as sink:
        with pytest.raises(ObjectLocked, match="nobody knows") as caught:
            sink.delete("a")
        assert caught.value.until is None
        assert sink.get("a") == b"precious"
    locked.client.put_object_legal_hold(Bucket=locked.name, Key="a", LegalHold={"Status": "OFF"})


def test_an_object_whose_former_version_is_locked_stays_as_it_was(locked: Bucket) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    locked.put("a", until=until)
    locked.client.put_object(Bucket=locked.name, Key="a", Body=b"replaced")
    locked.put("b")
    with closing(locked.sink()) as sink:
        with pytest.raises(ObjectLocked) as caught:
            sink.delete_many(["a", "b"])
        assert caught.value.locked == {"a": until}
        assert sink.get("a") == b"replaced"
        assert locked.kept() == {"a": 2}


def test_who_may_not_delete_versions_hides_nothing(bucket: Bucket) -> None:
    bucket.deny("s3:DeleteObjectVersion")
    with closing(bucket.sink()) as sink:
        for key in ("a", "b"):
            sink.put(key, b"x")
        for keys in (["a"], ["a", "b"]):
            with pytest.raises(SinkDenied) as caught:
                sink.delete_many(keys)
            assert "s3:DeleteObjectVersion" in str(caught.value.hint)
            assert "keeps versions" in str(caught.value.hint)
        assert sorted(info.key for info in sink.list()) == ["a", "b"]
        assert bucket.markers() == 0


def test_who_may_not_ask_for_versions_looks_for_them(bucket: Bucket) -> None:
    bucket.deny("s3:GetBucketVersioning")
    with closing(bucket.sink()) as sink:
        sink.put("a", b"x")
        sink.put("a", b"y")
        sink.delete("a")
        assert bucket.kept() == {}
    bucket.deny("s3:GetBucketVersioning", "s3:ListBucketVersions")
    with closing(bucket.sink()) as sink:
        sink.put("a", b"x")
        with pytest.raises(SinkDenied) as caught:
            sink.delete("a")
        assert "s3:ListBucketVersions" in str(caught.value.hint)
        assert sink.get("a") == b"x"


def test_a_lock_that_nobody_may_look_at_is_a_denial_that_says_what_to_grant(locked: Bucket) -> None:
    locked.put("a", until=datetime.now(UTC) + timedelta(days=1))
    locked.put("b", until=datetime.now(UTC) + timedelta(days=1))
    locked.deny("s3:GetObjectRetention", "s3:GetObjectLegalHold")
    with closing(locked.sink()) as sink:
        with pytest.raises(ObjectLocked) as unknown:  # this service gives the reason, where one object is deleted
            sink.delete("a")
        assert unknown.value.until is None
        with pytest.raises(SinkDenied) as caught:
            sink.delete_many(["a", "b"])
        assert "s3:GetObjectRetention" in str(caught.value.hint)
        assert sink.get("a") == b"precious"
