# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sinks that is about locks, and what deletion makes of them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TypeAlias

from penstock.api import ObjectInfo, ObjectLocked, ObjectMissing, Sink
from penstock.testing.kit import NotApplicable, applicable, must_raise, must_work
from penstock.testing.sink_checks import check_bytes, check_listing

__all__ = ["EndLocks", "LockTests"]

#: Lets the locks of these objects end, by other means than the sink's.
EndLocks: TypeAlias = Callable[[Iterable[str]], None]

#: Services keep whole seconds, and their clocks are not quite this host's.
_ROUGHLY = timedelta(minutes=5)


class LockTests:
    """Tests of a sink that locks what is put."""

    def test_what_is_locked_stays_as_it_was_and_says_until_when(self, locking: Sink | NotApplicable) -> None:
        sink = applicable(locking)
        sink.put("packs/00/a", b"precious")
        before = sink.stat("packs/00/a")
        calls: dict[str, Callable[[], None]] = {
            "delete": lambda: sink.delete("packs/00/a"),
            "delete_many": lambda: sink.delete_many(["packs/00/a"]),
            "a repeated delete": lambda: sink.delete("packs/00/a"),
        }
        for name, call in calls.items():
            with must_raise(ObjectLocked, f"{name} of a locked object") as raised:
                call()
            _check_locked(raised.error, {"packs/00/a"}, name)
            _check_time(sink, raised.error.until, before)
            found = sink.stat("packs/00/a")
            assert found == before, f"after {name} of a locked object, stat gives {found}, where it gave {before}"
            check_bytes(sink.get("packs/00/a"), b"precious", f"get of a locked object after {name}")
            check_listing(sink.list(), {"packs/00/a": 8}, f"after {name} of a locked object")

    def test_what_is_locked_keeps_nothing_else_from_being_deleted(
        self, locking: Sink | NotApplicable, end_locks: EndLocks | NotApplicable
    ) -> None:
        sink, end = applicable(locking), applicable(end_locks)
        free, kept = [f"packs/00/{number}" for number in range(1, 10, 2)], ["packs/00/2", "packs/00/6"]
        for key in free:
            sink.put(key, b"x")
        end(free)
        for key in kept:
            sink.put(key, b"kept")
        modified = sink.stat(kept[0]).modified
        if modified is not None and sink.retention is not None:
            sink.retain(kept[0], modified + 2 * sink.retention)
        with must_raise(ObjectLocked, "delete_many of objects of which some are locked") as raised:
            sink.delete_many(key for key in [*sorted([*free, *kept]), "packs/00/gone"])
        check_listing(sink.list(), dict.fromkeys(kept, 4), "after delete_many of objects of which two are locked")
        _check_locked(raised.error, set(kept), "delete_many")
        key = raised.error.key
        assert modified is None or key == kept[0], f"delete_many says that {key} is locked, and {kept[0]} is longer"

    def test_a_lock_that_has_ended_keeps_nothing(
        self, locking: Sink | NotApplicable, end_locks: EndLocks | NotApplicable
    ) -> None:
        sink, end = applicable(locking), applicable(end_locks)
        for key in ("packs/00/a", "packs/00/b", "packs/00/c"):
            sink.put(key, b"x")
        end(["packs/00/a", "packs/00/b", "packs/00/c"])
        with must_work("delete and delete_many of objects whose locks have ended"):
            sink.delete("packs/00/a")
            sink.delete_many(["packs/00/b", "packs/00/c"])
        with must_raise(ObjectMissing, "get of a deleted object whose lock had ended"):
            sink.get("packs/00/a")
        check_listing(sink.list(), {}, "after all objects were deleted, whose locks had ended")
        with must_work("put(if_absent=True) of an object that was deleted when its lock had ended"):
            sink.put("packs/00/a", b"again", if_absent=True)


def _check_locked(error: ObjectLocked, wanted: set[str], doing: str) -> None:
    """The error names these objects and no other, each with a time that is known: the sink itself locked them."""
    locked: Mapping[str, datetime | None] = error.locked
    assert locked.keys() == wanted, f"the ObjectLocked of {doing} names {_said(locked)}, and not {_said(wanted)}"
    assert error.key in wanted, f"the ObjectLocked of {doing} carries the key {error.key!r}, not {_said(wanted)}"
    for key, until in locked.items():
        assert until is not None, f"the ObjectLocked of {doing} does not say until when {key} is locked"
        assert until.tzinfo is not None, f"the ObjectLocked of {doing} gives a time for {key} without a time zone"
    assert error.until is not None, f"the ObjectLocked of {doing} has no time in until"
    assert f"{error.until.year}-" in str(error), f"the ObjectLocked of {doing} does not say until when: {error}"


def _check_time(sink: Sink, until: datetime | None, put: ObjectInfo) -> None:
    """Not much earlier than what the sink says of its locks; a lock may be longer."""
    if until is not None and put.modified is not None and sink.retention is not None:
        early = put.modified + sink.retention - until
        assert early < _ROUGHLY, f"delete says that the lock ends {early} before the time that retention says is over"


def _said(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys)) or "none"
