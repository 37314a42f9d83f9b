"""Marks: the tags of snapshots, and the holds on them, by whoever may set them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from penstock.format.notice import Mark, Marking
from penstock.format.times import as_text, is_time, now
from penstock.repository.domain import Domain
from penstock.repository.pool import Workers
from penstock.repository.said import OnStranger, Said, put_said, read_said
from penstock.repository.snapshots import SnapshotEntry

__all__ = ["Hold", "Marks", "hold", "judge", "lifted_of", "read_marks", "release", "tag", "untag", "written"]

_Head = tuple[bytes, bytes]  # a snapshot's id, and the digest of its head


class Hold(NamedTuple):
    """A hold on a snapshot: the id of its mark, why and when it was put, and by whose key."""

    id: bytes
    reason: str
    made: str
    signer: bytes


@dataclass(slots=True)
class Marks:
    """What a domain's marks say."""

    #: Tags, and whether they were set or taken away last.
    said_of: dict[_Head, dict[str, bool]] = field(default_factory=dict)
    #: Holds in force, by their ids.
    held: dict[_Head, dict[bytes, Hold]] = field(default_factory=dict)
    #: Why a restore of it would fail, as a check or a drill found.
    bad: dict[_Head, str] = field(default_factory=dict)
    #: In a replica, when the original's store wrote its head, as ISO text.
    written: dict[_Head, str] = field(default_factory=dict)

    def tags(self, entry: SnapshotEntry) -> frozenset[str]:
        """All that the snapshot has: those of its backup, and those that were set later."""
        said = self.said_of.get((entry.id, entry.digest), {})
        return frozenset(tag for tag in {*entry.head.tags, *said} if said.get(tag, True))

    def dated(self, entry: SnapshotEntry) -> SnapshotEntry:
        """The entry with the time of the original's store in the place of this one's; as it is where nobody said so.

        Never a later time: that of the copying is certain.
        """
        said = self.written.get((entry.id, entry.digest))
        if said is None or (entry.modified is not None and said >= as_text(entry.modified)):
            return entry
        return replace(entry, modified=datetime.fromisoformat(said))

    def badness(self, entry: SnapshotEntry) -> str:
        """Why it cannot be restored whole, as far as anybody found; "" if nobody found anything."""
        return self.bad.get((entry.id, entry.digest), "")

    def holds(self, entry: SnapshotEntry) -> list[Hold]:
        """Those that are in force, oldest first."""
        return list(self.held.get((entry.id, entry.digest), {}).values())


def read_marks(domain: Domain, workers: Workers, on_stranger: OnStranger | None = None) -> Marks:
    """What is in force; `on_stranger` is told of objects of nobody who may say so."""
    found = Marks()
    said = sorted(
        read_said(domain, workers, domain.at.marks, Mark, domain.keeper, on_stranger), key=lambda one: one.order
    )
    lifted = lifted_of(said)
    for one in said:
        mark = one.content
        for head in mark.snapshots.items():
            if mark.action is Marking.HOLD and (head, one.name) not in lifted:
                found.held.setdefault(head, {})[one.name] = Hold(one.name, mark.text, mark.made, one.signer)
            elif mark.action is Marking.BAD:
                found.bad[head] = mark.text
            elif mark.action is Marking.GOOD:
                found.bad.pop(head, None)
            elif mark.action is Marking.WRITTEN and is_time(mark.text):
                found.written[head] = mark.text
            elif mark.action in (Marking.TAG, Marking.UNTAG):
                found.said_of.setdefault(head, {})[mark.text] = mark.action is Marking.TAG
    return found


def lifted_of(said: Iterable[Said[Mark]]) -> set[tuple[_Head, bytes]]:
    """The holds, by snapshot and id, that releases among these lift."""
    # A release names what it lifts, so that the order of the two does not matter: clocks may be wrong.
    return {
        (head, name)
        for one in said
        if one.content.action is Marking.RELEASE
        for head in one.content.snapshots.items()
        for name in one.content.holds
    }


def tag(domain: Domain, snapshots: Mapping[bytes, bytes], name: str) -> None:
    """Give them a tag; by the digests of their heads."""
    put_said(domain, Mark(now(), Marking.TAG, snapshots, name))


def untag(domain: Domain, snapshots: Mapping[bytes, bytes], name: str) -> None:
    """Take a tag away from them."""
    put_said(domain, Mark(now(), Marking.UNTAG, snapshots, name))


def hold(domain: Domain, snapshots: Mapping[bytes, bytes], reason: str) -> bytes:
    """Hold them, so that nothing deletes them before they are released; returns the id of the hold."""
    return put_said(domain, Mark(now(), Marking.HOLD, snapshots, reason))


def judge(domain: Domain, snapshots: Mapping[bytes, bytes], why: str | None) -> None:
    """Say why they cannot be restored; or, with None, that they can."""
    put_said(domain, Mark(now(), Marking.GOOD if why is None else Marking.BAD, snapshots, why or ""))


def written(domain: Domain, snapshots: Mapping[bytes, bytes], time: str) -> bytes:
    """Say when the store of the original wrote their heads; returns the id of the mark."""
    return put_said(domain, Mark(now(), Marking.WRITTEN, snapshots, time))


def release(domain: Domain, snapshots: Mapping[bytes, bytes], holds: Sequence[Hold], reason: str) -> None:
    """Lift these holds from them, and no other that somebody puts meanwhile."""
    put_said(domain, Mark(now(), Marking.RELEASE, snapshots, reason, tuple(one.id for one in holds)))
