"""A database on a read-only mount: read as SQLite reads it, or as immutable where the settings say so."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from plugins.sources.sqlite.tests.bank import ACCOUNTS, make_bank, query

from penstock.api import SourceDenied, SourceError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts in a namespace of its own")

_PROGRAM = """
import json, sys
from plugins.sources.sqlite.tests.bank import dumped, source
from penstock.api import PenstockError
path, out, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
try:
    warnings = source(path, **settings).inspect().warnings
    image, spec = dumped(path, **settings)
    open(out, "wb").write(image)
    print(json.dumps({"mode": spec.attributes["journal_mode"], "warnings": warnings}))
except PenstockError as error:
    print(json.dumps({"error": type(error).__name__, "message": error.message, "hint": error.hint}))
"""


def dumped_read_only(folder: Path, image: Path, **settings: object) -> dict[str, object]:
    """What a dump of the database in a folder gives, when the folder is mounted read-only."""
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    command = [*unshare, "sh", "-c", mount, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no mount may be made in a namespace here")
    program = [sys.executable, "-c", _PROGRAM, str(folder / "bank.db"), str(image), json.dumps(settings)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*command, *program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A database that was closed, and so has no log."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    make_bank(folder / "bank.db", "wal")
    return folder


def leave_log(folder: Path, *, index: bool) -> None:
    """As after a power cut: changes are in the log alone, and perhaps there is an index."""
    origin = make_bank(folder.parent / "origin.db", "wal")
    with closing(sqlite3.connect(origin, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("UPDATE account SET note='in the log'")
        for suffix in ("", "-wal", *(["-shm"] if index else [])):
            Path(f"{folder / 'bank.db'}{suffix}").write_bytes(Path(f"{origin}{suffix}").read_bytes())


@pytest.mark.slow
def test_a_wal_database_without_a_log_needs_the_setting_that_the_hint_names(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.db"
    refused = dumped_read_only(folder, image)
    assert refused["error"] == SourceDenied.__name__
    assert "immutable = true" in str(refused["hint"])
    found = dumped_read_only(folder, image, immutable=True)
    assert found == {"mode": "wal", "warnings": []}
    assert image.read_bytes() == (folder / "bank.db").read_bytes()


@pytest.mark.slow
def test_a_log_with_its_index_is_read_as_sqlite_reads_it(folder: Path, tmp_path: Path) -> None:
    leave_log(folder, index=True)
    image = tmp_path / "image.db"
    assert dumped_read_only(folder, image)["mode"] == "wal"
    assert query(image, "SELECT count(*) FROM account WHERE note='in the log'") == [(ACCOUNTS,)]
    assert query(image, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
@pytest.mark.parametrize("index", [False, True])
def test_changes_in_a_log_are_not_lost_to_the_setting(folder: Path, tmp_path: Path, index: bool) -> None:
    leave_log(folder, index=index)
    refused = dumped_read_only(folder, tmp_path / "image.db", immutable=True)
    assert refused["error"] == SourceError.__name__
    assert "bank.db-wal" in str(refused["message"])
    assert "Copy both files" in str(refused["hint"])
