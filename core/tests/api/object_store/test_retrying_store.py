"""What a store of single attempts becomes: tried again, with lost answers decided, and stopped when it is told to."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from core.tests.api.object_store.scripted import Failing, ScriptedSink, ScriptedStore, refused
from tests.clock import Clock, clock

from penstock.api import (
    DamagedObject,
    Interrupted,
    ObjectExists,
    ObjectLocked,
    ObjectMissing,
    SinkDenied,
    SinkError,
    SinkUnreachable,
    StopToken,
)
from penstock.api.object_store import DamagedTransfer, Refused
from penstock.testing.hearing import Heard

__all__ = ["clock"]  # a fixture

BUSY = SinkUnreachable("a", "the service cannot answer")


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def sink(store: ScriptedStore, clock: Clock) -> ScriptedSink:
    return ScriptedSink(store, deadline=60)


def test_a_put_whose_answer_is_lost_is_this_calls_own(store: ScriptedStore, sink: ScriptedSink) -> None:
    store.script = [Failing(BUSY, after=True)]
    sink.put("a", b"mine", if_absent=True)
    assert store.objects["a"][0] == b"mine"
    assert [action for action, _ in store.attempts] == ["put", "put", "is_own"]


def test_the_same_bytes_of_another_are_not_this_calls_own(store: ScriptedStore, sink: ScriptedSink) -> None:
    store.objects["a"] = (b"same", "another's mark")
    store.script = [Failing(BUSY)]
    with pytest.raises(ObjectExists):
        sink.put("a", b"same", if_absent=True)


def test_what_exists_before_the_first_attempt_is_not_looked_at(store: ScriptedStore, sink: ScriptedSink) -> None:
    store.objects["a"] = (b"theirs", "")
    with pytest.raises(ObjectExists):
        sink.put("a", b"mine", if_absent=True)
    assert store.asked("is_own") == 0


def test_a_lost_answer_is_decided_again_when_looking_fails(store: ScriptedStore, sink: ScriptedSink) -> None:
    store.script = [Failing(BUSY, after=True)]
    store.own_script = [BUSY]
    sink.put("a", b"mine", if_absent=True)
    assert store.asked("is_own") == 2


def test_who_may_not_look_is_told_what_refused_the_put(store: ScriptedStore, sink: ScriptedSink) -> None:
    store.script = [Failing(BUSY, after=True)]
    store.own_script = [SinkDenied("a", "may not read")]
    with pytest.raises(ObjectExists):
        sink.put("a", b"mine", if_absent=True)


def test_a_lost_put_that_may_not_be_replaced_has_succeeded(store: ScriptedStore, sink: ScriptedSink) -> None:
    store.script = [Failing(BUSY, after=True), Failing(SinkError("a", "the object may not be changed"))]
    sink.put("a", b"mine")
    assert store.asked("put") == 2


def test_every_call_is_tried_again(store: ScriptedStore, sink: ScriptedSink) -> None:
    store.objects = dict.fromkeys("abc", (b"data", ""))
    for call in (
        lambda: sink.put("d", b"data"),
        lambda: sink.get("a"),
        lambda: sink.stat("a"),
        lambda: list(sink.list()),
        lambda: sink.delete("a"),
        sink.preflight,
    ):
        store.script, store.attempts = [Failing(BUSY), Failing(BUSY)], []
        call()
        assert len(store.attempts) >= 3


def test_each_retry_is_reported_with_its_reason(store: ScriptedStore, sink: ScriptedSink) -> None:
    sink.report = heard = Heard()
    store.script = [Failing(BUSY), Failing(BUSY)]
    sink.put("a", b"data")
    assert len(heard.retries) == 2
    assert heard.retries[0].startswith("a: the service cannot answer: trying again in ")


def test_an_object_that_is_damaged_in_each_transfer_is_damaged(store: ScriptedStore, sink: ScriptedSink) -> None:
    store.objects = {"a": (b"data", "")}
    damaged = Failing(DamagedTransfer("a", "its MD5 is not the one that the service keeps"), after=True)
    store.script = [damaged, damaged, Failing(BUSY)]
    assert sink.get("a") == b"data"
    store.script, store.attempts = [damaged, Failing(BUSY), damaged, damaged], []
    with pytest.raises(DamagedObject, match="a: its MD5 is not the one that the service keeps"):
        sink.get("a")
    assert (store.script, store.asked("get")) == ([], 4)


def test_a_stop_ends_the_wait_between_two_attempts(store: ScriptedStore) -> None:
    sink = ScriptedSink(store, deadline=3600)
    sink.stop = stop = StopToken()
    waiting = threading.Event()

    class Heeds(Heard):
        def retry(self, message: str) -> None:
            waiting.set()

    sink.report = Heeds()
    store.script = [Failing(refused(SinkUnreachable("a", "busy"), Refused("get", 503, wait=3000.0)))]
    ended: list[BaseException] = []

    def work() -> None:
        try:
            sink.get("a")
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            ended.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert waiting.wait(30)
    stop.stop()
    thread.join(30)
    assert [type(error) for error in ended] == [Interrupted]
    assert len(store.attempts) == 1


def test_after_a_stop_one_attempt_is_still_made(store: ScriptedStore) -> None:
    sink = ScriptedSink(store)
    sink.stop = stop = StopToken()
    stop.stop()
    sink.put("a", b"x")
    sink.delete("a")
    store.script = [Failing(BUSY)]
    with pytest.raises(Interrupted):
        sink.put("a", b"x")
    assert len(store.attempts) == 3


def test_close_does_not_wait_for_a_request_that_hangs(store: ScriptedStore) -> None:
    hanging, release = threading.Event(), threading.Event()

    class Hangs(ScriptedStore):
        def stat(self, key: str, deadline: object) -> object:  # type: ignore[override]
            hanging.set()
            release.wait(60)
            raise ObjectMissing(key, "no such object")

    sink = ScriptedSink(Hangs())

    def work() -> None:
        with pytest.raises(ObjectMissing):
            sink.stat("a")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert hanging.wait(30)
    sink.close()
    assert thread.is_alive()
    release.set()
    thread.join(30)


def test_a_service_is_given_the_time_it_asks_for(store: ScriptedStore, sink: ScriptedSink, clock: Clock) -> None:
    store.script = [Failing(refused(SinkUnreachable("a", "busy"), Refused("put", 503, wait=7.0)))]
    sink.put("a", b"data")
    assert clock.slept == 7.0


def test_a_range_past_the_end_is_empty_and_a_whole_object_never_is(store: ScriptedStore, sink: ScriptedSink) -> None:
    past = Failing(refused(SinkError("a", "out of range"), Refused("get", 416)))
    store.script = [past]
    assert sink.get("a", start=10) == b""
    store.script = [past]
    with pytest.raises(SinkError):
        sink.get("a")


def test_a_listing_is_lazy_goes_on_to_its_end_and_passes_over_names_that_are_not_keys(
    store: ScriptedStore, sink: ScriptedSink
) -> None:
    store.objects = {f"packs/{number}": (b"", "") for number in range(5)} | {"packs/UPPER": (b"", "")}
    listing = sink.list("packs/")
    assert not store.attempts
    assert next(listing).key == "packs/0"
    assert store.asked("list") == 1
    assert [info.key for info in listing] == [f"packs/{number}" for number in range(1, 5)]
    assert store.asked("list") == 3


@pytest.mark.parametrize("token", ["", "2"])
def test_a_listing_that_goes_on_from_nowhere_is_an_error(store: ScriptedStore, sink: ScriptedSink, token: str) -> None:
    store.token = token
    with pytest.raises(SinkError, match="without a new continuation token"):
        list(sink.list())


def test_deletes_go_in_the_batches_that_the_service_takes(store: ScriptedStore, sink: ScriptedSink) -> None:
    store.batch = 3
    sink.delete_many(f"packs/{number}" for number in range(7))
    assert [key.count(" ") + 1 for _, key in store.attempts] == [3, 3, 1]
    store.attempts.clear()
    sink.delete_many([])
    assert not store.attempts
    with pytest.raises(SinkError, match="not a valid key"):
        sink.delete_many(["a", "../b"])
    assert not store.attempts


def test_what_is_locked_in_one_batch_keeps_no_other_batch_from_being_deleted(
    store: ScriptedStore, sink: ScriptedSink
) -> None:
    store.batch = 3
    day = datetime(2030, 1, 1, tzinfo=UTC)
    store.objects = {f"packs/{number}": (b"x", "") for number in range(7)}
    store.locks = {"packs/0": day, "packs/4": day + timedelta(days=1), "packs/5": day}
    with pytest.raises(ObjectLocked) as caught:
        sink.delete_many(f"packs/{number}" for number in range(7))
    assert caught.value.key == "packs/4"
    assert caught.value.locked == store.locks
    assert store.objects.keys() == store.locks.keys()
    assert store.asked("delete") == 3, "a lock is not waited for"


def test_the_store_is_made_once_and_on_first_use() -> None:
    sink = ScriptedSink()
    assert (sink.location, sink.connections, sink.connected) == ("scripted", 8, 0)
    sink.close()
    assert sink.connected == 0
    sink.delete("a")
    sink.delete("b")
    sink.close()
    sink.close()
    assert (sink.connected, sink.scripted.closed) == (1, 2)


def test_a_sink_without_locks_retains_nothing(sink: ScriptedSink) -> None:
    with pytest.raises(SinkError, match="locks no objects") as caught:
        sink.retain("a", datetime.now(UTC))
    assert caught.value.hint is None


class Rotating(ScriptedStore):
    """Whose credentials have been replaced as often as `replaced` says."""

    generation = 0
    replaced = 0
    reads = 0

    def renew(self, generation: int) -> bool:
        self.reads += 1
        self.generation = max(self.generation, self.replaced)
        return self.generation != generation


@pytest.mark.parametrize("action", ["put", "get", "stat", "list", "delete", "look"])
def test_a_refused_call_is_made_again_with_credentials_that_were_replaced(clock: Clock, action: str) -> None:
    store = Rotating()
    sink = ScriptedSink(store, deadline=60)
    sink.report = heard = Heard()
    calls = {
        "put": lambda: sink.put("a", b"1"),
        "get": lambda: sink.get("a"),
        "stat": lambda: sink.stat("a"),
        "list": lambda: list(sink.list()),
        "delete": lambda: sink.delete("a"),
        "look": sink.preflight,
    }
    sink.put("a", b"1")
    store.replaced = 1
    store.script = [Failing(SinkDenied("a", "the credentials have expired"))]
    calls[action]()
    assert store.reads == 1
    assert heard.retries == ["a: the credentials have expired: trying again with the credentials as they are now"]


def test_a_call_that_is_refused_with_the_same_credentials_is_not_made_again(clock: Clock) -> None:
    store = Rotating()
    store.script = [Failing(SinkDenied("a", "access denied")) for _ in range(2)]
    with pytest.raises(SinkDenied):
        ScriptedSink(store, deadline=60).put("a", b"1")
    assert (store.asked("put"), store.reads) == (1, 1)


def test_new_credentials_that_are_refused_too_are_the_last(clock: Clock) -> None:
    store = Rotating()
    store.replaced = 1
    store.script = [Failing(SinkDenied("a", "access denied")) for _ in range(3)]
    with pytest.raises(SinkDenied):
        ScriptedSink(store, deadline=60).put("a", b"1")
    assert (store.asked("put"), store.reads) == (2, 1)


@pytest.mark.parametrize(("size", "told"), [(1, False), (4 * 1024 * 1024, True)])
def test_a_large_object_that_does_not_get_through_names_the_size_of_packs(
    store: ScriptedStore, sink: ScriptedSink, size: int, told: bool
) -> None:
    store.script = [Failing(SinkUnreachable("a", "the connection broke: reset")) for _ in range(1000)]
    with pytest.raises(SinkUnreachable) as caught:
        sink.put("a", bytes(size))
    assert ("pack_size" in str(caught.value.hint)) is told
