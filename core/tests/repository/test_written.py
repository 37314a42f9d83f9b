"""When the original's store wrote a head, as a replica says it."""

from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from core.tests.repository.lab import Lab

from penstock.engine.forget import plan_forget
from penstock.format.times import as_text, is_time
from penstock.repository.pool import Workers
from penstock.repository.trust.keyring import add_writer, revoke
from penstock.repository.upkeep import marks
from penstock.repository.upkeep.retention import Policy


def read(lab: Lab) -> marks.Marks:
    with Workers(2, "test", lab.sink.stop) as workers:
        return marks.read_marks(lab.domain, workers)


def test_the_original_time_counts_where_it_is_earlier(lab: Lab) -> None:
    entry = lab.find(lab.backup({"d": b"1"}).snapshot.hex())
    assert entry.modified is not None
    assert read(lab).dated(entry) is entry
    marks.written(lab.domain, {entry.id: entry.digest}, as_text(entry.modified + timedelta(days=1)))
    assert read(lab).dated(entry) is entry
    early = entry.modified - timedelta(days=30)
    marks.written(lab.domain, {entry.id: entry.digest}, as_text(early))
    assert read(lab).dated(entry).modified == early


def test_what_is_no_time_says_nothing(lab: Lab) -> None:
    entry = lab.find(lab.backup({"d": b"1"}).snapshot.hex())
    for text in ("", "yesterday", "2026-01-31", "0000-00-00T00:00:00.000000Z"):
        marks.written(lab.domain, {entry.id: entry.digest}, text)
    assert not read(lab).written


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00.000000Z", "0001-01-01T00:00:00.000000Z"])
def test_a_time_has_one_spelling(text: str) -> None:
    assert is_time(text) == (text >= "1000")
    assert not is_time(text.replace("Z", "+00:00"))
    assert not is_time(text.replace(".000000", ""))


def test_retention_goes_by_it(lab: Lab) -> None:
    entries = [lab.find(lab.backup({"d": str(day).encode()}).snapshot.hex()) for day in range(4)]
    policy = Policy(daily=10, at_least=1)

    def kept() -> int:
        plan = plan_forget(lab.open(), lambda _: policy, on_damage=lambda _: None)
        return len(plan.snapshots) - len(plan.forgotten)

    assert kept() <= 2  # all of them of today; of two days, around midnight
    for day, entry in enumerate(entries):
        marks.written(lab.domain, {entry.id: entry.digest}, as_text(datetime.now(UTC) - timedelta(days=10 - day)))
    assert kept() == 4


def test_a_revocation_goes_by_the_stores_own_time(lab: Lab) -> None:
    """Or whoever has a writer's and a maintainer's key could date back what it forged."""
    writer = add_writer(lab.open(), "host", domain="main")
    with patch("penstock.repository.write.session.now", lambda: as_text(datetime.now(UTC) - timedelta(days=3))):
        entry = lab.find(lab.backup({"d": b"x"}, by=lab.open(writer)).snapshot.hex())
    assert entry.head.finished < as_text(datetime.now(UTC) - timedelta(days=2))
    marks.written(lab.domain, {entry.id: entry.digest}, as_text(datetime.now(UTC) - timedelta(days=3)))
    assert revoke(lab.open(), writer.key, since=as_text(datetime.now(UTC) - timedelta(days=1))) == []
