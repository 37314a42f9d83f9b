"""What a sink over HTTP tries again and what it does not, whatever the service: behind proxies that fail on demand."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from tests.clock import Clock
from tests.servers.proxy import Faults, FaultyProxy
from tests.servers.tampering import Act, TamperingProxy, flip

from penstock.api import DamagedObject, ObjectExists, ObjectMissing, Sink, SinkDenied, SinkError, SinkUnreachable

__all__ = ["CALLS", "Service", "SinkAttempts"]

CALLS: dict[str, Callable[[Sink], object]] = {
    "get": lambda sink: sink.get("a"),
    "stat": lambda sink: sink.stat("a"),
    "put": lambda sink: sink.put("a", bytes(2**20)),
    "delete": lambda sink: sink.delete("a"),
    "list": lambda sink: list(sink.list("a")),
}


@dataclass(frozen=True)
class Service:
    """An emulator of a service.

    `make` gives the sink of a place (a container, a bucket; `shop-backups` by default) at an endpoint, which is that of
    the service or of a proxy before it, with a deadline of 20 seconds or what the keywords say.
    """

    endpoint: str
    new_place: Callable[[], str]
    make: Callable[..., Sink]

    def at(self, port: int) -> str:
        """Its endpoint, were it at another port."""
        return urlsplit(self.endpoint)._replace(netloc=f"127.0.0.1:{port}").geturl()


class SinkAttempts:
    """Subclasses have a fixture `service`."""

    #: The method of uploads.
    upload: ClassVar[str]
    #: What the paths of downloads hold.
    download: ClassVar[str] = ""
    #: By what a damaged download is known.
    checksum: ClassVar[str]
    #: The service's own word for a place.
    place_word: ClassVar[str]
    #: A refusal of an upload, since what it would replace is locked.
    held: ClassVar[Act]

    @pytest.fixture
    def place(self, service: Service) -> str:
        return service.new_place()

    @pytest.fixture
    def http(self, service: Service) -> Iterator[TamperingProxy]:
        with TamperingProxy(service.endpoint) as proxy:
            yield proxy

    @pytest.fixture
    def tcp(self, service: Service) -> Iterator[FaultyProxy]:
        parts = urlsplit(service.endpoint)
        with FaultyProxy(str(parts.hostname), int(str(parts.port))) as proxy:
            yield proxy

    @pytest.fixture
    def sink(self, service: Service, http: TamperingProxy, place: str) -> Iterator[Sink]:
        with closing(service.make(http.endpoint, place)) as sink:
            yield sink

    def test_a_busy_service_is_asked_again(self, http: TamperingProxy, sink: Sink) -> None:
        http.script = [
            Act(self.upload, status=503),
            Act(self.upload, status=429),
            Act("GET", status=500),
            Act("DELETE", status=502),
        ]
        sink.put("a", b"data")
        assert http.asked(self.upload) == 3
        assert sink.get("a") == b"data"
        sink.delete("a")
        assert list(sink.list()) == []

    def test_a_busy_service_is_given_the_time_it_asks_for(self, http: TamperingProxy, sink: Sink, clock: Clock) -> None:
        http.script = [Act(self.upload, status=503, headers={"Retry-After": "2"})]
        sink.put("a", b"data")
        assert clock.slept >= 2

    def test_a_service_that_stays_busy_is_unreachable_by_the_deadline(
        self, http: TamperingProxy, sink: Sink, clock: Clock
    ) -> None:
        http.script = [Act(self.upload, status=503, stay=True)]
        with pytest.raises(SinkUnreachable) as caught:
            sink.put("packs/a", b"data")
        assert clock.slept < 20
        assert 1 < http.asked(self.upload) < 30
        assert caught.value.key == "packs/a"
        assert "attempts" in caught.value.details[-1]

    @pytest.mark.parametrize("method", CALLS)
    def test_a_server_that_never_answers_is_unreachable_by_the_deadline(self, service: Service, method: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            endpoint = service.at(listener.getsockname()[1])
            begun = time.monotonic()
            with closing(service.make(endpoint, deadline=1.5)) as sink, pytest.raises(SinkUnreachable) as caught:
                CALLS[method](sink)
            assert time.monotonic() - begun < 20
        assert caught.value.key == "a"

    def test_a_closed_port_is_unreachable_by_the_deadline(self, service: Service, clock: Clock) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            endpoint = service.at(listener.getsockname()[1])
        with (
            closing(service.make(endpoint)) as sink,
            pytest.raises(SinkUnreachable, match=f"connect to {endpoint}: .*refused"),
        ):
            sink.get("a")
        assert clock.slept < 20

    @pytest.mark.parametrize("reset", [False, True])
    @pytest.mark.usefixtures("clock")
    def test_a_download_that_breaks_off_is_made_again(
        self, service: Service, tcp: FaultyProxy, place: str, reset: bool
    ) -> None:
        data = bytes(range(256)) * 4000
        with closing(service.make(service.endpoint, place)) as direct:
            direct.put("a", data)
        tcp.faults = Faults(cut_download_after=300_000, times=2, reset=reset)
        with closing(service.make(service.at(tcp.port), place)) as sink:
            assert sink.get("a") == data
            assert tcp.struck == 2
            tcp.faults = Faults(cut_download_after=300_000)
        with (
            closing(service.make(service.at(tcp.port), place)) as sink,
            pytest.raises(SinkUnreachable),
        ):
            sink.get("a")

    @pytest.mark.parametrize("reset", [False, True])
    def test_an_upload_that_breaks_off_is_made_again(
        self, service: Service, tcp: FaultyProxy, place: str, reset: bool
    ) -> None:
        data = bytes(range(256)) * 40_000
        tcp.faults = Faults(cut_upload_after=2_000_000, times=2, reset=reset)
        with closing(service.make(service.at(tcp.port), place)) as sink:
            buffer = bytearray(data)
            sink.put("a", buffer, if_absent=True)
            buffer.clear()  # raises BufferError while anyone holds on to it
            assert tcp.struck == 2
            assert sink.get("a") == data

    def test_a_failed_upload_lets_the_buffer_go(self, service: Service, http: TamperingProxy, place: str) -> None:
        http.script = [Act(self.upload, status=403, stay=True)]
        buffer = bytearray(5_000_000)
        with closing(service.make(http.endpoint, place)) as sink, pytest.raises(SinkDenied) as caught:
            sink.put("a", buffer)
        buffer.clear()
        assert caught.value.key == "a"

    def test_a_trickle_does_not_outlive_the_deadline(self, service: Service, tcp: FaultyProxy, place: str) -> None:
        with closing(service.make(service.endpoint, place)) as direct:
            direct.put("a", bytes(5_000_000))
        calls: list[Callable[[Sink], object]] = [
            lambda sink: sink.get("a"),
            lambda sink: sink.put("b", bytes(30_000_000)),
        ]
        for call in calls:
            tcp.faults = Faults(rate=100_000)
            begun = time.monotonic()
            with (
                closing(service.make(service.at(tcp.port), place, deadline=2)) as sink,
                pytest.raises(SinkUnreachable),
            ):
                call(sink)
            assert time.monotonic() - begun < 20

    def test_a_server_that_hangs_in_the_middle_is_left_by_the_deadline(
        self, service: Service, tcp: FaultyProxy, place: str
    ) -> None:
        with closing(service.make(service.endpoint, place)) as direct:
            direct.put("a", bytes(5_000_000))
        tcp.faults = Faults(rate=1_000_000)
        threading.Timer(1, lambda: setattr(tcp, "faults", Faults(hang=True))).start()
        begun = time.monotonic()
        with closing(service.make(service.at(tcp.port), place, deadline=4)) as sink, pytest.raises(SinkUnreachable):
            sink.get("a")
        assert time.monotonic() - begun < 20

    def test_a_slow_upload_may_take_longer_than_the_timeouts(
        self, service: Service, tcp: FaultyProxy, place: str
    ) -> None:
        tcp.faults = Faults(rate=2_000_000)
        with closing(service.make(service.at(tcp.port), place, connect_timeout=1, read_timeout=4)) as sink:
            sink.put("a", bytes(12_000_000))
            assert sink.stat("a").size == 12_000_000

    @pytest.mark.parametrize("if_absent", [False, True])
    def test_a_put_whose_answer_is_lost_succeeds_all_the_same(
        self, http: TamperingProxy, sink: Sink, if_absent: bool
    ) -> None:
        http.script = [Act(self.upload, lose=True)]
        sink.put("a", b"data", if_absent=if_absent)
        assert sink.get("a") == b"data"
        assert http.asked(self.upload) == 2

    def test_a_put_whose_answer_is_lost_may_not_be_allowed_to_replace_itself(
        self, http: TamperingProxy, sink: Sink
    ) -> None:
        http.script = [Act(self.upload, lose=True), self.held]
        sink.put("a", b"data")
        assert sink.get("a") == b"data"

    def test_a_put_that_lost_its_answer_does_not_take_the_object_of_another_for_its_own(
        self, service: Service, http: TamperingProxy, sink: Sink, place: str
    ) -> None:
        with closing(service.make(service.endpoint, place)) as other:
            other.put("a", b"data")
        http.script = [Act(self.upload, status=503)]
        with pytest.raises(ObjectExists):
            sink.put("a", b"data", if_absent=True)

    @pytest.mark.usefixtures("clock")
    def test_a_damaged_download_is_made_again_and_never_returned(
        self, service: Service, http: TamperingProxy, sink: Sink, place: str
    ) -> None:
        data = bytes(range(256)) * 100
        sink.put("a", data)
        http.script = [Act("GET", where=self.download, change_answer=flip)]
        assert sink.get("a") == data
        assert http.script == []
        http.script = [Act("GET", where=self.download, change_answer=flip, stay=True)]
        with closing(service.make(http.endpoint, place)) as short:
            for length in (None, len(data), len(data) + 9):
                with pytest.raises(DamagedObject, match=self.checksum):
                    short.get("a", length=length)

    @pytest.mark.usefixtures("clock")
    def test_a_range_of_the_wrong_length_is_never_returned(
        self, service: Service, http: TamperingProxy, sink: Sink, place: str
    ) -> None:
        sink.put("a", bytes(1000))
        http.script = [Act("GET", where=self.download, change_answer=lambda data: data[:-1], stay=True)]
        with (
            closing(service.make(http.endpoint, place)) as short,
            pytest.raises(SinkUnreachable, match="asked for"),
        ):
            short.get("a", start=5, length=10)

    @pytest.mark.parametrize("method", CALLS)
    def test_a_missing_place_is_not_a_missing_object(self, service: Service, method: str) -> None:
        with (
            closing(service.make(service.endpoint, "penstock-no-such-place")) as sink,
            pytest.raises(SinkError, match=f"no such {self.place_word}: penstock-no-such-place") as caught,
        ):
            CALLS[method](sink)
        assert not isinstance(caught.value, ObjectMissing)
