"""The programs to compare, each with its usual settings, encryption, and a repository in a folder."""

import os
import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from benchmarks.measure import Cost, OnStart, run, size_of

__all__ = ["CONTENDERS", "MAINTAINER_KEY", "Contender", "Penstock", "Restic"]

#: A key file in Penstock's folder.
MAINTAINER_KEY = "maintainer.key"

_PASSPHRASE = "correct horse battery staple"
_ROOT = Path(__file__).resolve().parents[1]


class Contender(ABC):
    """One program and its repository below `folder`. What ends a record in the dumps is for whoever wants to know."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    #: What `stored` counts, below `folder`.
    repository: ClassVar[str] = "repository"

    def __init__(self, folder: Path, separator: bytes = b"\n") -> None:
        self.folder = folder
        self.separator = separator
        folder.mkdir(parents=True)

    @classmethod
    def missing(cls) -> list[str]:
        """The required programs missing on this machine."""
        return [program for program in cls.needs if shutil.which(program) is None]

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Name and version, for the report."""

    @abstractmethod
    def initialise(self) -> None:
        """Create the repository."""

    @abstractmethod
    def store(self, dump: Path, night: int) -> Cost:
        """Back up one night's dump."""

    @abstractmethod
    def restore(self, out: Path, night: int) -> Cost:
        """Write the dump of that night to `out`."""

    @property
    def stored(self) -> int:
        """Size of the whole repository in bytes."""
        return size_of(self.folder / self.repository)


class Penstock(Contender):
    name = "Penstock"

    @classmethod
    def version(cls) -> str:
        return f"Penstock on Python {sys.version.split()[0]}"

    def initialise(self) -> None:
        self._run("init")

    def store(self, dump: Path, night: int) -> Cost:
        self._newest = night
        return self._run("store", str(dump.resolve()), f"--separator={os.fsdecode(self.separator)}")

    def store_made_up(self, size: int) -> Cost:
        """Store `size` bytes that the process generates itself."""
        return self._run("store", "--made-up", str(size))

    def restore(self, out: Path, night: int) -> Cost:
        return self._run("restore", f"--back={self._newest - night}", out=out)

    def _run(self, verb: str, *arguments: str, out: Path | None = None) -> Cost:
        command = [sys.executable, "-m", "benchmarks.store_stream", verb, str(self.folder), *arguments]
        # After the caller's entries, which may point at another checkout's code.
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(_ROOT))))
        return run(command, {"BENCHMARK_PASSPHRASE": _PASSPHRASE, "PYTHONPATH": path}, stdout=out)


class Restic(Contender):
    name = "restic"
    needs = ("restic",)

    @classmethod
    def version(cls) -> str:
        return _first_line("restic", "version")

    def initialise(self) -> None:
        self.run("init")

    def store(self, dump: Path, night: int) -> Cost:
        return self._store(dump, night)

    def _store(self, dump: Path, night: int, *options: str) -> Cost:
        named = ("--stdin-filename=dump", f"--tag=night-{night}")
        return self.run("backup", "--stdin", *named, *options, stdin=dump)

    def restore(self, out: Path, night: int) -> Cost:
        return self.run("dump", f"--tag=night-{night}", "latest", "dump", stdout=out)

    def run(
        self,
        *arguments: str,
        stdin: Path | None = None,
        stdout: Path | None = None,
        on_start: OnStart | None = None,
    ) -> Cost:
        """One command on the repository, to its end; raises `CalledProcessError`."""
        environment = {"RESTIC_PASSWORD": _PASSPHRASE, "RESTIC_CACHE_DIR": str(self.folder / "cache")}
        command = ["restic", "--quiet", "--repo", str(self.folder / self.repository), *arguments]
        return run(command, environment, stdin, stdout, on_start)


class Borg(Contender):
    name = "borg"
    needs = ("borg",)

    @classmethod
    def version(cls) -> str:
        return _first_line("borg", "--version")

    def initialise(self) -> None:
        command = ["borg", "init", "--encryption=repokey-blake2", self._place]
        subprocess.run(command, env=os.environ | self._environment, check=True, capture_output=True)

    def store(self, dump: Path, night: int) -> Cost:
        return self._run("create", "--compression=zstd,3", f"{self._place}::night{night}", "-", stdin=dump)

    def restore(self, out: Path, night: int) -> Cost:
        return self._run("extract", "--stdout", f"{self._place}::night{night}", stdout=out)

    @property
    def _place(self) -> str:
        return str(self.folder / self.repository)

    @property
    def _environment(self) -> dict[str, str]:
        return {"BORG_PASSPHRASE": _PASSPHRASE, "BORG_BASE_DIR": str(self.folder / "base")}

    def _run(self, *arguments: str, stdin: Path | None = None, stdout: Path | None = None) -> Cost:
        return run(["borg", *arguments], self._environment, stdin, stdout)


class Pipeline(Contender):
    """A typical shell script; every night is stored whole."""

    name = "zstd and age"
    needs = ("sh", "zstd", "age", "age-keygen")

    @classmethod
    def version(cls) -> str:
        return f"zstd {_first_line('zstd', '-qV')}, age {_first_line('age', '--version')}"

    def initialise(self) -> None:
        (self.folder / self.repository).mkdir()
        subprocess.run(["age-keygen", "-o", str(self._identity)], check=True, capture_output=True)
        made = subprocess.run(["age-keygen", "-y", str(self._identity)], check=True, capture_output=True, text=True)
        self._recipient = made.stdout.strip()

    def store(self, dump: Path, night: int) -> Cost:
        script = f"zstd -3 -q -c | age -r {shlex.quote(self._recipient)} > {shlex.quote(str(self._place(night)))}"
        return run(["sh", "-c", script], {}, stdin=dump)

    def restore(self, out: Path, night: int) -> Cost:
        script = f"age -d -i {shlex.quote(str(self._identity))} | zstd -d -q -c"
        return run(["sh", "-c", script], {}, stdin=self._place(night), stdout=out)

    @property
    def _identity(self) -> Path:
        return self.folder / "identity"

    def _place(self, night: int) -> Path:
        return self.folder / self.repository / f"{night}.zst.age"


#: Penstock comes first: the others are compared with it.
CONTENDERS: tuple[type[Contender], ...] = (Penstock, Restic, Borg, Pipeline)


def _first_line(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[0]
