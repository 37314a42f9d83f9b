"""What an operator sees when one snapshot of several is damaged."""

from pathlib import Path

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, rows_of

pytestmark = pytest.mark.slow


def test_a_damaged_snapshot_is_passed_over_with_a_warning(penstock: Penstock, tmp_path: Path) -> None:
    database(tmp_path / "shop.db", rows=100)
    repo = ("--repo", "file://" + str(tmp_path / "r"))
    penstock("init", repo[1], PENSTOCK_PASSPHRASE=PASSPHRASE)
    for _ in range(2):
        penstock("backup", "sqlite:shop.db", *repo)
    latest = penstock.json("snapshots", *repo)["snapshots"][-1]["id"]
    (path,) = (tmp_path / "r").glob(f"d/*/snapshots/{latest}")
    key = path.relative_to(tmp_path / "r").as_posix()
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])

    listed = penstock("snapshots", *repo)
    assert latest[:8] not in listed.stdout
    assert f"warning: left out: {key}" in listed.stderr
    restored = penstock("restore", "latest", "--to", "sqlite:new.db", *repo, PENSTOCK_PASSPHRASE=PASSPHRASE)
    assert f"warning: passed over: {key}" in restored.stderr
    assert rows_of(tmp_path / "new.db") == rows_of(tmp_path / "shop.db")
    assert key in penstock("check", *repo, code=16).stdout
    penstock("restore", latest, "--to", "sqlite:other.db", *repo, code=13, PENSTOCK_PASSPHRASE=PASSPHRASE)
