from pathlib import Path

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database


@pytest.fixture
def penstock(tmp_path: Path) -> Penstock:
    """The command line with nothing set up."""
    return Penstock(tmp_path)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Penstock:
    """A database, settings, a repository with one snapshot, and this host's writer key; shared by a module's tests."""
    folder = tmp_path_factory.mktemp("shop")
    database(folder / "shop.db")
    (folder / "passphrase").touch(0o600)
    (folder / "passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    (folder / "penstock.toml").write_text(
        '[repositories.main]\ntype = "filesystem"\npath = "repository"\n[backups.shop]\nurl = "sqlite:shop.db"\n',
        encoding="utf-8",
    )
    penstock = Penstock(folder)
    penstock("init", "--passphrase-file", "passphrase", "--owner-key", "owner.key")
    penstock("backup", "shop")
    return penstock
