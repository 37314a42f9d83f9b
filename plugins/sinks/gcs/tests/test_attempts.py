"""What is tried again and what is not, against an emulator behind proxies that fail on demand."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.clock import Clock
from tests.servers.gcs import GcsServer
from tests.servers.proxy import Faults, FaultyProxy
from tests.servers.tampering import Act, TamperingProxy, flip

from penstock.api import (
    DamagedObject,
    ObjectExists,
    ObjectLocked,
    ObjectMissing,
    Sink,
    SinkDenied,
    SinkError,
    SinkFull,
    SinkUnreachable,
)
from penstock_gcs import GcsSettings, GcsSink

pytestmark = pytest.mark.server

CALLS: dict[str, Callable[[Sink], object]] = {
    "get": lambda sink: sink.get("a"),
    "stat": lambda sink: sink.stat("a"),
    "put": lambda sink: sink.put("a", bytes(2**20)),
    "delete": lambda sink: sink.delete("a"),
    "list": lambda sink: list(sink.list("a")),
}


def make(endpoint: str, bucket: str = "shop-backups", **more: Any) -> GcsSink:
    return GcsSink(GcsSettings.model_validate({"bucket": bucket, "endpoint": endpoint, "deadline": 20, **more}))


@pytest.fixture
def bucket(gcs: GcsServer) -> str:
    return gcs.new_bucket()


@pytest.fixture
def http(gcs: GcsServer) -> Iterator[TamperingProxy]:
    with TamperingProxy(gcs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def tcp(gcs: GcsServer) -> Iterator[FaultyProxy]:
    parts = urlsplit(gcs.endpoint)
    with FaultyProxy(str(parts.hostname), int(str(parts.port))) as proxy:
        yield proxy


@pytest.fixture
def sink(http: TamperingProxy, bucket: str) -> Iterator[Sink]:
    with closing(make(http.endpoint, bucket)) as sink:
        yield sink


def refusal(reason: str, message: str) -> bytes:
    return json.dumps({"error": {"message": message, "errors": [{"reason": reason}]}}).encode()


def test_a_busy_service_is_asked_again(http: TamperingProxy, sink: Sink) -> None:
    http.script = [Act("POST", status=503), Act("POST", status=429), Act("GET", status=500), Act("DELETE", status=502)]
    sink.put("a", b"data")
    assert http.asked("POST") == 3
    assert sink.get("a") == b"data"
    sink.delete("a")
    assert list(sink.list()) == []


def test_a_busy_service_is_given_the_time_it_asks_for(http: TamperingProxy, sink: Sink, clock: Clock) -> None:
    http.script = [Act("POST", status=503, headers={"Retry-After": "2"})]
    sink.put("a", b"data")
    assert clock.slept >= 2


def test_a_service_that_stays_busy_is_unreachable_by_the_deadline(
    http: TamperingProxy, sink: Sink, clock: Clock
) -> None:
    http.script = [Act("POST", status=503, stay=True)]
    with pytest.raises(SinkUnreachable) as caught:
        sink.put("packs/a", b"data")
    assert clock.slept < 20
    assert 1 < http.asked("POST") < 30
    assert caught.value.key == "packs/a"
    assert "attempts" in caught.value.details[-1]


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (403, refusal("forbidden", "x does not have storage.objects.create access"), SinkDenied, "access denied"),
        (401, refusal("authError", "Invalid Credentials"), SinkDenied, "credentials"),
        (403, refusal("quotaExceeded", "The quota is used up"), SinkFull, "quota"),
        (403, refusal("retentionPolicyNotMet", "Object is under active retention"), ObjectLocked, "active retention"),
        (400, refusal("required", "Bucket is requester pays, but no user project provided"), SinkError, "project"),
        (404, refusal("notFound", "The specified bucket does not exist."), SinkError, "no such bucket: shop-backups"),
        (418, b"I am a teapot", SinkError, "teapot"),
    ],
)
def test_a_refusal_is_not_tried_again(
    http: TamperingProxy, status: int, body: bytes, kind: type[SinkError], says: str
) -> None:
    http.script = [Act("POST", status=status, body=body, stay=True)]
    with closing(make(http.endpoint)) as sink, pytest.raises(kind, match=says) as caught:
        sink.put("packs/a", b"data")
    assert http.asked("POST") == 1
    assert type(caught.value) is kind
    assert caught.value.key == "packs/a"
    assert caught.value.__cause__ is not None


def test_a_refusal_for_haste_is_tried_again(http: TamperingProxy, sink: Sink) -> None:
    http.script = [Act("POST", status=403, body=refusal("rateLimitExceeded", "slow down"))]
    sink.put("a", b"data")
    assert http.asked("POST") == 2


@pytest.mark.parametrize("method", CALLS)
def test_a_server_that_never_answers_is_unreachable_by_the_deadline(method: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        begun = time.monotonic()
        with closing(make(endpoint, deadline=1.5)) as sink, pytest.raises(SinkUnreachable) as caught:
            CALLS[method](sink)
        assert time.monotonic() - begun < 20
    assert caught.value.key == "a"


def test_a_closed_port_is_unreachable_by_the_deadline(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with closing(make(endpoint)) as sink, pytest.raises(SinkUnreachable, match=f"connect to {endpoint}"):
        sink.get("a")
    assert clock.slept < 20


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.usefixtures("clock")
def test_a_download_that_breaks_off_is_made_again(gcs: GcsServer, tcp: FaultyProxy, bucket: str, reset: bool) -> None:
    data = bytes(range(256)) * 4000
    with closing(make(gcs.endpoint, bucket)) as direct:
        direct.put("a", data)
    tcp.faults = Faults(cut_download_after=300_000, times=2, reset=reset)
    with closing(make(f"http://127.0.0.1:{tcp.port}", bucket)) as sink:
        assert sink.get("a") == data
        assert tcp.struck == 2
        tcp.faults = Faults(cut_download_after=300_000)
    with closing(make(f"http://127.0.0.1:{tcp.port}", bucket)) as sink, pytest.raises(SinkUnreachable):
        sink.get("a")


@pytest.mark.parametrize("reset", [False, True])
def test_an_upload_that_breaks_off_is_made_again(tcp: FaultyProxy, bucket: str, reset: bool) -> None:
    data = bytes(range(256)) * 40_000
    tcp.faults = Faults(cut_upload_after=2_000_000, times=2, reset=reset)
    with closing(make(f"http://127.0.0.1:{tcp.port}", bucket)) as sink:
        buffer = bytearray(data)
        sink.put("a", buffer, if_absent=True)
        buffer.clear()  # raises BufferError while anyone holds on to it
        assert tcp.struck == 2
        assert sink.get("a") == data


def test_a_failed_upload_lets_the_buffer_go(http: TamperingProxy, bucket: str) -> None:
    http.script = [Act("POST", status=403, stay=True)]
    buffer = bytearray(5_000_000)
    with closing(make(http.endpoint, bucket)) as sink, pytest.raises(SinkDenied) as caught:
        sink.put("a", buffer)
    buffer.clear()
    assert caught.value.key == "a"


def test_a_trickle_does_not_outlive_the_deadline(gcs: GcsServer, tcp: FaultyProxy, bucket: str) -> None:
    with closing(make(gcs.endpoint, bucket)) as direct:
        direct.put("a", bytes(5_000_000))
    calls: list[Callable[[Sink], object]] = [lambda sink: sink.get("a"), lambda sink: sink.put("b", bytes(30_000_000))]
    for call in calls:
        tcp.faults = Faults(rate=100_000)
        begun = time.monotonic()
        with closing(make(f"http://127.0.0.1:{tcp.port}", bucket, deadline=2)) as sink, pytest.raises(SinkUnreachable):
            call(sink)
        assert time.monotonic() - begun < 20


def test_a_server_that_hangs_in_the_middle_is_left_by_the_deadline(
    gcs: GcsServer, tcp: FaultyProxy, bucket: str
) -> None:
    with closing(make(gcs.endpoint, bucket)) as direct:
        direct.put("a", bytes(5_000_000))
    tcp.faults = Faults(rate=1_000_000)
    threading.Timer(1, lambda: setattr(tcp, "faults", Faults(hang=True))).start()
    begun = time.monotonic()
    with closing(make(f"http://127.0.0.1:{tcp.port}", bucket, deadline=4)) as sink, pytest.raises(SinkUnreachable):
        sink.get("a")
    assert time.monotonic() - begun < 20


def test_a_slow_upload_may_take_longer_than_the_timeouts(tcp: FaultyProxy, bucket: str) -> None:
    tcp.faults = Faults(rate=2_000_000)
    with closing(make(f"http://127.0.0.1:{tcp.port}", bucket, connect_timeout=1, read_timeout=4)) as sink:
        sink.put("a", bytes(12_000_000))
        assert sink.stat("a").size == 12_000_000


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_put_whose_answer_is_lost_succeeds_all_the_same(http: TamperingProxy, sink: Sink, if_absent: bool) -> None:
    http.script = [Act("POST", lose=True)]
    sink.put("a", b"data", if_absent=if_absent)
    assert sink.get("a") == b"data"
    assert http.asked("POST") == 2


def test_a_put_whose_answer_is_lost_may_not_be_allowed_to_replace_itself(http: TamperingProxy, sink: Sink) -> None:
    held = refusal("retentionPolicyNotMet", "Object is under active retention")
    http.script = [Act("POST", lose=True), Act("POST", status=403, body=held)]
    sink.put("a", b"data")
    assert sink.get("a") == b"data"


def test_a_put_that_lost_its_answer_does_not_take_the_object_of_another_for_its_own(
    gcs: GcsServer, http: TamperingProxy, sink: Sink, bucket: str
) -> None:
    with closing(make(gcs.endpoint, bucket)) as other:
        other.put("a", b"data")
    http.script = [Act("POST", status=503)]
    with pytest.raises(ObjectExists):
        sink.put("a", b"data", if_absent=True)


@pytest.mark.usefixtures("clock")
def test_a_damaged_download_is_made_again_and_never_returned(http: TamperingProxy, sink: Sink, bucket: str) -> None:
    data = bytes(range(256)) * 100
    sink.put("a", data)
    http.script = [Act("GET", where="alt=media", change_answer=flip)]
    assert sink.get("a") == data
    assert http.script == []
    http.script = [Act("GET", where="alt=media", change_answer=flip, stay=True)]
    with closing(make(http.endpoint, bucket)) as short:
        for length in (None, len(data), len(data) + 9):
            with pytest.raises(DamagedObject, match="CRC32C"):
                short.get("a", length=length)


@pytest.mark.usefixtures("clock")
def test_a_range_of_the_wrong_length_is_never_returned(http: TamperingProxy, sink: Sink, bucket: str) -> None:
    sink.put("a", bytes(1000))
    http.script = [Act("GET", where="alt=media", change_answer=lambda data: data[:-1], stay=True)]
    with closing(make(http.endpoint, bucket)) as short, pytest.raises(SinkUnreachable, match="asked for"):
        short.get("a", start=5, length=10)


def test_an_answer_that_is_not_of_the_api_is_reported(http: TamperingProxy, sink: Sink) -> None:
    http.script = [Act("GET", status=200, body=b"<html>Welcome to the hotel</html>", stay=True)]
    for call in ("stat", "list"):
        with pytest.raises(SinkError, match="cannot be parsed"):
            CALLS[call](sink)


@pytest.mark.parametrize("method", CALLS)
def test_a_missing_bucket_is_not_a_missing_object(gcs: GcsServer, method: str) -> None:
    with (
        closing(make(gcs.endpoint, "penstock-no-such-bucket")) as sink,
        pytest.raises(SinkError, match="no such bucket: penstock-no-such-bucket") as caught,
    ):
        CALLS[method](sink)
    assert not isinstance(caught.value, ObjectMissing)


@pytest.mark.usefixtures("clock")
def test_a_wrong_crc32c_is_refused_by_the_service_and_sent_again(gcs_with_checksums: GcsServer) -> None:
    data = bytes(range(256)) * 1000
    with TamperingProxy(gcs_with_checksums.endpoint) as http:
        bucket = gcs_with_checksums.new_bucket()
        http.script = [Act("POST", change_request=flip)]
        with closing(make(http.endpoint, bucket)) as sink:
            sink.put("a", data)
            assert http.asked("POST") == 2
            assert sink.get("a") == data
        http.script = [Act("POST", change_request=flip, stay=True)]
        with closing(make(http.endpoint, bucket)) as sink:
            with pytest.raises(SinkUnreachable, match="damaged"):
                sink.put("b", data)
            assert [found.key for found in sink.list()] == ["a"]


def test_a_service_that_keeps_other_bytes_is_not_believed(http: TamperingProxy, sink: Sink) -> None:
    http.script = [Act("POST", change_request=flip)]  # this one takes any CRC32C
    with pytest.raises(SinkError, match="other bytes"):
        sink.put("a", bytes(1000))


def test_a_preflight_proves_the_bucket_and_leaves_nothing(gcs: GcsServer, sink: Sink) -> None:
    sink.preflight()
    assert list(sink.list()) == []
    with closing(make(gcs.endpoint, "penstock-no-such-bucket")) as other, pytest.raises(SinkError, match="no such"):
        other.preflight()
