"""Maintenance goes on where a check finds only what a prune is to delete."""

from datetime import timedelta
from pathlib import Path

import pytest
from core.tests.repository.lab import Lab
from core.tests.repository.virtual import VirtualStore

from penstock.engine.maintain import MaintainReport, maintain
from penstock.repository.trust.keyring import add_writer, revoke
from penstock.repository.upkeep.retention import Policy

pytestmark = pytest.mark.slow


def maintained(lab: Lab, cache: Path) -> MaintainReport:
    return maintain(
        lab.open(),
        lambda _: Policy(last=9),
        within=timedelta(days=30),
        cache_dir=cache,
        on_damage=lambda _: None,
        listener=lab.events.append,
    )


def test_the_heads_that_the_owner_left_out_are_swept(tmp_path: Path) -> None:
    store = VirtualStore()
    lab = Lab(tmp_path / "cache", store)
    writer = add_writer(lab.open(), "host", domain="main")
    stolen = lab.backup({"d": b"one" * 999}, by=lab.open(writer)).snapshot
    store.passes(days=1)
    kept = lab.backup({"d": b"two" * 999}).snapshot
    revoke(lab.open(), writer.key, without={stolen})
    found = []
    for _ in range(3):
        store.passes(days=1)
        report = maintained(lab, tmp_path / "host")
        assert report.pruned is not None
        found.append(report.checked.finding_count)
    assert found == [1, 1, 0]
    assert list(lab.keys(lab.at.snapshots)) == [lab.at.snapshot_key(kept)]


def test_other_findings_stop_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "cache", VirtualStore())
    lab.backup({"d": b"one" * 999})
    lab.flip(next(iter(lab.keys(lab.at.packs))), -20)
    assert maintained(lab, tmp_path / "host").pruned is None
