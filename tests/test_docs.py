"""The documentation names everything that operators and authors can use, and nothing that does not exist."""

import ast
import importlib
import inspect
import pydoc
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from pydantic import BaseModel
from tests.distributions import ROOT

from penstock import api, testing
from penstock.api import (
    Capability,
    EventKind,
    PenstockError,
    Plugin,
    PluginSettings,
    RestoreOptions,
    RestoreTarget,
    object_store,
    servers,
)
from penstock.api.hooks import HookSpecs
from penstock.api.secrets import SecretEnv
from penstock.plugins import PluginHost
from penstock.settings.models import BackupSettings, Defaults, Document, RepositorySettings
from penstock.testing import sink_conformance, source_conformance

DOCS = ROOT / "docs"
AUTHORS = (DOCS / "plugin-authors.md").read_text(encoding="utf-8")
EXIT_CODES = (DOCS / "exit-codes.md").read_text(encoding="utf-8")
#: What authors of plugins import, all of it documented.
SURFACES = (api, servers, object_store, testing, sink_conformance, source_conformance)
BUNDLED = sorted(ROOT.glob("plugins/*/*/README.md"))
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def words(text: str) -> set[str]:
    """The names in the inline code of a page, and in the code that it shows."""
    shown = "".join(_FENCED.findall(text))
    inline = " ".join(re.findall(r"`([^`\n]+)`", _FENCED.sub("", text)))
    return set(_NAME.findall(shown + " " + inline))


def errors(kind: type[PenstockError] = PenstockError) -> Iterator[type[PenstockError]]:
    """The whole tree."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith(api.errors.__name__) and not child.__name__.startswith("_"):
            yield from errors(child)
        elif child.__name__.startswith("_"):
            yield from (one for one in errors(child) if one is not child)


def test_every_hook_is_documented_and_no_other() -> None:
    hooks = {name for name in vars(HookSpecs) if name.startswith("penstock_")}
    assert set(re.findall(r"`(penstock_\w+)\(", AUTHORS)) == hooks


def test_every_capability_is_documented_and_no_other() -> None:
    section = AUTHORS.partition("\n## Capabilities\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) - {"Capability"} == set(Capability.__members__)


def test_every_kind_of_event_is_documented() -> None:
    assert set(EventKind.__members__) <= set(_NAME.findall(AUTHORS))


def test_every_error_is_in_the_table_of_exit_codes_with_its_code_and_no_other() -> None:
    told = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", EXIT_CODES, re.MULTILINE)}
    assert told == {kind.__name__: kind.exit_code for kind in errors()}


@pytest.mark.parametrize("module", SURFACES, ids=lambda one: one.__name__)
def test_every_public_name_is_documented(module: ModuleType) -> None:
    documented = words(AUTHORS) | words(EXIT_CODES)
    assert set(module.__all__) - documented == set()


def test_help_of_the_api_names_everything_on_a_few_pages() -> None:
    text = pydoc.plain(pydoc.render_doc(api))
    assert len(text.splitlines()) < 500
    assert set(api.__all__) - set(_NAME.findall(text)) == set()
    for kind in (api.Source, api.Sink, api.Dump, api.SinkFull):
        assert (kind.__doc__ or "").splitlines()[0] in text


def test_everything_of_a_lab_is_documented() -> None:
    lab = source_conformance.SourceLab
    public = {name for one in (lab, source_conformance.Target) for name in vars(one) if not name.startswith("_")}
    assert public - {"kw_only"} <= words(AUTHORS)


def test_every_name_of_a_class_that_the_page_for_authors_uses_exists() -> None:
    """CamelCase names outside of the shown files, which are imported anyway when their tests run."""
    text = _FENCED.sub("", AUTHORS)
    told = set(re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", " ".join(re.findall(r"`([^`\n]+)`", text))))
    known = set(vars(api)).union(*(dir(module) for module in SURFACES))
    assert told - known - {"HookSpecs"} == set()


def test_every_other_name_that_the_page_for_authors_uses_exists() -> None:
    spans = re.findall(r"`([^`\n]+)`", _FENCED.sub("", AUTHORS))
    told = {found[1] for span in spans if (found := re.fullmatch(r"(\w+)(?:\(.*\))?", span)) and not found[1].isdigit()}
    assert told - names_of_authors() - _NAMES_OF_OTHERS == set()


def names_of_authors() -> set[str]:
    """What the two packages offer: names, what classes have, and what their methods are given."""
    found: set[str] = set()
    for module in SURFACES:
        for name in module.__all__:
            one = getattr(module, name)
            found |= {name, *dir(one)}
            found |= set(getattr(one, "__dataclass_fields__", ()))
            for member in [one, *vars(one).values()] if isinstance(one, type) else [one]:
                if inspect.isfunction(member):
                    found |= set(inspect.signature(member).parameters)
    return found | set(vars(HookSpecs)) | set(dir(SecretEnv))


#: Settings of the host, words of other programs, and the two fixtures of the kits.
_NAMES_OF_OTHERS = {
    *RepositorySettings.model_fields,
    *BackupSettings.model_fields,
    *("argv", "lab", "penstock", "repr", "sibling", "sink", "str"),
}


def test_every_module_that_a_page_names_exists() -> None:
    for page in pages():
        for dotted in re.findall(r"`(penstock(?:\.\w+)+)`", page.read_text(encoding="utf-8")):
            assert resolves(dotted), f"{page.name}: {dotted}"


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one; or the name of a file or an entry-point group."""
    if dotted in ("penstock.toml", "penstock.json", "penstock.plugins"):
        return True
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def pages() -> list[Path]:
    """Every page that people read."""
    return [*ROOT.glob("*.md"), *DOCS.glob("**/*.md"), *BUNDLED, *ROOT.glob("examples/*/README.md")]


