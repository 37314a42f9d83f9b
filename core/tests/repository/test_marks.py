"""Marks: whose word counts, in which order, and what two people at once do to each other's."""

import pytest
from core.tests.repository.forging import put_notice
from core.tests.repository.test_notices import EVERYBODY, TIMES, Staff, staff

from penstock.format.notice import Mark, Marking
from penstock.repository import SnapshotEntry
from penstock.repository.pool import Workers
from penstock.repository.upkeep import marks
from penstock.repository.upkeep.marks import Hold, Marks, read_marks

__all__ = ["staff"]

pytestmark = pytest.mark.slow


def marks_of(staff: Staff, strangers: set[str] | None = None) -> Marks:
    domain = staff.lab.open().domain
    seen = set() if strangers is None else strangers
    with Workers(2, "penstock-test", domain.sink.stop) as workers:
        return read_marks(domain, workers, lambda error: seen.add(error.key))


def said(staff: Staff, entry: SnapshotEntry) -> tuple[frozenset[str], list[Hold], str]:
    found = marks_of(staff)
    return found.tags(entry), found.holds(entry), found.badness(entry)


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("action", [Marking.TAG, Marking.HOLD, Marking.BAD])
def test_only_the_owner_and_maintainers_mark(staff: Staff, who: str, action: Marking) -> None:
    entry = staff.backup()
    mark = Mark(TIMES[0], action, {entry.id: entry.digest}, "audit")
    key = put_notice(staff.lab.domain, mark, staff.by_name(who))
    may = who in ("the owner", "a maintainer")
    strangers: set[str] = set()
    found = marks_of(staff, strangers)
    assert (bool(found.tags(entry)), bool(found.holds(entry)), bool(found.badness(entry))) == (
        may and action is Marking.TAG,
        may and action is Marking.HOLD,
        may and action is Marking.BAD,
    )
    assert strangers == (set() if may or who == "a revoked maintainer" else {key})
    assert {finding.key for finding in staff.lab.check().findings} == strangers


@pytest.mark.parametrize("who", EVERYBODY)
def test_only_the_owner_and_maintainers_release(staff: Staff, who: str) -> None:
    entry = staff.backup()
    name = marks.hold(staff.lab.domain, {entry.id: entry.digest}, "audit")
    mark = Mark(TIMES[9], Marking.RELEASE, {entry.id: entry.digest}, "", (name,))
    put_notice(staff.lab.domain, mark, staff.by_name(who))
    assert bool(said(staff, entry)[1]) == (who not in ("the owner", "a maintainer"))


def test_a_release_lifts_what_it_names_and_nothing_else(staff: Staff) -> None:
    entry, other = staff.backup(), staff.backup(b"other")
    both = {one.id: one.digest for one in (entry, other)}
    marks.hold(staff.lab.domain, both, "audit")
    seen = said(staff, entry)[1]
    marks.hold(staff.lab.domain, {entry.id: entry.digest}, "court")
    marks.release(staff.lab.domain, {entry.id: entry.digest}, seen, "over")
    assert [hold.reason for hold in said(staff, entry)[1]] == ["court"]
    assert [hold.reason for hold in said(staff, other)[1]] == ["audit"]


def test_a_release_that_claims_to_be_older_than_its_hold_lifts_it(staff: Staff) -> None:
    entry = staff.backup()
    named = {entry.id: entry.digest}
    name = marks.hold(staff.lab.domain, named, "audit")
    put_notice(staff.lab.domain, Mark(TIMES[0], Marking.RELEASE, named, "", (name,)))
    assert said(staff, entry)[1] == []


def test_tags_are_those_of_the_backup_and_what_was_said_last(staff: Staff) -> None:
    made = staff.lab.backup({"d": b"content"}, tags=["release", "nightly"])
    entry = staff.lab.find(made.snapshot.hex())
    assert said(staff, entry)[0] == {"release", "nightly"}
    marks.untag(staff.lab.domain, {entry.id: entry.digest}, "nightly")
    marks.tag(staff.lab.domain, {entry.id: entry.digest}, "golden")
    assert said(staff, entry)[0] == {"release", "golden"}
    marks.tag(staff.lab.domain, {entry.id: entry.digest}, "nightly")
    assert said(staff, entry)[0] == {"release", "golden", "nightly"}


def test_what_is_found_good_again_counts_again(staff: Staff) -> None:
    entry = staff.backup()
    marks.judge(staff.lab.domain, {entry.id: entry.digest}, "a pack is gone")
    assert said(staff, entry)[2] == "a pack is gone"
    marks.judge(staff.lab.domain, {entry.id: entry.digest}, None)
    assert said(staff, entry)[2] == ""


def test_a_mark_is_of_a_head_and_not_of_what_takes_its_place(staff: Staff) -> None:
    entry = staff.backup()
    marks.hold(staff.lab.domain, {entry.id: bytes(32)}, "audit")
    assert said(staff, entry)[1] == []
