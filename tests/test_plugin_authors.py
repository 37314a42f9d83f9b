"""What docs/plugin-authors.md and examples/ show is installed as a stranger would, and works there."""

import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from tests.distributions import ROOT, above, run
from tests.servers.redis import PASSWORD as REDIS_PASSWORD
from tests.servers.redis import RedisServers

PAGE = ROOT / "docs" / "plugin-authors.md"
_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def blocks() -> list[tuple[str, str]]:
    """The fenced blocks of the page: what stands after the fence, and the text."""
    return [(found["info"].strip(), found["text"]) for found in _BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the page shows."""
    folder = tmp_path_factory.mktemp("page")
    for info, text in blocks():
        if found := re.search(r"\bfile=(\S+)", info):
            path = folder / found[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if "src" in path.parts and path.suffix == ".py":
                (path.parent / "__init__.py").touch()
    return folder


@pytest.fixture(scope="module")
def python(clean: Path, pins: Path, written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with Penstock, the plugins of the page and the examples, all from wheels."""
    projects = [written / "penstock-git", written / "penstock-box", ROOT / "examples" / "redis"]
    projects.append(ROOT / "examples" / "webdav")
    return above(clean, tmp_path_factory.mktemp("authors"), pins, projects, "pytest", "wsgidav", "cheroot")


def run_tests(python: Path, root: Path, tests: Path) -> str:
    """Run the tests of one plugin in that environment, with this checkout's servers and nothing else of it.

    `root` is what the names of its test modules begin at.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "COV_"))}
    options = ("-q", "-ra", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", os.devnull, "--strict-markers")
    # Markers have no settings file to be registered in here.
    more = ("-o", "markers=server: needs a server", f"--rootdir={root}", f"--confcutdir={tests.parent}")
    # Not beside this checkout's modules; and the kits start many interpreters, which need not compile everything again.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    run_with = environ | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(python.parents[1] / "bytecode")}
    return run(python, "-m", "pytest", *options, *more, tests, cwd=tests.parent, environ=run_with)


def test_every_block_of_the_page_is_a_tested_file_a_console_or_a_drawing() -> None:
    kinds = {info.partition(" ")[0] if "file=" in info else info for info, _ in blocks()}
    assert kinds <= {"python", "toml", "console", ""}
    assert not [info for info, _ in blocks() if info.startswith(("python", "toml")) and "file=" not in info]


def test_the_page_draws_the_files_that_it_shows(written: Path) -> None:
    drawn = next(text for info, text in blocks() if not info)
    shown = {
        str(path.relative_to(written))
        for path in (written / "penstock-git").rglob("*")
        if path.suffix in (".py", ".toml")
    }
    assert shown == {f"penstock-git/{line.split()[0]}" for line in drawn.splitlines()[1:]}


def test_the_commands_of_the_page_exist(python: Path, tmp_path: Path) -> None:
    text = "".join(text for info, text in blocks() if info == "console")
    for command in re.findall(r"^\$ penstock (\w+)", text, re.MULTILINE):
        assert "Usage" in run(python, "-m", "penstock", command, "--help", cwd=tmp_path)


def test_the_command_lists_the_plugins(python: Path, tmp_path: Path) -> None:
    listed = json.dumps(json.loads(run(python, "-m", "penstock", "plugins", "--json", cwd=tmp_path)))
    for name in ("git", "box", "redis", "webdav"):
        assert f'"name": "{name}"' in listed
    assert '"broken": []' in listed or "broken" not in listed


@pytest.mark.parametrize("plugin", ["penstock-git", "penstock-box"])
def test_the_plugins_of_the_page_pass_the_kits(plugin: str, python: Path, written: Path) -> None:
    told = run_tests(python, written, written / plugin / "tests")
    assert " passed" in told
    assert unexpected_skips(told) == []


def unexpected_skips(told: str) -> list[str]:
    """The skips that are not said to be not applicable."""
    return [line for line in told.splitlines() if line.startswith("SKIPPED") and "not applicable: " not in line]


@pytest.mark.parametrize("plugin", ["redis", "webdav"])
def test_the_examples_pass_their_tests(plugin: str, python: Path, redis_servers: RedisServers) -> None:
    if plugin == "redis":
        redis_servers.get()  # a skip, or a failure, here rather than there
    told = run_tests(python, ROOT, ROOT / "examples" / plugin / "tests")
    assert " passed" in told
    assert unexpected_skips(told) == []


@contextmanager
def webdav(folder: Path) -> Iterator[Any]:
    """The example's own server; gives the module of its tests, and the URL."""
    spec = util.spec_from_file_location("webdav_for_tests", ROOT / "examples" / "webdav" / "tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    folder.mkdir()
    with module.webdav_server(folder) as url:
        yield module, url


class Host:
    """Penstock of that environment, on a home of its own."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python = python
        self.folder = folder
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environ = kept | {"HOME": str(folder), "PENSTOCK_PASSPHRASE": "a passphrase of nobody 7"}

    def penstock(self, *words: str | Path) -> str:
        config = ("--config", self.folder / "penstock.toml")
        return run(self.python, "-m", "penstock", *words, *config, cwd=self.folder, environ=self.environ)


def test_sqlite_goes_to_webdav_and_comes_back(python: Path, tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, what BLOB)")
        connection.executemany("INSERT INTO orders (what) VALUES (?)", [(os.urandom(500),) for _ in range(2000)])
    host = Host(python, tmp_path)
    with webdav(tmp_path / "served") as (module, url):
        (tmp_path / "password").write_text(module.PASSWORD, encoding="utf-8")
        (tmp_path / "penstock.toml").write_text(
            f"""
            [repositories.main]
            url = "webdav://{module.USER}@{url.removeprefix("http://")}/backups"
            password = {{ file = "{tmp_path}/password" }}

            [backups.shop]
            url = "sqlite://{database}"
            """,
            encoding="utf-8",
        )
        host.penstock("init", "main")
        host.penstock("backup", "shop")
        host.penstock("check", "--repo", "main")
        host.penstock("restore", "latest", "--to", f"sqlite://{tmp_path}/back.db", "--repo", "main")
    assert (tmp_path / "back.db").read_bytes() == database.read_bytes()
    assert list((tmp_path / "served" / "backups").glob("d/*/snapshots/*"))


@pytest.mark.server
def test_redis_goes_to_a_folder_and_comes_back(python: Path, redis_servers: RedisServers, tmp_path: Path) -> None:
    server, target = redis_servers.get(), redis_servers.get("target")
    server.pipe(
        [("FLUSHALL",), *(("SET", f"key {n}", os.urandom(300)) for n in range(2000)), ("SADD", "set", "a", "b")]
    )
    target.pipe([("FLUSHALL",), ("FUNCTION", "FLUSH")])
    (tmp_path / "password").write_text(REDIS_PASSWORD, encoding="utf-8")
    (tmp_path / "penstock.toml").write_text(
        f"""
        [repositories.main]
        url = "file://{tmp_path}/repository"

        [backups.cache]
        type = "redis"
        port = {server.port}
        password = {{ file = "{tmp_path}/password" }}

        [backups.target]
        type = "redis"
        port = {target.port}
        password = {{ file = "{tmp_path}/password" }}
        """,
        encoding="utf-8",
    )
    host = Host(python, tmp_path)
    host.penstock("init", "main")
    host.penstock("backup", "cache")
    host.penstock("restore", "latest", "--to-backup", "target", "--repo", "main")
    assert target.run("DBSIZE") == 2001
    for name in ("key 0", "key 1999"):
        assert target.run("GET", name) == server.run("GET", name)
