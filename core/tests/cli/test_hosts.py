"""Hosts that lack what most have: a home, an entry for the user, standard streams, memory."""

import subprocess
import sys
from pathlib import Path

import pytest
from core.tests.cli.running import PASSPHRASE, Penstock, database, rows_of

#: The command for a user of whom the system knows nothing but a number.
_NOBODY_KNOWN = """
import pwd, sys
def missing(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = missing
from penstock.cli import main
sys.exit(main())
"""


class Homeless(Penstock):
    """The command line without HOME and its kin, for a user id without a name."""

    def __call__(
        self, *arguments: str, code: int = 0, stdin: str | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it; it must exit with `code`."""
        known = {name: value for name, value in self.environ.items() if not name.startswith(("HOME", "XDG_"))}
        done = subprocess.run(
            [sys.executable, "-c", _NOBODY_KNOWN, *arguments],
            cwd=self.folder,
            env={**known, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        return done


@pytest.fixture
def homeless(tmp_path: Path) -> Homeless:
    """Nothing set up, and no home."""
    database(tmp_path / "shop.db")
    return Homeless(tmp_path, {"PENSTOCK_PASSPHRASE": PASSPHRASE, "PENSTOCK_REPOSITORY": f"file://{tmp_path}/there"})


@pytest.mark.slow
def test_a_user_without_a_home_works_with_what_is_named(homeless: Homeless, tmp_path: Path) -> None:
    homeless("init", "--no-writer-key")
    assert list(tmp_path.glob(".penstock*")) == []
    homeless("backup", "sqlite:shop.db", "--cache-dir", "cache")
    homeless("backup", "sqlite:shop.db", PENSTOCK_CACHE_DIR=str(tmp_path / "cache"))
    homeless("snapshots")
    homeless("check")
    homeless("restore", "latest", "--to", "sqlite:again.db")
    assert rows_of(tmp_path / "again.db") == rows_of(tmp_path / "shop.db")
    assert "cache:        none: this user has no home" in homeless("config", "show").stdout


@pytest.mark.slow
def test_a_user_without_a_home_is_told_which_option_is_missing(homeless: Homeless, tmp_path: Path) -> None:
    done = homeless("init", code=2)
    assert "this user has no home to keep this host's writer key in" in done.stderr
    assert "--no-writer-key" in done.stderr
    assert not (tmp_path / "there").exists()
    homeless("init", "--no-writer-key")
    done = homeless("backup", "sqlite:shop.db", code=2)
    assert "--cache-dir FOLDER" in done.stderr


def test_a_byte_order_mark_in_a_passphrase_file_is_named(penstock: Penstock, tmp_path: Path) -> None:
    marked = tmp_path / "passphrase"
    marked.touch(0o600)
    marked.write_bytes(b"\xef\xbb\xbf" + PASSPHRASE.encode() + b"\r\n")
    done = penstock("init", f"file://{tmp_path}/there", "--passphrase-file", "passphrase", code=4)
    assert "begins with a byte order mark" in done.stderr
    assert not (tmp_path / "there").exists()


def test_too_little_memory_is_named_and_is_no_mistake_of_ours(penstock: Penstock, tmp_path: Path) -> None:
    database(tmp_path / "shop.db")
    penstock("init", f"file://{tmp_path}/there", "--owner-key", "owner.key", "--quiet")
    penstock.address_space = (
        400_000_000  # the interpreter and its libraries fit, and half a gigabyte of buffers does not
    )
    arguments = ("backup", "sqlite:shop.db", "--repo", f"file://{tmp_path}/there", "--memory", "512MiB")
    for more in ((), ("sqlite:other.db",)):
        done = penstock(*arguments, *more, code=1)
        assert "not enough memory" in done.stderr
        assert "a smaller --memory" in done.stderr
        assert "unexpected" not in done.stderr
