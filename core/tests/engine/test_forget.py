"""Forgetting by policy and by hand: what stays, what comes back, and who may."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from core.tests.repository.lab import Lab

from penstock.api import (
    DamagedObject,
    NoPolicy,
    NothingKept,
    RepositoryError,
    RoleForbids,
    SnapshotHeld,
    SnapshotNotFound,
    UsageError,
)
from penstock.engine import hold, release, tag
from penstock.engine.dropping import drop, find_unreadable_sayings
from penstock.engine.forget import ForgetPlan, forget, list_forgotten, plan_chosen, plan_forget, undelete
from penstock.format.notice import Action, Deletion, Notice
from penstock.format.times import now
from penstock.repository import Repository, SnapshotEntry
from penstock.repository.said import put_said
from penstock.repository.snapshots import list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer
from penstock.repository.upkeep import marks
from penstock.repository.upkeep.retention import Policy

pytestmark = pytest.mark.slow

LAST = Policy(last=1, at_least=1)


def nights(lab: Lab, count: int, name: str = "shop", by: Repository | None = None) -> list[SnapshotEntry]:
    """Snapshots, oldest first."""
    made = [lab.backup({"d": f"{name} {number}".encode()}, name=name, by=by) for number in range(count)]
    return [lab.find(one.snapshot.hex()) for one in made]


def plan(repository: Repository, policies: Callable[[str], Policy | None] = lambda name: LAST) -> ForgetPlan:
    return plan_forget(repository, policies, on_damage=lambda error: None)


def ids(entries: list[SnapshotEntry]) -> set[bytes]:
    return {entry.id for entry in entries}


def left(lab: Lab) -> set[bytes]:
    return ids(list_snapshots(lab.open()))


def test_what_is_forgotten_is_not_listed_and_comes_back(lab: Lab) -> None:
    one, two, three = nights(lab, 3)
    planned = plan(lab.open())
    assert {line.entry.id for line in planned.forgotten} == {one.id, two.id}
    assert left(lab) == ids([one, two, three])  # a plan does nothing
    forget(lab.open(), [line.entry for line in planned.forgotten])
    assert left(lab) == {three.id}
    assert lab.restored() == {"d": b"shop 2"}
    assert not lab.check().findings
    with pytest.raises(SnapshotNotFound, match="was forgotten") as raised:
        lab.find(one.id.hex())
    assert "penstock undelete" in str(raised.value.hint)
    assert ids(list_forgotten(lab.open(), lambda error: None)) == ids([one, two])
    undelete(lab.open(), [one.id.hex()[:9]])
    assert left(lab) == {one.id, three.id}
    assert ids(list_forgotten(lab.open(), lambda error: None)) == {two.id}
    assert lab.restored(one.id.hex()) == {"d": b"shop 0"}
    assert not lab.check().findings


def test_undelete_of_what_is_there_changes_nothing(lab: Lab) -> None:
    (one,) = nights(lab, 1)
    before = {info.key for info in lab.sink.list()}
    assert ids(undelete(lab.open(), [one.id.hex()])) == {one.id}
    assert {info.key for info in lab.sink.list()} == before
    with pytest.raises(SnapshotNotFound):
        undelete(lab.open(), ["00" * 16])
    with pytest.raises(UsageError, match="latest:shop is never one that was forgotten"):
        undelete(lab.open(), ["latest:shop"])


def test_what_a_prune_deleted_cannot_be_taken_back(lab: Lab) -> None:
    one, two = nights(lab, 2)
    put_said(lab.domain, Deletion(now(), Action.DELETE, {one.id: one.digest}))
    assert list_forgotten(lab.open(), lambda error: None) == []
    with pytest.raises(SnapshotNotFound, match="cannot be taken back: a prune has deleted"):
        undelete(lab.open(), [one.id.hex()])
    assert left(lab) == {two.id}


def test_what_has_no_effect_is_no_success(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags apply in the order of their times: with a late clock nobody takes one away. Forgetting has no order."""
    one, two, _ = nights(lab, 3)
    tag(two, add=["release"])
    with monkeypatch.context() as patched:
        yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for module in ("notices", "upkeep.marks"):
            patched.setattr(f"penstock.repository.{module}.now", lambda: yesterday)
        with pytest.raises(RepositoryError, match="the tag release is as it was") as raised:
            tag(two, remove=["release"])
        assert "clock" in str(raised.value.hint)
        forget(lab.open(), [one])
        assert ids(undelete(lab.open(), [one.id.hex()])) == {one.id}
        forget(lab.open(), [one])
        assert one.id not in left(lab)
    assert tag(two, remove=["release"]).tags == ()


def test_what_its_writer_voided_is_not_said_to_be_back(lab: Lab) -> None:
    one, _ = nights(lab, 2)
    forget(lab.open(), [one])
    put_said(lab.domain, Notice(now(), void={one.id: one.digest}))
    assert list_forgotten(lab.open(), lambda error: None) == []
    with pytest.raises(DamagedObject, match="voided"):
        undelete(lab.open(), [one.id.hex()])


