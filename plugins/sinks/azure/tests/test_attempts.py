"""What is tried again and what is not, against an emulator behind proxies that fail on demand."""

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.clock import Clock
from tests.servers.azure import ACCOUNT, AzureServer
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
from penstock_azure import AzureSettings, AzureSink

pytestmark = pytest.mark.server

CALLS: dict[str, Callable[[Sink], object]] = {
    "get": lambda sink: sink.get("a"),
    "stat": lambda sink: sink.stat("a"),
    "put": lambda sink: sink.put("a", bytes(2**20)),
    "delete": lambda sink: sink.delete("a"),
    "list": lambda sink: list(sink.list("a")),
}


def make(endpoint: str, container: str = "shop-backups", **more: Any) -> AzureSink:
    values = {"account": ACCOUNT, "container": container, "endpoint": endpoint, "deadline": 20}
    return AzureSink(AzureSettings.model_validate({**values, "account_key": {"env": "AZURE_TEST_KEY"}, **more}))


@pytest.fixture(autouse=True)
def _key(azure: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TEST_KEY", azure.key)


@pytest.fixture
def container(azure: AzureServer) -> str:
    return azure.new_container()


@pytest.fixture
def http(azure: AzureServer) -> Iterator[TamperingProxy]:
    with TamperingProxy(azure.endpoint) as proxy:
        yield proxy


@pytest.fixture
def tcp(azure: AzureServer) -> Iterator[FaultyProxy]:
    parts = urlsplit(azure.endpoint)
    with FaultyProxy(str(parts.hostname), int(str(parts.port))) as proxy:
        yield proxy


@pytest.fixture
def sink(http: TamperingProxy, container: str) -> Iterator[Sink]:
    with closing(make(http.endpoint, container)) as sink:
        yield sink


def at(tcp: FaultyProxy) -> str:
    return f"http://127.0.0.1:{tcp.port}/{ACCOUNT}"


def refusal(status: int, code: str, message: str = "as the script says") -> dict[str, Any]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return {
        "status": status,
        "body": body,
        "headers": {"x-ms-error-code": code, "Content-Type": "application/xml"},
    }


def test_a_busy_service_is_asked_again(http: TamperingProxy, sink: Sink) -> None:
    http.script = [Act("PUT", status=503), Act("PUT", status=429), Act("GET", status=500), Act("DELETE", status=502)]
    sink.put("a", b"data")
    assert http.asked("PUT") == 3
    assert sink.get("a") == b"data"
    sink.delete("a")
    assert list(sink.list()) == []


def test_a_busy_service_is_given_the_time_it_asks_for(http: TamperingProxy, sink: Sink, clock: Clock) -> None:
    http.script = [Act("PUT", status=503, headers={"Retry-After": "2"})]
    sink.put("a", b"data")
    assert clock.slept >= 2


def test_a_service_that_stays_busy_is_unreachable_by_the_deadline(
    http: TamperingProxy, sink: Sink, clock: Clock
) -> None:
    http.script = [Act("PUT", status=503, stay=True)]
    with pytest.raises(SinkUnreachable) as caught:
        sink.put("packs/a", b"data")
    assert clock.slept < 20
    assert 1 < http.asked("PUT") < 30
    assert caught.value.key == "packs/a"
    assert "attempts" in caught.value.details[-1]


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (403, "AuthorizationPermissionMismatch", SinkDenied, "denied"),
        (403, "AuthenticationFailed", SinkDenied, "credentials were refused"),
        (401, "NoAuthenticationInformation", SinkDenied, "other credentials"),
        (403, "KeyBasedAuthenticationNotPermitted", SinkDenied, "takes no keys"),
        (409, "BlobImmutableDueToPolicy", ObjectLocked, "nobody knows until when"),
        (404, "ContainerNotFound", SinkError, "no such container: shop-backups"),
        (507, "InsufficientStorage", SinkFull, "as the script says"),
        (418, "Teapot", SinkError, "Teapot"),
    ],
)
def test_a_refusal_is_not_tried_again(
    http: TamperingProxy, status: int, code: str, kind: type[SinkError], says: str
) -> None:
    http.script = [Act("PUT", **refusal(status, code), stay=True)]
    with closing(make(http.endpoint)) as sink, pytest.raises(kind, match=says) as caught:
        sink.put("packs/a", b"data")
    assert http.asked("PUT") == 1
    assert type(caught.value) is kind
    assert caught.value.key == "packs/a"
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("method", CALLS)
def test_a_server_that_never_answers_is_unreachable_by_the_deadline(method: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}/{ACCOUNT}"
        begun = time.monotonic()
        with closing(make(endpoint, deadline=1.5)) as sink, pytest.raises(SinkUnreachable) as caught:
            CALLS[method](sink)
        assert time.monotonic() - begun < 20
    assert caught.value.key == "a"


