"""What is tried again and what is not, against a service that fails by a script."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from plugins.sinks.s3.tests.scripted import Answer, Service, service
from tests.clock import Clock
from tests.servers.proxy import Faults, FaultyProxy

from penstock.api import Capability, ObjectExists, Sink, SinkDenied, SinkError, SinkUnreachable
from penstock_s3 import S3Settings, S3Sink

#: Thorough, and so too long for `make check`.
pytestmark = pytest.mark.slow

__all__ = ["service"]  # a fixture


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")


def make(port: int, **more: Any) -> S3Sink:
    values = {"bucket": "shop", "endpoint": f"http://127.0.0.1:{port}", "deadline": 20, **more}
    return S3Sink(S3Settings.model_validate(values))


@pytest.fixture
def sink(service: Service) -> Iterator[Sink]:
    with closing(make(service.port)) as sink:
        yield sink


@pytest.fixture
def proxy(service: Service) -> Iterator[FaultyProxy]:
    with FaultyProxy("127.0.0.1", service.port) as proxy:
        yield proxy


def test_a_busy_service_is_asked_again(service: Service, sink: Sink) -> None:
    service.script["PUT"] = [Answer(503, "SlowDown"), Answer(500, "InternalError"), Answer(429, "TooManyRequests")]
    sink.put("a", b"data")
    assert service.asked("PUT") == 4
    assert sink.get("a") == b"data"


def test_a_busy_service_is_given_the_time_it_asks_for(service: Service, sink: Sink, clock: Clock) -> None:
    service.script["PUT"] = [Answer(headers={"Retry-After": "2"})]
    sink.put("a", b"data")
    assert clock.slept >= 2


def test_a_service_that_stays_busy_is_unreachable_by_the_deadline(service: Service, sink: Sink, clock: Clock) -> None:
    service.script["PUT"] = [Answer() for _ in range(1000)]
    with pytest.raises(SinkUnreachable) as caught:
        sink.put("packs/a", b"data")
    assert clock.slept < 20
    assert 1 < service.asked("PUT") < 30
    assert caught.value.key == "packs/a"
    assert "SlowDown" in str(caught.value)
    assert "attempts" in caught.value.details[-1]


def test_a_refusal_is_not_tried_again(service: Service, sink: Sink) -> None:
    service.script["PUT"] = [Answer(403, "AccessDenied")]
    with pytest.raises(SinkDenied) as caught:
        sink.put("packs/a", b"data")
    assert service.asked("PUT") == 1
    assert "s3:PutObject" in str(caught.value.hint)
    assert "arn:aws:s3:::shop/*" in str(caught.value.hint)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["get", "stat", "put", "delete", "list"])
def test_a_server_that_never_answers_is_unreachable_by_the_deadline(method: str) -> None:
    calls: dict[str, Callable[[Sink], object]] = {
        "get": lambda sink: sink.get("a"),
        "stat": lambda sink: sink.stat("a"),
        "put": lambda sink: sink.put("a", bytes(2**20)),
        "delete": lambda sink: sink.delete("a"),
        "list": lambda sink: list(sink.list("a")),
    }
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        closing(make(listener.getsockname()[1], deadline=1.5)) as sink,
    ):
        begun = time.monotonic()
        with pytest.raises(SinkUnreachable) as caught:
            calls[method](sink)
        assert time.monotonic() - begun < 20
    assert caught.value.key == "a"


def test_a_closed_port_is_unreachable_by_the_deadline(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with closing(make(port)) as sink, pytest.raises(SinkUnreachable) as caught:
        sink.get("a")
    assert clock.slept < 20
    assert f"cannot connect to http://127.0.0.1:{port}: Failed to establish a new connection" in str(caught.value)
    assert "Connection refused" in str(caught.value)


@pytest.mark.parametrize("reset", [False, True])
def test_a_download_that_breaks_off_is_made_again(service: Service, proxy: FaultyProxy, reset: bool) -> None:
    data = bytes(range(256)) * 4000
    service.objects["/shop/a"] = (data, {})
    proxy.faults = Faults(cut_download_after=300_000, times=2, reset=reset)
    with closing(make(proxy.port)) as sink:
        assert sink.get("a") == data
    assert proxy.struck == 2


@pytest.mark.usefixtures("clock")
def test_a_download_that_always_breaks_off_is_an_error_and_never_a_part(service: Service, proxy: FaultyProxy) -> None:
    service.objects["/shop/a"] = (bytes(500_000), {})
    proxy.faults = Faults(cut_download_after=300_000)
    with closing(make(proxy.port)) as sink, pytest.raises(SinkUnreachable):
        sink.get("a")


@pytest.mark.parametrize("reset", [False, True])
def test_an_upload_that_breaks_off_is_made_again(service: Service, proxy: FaultyProxy, reset: bool) -> None:
    data = bytes(range(256)) * 40_000
    proxy.faults = Faults(cut_upload_after=2_000_000, times=2, reset=reset)
    with closing(make(proxy.port)) as sink:
        sink.put("a", data)
    assert proxy.struck == 2
    assert service.objects["/shop/a"][0] == data


def test_a_listing_that_breaks_off_is_asked_for_again(service: Service, proxy: FaultyProxy) -> None:
    entry = b"<Contents><Key>a%d</Key><LastModified>2015-10-21T07:28:00.000Z</LastModified><Size>1</Size></Contents>"
    page = b"<ListBucketResult>" + b"".join(entry % number for number in range(1000)) + b"</ListBucketResult>"
    service.objects["/shop?list-type=2&prefix=&encoding-type=url"] = (page, {})
    proxy.faults = Faults(cut_download_after=50_000, times=2)
    with closing(make(proxy.port)) as sink:
        assert len(list(sink.list())) == 1000
    assert proxy.struck == 2


@pytest.mark.slow
def test_a_trickle_does_not_outlive_the_deadline(service: Service, proxy: FaultyProxy) -> None:
    service.objects["/shop/a"] = (bytes(5_000_000), {})
    proxy.faults = Faults(rate=100_000)
    calls: list[Callable[[Sink], object]] = [
        lambda sink: sink.get("a"),
        lambda sink: sink.put("b", bytes(30_000_000)),
    ]
    for call in calls:
        begun = time.monotonic()
        with closing(make(proxy.port, deadline=2)) as sink, pytest.raises(SinkUnreachable):
            call(sink)
        assert time.monotonic() - begun < 20


@pytest.mark.slow
def test_a_server_that_hangs_in_the_middle_is_left_by_the_deadline(service: Service, proxy: FaultyProxy) -> None:
    service.objects["/shop/a"] = (bytes(5_000_000), {})
    proxy.faults = Faults(rate=1_000_000)
    threading.Timer(1, lambda: setattr(proxy, "faults", Faults(hang=True))).start()
    begun = time.monotonic()
    with closing(make(proxy.port, deadline=4)) as sink, pytest.raises(SinkUnreachable):
        sink.get("a")
    assert time.monotonic() - begun < 20


def test_a_put_if_absent_whose_answer_was_lost_knows_its_own_object(service: Service, sink: Sink) -> None:
    sink.put("other", b"x", if_absent=True)  # the probe is over
    service.script["PUT"] = [Answer(silent=True, after=True)]
    sink.put("a", b"mine", if_absent=True)
    assert service.objects["/shop/a"][0] == b"mine"


def test_a_put_if_absent_whose_first_attempt_was_lost_respects_somebody_elses(service: Service, sink: Sink) -> None:
    sink.put("other", b"x", if_absent=True)
    service.objects["/shop/a"] = (b"theirs", {"x-amz-meta-penstock-put": "their mark"})
    service.script["PUT"] = [Answer(silent=True)]
    with pytest.raises(ObjectExists):
        sink.put("a", b"theirs", if_absent=True)
    assert service.objects["/shop/a"][0] == b"theirs"


def test_a_conflict_of_conditions_is_tried_again(service: Service, sink: Sink) -> None:
    sink.put("other", b"x", if_absent=True)
    service.script["PUT"] = [Answer(409, "ConditionalRequestConflict")]
    sink.put("a", b"mine", if_absent=True)
    assert service.objects["/shop/a"][0] == b"mine"


def test_a_service_that_overwrites_in_silence_is_found_out(service: Service, sink: Sink) -> None:
    service.conditions = False
    assert Capability.CONDITIONAL_PUT not in sink.capabilities()
    sink.put("a", b"first", if_absent=True)
    with pytest.raises(ObjectExists):
        sink.put("a", b"second", if_absent=True)
    assert service.objects["/shop/a"][0] == b"first"


@pytest.mark.parametrize(
    "answer",
    [Answer(501, "NotImplemented"), Answer(400, "InvalidArgument", words="If-None-Match is not supported")],
)
def test_a_service_that_refuses_conditions_is_found_out(service: Service, sink: Sink, answer: Answer) -> None:
    service.script["PUT"] = [answer]
    assert Capability.CONDITIONAL_PUT not in sink.capabilities()


def test_the_probe_is_made_once_and_leaves_nothing_that_is_listed(service: Service, sink: Sink) -> None:
    assert not service.requests, "making an instance asks nothing"
    for _ in range(3):
        assert Capability.CONDITIONAL_PUT in sink.capabilities()
    assert service.asked("PUT") == 2
    with closing(make(service.port)) as later:
        assert Capability.CONDITIONAL_PUT in later.capabilities()
    assert service.asked("PUT") == 3, "what an earlier probe left is enough for the next one"
    assert set(service.objects) == {"/shop/.conditional-put~"}
    assert service.asked("DELETE") == 0, "a writer may not delete"


def test_a_probe_that_fails_decides_nothing(service: Service, sink: Sink) -> None:
    service.script["PUT"] = [Answer(403, "AccessDenied")]
    with pytest.raises(SinkDenied):
        sink.put("a", b"x", if_absent=True)
    assert Capability.CONDITIONAL_PUT in sink.capabilities()


@pytest.mark.parametrize(("setting", "able"), [("yes", True), ("no", False)])
def test_what_the_settings_say_is_not_probed(service: Service, setting: str, able: bool) -> None:
    with closing(make(service.port, conditional_put=setting)) as sink:
        assert (Capability.CONDITIONAL_PUT in sink.capabilities()) is able
    assert not service.requests


def test_a_damaged_upload_is_sent_again(service: Service, sink: Sink) -> None:
    service.script["PUT"] = [Answer(400, "BadDigest")]
    sink.put("a", b"data")
    assert service.asked("PUT") == 2


def test_a_listing_that_goes_nowhere_is_an_error(service: Service, sink: Sink) -> None:
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    service.objects["/shop?list-type=2&prefix=&encoding-type=url"] = (page, {})
    with pytest.raises(SinkError, match="without a new continuation token"):
        list(sink.list())