def test_nothing_is_forgotten_anywhere_if_something_is_held_somewhere(lab: Lab) -> None:
    other = lab.open(add_writer(lab.repository, "web", domain=None))
    mine, theirs = nights(lab, 2), nights(lab, 2, by=other)
    for held, free in ((mine[0], theirs[0]), (theirs[0], mine[0])):
        hold(held, "the court")
        with pytest.raises(SnapshotHeld):
            forget(lab.open(), [free, held])
        release(held, "over")
    assert left(lab) == ids([*mine, *theirs])


def test_without_any_policy_there_is_nothing_to_go_by(lab: Lab) -> None:
    assert plan(lab.open(), lambda name: None).snapshots == ()
    nights(lab, 2)
    with pytest.raises(NoPolicy, match="nothing says what is kept of shop"):
        plan(lab.open(), lambda name: None)


def test_one_snapshot_named_twice_is_one(lab: Lab) -> None:
    one, two = nights(lab, 2)
    tag(one, add=["release"])
    planned = plan_chosen(lab.open(), [one, lab.find(one.id.hex())])
    assert [(line.entry.id, line.tags) for line in planned.forgotten] == [(one.id, ("release",))]
    with pytest.raises(NothingKept):
        plan_chosen(lab.open(), [one, two])


def test_a_backup_of_which_nothing_is_good_keeps_others_from_nothing(lab: Lab) -> None:
    """Its policy would let all of it go, which is refused: then nothing of any backup would ever be forgotten."""
    shop, crm = nights(lab, 2), nights(lab, 3, "crm")
    for one in shop:
        marks.judge(lab.domain, {one.id: one.digest}, "a pack is gone")
    releases = Policy(tags=frozenset({"release"}), at_least=1)
    planned = plan(lab.open(), lambda name: releases)
    lines = {line.entry.id: line for line in planned.snapshots}
    assert {lines[one.id].reasons for one in shop} == {("at least 1, not counted",)}
    assert lines[shop[0].id].to_json()["not_counted"] == "a pack is gone"
    forget(lab.open(), [line.entry for line in planned.forgotten])
    assert left(lab) == ids([*shop, crm[2]])


def test_a_tag_is_not_added_and_taken_away_at_once(lab: Lab) -> None:
    (one,) = nights(lab, 1)
    with pytest.raises(UsageError, match="at once"):
        tag(one, add=["release"], remove=["release"])


def test_each_backup_has_its_own_policy_and_none_forgets_nothing(lab: Lab) -> None:
    shop, crm = nights(lab, 3), nights(lab, 3, "crm")
    planned = plan(lab.open(), {"crm": LAST}.get)
    assert {line.entry.id for line in planned.forgotten} == ids(crm[:2])
    assert {line.reasons for line in planned.snapshots if line.entry.id in ids(shop)} == {
        ("no policy: nothing of this backup is forgotten",)
    }
    only = plan_forget(lab.open(), lambda name: LAST, only=["shop"], on_damage=lambda error: None)
    assert {line.entry.id for line in only.forgotten} == ids(shop[:2])
    assert all(line.entry.head.backup == "shop" for line in only.snapshots)


def test_backups_of_one_name_in_two_domains_are_two(lab: Lab) -> None:
    other = lab.open(add_writer(lab.repository, "web", domain=None))
    mine, theirs = nights(lab, 2), nights(lab, 2, by=other)
    planned = plan(lab.open())
    assert {line.entry.id for line in planned.forgotten} == {mine[0].id, theirs[0].id}


def test_tags_and_holds_keep(lab: Lab) -> None:
    one, two, _ = nights(lab, 3)
    tag(one, add=["release", "golden"])
    hold(two, "the auditors")
    policy = dataclasses.replace(LAST, tags=frozenset({"release"}))
    lines = {line.entry.id: line for line in plan(lab.open(), lambda name: policy).snapshots}
    assert (lines[one.id].reasons, lines[one.id].tags) == (("tag release",), ("golden", "release"))
    assert lines[two.id].reasons == ("hold: the auditors",)
    tag(one, remove=["release"])
    assert {line.entry.id for line in plan(lab.open(), lambda name: policy).forgotten} == {one.id}


def test_a_hold_is_in_the_way_also_of_one_that_was_chosen(lab: Lab) -> None:
    one, two = nights(lab, 2)
    planned = plan(lab.open())
    hold(one, "the court")  # between the plan and the deed
    with pytest.raises(SnapshotHeld, match="the court"):
        forget(lab.open(), [line.entry for line in planned.forgotten])
    with pytest.raises(SnapshotHeld, match="the court"):
        plan_chosen(lab.open(), [one])
    assert left(lab) == ids([one, two])
    release(one, "over")
    forget(lab.open(), [one])
    assert left(lab) == {two.id}


