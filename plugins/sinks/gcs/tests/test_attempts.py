"""What is tried again and what is not, against an emulator behind proxies that fail on demand."""

import json
from contextlib import closing
from typing import Any

import pytest
from tests.servers.attempts import CALLS, Service, SinkAttempts
from tests.servers.gcs import GcsServer
from tests.servers.tampering import Act, TamperingProxy, flip

from penstock.api import (
    ObjectLocked,
    Sink,
    SinkDenied,
    SinkError,
    SinkFull,
    SinkUnreachable,
)
from penstock_gcs import GcsSettings, GcsSink

pytestmark = pytest.mark.server


def make(endpoint: str, bucket: str = "shop-backups", **more: Any) -> GcsSink:
    return GcsSink(GcsSettings.model_validate({"bucket": bucket, "endpoint": endpoint, "deadline": 20, **more}))


def refusal(reason: str, message: str) -> bytes:
    return json.dumps({"error": {"message": message, "errors": [{"reason": reason}]}}).encode()


class TestAttempts(SinkAttempts):
    upload = "POST"
    download = "alt=media"
    checksum = "CRC32C"
    place_word = "bucket"
    held = Act("POST", status=403, body=refusal("retentionPolicyNotMet", "Object is under active retention"))

    @pytest.fixture
    def service(self, gcs: GcsServer) -> Service:
        return Service(gcs.endpoint, gcs.new_bucket, make)

    @pytest.mark.parametrize(
        ("status", "body", "kind", "says"),
        [
            (403, refusal("forbidden", "x does not have storage.objects.create access"), SinkDenied, "access denied"),
            (401, refusal("authError", "Invalid Credentials"), SinkDenied, "credentials"),
            (403, refusal("quotaExceeded", "The quota is used up"), SinkFull, "quota"),
            (
                403,
                refusal("retentionPolicyNotMet", "Object is under active retention"),
                ObjectLocked,
                "active retention",
            ),
            (400, refusal("required", "Bucket is requester pays, but no user project provided"), SinkError, "project"),
            (
                404,
                refusal("notFound", "The specified bucket does not exist."),
                SinkError,
                "no such bucket: shop-backups",
            ),
            (418, b"I am a teapot", SinkError, "teapot"),
        ],
    )
    def test_a_refusal_is_not_tried_again(
        self, http: TamperingProxy, status: int, body: bytes, kind: type[SinkError], says: str
    ) -> None:
        http.script = [Act("POST", status=status, body=body, stay=True)]
        with closing(make(http.endpoint)) as sink, pytest.raises(kind, match=says) as caught:
            sink.put("packs/a", b"data")
        assert http.asked("POST") == 1
        assert type(caught.value) is kind
        assert caught.value.key == "packs/a"
        assert caught.value.__cause__ is not None

    def test_a_refusal_for_haste_is_tried_again(self, http: TamperingProxy, sink: Sink) -> None:
        http.script = [Act("POST", status=403, body=refusal("rateLimitExceeded", "slow down"))]
        sink.put("a", b"data")
        assert http.asked("POST") == 2

    def test_an_answer_that_is_not_of_the_api_is_reported(self, http: TamperingProxy, sink: Sink) -> None:
        http.script = [Act("GET", status=200, body=b"<html>Welcome to the hotel</html>", stay=True)]
        for call in ("stat", "list"):
            with pytest.raises(SinkError, match="cannot be parsed"):
                CALLS[call](sink)

    @pytest.mark.usefixtures("clock")
    def test_a_wrong_crc32c_is_refused_by_the_service_and_sent_again(self, gcs_with_checksums: GcsServer) -> None:
        data = bytes(range(256)) * 1000
        with TamperingProxy(gcs_with_checksums.endpoint) as http:
            place = gcs_with_checksums.new_bucket()
            http.script = [Act("POST", change_request=flip)]
            with closing(make(http.endpoint, place)) as sink:
                sink.put("a", data)
                assert http.asked("POST") == 2
                assert sink.get("a") == data
            http.script = [Act("POST", change_request=flip, stay=True)]
            with closing(make(http.endpoint, place)) as sink:
                with pytest.raises(SinkUnreachable, match="damaged"):
                    sink.put("b", data)
                assert [found.key for found in sink.list()] == ["a"]

    def test_a_service_that_keeps_other_bytes_is_not_believed(self, http: TamperingProxy, sink: Sink) -> None:
        http.script = [Act("POST", change_request=flip)]  # this one takes any CRC32C
        with pytest.raises(SinkError, match="other bytes"):
            sink.put("a", bytes(1000))

    def test_a_preflight_proves_the_bucket_and_leaves_nothing(self, gcs: GcsServer, sink: Sink) -> None:
        sink.preflight()
        assert list(sink.list()) == []
        with closing(make(gcs.endpoint, "penstock-no-such-bucket")) as other, pytest.raises(SinkError, match="no such"):
            other.preflight()
