"""The real command line in a child process, away from this user's files; begun as `tests.warm` says."""

import json
import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests import warm

PASSPHRASE = "correct-horse-battery"


@dataclass
class Penstock:
    """Runs `penstock` in `folder`, which is its home too."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    #: How much each command may have, in bytes.
    address_space: int | None = None

    def __post_init__(self) -> None:
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "TMPDIR": str(self.folder),
            "LC_ALL": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
            **self.environ,
        }

    def __call__(
        self, *arguments: str, code: int = 0, stdin: str | None = None, **environ: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run it; it must exit with `code`, and must never show a traceback or the passphrase."""
        environment = {**self.environ, **environ}
        if self.address_space is None and warm.can_start(environment):
            done = warm.run(arguments, folder=self.folder, environment=environment, stdin=stdin or "", timeout=300)
        else:
            done = subprocess.run(
                [sys.executable, "-m", "penstock", *arguments],
                cwd=self.folder,
                env=environment,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                timeout=300,
                preexec_fn=None if self.address_space is None else self._limited,
            )
        assert done.returncode == code, f"{arguments} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        assert PASSPHRASE not in done.stdout + done.stderr
        return done

    def _limited(self) -> None:
        # Not of the process that runs the tests: it may have more already.
        resource.setrlimit(resource.RLIMIT_AS, (self.address_space or 0, resource.getrlimit(resource.RLIMIT_AS)[1]))

    def json(self, *arguments: str, code: int = 0, **environ: Any) -> dict[str, Any]:
        """Run it with --json; stdout must be one document, and stderr JSON lines."""
        done = self(*arguments, "--json", code=code, **environ)
        for line in done.stderr.splitlines():
            assert len(json.loads(line)) == 1
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        assert ("error" in document) == (code != 0)
        if code:
            assert set(document["error"]) == {"type", "message", "hint", "details", "exit_code"}
            assert document["error"]["exit_code"] == code
        return document


def database(path: Path, rows: int = 2000) -> Path:
    """A small SQLite database."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        connection.executemany("INSERT INTO orders (note) VALUES (?)", [(f"order {row}",) for row in range(rows)])
    return path


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    """All orders of a database."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM orders ORDER BY id").fetchall()


def passes(repository: Path, time_that: timedelta) -> None:
    """Let everything in a folder be so much older, but for heads, which would seem to be of the future."""
    for folder, _, names in os.walk(repository):
        for name in names if not folder.endswith("snapshots") else ():
            path = Path(folder) / name
            then = path.stat().st_mtime - time_that.total_seconds()
            os.utime(path, (then, then))
