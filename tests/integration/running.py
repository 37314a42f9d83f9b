"""Penstock as an operator meets it: the installed command in a child process, on a host of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests import warm
from tests.servers import mongodb, mysql, s3
from tests.servers.postgres import PASSWORD

PASSPHRASE = "a passphrase that nöbody guesses 7"
#: What no output, no argument list and no file outside of a private one may ever show.
SECRETS = (PASSPHRASE, PASSWORD, mysql.PASSWORD, mongodb.PASSWORD, s3.SECRET_KEY)
COMMAND = Path(sys.executable).parent / "penstock"
_TIMEOUT = 500.0


def private_passphrase(path: Path) -> Path:
    """A file with the passphrase, which nobody else can read."""
    path.touch(0o600)
    path.write_text(PASSPHRASE, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Done:
    """How one run of the command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


@dataclass
class Running:
    """One run under way."""

    process: subprocess.Popen[bytes] | warm.WarmRun
    stdout: Path
    stderr: Path

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a crash does, at this very moment; nothing happens to one that has ended."""
        self.process.send_signal(signal.SIGKILL)

    def wait_until(self, what: Callable[[], bool]) -> bool:
        """Wait until `what` holds; False when the run has ended before."""
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            if what():
                return True
            if self.process.poll() is not None:
                return what()  # it may have come true just before the end
            time.sleep(0.001)
        raise AssertionError("waited too long")

    def end(self) -> Done:
        """Wait for its end."""
        code = self.process.wait(_TIMEOUT)
        return Done(code, self.stdout.read_text(encoding="utf-8"), self.stderr.read_text(encoding="utf-8"))


@dataclass
class Host:
    """A computer of its own, as far as Penstock can tell: its home, configuration, cache and temporary files."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    #: Secrets of this host alone, which nobody may see either.
    secrets: set[str] = field(default_factory=set)
    #: Whether its runs count for the coverage, which makes each half as long again. Left out where many tests run the
    #: same few commands.
    measured: bool = True
    #: Whether its runs may begin with everything imported; see `tests.warm`.
    warm: bool = True

    def __post_init__(self) -> None:
        self.temporary = self.folder / "tmp"
        self.cache = self.folder / "cache"
        self.temporary.mkdir(parents=True)
        self._count = 0
        self._runs: list[subprocess.Popen[bytes] | warm.WarmRun] = []

    @property
    def keys(self) -> list[Path]:
        """The key files in their default place."""
        return sorted((self.folder / "config" / "penstock" / "keys").glob("*"))

    @property
    def key(self) -> Path:
        """The only key file."""
        (key,) = self.keys
        return key

    def __call__(
        self, *arguments: str, code: int = 0, environ: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Done:
        """Run the command to its end; it must exit with `code`, and leave no secret and nothing else behind."""
        done = self.start(*arguments, environ=environ, cwd=cwd).end()
        self.judge(arguments, done, code)
        return done

    def json(
        self, *arguments: str, code: int = 0, environ: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> dict[str, Any]:
        """Run it with --json; stdout must be one document, and stderr JSON lines."""
        done = self(*arguments, "--json", code=code, environ=environ, cwd=cwd)
        for line in done.stderr.splitlines():
            assert len(json.loads(line)) == 1, line
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        assert ("error" in document) == (code != 0)
        if code:
            assert set(document["error"]) == {"type", "message", "hint", "details", "exit_code"}
            assert document["error"]["exit_code"] == code
        return document

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Running:
        """Start the command and leave it running."""
        self._count += 1
        stdout, stderr = (self.folder / f"{name}-{self._count}.txt" for name in ("stdout", "stderr"))
        folder, said = cwd or self.folder, self.environment(environ)
        process: subprocess.Popen[bytes] | warm.WarmRun
        with stdout.open("wb") as out, stderr.open("wb") as err:
            if self.warm and warm.can_start(said):
                process = warm.start(arguments, folder=folder, environment=said, stdout=out, stderr=err)
            else:
                process = subprocess.Popen(
                    [str(COMMAND), *arguments],
                    cwd=folder,
                    env=said,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
        self._runs.append(process)
        return Running(process, stdout, stderr)

    def judge(self, arguments: tuple[str, ...], done: Done, code: int) -> None:
        """What holds of every run that was allowed to end by itself."""
        assert done.code == code, f"{arguments} gave {done.code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.text, done.text
        for secret in (*SECRETS, *self.secrets):
            assert secret not in done.text
        assert self.processes() == {}
        assert list(self.temporary.iterdir()) == []

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a run."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_CACHE_HOME": str(self.cache),
            "TMPDIR": str(self.temporary),
            "LC_ALL": "C.UTF-8",
            **{name: value for name, value in os.environ.items() if self.measured and name.startswith("COVERAGE_")},
            **self.environ,
            **(more or {}),
        }

    def processes(self) -> dict[int, str]:
        """All processes of this host that run: the command and whatever it started, by their home."""
        mark = f"HOME={self.folder}".encode()
        self._runs = [run for run in self._runs if run.poll() is None]
        found = {run.pid: "penstock " for run in self._runs}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        if line:  # a zombie has none
                            found[int(entry.name)] = line
        return found

    def running(self, program: str) -> list[int]:
        """The processes of this host that run `program`."""
        return [pid for pid, line in self.processes().items() if re.match(rf"(\S*/)?{program} ", line)]

    def wait_for_silence(self, seconds: float = 60.0) -> None:
        """Wait until none of this host's processes runs."""
        deadline = time.monotonic() + seconds
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.processes() == {}


class Place(Protocol):
    """Where a database or a repository is: a URL, with what it needs besides."""

    @property
    def url(self) -> str:
        """Its URL."""

    @property
    def environ(self) -> dict[str, str]:
        """Secrets, by the variables that they are in."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a settings file must say besides the URL."""


def settings_of(repository: Place, **backups: Place) -> str:
    """A settings file that names the repository `main`, and the backups."""
    tables = {"repositories.main": repository, **{f"backups.{name}": place for name, place in backups.items()}}
    return "".join(
        f"[{name}]\nurl = {json.dumps(place.url)}\n"
        + "".join(f"{key} = {_toml(value)}\n" for key, value in place.settings.items())
        for name, place in tables.items()
    )


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)


def with_passphrase(passphrase: str = PASSPHRASE) -> dict[str, str]:
    """The environment of somebody who has it."""
    return {"PENSTOCK_PASSPHRASE": passphrase}
