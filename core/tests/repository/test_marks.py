"""Marks: whose word counts, in which order, and what two people at once do to each other's."""

import pytest
from core.tests.repository.forging import put_notice
from core.tests.repository.test_notices import EVERYBODY, TIMES, Staff, staff

from penstock.format.notice import Mark, Marking
from penstock.format.times import now
from penstock.repository import SnapshotEntry
from penstock.repository.layout import id_of
from penstock.repository.pool import Workers
from penstock.repository.trust.keyring import revoke
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


@pytest.mark.parametrize("since", [False, True])
def test_what_a_maintainer_marked_stays_marked_when_its_key_is_revoked(staff: Staff, *, since: bool) -> None:
    """Whoever leaves takes no hold along; whoever stole the key leaves none behind."""
    entry, other = staff.backup(), staff.backup(b"other")
    both, named = {one.id: one.digest for one in (entry, other)}, {entry.id: entry.digest}
    lab, by = staff.lab, staff.by_name("a maintainer")
    mine = marks.hold(lab.domain, named, "mine")

    def put(action: Marking, text: str, heads: dict[bytes, bytes], *holds: bytes) -> bytes:
        return id_of(put_notice(lab.domain, Mark(now(), action, heads, text, holds), by))

    audit = put(Marking.HOLD, "audit", both)
    put(Marking.RELEASE, "over", named, audit, mine)
    put(Marking.HOLD, "court", named)
    put(Marking.TAG, "release", named)
    put(Marking.TAG, "golden", named)
    marks.untag(lab.domain, named, "golden")
    put(Marking.BAD, "a pack is gone", named)
    put(Marking.BAD, "a part is gone", {other.id: other.digest})
    put(Marking.GOOD, "", {other.id: other.digest})
    then = now()
    put(Marking.HOLD, "the thief's", both)
    put(Marking.UNTAG, "release", named)
    put(Marking.GOOD, "", named)
    before = said(staff, entry)[0]
    revoke(lab.open(), staff.maintainer.key, since=then if since else None)
    tags, holds, bad = said(staff, entry)
    late = [] if since else ["the thief's"]
    assert [hold.reason for hold in holds] == ["court", *late]
    assert (tags, bad) == (({"release"}, "a pack is gone") if since else (frozenset(), ""))
    assert before == frozenset()
    _, holds, bad = said(staff, other)
    assert ([hold.reason for hold in holds], bad) == (["audit", *late], "")
    assert not lab.check().findings
