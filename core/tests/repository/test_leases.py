"""Leases: a session that gave no sign of life for an hour commits nothing."""

import threading
from collections.abc import Iterator

import pytest
from core.tests.repository.lab import Lab

from penstock.api import SinkUnreachable
from penstock.api.errors import SessionLost
from penstock.format.encoding import new_id
from penstock.repository.upkeep.leases import Lease

MINUTE = 60.0


class Clock:
    """Stands still until it is told how late it is."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lease_of(lab: Lab, clock: Clock) -> Lease:
    """That of a session that has just put its object."""
    session = new_id()
    one = Lease(lab.domain, session, if_absent=True, clock=clock)
    lab.sink.put(lab.at.session_key(session), b"")
    return one


@pytest.fixture
def lease(lab: Lab, clock: Clock) -> Iterator[Lease]:
    with lease_of(lab, clock) as one:
        yield one


def leases(lab: Lab) -> list[str]:
    return sorted(info.key[-8:] for info in lab.sink.list(lab.domain.at.leases))


def test_the_first_is_there_before_the_session_begins(lab: Lab, lease: Lease) -> None:
    assert leases(lab) == ["00000001"]
    lease.renew()
    assert leases(lab) == ["00000001", "00000002"]


def test_a_fresh_one_is_not_renewed_at_a_commit_and_an_older_one_is(lab: Lab, lease: Lease, clock: Clock) -> None:
    clock.now += 29 * MINUTE
    lease.require_fresh()
    assert leases(lab) == ["00000001"]
    clock.now += 2 * MINUTE
    lease.require_fresh()
    assert leases(lab) == ["00000001", "00000002"]
    clock.now += 59 * MINUTE
    lease.require_fresh()


def test_who_slept_through_it_has_lost_the_session_for_good(lab: Lab, lease: Lease, clock: Clock) -> None:
    clock.now += 60 * MINUTE
    for attempt in (lease.require_fresh, lease.renew, lease.require_fresh):
        with pytest.raises(SessionLost, match="no sign of life"):
            attempt()


def test_a_renewal_that_arrives_too_late_is_none(
    lab: Lab, lease: Lease, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = type(lab.sink).put

    def slowly(self: object, key: str, *args: object, **more: object) -> None:
        clock.now += 11 * MINUTE
        put(self, key, *args, **more)  # type: ignore[arg-type]

    clock.now += 50 * MINUTE
    monkeypatch.setattr(type(lab.sink), "put", slowly)
    with pytest.raises(SessionLost):
        lease.renew()


def test_a_store_that_does_not_answer_is_told_at_the_commit(
    lab: Lab, lease: Lease, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, key: str, *args: object, **more: object) -> None:
        raise SinkUnreachable(key, "does not answer")

    clock.now += 31 * MINUTE
    with monkeypatch.context() as patched:
        patched.setattr(type(lab.sink), "put", refuse)
        with pytest.raises(SinkUnreachable):
            lease.require_fresh()
    lease.require_fresh()  # it answers again, in time
    assert leases(lab) == ["00000001", "00000003"]


def test_its_thread_ends_with_it(lab: Lab, clock: Clock) -> None:
    before = threading.active_count()
    with lease_of(lab, clock):
        assert threading.active_count() == before + 1
    for thread in threading.enumerate():
        if thread.name == "penstock-lease":
            thread.join(10)
            assert not thread.is_alive()