def test_a_closed_port_is_unreachable_by_the_deadline(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}/{ACCOUNT}"
    with (
        closing(make(endpoint)) as sink,
        pytest.raises(SinkUnreachable, match=f"connect to {endpoint}: .*refused"),
    ):
        sink.get("a")
    assert clock.slept < 20


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.usefixtures("clock")
def test_a_download_that_breaks_off_is_made_again(
    azure: AzureServer, tcp: FaultyProxy, container: str, reset: bool
) -> None:
    data = bytes(range(256)) * 4000
    with closing(make(azure.endpoint, container)) as direct:
        direct.put("a", data)
    tcp.faults = Faults(cut_download_after=300_000, times=2, reset=reset)
    with closing(make(at(tcp), container)) as sink:
        assert sink.get("a") == data
        assert tcp.struck == 2
        tcp.faults = Faults(cut_download_after=300_000)
    with (
        closing(make(at(tcp), container)) as sink,
        pytest.raises(SinkUnreachable),
    ):
        sink.get("a")


@pytest.mark.parametrize("reset", [False, True])
def test_an_upload_that_breaks_off_is_made_again(tcp: FaultyProxy, container: str, reset: bool) -> None:
    data = bytes(range(256)) * 40_000
    tcp.faults = Faults(cut_upload_after=2_000_000, times=2, reset=reset)
    with closing(make(at(tcp), container)) as sink:
        buffer = bytearray(data)
        sink.put("a", buffer, if_absent=True)
        buffer.clear()  # raises BufferError while anyone holds on to it
        assert tcp.struck == 2
        assert sink.get("a") == data


def test_a_failed_upload_lets_the_buffer_go(http: TamperingProxy, container: str) -> None:
    http.script = [Act("PUT", status=403, stay=True)]
    buffer = bytearray(5_000_000)
    with closing(make(http.endpoint, container)) as sink, pytest.raises(SinkDenied) as caught:
        sink.put("a", buffer)
    buffer.clear()
    assert caught.value.key == "a"


def test_a_trickle_does_not_outlive_the_deadline(azure: AzureServer, tcp: FaultyProxy, container: str) -> None:
    with closing(make(azure.endpoint, container)) as direct:
        direct.put("a", bytes(5_000_000))
    calls: list[Callable[[Sink], object]] = [lambda sink: sink.get("a"), lambda sink: sink.put("b", bytes(30_000_000))]
    for call in calls:
        tcp.faults = Faults(rate=100_000)
        begun = time.monotonic()
        with (
            closing(make(at(tcp), container, deadline=2)) as sink,
            pytest.raises(SinkUnreachable),
        ):
            call(sink)
        assert time.monotonic() - begun < 20


def test_a_server_that_hangs_in_the_middle_is_left_by_the_deadline(
    azure: AzureServer, tcp: FaultyProxy, container: str
) -> None:
    with closing(make(azure.endpoint, container)) as direct:
        direct.put("a", bytes(5_000_000))
    tcp.faults = Faults(rate=1_000_000)
    threading.Timer(1, lambda: setattr(tcp, "faults", Faults(hang=True))).start()
    begun = time.monotonic()
    with closing(make(at(tcp), container, deadline=4)) as sink, pytest.raises(SinkUnreachable):
        sink.get("a")
    assert time.monotonic() - begun < 20


def test_a_slow_upload_may_take_longer_than_the_timeouts(tcp: FaultyProxy, container: str) -> None:
    tcp.faults = Faults(rate=2_000_000)
    with closing(make(at(tcp), container, connect_timeout=1, read_timeout=4)) as sink:
        sink.put("a", bytes(12_000_000))
        assert sink.stat("a").size == 12_000_000


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_put_whose_answer_is_lost_succeeds_all_the_same(http: TamperingProxy, sink: Sink, if_absent: bool) -> None:
    http.script = [Act("PUT", lose=True)]
    sink.put("a", b"data", if_absent=if_absent)
    assert sink.get("a") == b"data"
    assert http.asked("PUT") == 2


def test_a_put_whose_answer_is_lost_may_not_be_allowed_to_replace_itself(http: TamperingProxy, sink: Sink) -> None:
    held = refusal(409, "BlobImmutableDueToPolicy")
    http.script = [Act("PUT", lose=True), Act("PUT", **held)]
    sink.put("a", b"data")
    assert sink.get("a") == b"data"


def test_a_put_that_lost_its_answer_does_not_take_the_object_of_another_for_its_own(
    azure: AzureServer, http: TamperingProxy, sink: Sink, container: str
) -> None:
    with closing(make(azure.endpoint, container)) as other:
        other.put("a", b"data")
    http.script = [Act("PUT", status=503)]
    with pytest.raises(ObjectExists):
        sink.put("a", b"data", if_absent=True)


@pytest.mark.usefixtures("clock")
def test_a_damaged_download_is_made_again_and_never_returned(http: TamperingProxy, sink: Sink, container: str) -> None:
    data = bytes(range(256)) * 100
    sink.put("a", data)
    http.script = [Act("GET", change_answer=flip)]
    assert sink.get("a") == data
    assert http.script == []
    http.script = [Act("GET", change_answer=flip, stay=True)]
    with closing(make(http.endpoint, container)) as short:
        for length in (None, len(data), len(data) + 9):
            with pytest.raises(DamagedObject, match="MD5"):
                short.get("a", length=length)


