"""Throw-away distributions: a module and its metadata in a folder of `sys.path`, as an installer would leave them."""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

__all__ = ["SINK", "SOURCE", "Install", "install"]

Install = Callable[..., None]

#: A sink of the least code; `{name}`, `{schemes}` and `{body}` are filled in.
SINK = '''
from collections.abc import Iterator
from typing import ClassVar
from penstock.api import *


class Settings(PluginSettings):
    """Settings."""

    path: str
    region: str = "here"


class Made(Sink):
    """A sink of a stranger.

    More words.
    """

    name = "{name}"
    schemes = {schemes}
    Settings = Settings

    @classmethod
    def settings_from_url(cls, url):
        return {{"path": url.partition("://")[2]}}

    def put(self, key, data, *, if_absent=False): ...
    def get(self, key, *, start=0, length=None): return b""
    def stat(self, key): ...
    def list(self, prefix=""): return iter(())
    def delete(self, key): ...
    def close(self): ...
{body}

@hookimpl
def penstock_register_sink():
    return [Made]
'''

SOURCE = '''
from penstock.api import *


class Made(Source):
    """A source of a stranger."""

    name = "{name}"
    schemes = {schemes}
    Settings = PluginSettings
    possible_capabilities = frozenset({{Capability.CONSISTENT}})

    @classmethod
    def settings_from_url(cls, url):
        return {{}}

    def inspect(self): ...
    def dump(self): ...
    def plan_restore(self, streams, target): ...
    def restore(self, plan): ...
{body}

@hookimpl
def penstock_register_source():
    return [Made]
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs distributions for the length of a test; the real ones are out of sight."""
    site = tmp_path / "site-packages"
    site.mkdir()
    others = [folder for folder in sys.path if not _has_plugins(Path(folder))]
    monkeypatch.setattr(sys, "path", [str(site), *others])
    made: list[str] = []

    def do(distribution: str, code: str, *, version: str = "1.2.3", **fill: str) -> None:
        module = distribution.replace("-", "_")
        text = code.format(**{"name": "made", "schemes": "()", "body": ""} | fill) if "{name}" in code else code
        (site / f"{module}.py").write_text(textwrap.dedent(text))
        metadata = site / f"{module}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(f"[penstock.plugins]\n{fill.get('entry', module)} = {module}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)  # another test's, or the real one of that name
        made.append(module)
        importlib.invalidate_caches()

    yield do
    for module in made:
        sys.modules.pop(module, None)


def _has_plugins(folder: Path) -> bool:
    return any("penstock.plugins" in found.read_text() for found in folder.glob("*.dist-info/entry_points.txt"))