@pytest.mark.parametrize("kind", ["marks", "notices", "deletions"])
def test_what_nobody_can_read_may_have_been_a_hold(lab: Lab, kind: str) -> None:
    first, *_ = nights(lab, 3)
    head = {first.id: first.digest}
    name = {
        "marks": lambda: marks.hold(lab.domain, head, "the auditors"),
        "notices": lambda: put_said(lab.domain, Notice(now(), {}, head)),
        "deletions": lambda: put_said(lab.domain, Deletion(now(), Action.FORGET, head)),
    }[kind]()
    key = f"{getattr(lab.at, kind)}{name.hex()}"
    lab.flip(key, 60)
    lab.sink.put(f"{getattr(lab.at, kind)}notes.txt", b"a stranger's")
    heard: list[str] = []
    planned = plan_forget(lab.open(), lambda _: LAST, on_damage=lambda error: heard.append(error.key))
    assert key in heard
    assert planned.forgotten
    for chosen in ([one.entry for one in planned.forgotten], [first]):
        with pytest.raises(DamagedObject) as caught:
            forget(lab.open(), chosen)
        assert caught.value.key == key
        assert "--unreadable" in (caught.value.hint or "")
    assert len(left(lab)) == 3
    drop(lab.open(), find_unreadable_sayings(lab.open(), [name.hex()]))
    forget(lab.open(), [one.entry for one in planned.forgotten])
    assert len(left(lab)) == 3 - len(planned.forgotten)


def test_no_backup_is_left_without_a_good_snapshot(lab: Lab) -> None:
    one, two = nights(lab, 2)
    with pytest.raises(NothingKept, match="shop"):
        forget(lab.open(), [one, two])
    marks.judge(lab.domain, {two.id: two.digest}, "a pack is gone")
    with pytest.raises(NothingKept, match="shop"):
        forget(lab.open(), [one])
    assert left(lab) == ids([one, two])


def test_one_dated_in_the_future_is_not_the_last_good_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = nights(lab, 1)
    with monkeypatch.context() as patched:
        some_day = (datetime.now(UTC) + timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        patched.setattr("penstock.repository.write.session.now", lambda: some_day)
        (ahead,) = nights(lab, 1)
    lines = {line.entry.id: line for line in plan(lab.open()).snapshots}
    assert lines[one.id].reasons == ("last 1 of 1",)
    assert lines[ahead.id].discounted == "dated in the future"
    with pytest.raises(NothingKept):
        forget(lab.open(), [one])
    forget(lab.open(), [ahead])
    assert left(lab) == {one.id}


def test_a_bad_snapshot_keeps_no_good_one_out(lab: Lab) -> None:
    one, two, three = nights(lab, 3)
    marks.judge(lab.domain, {three.id: three.digest}, "a drill failed")
    planned = plan(lab.open())
    assert {line.entry.id for line in planned.forgotten} == {one.id}
    assert {line.entry.id: line.reasons for line in planned.snapshots}[two.id] == ("last 1 of 1",)


def test_a_maintainer_may_and_a_writer_may_not(lab: Lab) -> None:
    one, two, three = nights(lab, 3)
    writer, maintainer = add_writer(lab.repository, "host", domain="main"), add_maintainer(lab.repository, "operations")
    mine = list_snapshots(lab.open(writer))
    for work in (
        lambda: forget(lab.open(writer), mine[:1]),
        lambda: undelete(lab.open(writer), [one.id.hex()]),
        lambda: tag(mine[0], add=["release"]),
        lambda: hold(mine[0], "mine"),
        lambda: release(mine[0], "mine"),
    ):
        with pytest.raises(RoleForbids, match=r"maintainer's or the owner's key"):
            work()
    assert plan(lab.open(writer)).forgotten  # whoever may list them may see what would become of them
    theirs = list_snapshots(lab.open(maintainer))
    tag(theirs[0], add=["release"])
    hold(theirs[1], "operations")
    assert {line.entry.id for line in plan(lab.open(maintainer)).forgotten} == {one.id}
    forget(lab.open(maintainer), theirs[:1])
    assert left(lab) == ids([two, three])
    undelete(lab.open(maintainer), [one.id.hex()])
    assert left(lab) == ids([one, two, three])


def test_the_stores_time_decides_and_not_what_a_host_claims(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever steals a writer's key could otherwise push the snapshots of last month out."""
    one, two = nights(lab, 2)
    with monkeypatch.context() as patched:
        long_ago = (datetime.now(UTC) - timedelta(days=400)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        patched.setattr("penstock.repository.write.session.now", lambda: long_ago)
        (back_dated,) = nights(lab, 1)
    planned = plan(lab.open(), lambda name: Policy(last=2, at_least=1))
    assert planned.snapshots[0].entry.id == back_dated.id
    assert {line.entry.id for line in planned.forgotten} == {one.id}
    assert two.id not in {line.entry.id for line in planned.forgotten}


@pytest.mark.parametrize("wrong", ["", "-x", "a b", "a,b", "ö", "x" * 65, "\n"])
def test_a_tag_is_a_word(lab: Lab, wrong: str) -> None:
    (one,) = nights(lab, 1)
    with pytest.raises(UsageError, match="not a tag"):
        tag(one, add=[wrong])
    with pytest.raises(UsageError, match="not a tag"):
        lab.backup({"d": b""}, tags=[wrong])
