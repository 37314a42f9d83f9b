"""Deletion in buckets that keep versions, locks and holds. No emulator deletes generations, so they are scripted."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.servers.gcs import GcsServer
from tests.servers.tampering import Act, TamperingProxy

from penstock.api import ObjectLocked, SinkDenied, SinkError
from penstock_gcs import GcsSettings, GcsSink

pytestmark = pytest.mark.server

LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(days=40)


@pytest.fixture
def http(gcs: GcsServer) -> Iterator[TamperingProxy]:
    with TamperingProxy(gcs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def sink(gcs: GcsServer, http: TamperingProxy) -> Iterator[GcsSink]:
    values = gcs.settings(gcs.new_bucket(), endpoint=http.endpoint, prefix="db", deadline=20)
    with closing(GcsSink(GcsSettings.model_validate(values))) as sink:
        yield sink


def version(generation: int, name: str = "db/a", **more: Any) -> dict[str, Any]:
    return {"name": name, "generation": str(generation), **more}


def listing(*versions: dict[str, Any], following: str | None = None) -> Act:
    told: dict[str, Any] = {"items": list(versions)} | ({"nextPageToken": following} if following else {})
    return Act("GET", status=200, where="versions=true", body=json.dumps(told).encode())


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def deleted(http: TamperingProxy) -> list[str]:
    """The generations that were asked to be deleted, one after the other; "" is a plain deletion."""
    asked = [urlsplit(one.path) for one in http.seen if one.method == "DELETE"]
    return [parse_qs(one.query).get("generation", [""])[0] for one in asked]


def test_an_object_is_deleted_by_its_generation(http: TamperingProxy, sink: GcsSink) -> None:
    for key in ("a", "a", "ab"):
        sink.put(key, b"x")
    sink.delete("a")
    assert [info.key for info in sink.list()] == ["ab"]
    (generation,) = deleted(http)
    assert generation.isdigit(), "a deletion without would leave a noncurrent version"
    sink.delete_many(["a", "gone"])
    assert len(deleted(http)) == 1, "of what is missing there is nothing to delete"


def test_all_versions_go_and_the_live_one_last(http: TamperingProxy, sink: GcsSink) -> None:
    gone = {"timeDeleted": "2026-01-01T00:00:00Z"}
    http.script = [
        listing(version(3), version(1, **gone), following="more"),
        listing(version(2, **gone), version(9, "db/ab")),
        Act("DELETE", status=204, stay=True),
    ]
    sink.delete("a")
    assert deleted(http) == ["1", "2", "3"]
    asked = [parse_qs(urlsplit(one.path).query) for one in http.seen if one.method == "GET"]
    assert [one["prefix"] for one in asked] == [["db/a"], ["db/a"]]
    assert asked[1]["pageToken"] == ["more"]


def test_what_was_hidden_by_somebody_is_freed(http: TamperingProxy, sink: GcsSink) -> None:
    http.script = [listing(version(7, timeDeleted="2026-01-01T00:00:00Z")), Act("DELETE", status=204)]
    sink.delete("a")
    assert deleted(http) == ["7"]


@pytest.mark.parametrize(
    ("lock", "until"),
    [
        ({"retention": {"mode": "Locked", "retainUntilTime": at(LATER)}}, LATER),
        ({"retentionExpirationTime": at(LATER)}, LATER),
        (
            {
                "retentionExpirationTime": at(LATER),
                "retention": {"mode": "Unlocked", "retainUntilTime": at(LATER + timedelta(days=1))},
            },
            LATER + timedelta(days=1),
        ),
        ({"temporaryHold": True}, None),
        ({"eventBasedHold": True, "retentionExpirationTime": at(LATER)}, None),
    ],
    ids=["retention", "policy", "both", "temporary hold", "event-based hold"],
)
@pytest.mark.parametrize("more", [{}, {"timeDeleted": "2026-01-01T00:00:00Z"}], ids=["live", "noncurrent"])
def test_what_is_locked_is_not_touched(
    http: TamperingProxy, sink: GcsSink, lock: dict[str, Any], until: datetime | None, more: dict[str, Any]
) -> None:
    sink.put("b", b"x")
    locked = [version(2, **lock, **more), version(3)]
    http.script = [listing(*locked), Act("DELETE", status=204, name="db/a")]
    with pytest.raises(ObjectLocked) as caught:
        sink.delete_many(["a", "b"])
    assert caught.value.locked == {"a": until}
    assert (f"{until:%Y-%m-%d %H:%M}" if until else "nobody knows") in str(caught.value)
    assert len(deleted(http)) == 1, "the other object alone"
    assert list(sink.list()) == []


def test_a_lock_that_has_ended_keeps_nothing(http: TamperingProxy, sink: GcsSink) -> None:
    past = at(datetime.now(UTC) - timedelta(minutes=1))
    lock: dict[str, Any] = {"retention": {"mode": "Locked", "retainUntilTime": past}, "temporaryHold": False}
    http.script = [listing(version(2, **lock)), Act("DELETE", status=204)]
    sink.delete("a")
    assert deleted(http) == ["2"]


@pytest.mark.parametrize("reason", ["retentionPolicyNotMet", "objectUnderActiveHold"])
def test_a_lock_that_the_listing_did_not_tell_is_one(http: TamperingProxy, sink: GcsSink, reason: str) -> None:
    said = json.dumps({"error": {"message": "not now", "errors": [{"reason": reason}]}}).encode()
    http.script = [listing(version(2)), Act("DELETE", status=403, body=said)]
    with pytest.raises(ObjectLocked, match="not now") as caught:
        sink.delete("a")
    assert caught.value.locked == {"a": None}


@pytest.mark.parametrize(
    ("method", "permission"), [("GET", "storage.objects.list"), ("DELETE", "storage.objects.delete")]
)
def test_a_missing_permission_is_named(http: TamperingProxy, sink: GcsSink, method: str, permission: str) -> None:
    sink.put("a", b"x")
    said = json.dumps({"error": {"message": "no", "errors": [{"reason": "forbidden"}]}}).encode()
    http.script = [Act(method, status=403, body=said)]
    with pytest.raises(SinkDenied) as caught:
        sink.delete("a")
    assert permission in str(caught.value.hint)
    assert sink.get("a") == b"x"


def test_a_locked_object_that_may_not_be_replaced_is_an_error_that_says_so(http: TamperingProxy, sink: GcsSink) -> None:
    said = json.dumps({"error": {"message": "not now", "errors": [{"reason": "retentionPolicyNotMet"}]}}).encode()
    http.script = [Act("POST", status=403, body=said)]
    with pytest.raises(SinkError) as caught:
        sink.put("a", b"x")
    assert isinstance(caught.value, ObjectLocked)