@pytest.mark.usefixtures("clock")
def test_a_range_of_the_wrong_length_is_never_returned(http: TamperingProxy, sink: Sink, container: str) -> None:
    sink.put("a", bytes(1000))
    http.script = [Act("GET", change_answer=lambda data: data[:-1], stay=True)]
    with (
        closing(make(http.endpoint, container)) as short,
        pytest.raises(SinkUnreachable, match="asked for"),
    ):
        short.get("a", start=5, length=10)


def test_an_answer_that_is_not_of_the_api_is_reported(http: TamperingProxy, sink: Sink) -> None:
    http.script = [Act("GET", status=200, body=b"<html>Welcome to the hotel</html>", stay=True)]
    for call in ("get", "list"):
        with pytest.raises(SinkError, match=r"cannot be parsed|asked for"):
            CALLS[call](sink)


@pytest.mark.parametrize("method", CALLS)
def test_an_answer_in_another_xml_is_reported(http: TamperingProxy, sink: Sink, method: str) -> None:
    xml = {"Content-Type": "application/xml"}
    for verb in ("GET", "HEAD", "PUT", "DELETE"):
        http.script.append(Act(verb, status=200, body=b"<html>Welcome to the hotel</html>", headers=xml, stay=True))
    with pytest.raises(SinkError, match="cannot be parsed") as caught:
        CALLS[method](sink)
    assert not caught.value.retryable


def test_a_large_object_is_one_request_each_way(http: TamperingProxy, sink: Sink) -> None:
    data = bytes(range(256)) * (300 * 1024)  # above what the SDK would cut by default
    sink.put("a", data)
    assert sink.get("a") == data
    assert [seen.method for seen in http.seen] == ["PUT", "GET"]


@pytest.mark.usefixtures("clock")
def test_an_object_that_arrived_damaged_is_sent_again(http: TamperingProxy, sink: Sink) -> None:
    http.script = [Act("PUT", status=201, headers={"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="})]
    sink.put("a", b"data")
    assert http.asked("PUT") == 2
    assert sink.get("a") == b"data"


@pytest.mark.parametrize("method", CALLS)
def test_a_redirect_is_not_followed(http: TamperingProxy, sink: Sink, method: str) -> None:
    for verb in ("GET", "HEAD", "PUT", "DELETE"):
        http.script.append(Act(verb, status=307, headers={"Location": f"{http.endpoint}/elsewhere"}, stay=True))
    with pytest.raises(SinkError, match="307"):
        CALLS[method](sink)
    assert len(http.seen) == 1


@pytest.mark.parametrize("method", CALLS)
def test_a_missing_container_is_not_a_missing_object(azure: AzureServer, method: str) -> None:
    with (
        closing(make(azure.endpoint, "penstock-no-such-container")) as sink,
        pytest.raises(SinkError, match="no such container: penstock-no-such-container") as caught,
    ):
        CALLS[method](sink)
    assert not isinstance(caught.value, ObjectMissing)


@pytest.mark.usefixtures("clock")
def test_a_wrong_md5_is_refused_by_the_service_and_sent_again(http: TamperingProxy, container: str) -> None:
    data = bytes(range(256)) * 1000
    http.script = [Act("PUT", change_request=flip)]
    with closing(make(http.endpoint, container)) as sink:
        sink.put("a", data)
        assert http.asked("PUT") == 2
        assert sink.get("a") == data
    http.script = [Act("PUT", change_request=flip, stay=True)]
    with closing(make(http.endpoint, container)) as sink:
        with pytest.raises(SinkUnreachable, match="damaged"):
            sink.put("b", data)
        assert [found.key for found in sink.list()] == ["a"]


def test_a_preflight_proves_the_key_and_the_container_and_leaves_nothing(
    azure: AzureServer, sink: Sink, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.preflight()
    assert list(sink.list()) == []
    with closing(make(azure.endpoint, "penstock-no-such")) as other, pytest.raises(SinkError, match="no such"):
        other.preflight()
    monkeypatch.setenv("AZURE_TEST_KEY", "d3Jvbmc=")
    with closing(make(azure.endpoint, container)) as other, pytest.raises(SinkDenied):
        other.preflight()


@pytest.mark.parametrize("kind", ["account_key", "connection_string"])
def test_credentials_that_were_replaced_in_their_file_are_read_again(
    azure: AzureServer, container: str, tmp_path: Path, kind: str
) -> None:
    def keep(key: str) -> None:
        whole = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={azure.endpoint}"
        (tmp_path / "kept").write_text(key if kind == "account_key" else whole)

    values: dict[str, Any] = {"account": ACCOUNT, "container": container, "deadline": 20}
    if kind == "account_key":
        values["endpoint"] = azure.endpoint
    keep(base64.b64encode(b"another key").decode())
    with closing(AzureSink(AzureSettings.model_validate({**values, kind: {"file": str(tmp_path / "kept")}}))) as sink:
        for _ in range(2):
            with pytest.raises(SinkDenied):
                sink.put("a", b"1")
        keep(azure.key)
        sink.put("a", b"2")
        assert sink.get("a") == b"2"
