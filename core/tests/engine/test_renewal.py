"""Backups that store everything anew now and then, so that what they stored long ago can go."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from core.tests.engine.test_prune import let_go, pruned, used
from core.tests.repository.lab import KIB, Lab, noise
from core.tests.repository.virtual import VirtualStore
from hypothesis import given
from hypothesis import strategies as st

from penstock.api import UsageError
from penstock.repository.write.renewal import last_renewal

pytestmark = pytest.mark.usefixtures("store")

TEN_DAYS = timedelta(days=10)
DATA = noise(300 * KIB)


def nights(lab: Lab, store: VirtualStore, count: int, renew_every: timedelta | None) -> list[str]:
    """Nights that change little, of which two are kept; the snapshots of all of them."""
    made: list[str] = []
    data = b""
    for number in range(count):
        data = noise(KIB, number) + DATA
        made.append(lab.backup({"d": data}, renew_every=renew_every).snapshot.hex())
        store.passes(hours=2)
        if number >= 2:
            let_go(lab, made[-3])
        pruned(lab)
        store.passes(hours=22)
    assert lab.restored(made[-1]) == {"d": data}
    return made


@pytest.mark.slow
def test_what_was_stored_long_ago_can_go(lab: Lab, store: VirtualStore) -> None:
    first = lab.backup({"d": DATA}).snapshot.hex()
    old = used(lab, first)
    store.passes(days=1)
    made = nights(lab, store, 15, TEN_DAYS)
    let_go(lab, first)
    for _ in range(2):
        pruned(lab)
        store.passes(days=1)
    assert not {lab.at.pack_key(pack) for pack in old} & lab.keys(lab.at.packs)
    assert lab.check().findings == ()
    assert lab.restored(made[-2]) == {"d": noise(KIB, 13) + DATA}


@pytest.mark.slow
def test_without_it_the_first_night_is_needed_for_ever(lab: Lab, store: VirtualStore) -> None:
    old = used(lab, lab.backup({"d": DATA}).snapshot.hex())
    made = nights(lab, store, 12, None)
    assert old & used(lab, made[-1])


def test_it_happens_once_in_that_time(lab: Lab, store: VirtualStore) -> None:
    stored = []
    for _ in range(30):
        stored.append(lab.backup({"d": DATA}, renew_every=TEN_DAYS).stored)
        store.passes(days=1)
    renewed = [day for day, size in enumerate(stored) if size > len(DATA)]
    assert len(renewed) in (3, 4)
    assert all(after - before == 10 for before, after in pairwise(renewed[1:]))


def test_a_host_that_knows_nothing_takes_nothing_older(lab: Lab, store: VirtualStore, tmp_path: Path) -> None:
    old = used(lab, lab.backup({"d": DATA}).snapshot.hex())
    store.passes(days=10)
    new = used(lab, lab.backup({"d": DATA}, renew_every=TEN_DAYS).snapshot.hex())
    assert not old & new
    there = lab.backup({"d": DATA}, renew_every=TEN_DAYS, cache=tmp_path / "other")
    assert used(lab, there.snapshot.hex()) == new


def test_not_every_hour(lab: Lab) -> None:
    with pytest.raises(UsageError, match="a day or more"):
        lab.backup({"d": DATA}, renew_every=timedelta(hours=23))


TIMES = st.datetimes(datetime(2021, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
EVERY = st.timedeltas(timedelta(days=1), timedelta(days=300))
TAGS = st.binary(min_size=16, max_size=16)


@given(tag=TAGS, every=EVERY, at=TIMES)
def test_the_last_renewal_is_less_than_that_long_ago(tag: bytes, every: timedelta, at: datetime) -> None:
    last = last_renewal(tag, every, at)
    assert at - every < last <= at
    assert last_renewal(tag, every, last) == last
    assert last_renewal(tag, every, last - timedelta(microseconds=1)) == last - every


@given(tag=TAGS, at=TIMES)
def test_ages_between_two_renewals_are_none(tag: bytes, at: datetime) -> None:
    assert last_renewal(tag, timedelta.max, at) <= at


def test_not_everybody_renews_in_the_same_night() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    nights = {last_renewal(bytes([number]) * 16, timedelta(days=30), at).date() for number in range(256)}
    assert len(nights) >= 29
