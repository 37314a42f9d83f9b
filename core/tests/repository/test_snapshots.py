import dataclasses

import pytest
from core.tests.repository.lab import Lab

from penstock.api import SnapshotNotFound
from penstock.format.encoding import new_id
from penstock.format.keys import new_secret
from penstock.format.sealing import Sealer
from penstock.format.snapshot import Manifest, encode_snapshot
from penstock.repository import layout
from penstock.repository.snapshots import find_snapshot, list_snapshots


def set_clock(monkeypatch: pytest.MonkeyPatch, time: str) -> None:
    monkeypatch.setattr("penstock.repository.write.session.now", lambda: time)


def test_latest_is_correct_however_quickly_backups_follow(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, "2030-01-01T00:00:00Z")
    made = [lab.backup({"d": b"night %d" % number}).snapshot for number in range(12)]
    assert [entry.id for entry in list_snapshots(lab.open())] == made


def test_a_clock_set_back_does_not_make_an_old_snapshot_the_latest(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for year in (2030, 2041, 2031, 2032):
        set_clock(monkeypatch, f"{year}-01-01T00:00:00Z")
        made.append(lab.backup({"d": b"in %d" % year}).snapshot)
    assert [entry.id for entry in list_snapshots(lab.open())] == made
    assert lab.restored() == {"d": b"in 2032"}


def test_snapshots_of_different_backups_are_listed_by_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for day, name in enumerate(["shop", "wiki", "shop", "mail", "wiki"], start=1):
        set_clock(monkeypatch, f"2030-01-{day:02d}T00:00:00Z")
        made.append(lab.backup({"d": name.encode()}, name=name).snapshot)
    assert [entry.id for entry in list_snapshots(lab.open())] == made


def test_a_forged_cycle_of_parents_does_not_hang_a_listing(lab: Lab) -> None:
    repository = lab.open()
    lab.backup({"d": b""})
    (entry,) = list_snapshots(repository)
    names = [new_id() for _ in range(3)]
    signer = repository.access.signing
    assert signer is not None
    for name, parent in zip(names, [*names[1:], names[0]], strict=True):
        catalogue = dataclasses.replace(entry.catalogue, snapshot=name, parent=parent)
        data = encode_snapshot(
            catalogue,
            Manifest("none", {}, ()),
            repository=repository.id,
            session=entry.sealed.session,
            writer=repository.access.key,
            index_sealer=repository.index_sealer,
            data_sealer=Sealer(new_secret()),
            signer=signer,
        )
        lab.sink.put(layout.snapshot_key(name), data)
    assert {found.id for found in list_snapshots(repository)} == {entry.id, *names}


def test_a_snapshot_is_found_by_a_prefix_of_its_id(lab: Lab) -> None:
    made = [lab.backup({"d": b"%d" % number}).snapshot for number in range(3)]
    repository = lab.open()
    for snapshot in made:
        assert find_snapshot(repository, snapshot.hex()).id == snapshot
        assert find_snapshot(repository, snapshot.hex()[:12]).id == snapshot


@pytest.mark.parametrize("text", ["", "xyz", "LATEST", "0" * 32, "0" * 33, "../penstock.json", "latest:wiki"])
def test_a_name_that_matches_no_snapshot_is_refused(lab: Lab, text: str) -> None:
    lab.backup({"d": b""})
    with pytest.raises(SnapshotNotFound):
        find_snapshot(lab.open(), text)


def test_an_ambiguous_id_prefix_is_refused(lab: Lab) -> None:
    ids = {lab.backup({"d": b"%d" % number}).snapshot.hex() for number in range(17)}
    digit = next(digit for digit in "0123456789abcdef" if sum(name.startswith(digit) for name in ids) > 1)
    with pytest.raises(SnapshotNotFound, match=f"snapshots' ids begin with {digit}"):
        find_snapshot(lab.open(), digit)