def plugins() -> list[type[Plugin]]:
    """The bundled plugins, as they are installed here."""
    host = PluginHost()
    found = [(host.source if info.kind == "source" else host.sink)(info.name) for info in host.plugins()]
    return [one for one in found if one.__module__.startswith("penstock_")]


def readme_of(plugin: type[Plugin]) -> str:
    """The README of the distribution that a plugin is in."""
    (path,) = (path for path in BUNDLED if path.parent == folder_of(plugin))
    return path.read_text(encoding="utf-8")


def folder_of(plugin: type[Plugin]) -> Path:
    return next(path for path in Path(inspect.getfile(plugin)).parents if (path / "pyproject.toml").exists())


def test_every_bundled_plugin_is_looked_at() -> None:
    assert {folder_of(plugin) for plugin in plugins()} == {path.parent for path in BUNDLED}


@pytest.mark.parametrize("plugin", plugins(), ids=lambda plugin: plugin.name)
def test_every_setting_of_a_bundled_plugin_is_in_its_readme_and_no_other(plugin: type[Plugin]) -> None:
    told = settings_told(readme_of(plugin))
    assert told == set(plugin.Settings.model_fields)


def settings_told(readme: str, heading: str = "Settings") -> set[str]:
    """What the first column of the tables below the heading names."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (`[^|]+) \|", section[1], re.MULTILINE) if section else []
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_check_before_a_dump_is_in_the_readme_of_its_source_and_no_other() -> None:
    checked = 0
    for path in ROOT.glob("plugins/sources/*/README.md"):
        settings = importlib.import_module(f"penstock_{path.parent.name}.settings")
        found = re.search(
            r"^## Warnings before a dump\n.*?(?=^## )", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
        assert found, path
        assert re.findall(r"^\| `([a-z-]+)` \|", found[0], re.MULTILINE) == list(get_args(settings.CheckName)), path
        checked += 1
    assert checked == 4


@pytest.mark.parametrize("model", [RepositorySettings, BackupSettings, Defaults], ids=lambda model: model.__name__)
def test_every_setting_of_penstock_toml_is_documented(model: type[BaseModel]) -> None:
    told = (DOCS / "settings.md").read_text(encoding="utf-8")
    section = re.search(rf"^## `\[{_TABLES[model]}.*?(?=^## |\Z)", told, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert set(re.findall(r"^\| `(\w+)`", section[0], re.MULTILINE)) == set(model.model_fields)


_TABLES: dict[type[BaseModel], str] = {
    RepositorySettings: "repositories",
    BackupSettings: "backups",
    Defaults: "defaults",
}


def test_settings_that_a_page_shows_are_where_they_belong() -> None:
    for page in pages():
        for block in re.findall(r"^```toml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            shown = tomllib.loads(block)
            assert set(shown) <= set(Document.model_fields), page
            for kind, tables in shown.items():
                for table in tables.values() if kind != "defaults" else ():
                    check_table(kind, table)


def check_table(kind: str, table: dict[str, object]) -> None:
    """That every key of a table is the host's or the plugin's."""
    host = PluginHost()
    own = RepositorySettings if kind == "repositories" else BackupSettings
    url, name = str(table.get("url", "")), str(table.get("type", ""))
    if kind == "repositories":
        plugin: type[Plugin] = host.sink_for_url(url) if url else host.sink(name)
    else:
        plugin = host.source_for_url(url) if url else host.source(name)
    assert set(table) <= set(own.model_fields) | set(plugin.Settings.model_fields)


@pytest.mark.parametrize("example", ["redis", "webdav"])
def test_every_setting_of_an_example_is_in_its_readme_and_no_other(example: str) -> None:
    module = importlib.import_module(f"penstock_{example}.settings")
    (model,) = (
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, PluginSettings) and one.__module__ == module.__name__
    )
    readme = (ROOT / "examples" / example / "README.md").read_text(encoding="utf-8")
    assert settings_told(readme) == set(model.model_fields)


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("plugins/sources/*/src/*/source.py"), *ROOT.glob("examples/*/src/*/source.py")]),
    ids=lambda path: path.parent.name,
)
def test_every_restore_option_is_in_the_readme_of_its_source_and_no_other(path: Path) -> None:
    options: type[RestoreOptions] = importlib.import_module(f"{path.parent.name}.options").RestoreOptions
    assert issubclass(options, RestoreOptions)
    readme = (path.parents[2] / "README.md").read_text(encoding="utf-8")
    assert settings_told(readme, "Restore options") == set(options.model_fields)
    assert options.of(RestoreTarget()) == options(), "every option can be left out"


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/*/**/*.py")), ids=lambda path: path.stem)
def test_an_example_uses_nothing_that_a_stranger_could_not(path: Path) -> None:
    allowed = ("penstock.api", "penstock.testing") if "tests" in path.parts else ("penstock.api",)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.partition(".")[0] != "penstock" or name.startswith(allowed), f"{path}: {name}"


def test_the_links_between_pages_lead_somewhere() -> None:
    for page in pages():
        text = _FENCED.sub("", page.read_text(encoding="utf-8"))
        for place in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / place).exists(), f"{page.relative_to(ROOT)}: {place}"
