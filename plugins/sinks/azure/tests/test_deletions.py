"""Deletion in accounts that keep versions, policies and holds, which Azurite knows nothing of: they are scripted.

That the current version cannot be deleted by its id (403, OperationNotAllowedOnRootBlob) was seen at the real service.
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from tests.servers.azure import AzureServer
from tests.servers.tampering import Act, TamperingProxy

from penstock.api import ObjectLocked, SinkDenied
from penstock_azure import AzureSettings, AzureSink

pytestmark = pytest.mark.server

LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(days=40)
ROOT = {"x-ms-error-code": "OperationNotAllowedOnRootBlob"}


@pytest.fixture
def container(azure: AzureServer) -> str:
    return azure.new_container()


@pytest.fixture
def http(azure: AzureServer) -> Iterator[TamperingProxy]:
    with TamperingProxy(azure.endpoint) as proxy:
        yield proxy


@pytest.fixture
def sink(azure: AzureServer, container: str, http: TamperingProxy) -> Iterator[AzureSink]:
    values = azure.settings(container, endpoint=http.endpoint, prefix="db", deadline=20)
    with closing(AzureSink(AzureSettings.model_validate(values))) as sink:
        yield sink


def blob(
    version: str = "", name: str = "db/a", *, is_current: bool = False, until: str = "", held: bool = False
) -> str:
    parts = [f"<Name>{name}</Name>"]
    if version:
        parts.append(f"<VersionId>{version}</VersionId>")
    if is_current:
        parts.append("<IsCurrentVersion>true</IsCurrentVersion>")
    told = f"<ImmutabilityPolicyUntilDate>{until}</ImmutabilityPolicyUntilDate>" if until else ""
    if held:
        told += "<LegalHold>true</LegalHold>"
    rest = "<Content-Length>1</Content-Length><BlobType>BlockBlob</BlobType>"
    return f"<Blob>{''.join(parts)}<Properties>{rest}{told}</Properties></Blob>"


def listing(*blobs: str, following: str = "") -> Act:
    marker = f"<NextMarker>{following}</NextMarker>" if following else "<NextMarker />"
    body = f'<?xml version="1.0"?><EnumerationResults><Blobs>{"".join(blobs)}</Blobs>{marker}</EnumerationResults>'
    headers = {"Content-Type": "application/xml"}
    return Act("GET", status=200, where="versions", body=body.encode(), headers=headers)


def at(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


def deleted(http: TamperingProxy) -> list[str]:
    """The versions that were asked to be deleted, one after the other; "" is the blob itself."""
    asked = [urlsplit(one.path) for one in http.seen if one.method == "DELETE"]
    return [parse_qs(one.query).get("versionid", [""])[0] for one in asked]


def test_a_blob_goes_with_its_snapshots(
    azure: AzureServer, container: str, http: TamperingProxy, sink: AzureSink
) -> None:
    for key in ("a", "ab"):
        sink.put(key, b"x")
    with azure.client() as client:
        place = client.get_container_client(container)
        place.get_blob_client("db/a").create_snapshot()
        sink.delete("a")
        left = [one.name for one in place.list_blobs(include=["snapshots"])]
    assert left == ["db/ab"], "what begins with the same letters stays"
    assert deleted(http) == [""]
    sink.delete_many(["a", "gone"])
    assert deleted(http) == [""], "of what is missing there is nothing to delete"


def test_former_versions_go_before_the_current_one(http: TamperingProxy, sink: AzureSink) -> None:
    http.script = [
        listing(blob("1"), blob("2"), following="more"),
        listing(blob("3", is_current=True), blob("9", "db/ab", is_current=True)),
        Act("DELETE", where="versionid=3", status=403, headers=ROOT),
        Act("DELETE", status=202, stay=True),
    ]
    sink.delete("a")
    assert deleted(http) == ["1", "2", "3", "", "3"]
    asked = [unquote(one.path) for one in http.seen if one.method == "GET"]
    assert len(asked) == 2
    assert "marker=more" in asked[1]


def test_what_was_hidden_by_somebody_is_freed(http: TamperingProxy, sink: AzureSink) -> None:
    http.script = [listing(blob("1"), blob("2")), Act("DELETE", status=202, stay=True)]
    sink.delete("a")
    assert deleted(http) == ["1", "2"]


@pytest.mark.parametrize(
    ("locked", "until"),
    [
        ([blob("1", until=at(LATER)), blob("2", is_current=True)], LATER),
        ([blob("1"), blob("2", is_current=True, until=at(LATER))], LATER),
        ([blob("1", until=at(LATER)), blob("2", is_current=True, until=at(LATER + timedelta(days=1)))],
         LATER + timedelta(days=1)),
        ([blob("1", until=at(LATER)), blob("2", is_current=True, held=True)], None),
        ([blob(until=at(LATER))], LATER),
    ],
    ids=["former", "current", "both", "legal hold", "without versions"],
)  # fmt: skip
def test_what_is_locked_is_not_touched(
    http: TamperingProxy, sink: AzureSink, locked: list[str], until: datetime | None
) -> None:
    sink.put("b", b"x")
    http.script = [listing(*locked)]
    with pytest.raises(ObjectLocked) as caught:
        sink.delete_many(["a", "b"])
    assert caught.value.locked == {"a": until}
    assert (f"{until:%Y-%m-%d %H:%M}" if until else "nobody knows") in str(caught.value)
    assert deleted(http) == [""], "the other object alone"
    assert list(sink.list()) == []


def test_a_policy_that_has_ended_keeps_nothing(http: TamperingProxy, sink: AzureSink) -> None:
    past = at(datetime.now(UTC) - timedelta(minutes=1))
    http.script = [listing(blob("1", until=past)), Act("DELETE", status=202)]
    sink.delete("a")
    assert deleted(http) == ["1"]


@pytest.mark.parametrize("code", ["BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"])
def test_a_policy_of_the_whole_container_is_a_lock_without_a_time(
    http: TamperingProxy, sink: AzureSink, code: str
) -> None:
    sink.put("a", b"x")
    http.script = [Act("DELETE", status=409, headers={"x-ms-error-code": code})]
    with pytest.raises(ObjectLocked, match="nobody knows") as caught:
        sink.delete("a")
    assert caught.value.locked == {"a": None}
    assert sink.get("a") == b"x"


def test_who_may_not_delete_versions_hides_nothing(http: TamperingProxy, sink: AzureSink) -> None:
    denied = {"x-ms-error-code": "AuthorizationPermissionMismatch"}
    http.script = [listing(blob("3", is_current=True)), Act("DELETE", status=403, headers=denied, stay=True)]
    with pytest.raises(SinkDenied) as caught:
        sink.delete("a")
    assert "deleteBlobVersion" in str(caught.value.hint)
    assert deleted(http) == ["3"], "not the blob itself, which would become a former version"


def test_an_account_that_lists_no_versions_has_none(http: TamperingProxy, sink: AzureSink) -> None:
    sink.put("a", b"x")
    unknown = {"x-ms-error-code": "InvalidQueryParameterValue"}
    http.script = [Act("GET", status=400, where="versions", headers=unknown)]
    sink.delete("a")
    assert deleted(http) == [""]
    assert list(sink.list()) == []
