"""Object lock and versioning, which only a real service has."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from plugins.sinks.s3.tests.real import make
from tests.servers.s3 import S3Server

from penstock.api import (
    Capability,
    ObjectMissing,
    SinkError,
)
from penstock.api.object_store import clock

pytestmark = pytest.mark.server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket()


def test_objects_are_locked_until_the_day(s3: S3Server) -> None:
    bucket = s3.new_bucket(lock=True)
    with (
        closing(make(s3, bucket, object_lock="governance", object_lock_days=3)) as sink,
        closing(s3.client()) as client,
    ):
        sink.put("packs/a", b"precious")
        sink.put("grants/a", b"precious", if_absent=True)
        # Ceph 16.2 ignores If-None-Match in versioned buckets, which those with locks are: nothing is assumed.
        assert Capability.OBJECT_LOCK in sink.capabilities()
        for key in ("packs/a", "grants/a"):
            found = client.head_object(Bucket=bucket, Key=key)
            assert found["ObjectLockMode"] == "GOVERNANCE"
            days = found["ObjectLockRetainUntilDate"] - datetime.now(UTC)
            assert timedelta(days=2, hours=23) < days <= timedelta(days=3)
            with pytest.raises(ClientError, match="AccessDenied"):
                client.delete_object(Bucket=bucket, Key=key, VersionId=found["VersionId"])
        # The probe's object is not kept for days.
        assert "ObjectLockMode" not in client.head_object(Bucket=bucket, Key=".conditional-put~")

        later = datetime.now(UTC) + timedelta(days=10)
        sink.retain("packs/a", later)
        sink.retain("packs/a", later - timedelta(days=5))
        until = client.head_object(Bucket=bucket, Key="packs/a")["ObjectLockRetainUntilDate"]
        assert abs(until - later) < timedelta(seconds=2)


def test_a_lock_goes_by_the_time_of_the_service(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_host_time", lambda: datetime.now(UTC) - timedelta(days=90))
    bucket = s3.new_bucket(lock=True)
    with (
        closing(make(s3, bucket, object_lock="governance", object_lock_days=3)) as sink,
        closing(s3.client()) as client,
    ):
        sink.preflight()
        sink.put("packs/a", b"precious")
        until = client.head_object(Bucket=bucket, Key="packs/a")["ObjectLockRetainUntilDate"]
        assert abs(until - datetime.now(UTC) - timedelta(days=3)) < timedelta(minutes=1)


def test_an_object_without_a_lock_can_be_given_one(s3: S3Server) -> None:
    bucket = s3.new_bucket(lock=True)
    with closing(s3.client()) as client:
        client.put_object(Bucket=bucket, Key="packs/a", Body=b"x")
        with closing(make(s3, bucket, object_lock="governance", object_lock_days=1)) as sink:
            sink.retain("packs/a", datetime.now(UTC) + timedelta(days=2))
            with pytest.raises(ObjectMissing):
                sink.retain("packs/gone", datetime.now(UTC) + timedelta(days=2))
        assert client.head_object(Bucket=bucket, Key="packs/a")["ObjectLockMode"] == "GOVERNANCE"


def test_a_bucket_without_object_lock_is_reported(s3: S3Server, bucket: str) -> None:
    sink = make(s3, bucket, object_lock="governance", object_lock_days=1)
    with closing(sink), pytest.raises(SinkError) as caught:
        sink.put("a", b"x")
    assert "lock" in f"{caught.value} {caught.value.hint}"


def test_a_versioned_bucket_behaves_like_any_other(s3: S3Server, bucket: str) -> None:
    with closing(s3.client()) as client, closing(make(s3, bucket)) as sink:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        sink.put("a", b"1")
        sink.put("a", b"22")
        assert [(info.key, info.size) for info in sink.list()] == [("a", 2)]
        for _ in range(2):
            sink.delete("a")
        assert list(sink.list()) == []
        sink.put("a", b"333", if_absent=True)
        assert sink.get("a") == b"333"
