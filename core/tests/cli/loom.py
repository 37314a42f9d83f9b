"""A source of several made-up streams that take their time, as a plugin that child processes find."""

from pathlib import Path

__all__ = ["install_loom"]

_PLUGIN = '''
import os, time
from dataclasses import replace
from pathlib import Path
from penstock.api import DumpStream, hookimpl
from penstock.testing import SyntheticSource


class Slow(DumpStream):
    """Waits as long before each read as the variable LOOM_WAITS says (seconds)."""

    def __init__(self, inner, name):
        self.inner = inner
        self.close, self.abort, self.outcome = inner.close, inner.abort, inner.outcome
        with (Path(os.environ["HOME"]) / "opened").open("a") as file:
            file.write(f"{os.getpid()} {name}\\n")

    def readinto(self, buffer, /):
        time.sleep(float(os.environ.get("LOOM_WAITS", 0)))
        return self.inner.readinto(buffer)

    def close(self): ...

    def abort(self): ...


class Loom(SyntheticSource):
    """Streams that take their time, and of which nobody knows how long they are: small as they are, none shares."""

    name = "loom"
    schemes = ("loom",)

    @property
    def location(self):
        return "loom:"

    def _specs(self):
        return tuple(replace(spec, size_estimate=None) for spec in super()._specs())

    def attach(self, spec):
        return Slow(super().attach(spec), spec.name)


@hookimpl
def penstock_register_source():
    return [Loom]
'''


def install_loom(site: Path) -> None:
    """Install it in the folder `site`, which is to be in `PYTHONPATH`; who opens streams is in `opened` in HOME."""
    metadata = site / "loom-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "loom.py").write_text(_PLUGIN, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: loom\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[penstock.plugins]\nloom = loom\n", encoding="utf-8")
