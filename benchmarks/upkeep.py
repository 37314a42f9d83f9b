"""The programs that free what no kept night needs, as their users run it: in processes of its own, every night."""

import json
import os
import shutil
import sys
from abc import abstractmethod
from datetime import timedelta
from pathlib import Path
from typing import Self

from benchmarks.contenders import MAINTAINER_KEY, Contender, Penstock, Restic
from benchmarks.measure import Cost, OnStart, run

__all__ = ["UPKEEP", "PenstockUpkeep", "ResticUpkeep", "Upkeep"]

#: By the store's clock. A head that is a day older there than it says itself would count as one of the future.
_NIGHT = timedelta(minutes=15)
#: The least that Penstock takes: what one night names, the next one deletes.
_GRACE = timedelta(minutes=10)


class Upkeep(Contender):
    """Keeps some nights, and lets go of the others."""

    @abstractmethod
    def retain(self, keep: int, on_start: OnStart | None = None) -> Cost:
        """Forget all but the newest nights, and free what only others needed, with the program's usual settings.

        `on_start` is told of the process that frees.
        """

    @abstractmethod
    def signs(self) -> frozenset[Path]:
        """Objects by which a run that frees something tells others that it is at work, and those of past runs."""

    @abstractmethod
    def a_night_passes(self) -> None:
        """Between two nights."""

    @abstractmethod
    def store_patiently(self, dump: Path, night: int) -> Cost:
        """As `store`, but whatever the program waits for, it waits."""

    def copy_to(self, folder: Path) -> Self:
        """The same as it is now, with keys and cache, in another folder."""
        copy = type(self)(folder, self.separator)
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return copy

    def free(self) -> None:
        """Remove all of it from the disk."""
        shutil.rmtree(self.folder)


class PenstockUpkeep(Penstock, Upkeep):
    """`penstock forget --apply --prune`, with a maintainer's key; a night takes a quarter of an hour."""

    def retain(self, keep: int, on_start: OnStart | None = None) -> Cost:
        settings = self.folder / "penstock.toml"
        settings.write_text(f"[defaults]\nkeep = {{ last = {keep}, at_least = 1 }}\n")
        grace = f"--grace={_GRACE // timedelta(minutes=1)}m"
        options = "--apply", "--prune", "--json", grace, f"--config={settings}"
        return self._command("forget", *options, out=self._report, on_start=on_start)

    @property
    def deleted(self) -> int:
        """Objects that the last prune deleted."""
        domains = json.loads(self._report.read_bytes())["prune"]["domains"]
        return sum(domain["deleted"] for domain in domains.values())

    def signs(self) -> frozenset[Path]:
        return frozenset((self.folder / self.repository).rglob("leases/*"))

    def a_night_passes(self) -> None:
        # The clock of a folder is its files' times.
        for path in (self.folder / self.repository).rglob("*"):
            if path.is_file():
                found = path.stat()
                back = int(_NIGHT.total_seconds()) * 10**9
                os.utime(path, ns=(found.st_atime_ns - back, found.st_mtime_ns - back))

    def store_patiently(self, dump: Path, night: int) -> Cost:
        return self.store(dump, night)

    def _command(self, verb: str, *options: str, out: Path | None = None, on_start: OnStart | None = None) -> Cost:
        program = str(Path(sys.executable).with_name("penstock"))
        where = f"--repo=file://{(self.folder / self.repository).resolve()}", f"--key={self.folder / MAINTAINER_KEY}"
        return run([program, verb, "--quiet", *where, *options], {}, stdout=out, on_start=on_start)

    @property
    def _report(self) -> Path:
        return self.folder / "prune.json"


class ResticUpkeep(Restic, Upkeep):
    """`restic forget --prune`."""

    def retain(self, keep: int, on_start: OnStart | None = None) -> Cost:
        return self.run("forget", f"--keep-last={keep}", "--prune", on_start=on_start)

    def signs(self) -> frozenset[Path]:
        locks = (self.folder / self.repository / "locks").iterdir()
        # Nobody heeds one that is still being written.
        return frozenset(path for path in locks if "-tmp-" not in path.name)

    def a_night_passes(self) -> None:
        pass  # it goes by no clock

    def store_patiently(self, dump: Path, night: int) -> Cost:
        return self._store(dump, night, "--retry-lock=1h")


#: Penstock comes first: the other is compared with it.
UPKEEP: tuple[type[Upkeep], ...] = (PenstockUpkeep, ResticUpkeep)
