"""Files with secrets that everybody on the host can read or write are refused, wherever they are named."""

from pathlib import Path
from typing import Any

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock

pytestmark = pytest.mark.slow


@pytest.fixture
def repository(penstock: Penstock, tmp_path: Path) -> dict[str, Any]:
    """The environment that names a repository; a passphrase file and the owner's key file beside it."""
    (tmp_path / "passphrase").touch(0o600)
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    environ: dict[str, Any] = {"PENSTOCK_REPOSITORY": f"file://{tmp_path}/r"}
    penstock("init", "--passphrase-file", "passphrase", "--owner-key", "owner.key", **environ)
    return environ


OPTIONS = {"passphrase": "--passphrase-file", "owner.key": "--key"}


@pytest.mark.parametrize("bits", [0o004, 0o002])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_file_that_everybody_can_read_or_write_is_refused(
    penstock: Penstock, repository: dict[str, Any], tmp_path: Path, name: str, bits: int
) -> None:
    verify = ("verify", OPTIONS[name], name)
    (tmp_path / name).chmod(0o600 | bits)
    refused = penstock(*verify, code=20, **repository)
    assert "everybody on this host can read" in refused.stderr
    (tmp_path / name).chmod(0o600)
    penstock(*verify, **repository)


def test_a_passphrase_file_that_the_settings_name_is_judged_alike(
    penstock: Penstock, repository: dict[str, Any], tmp_path: Path
) -> None:
    url = repository["PENSTOCK_REPOSITORY"]
    table = f'[repositories.main]\nurl = "{url}"\npassphrase = {{ file = "passphrase" }}\n'
    (tmp_path / "penstock.toml").write_text(table, encoding="utf-8")
    for mode, code in ((0o600, 0), (0o604, 20)):
        (tmp_path / "passphrase").chmod(mode)
        penstock("verify", "--repo", "main", code=code)
