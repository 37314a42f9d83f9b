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


@pytest.mark.slow
def test_a_byte_order_mark_in_a_passphrase_file_is_named(penstock: Penstock, tmp_path: Path) -> None:
    marked = tmp_path / "passphrase"
    marked.touch(0o600)
    marked.write_bytes(b"\xef\xbb\xbf" + PASSPHRASE.encode() + b"\r\n")
    done = penstock("init", f"file://{tmp_path}/there", "--passphrase-file", "passphrase", code=4)
    assert "begins with a byte order mark" in done.stderr
    assert not (tmp_path / "there").exists()


@pytest.mark.slow
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


def in_shell(shop: Penstock, command: str) -> subprocess.CompletedProcess[str]:
    """One line for bash; no traceback may come of it."""
    done = subprocess.run(
        ["bash", "-c", command.replace("penstock", f"{sys.executable} -m penstock")],
        cwd=shop.folder,
        env={**shop.environ, "PENSTOCK_PASSPHRASE": PASSPHRASE},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize("json", ["", " --json"])
@pytest.mark.parametrize(
    "streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "| true"]
)
def test_work_is_done_whatever_becomes_of_the_standard_streams(
    shop: Penstock, tmp_path: Path, streams: str, json: str
) -> None:
    before = len(shop.json("snapshots")["snapshots"])
    again = tmp_path / "again.db"
    command = f"penstock backup shop{json} {streams} && penstock restore latest --to sqlite:{again}{json} {streams}"
    done = in_shell(shop, f"set -o pipefail; {command}")
    assert done.returncode == 0, done.stderr
    assert len(shop.json("snapshots")["snapshots"]) == before + 1
    assert rows_of(again) == rows_of(shop.folder / "shop.db")
    if streams == ">/dev/full":
        assert "cannot write to standard output: No space left on device" in done.stderr


@pytest.mark.slow
def test_the_exit_code_is_that_of_the_work_where_nothing_can_be_printed(shop: Penstock) -> None:
    for streams in (">/dev/full", ">&-", ">/dev/full 2>&1"):
        for json in ("", " --json"):
            assert in_shell(shop, f"penstock backup nothing{json} {streams}").returncode == 3
            assert in_shell(shop, f"penstock check{json} {streams}").returncode == 0
    several = "penstock backup shop sqlite:missing.db shop2 --repo main"
    assert in_shell(shop, f"set -o pipefail; {several} | true").returncode == 50


@pytest.mark.slow
def test_what_is_asked_for_its_output_alone_fails_without_it(shop: Penstock) -> None:
    for command in ("--help", "--version", "snapshots --help", "snapshots", "snapshots --json"):
        done = in_shell(shop, f"penstock {command} >/dev/full")
        assert (done.returncode, done.stderr.splitlines()[0]) == (
            1,
            "penstock: error: cannot write to standard output: No space left on device",
        )
    assert in_shell(shop, "penstock nonsense --json >/dev/full").returncode == 2
    assert in_shell(shop, "penstock 2>/dev/full").returncode == 2
