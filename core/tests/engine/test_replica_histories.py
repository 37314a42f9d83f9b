"""Replicas through whatever happens: backups, forgetting and pruning in both places, and runs that are killed."""

import random
from dataclasses import dataclass, field

import pytest
from core.tests.engine.test_replicate import Elsewhere, copy, replica
from core.tests.repository.lab import KIB, Lab, noise

from penstock.api import RepositoryMissing
from penstock.engine.forget import undelete
from penstock.format.notice import Action, Deletion, Things
from penstock.format.times import now
from penstock.repository import notices
from penstock.repository.layout import id_of
from penstock.repository.read.content import each_row, parts_of
from penstock.repository.said import put_said
from penstock.repository.snapshots import SnapshotEntry, find_snapshot, list_snapshots
from penstock.testing import Die, Died, FaultySink

pytestmark = pytest.mark.slow


def sweep(lab: Lab, forgotten: dict[bytes, SnapshotEntry]) -> None:
    """Delete what was forgotten, and the packs and parts that nothing else needs, on record."""
    kept = list_snapshots(lab.open())
    needed = {row.pack for entry in kept for row in each_row(entry)}
    parts = {ref.part for entry in kept for ref in parts_of(entry)}
    packs = {id_of(key) for key in lab.keys(lab.at.packs)} - needed
    loose = {id_of(key) for key in lab.keys(lab.at.parts)} - parts
    heads = {snapshot: entry.digest for snapshot, entry in forgotten.items()}
    things = Things(packs=tuple(packs), parts=tuple(loose))
    put_said(lab.domain, Deletion(now(), Action.DELETE, heads, things))
    for snapshot in heads:
        lab.sink.delete(lab.at.snapshot_key(snapshot))
    for part in loose:
        lab.sink.delete(lab.at.part_key(part))
    for pack in packs:
        lab.sink.delete(lab.at.pack_key(pack))
    forgotten.clear()


@dataclass
class History:
    """What should be where."""

    lab: Lab
    target: Elsewhere
    chance: random.Random
    content: dict[bytes, dict[str, bytes]] = field(default_factory=dict)
    #: What each place has forgotten and still has.
    mine: dict[bytes, SnapshotEntry] = field(default_factory=dict)
    theirs: dict[bytes, SnapshotEntry] = field(default_factory=dict)
    #: What the replica forgot of its own will, ever.
    let_go: set[bytes] = field(default_factory=set)
    log: list[str] = field(default_factory=list)

    def other(self) -> Lab | None:
        try:
            return replica(self.lab, self.target)
        except RepositoryMissing:
            return None

    def listed(self, lab: Lab | None) -> set[bytes]:
        return {entry.id for entry in list_snapshots(lab.open())} if lab else set()

    def backup(self) -> None:
        pieces = self.chance.choices(range(6), k=3)
        content = {"d": b"".join(noise(20 * KIB, piece) for piece in pieces), "e": bytes(pieces)}
        self.content[self.lab.backup(content).snapshot] = content

    def forget(self, lab: Lab, forgotten: dict[bytes, SnapshotEntry]) -> list[bytes]:
        found = list_snapshots(lab.open())
        going = self.chance.sample(found, min(len(found), self.chance.choice((1, 2))))
        if going:
            notices.forget(lab.domain, {entry.id: entry.digest for entry in going})
        forgotten.update({entry.id: entry for entry in going})
        return [entry.id for entry in going]

    def take_back(self) -> None:
        for snapshot in list(self.mine)[:1]:
            undelete(self.lab.open(), [snapshot.hex()])
            del self.mine[snapshot]

    def replicate(self, puts: int | None) -> None:
        before, wanted = self.listed(self.other()), self.listed(self.lab)
        done = True
        try:
            sink = self.target if puts is None else FaultySink(self.target, Die(after_puts=puts))
            assert copy(self.lab, sink).whole
        except Died:
            done = False
        other = self.other()
        after = self.listed(other)
        assert before <= after <= before | wanted, self.log
        if done:
            assert after == before | (wanted - self.let_go), self.log
        if other is not None:
            for snapshot in after:
                assert other.restored(snapshot.hex()) == self.content[snapshot], self.log
            assert not other.check().findings, self.log

    def step(self) -> None:
        other = self.other()
        what = self.chance.choice(
            ("backup", "backup", "forget", "sweep", "undelete", "theirs", "their sweep", "copy", "kill")
        )
        self.log.append(what)
        match what:
            case "backup":
                self.backup()
            case "forget":
                self.forget(self.lab, self.mine)
            case "sweep":
                sweep(self.lab, self.mine)
            case "undelete":
                self.take_back()
            case "theirs" if other:
                self.let_go.update(self.forget(other, self.theirs))
            case "their sweep" if other:
                sweep(other, self.theirs)
            case "copy":
                self.replicate(None)
            case "kill":
                self.replicate(self.chance.randrange(30))


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_a_replica_is_whole(lab: Lab, seed: int) -> None:
    history = History(lab, Elsewhere(), random.Random(seed))
    for _ in range(30):
        history.step()
    history.replicate(None)
    for snapshot in history.listed(lab):
        assert find_snapshot(lab.open(), snapshot.hex()).id == snapshot
