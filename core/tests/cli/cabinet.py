"""A source whose target is a file; its dumps and restores leave out what they are told to leave out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["install_cabinet", "leaving_out", "not_dumping"]

_PLUGIN = '''
import io, json, os
from contextlib import contextmanager
from pathlib import Path
from penstock.api import *
from penstock.api.models import LeftOut, Need, RestoreStep


class CabinetSettings(PluginSettings):
    path: Path


def told(when):
    for one in json.loads(os.environ.get(when, "[]")):
        for number in range(one.pop("times", 1)):
            yield LeftOut(**{**one, "name": one["name"].replace("#", str(number))})


class Bytes(DumpStream):
    def __init__(self, data):
        self._reading = io.BytesIO(data)

    def outcome(self):
        return StreamOutcome(left_out=tuple(told("MET")))

    def readinto(self, buffer, /):
        return self._reading.readinto(buffer)

    def close(self):
        pass

    def abort(self):
        pass


class Cabinet(Source):
    """One file."""

    name = "cabinet"
    schemes = ("cabinet",)
    Settings = CabinetSettings
    possible_capabilities = frozenset()

    @classmethod
    def settings_from_url(cls, url):
        return {"path": url.partition(":")[2]}

    @property
    def location(self):
        return str(self.settings.path)

    def inspect(self):
        missing = tuple(told("MISSING"))
        return Inspection("cabinet", "1", "1", size_estimate=None, inventory=(), left_out=missing)

    @contextmanager
    def dump(self):
        spec = StreamSpec("papers", "text")
        data = self.settings.path.read_bytes()
        yield Dump(DumpPlan(self.inspect(), (spec,), consistency="one read"), lambda _: Bytes(data))

    def plan_restore(self, streams, target):
        if self.settings.path.exists() and not target.clean:
            raise TargetNotEmpty("the cabinet is full", hint="Give --clean.")
        steps = (RestoreStep("make the cabinet"), RestoreStep("fill it", "papers"))
        drawers = Need("extension", "drawers", False, "views need it")
        needs = (Need("role", "archivist"), drawers, Need("space", "1 GB", None))
        return RestorePlan(tuple(streams), target, steps, tuple(told("EARLY")), needs)

    @contextmanager
    def restore(self, plan):
        half = self.settings.path.with_suffix(".half")
        try:
            yield Restore(lambda spec, blocks: self._write(half, blocks), lambda: half.rename(self.settings.path))
        finally:
            half.unlink(missing_ok=True)

    def _write(self, half, blocks):
        half.write_bytes(b"".join(bytes(block) for block in blocks))
        for one in told("LATE"):
            self.report.left_out(one)


@hookimpl
def penstock_register_source():
    return [Cabinet]
'''


def install_cabinet(site: Path) -> None:
    """Install it in the folder `site`, which is to be in `PYTHONPATH`."""
    metadata = site / "cabinet-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "cabinet.py").write_text(_PLUGIN, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cabinet\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[penstock.plugins]\ncabinet = cabinet\n", encoding="utf-8")


def leaving_out(*, early: Sequence[dict[str, Any]] = (), late: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The environment in which a restore leaves these out: `early` known before, `late` met in the middle."""
    return {"EARLY": json.dumps(early), "LATE": json.dumps(late)}


def not_dumping(*, early: Sequence[dict[str, Any]] = (), late: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The environment in which a dump does not hold these: `early` known before, `late` met in the middle."""
    return {"MISSING": json.dumps(early), "MET": json.dumps(late)}
