"""How tests share themselves among the workers of a run with pytest-xdist.

A file's tests stay together, because they share servers and repositories that take time to make; but for files whose
tests are long and have nothing in common. The longest go first, so that no worker is left alone with one at the end.

The groups are made here, out of the tests' ids, and not by pytest-xdist's own marker: that one sets what newer versions
of pytest compute, and then is as good as not there.
"""

import os
import re
from typing import Any

import pytest

#: By what takes longest. True: each test goes alone.
_LONGEST = {
    "plugins/sinks/s3/tests/test_conformance.py": False,
    "core/tests/engine/test_memory.py": False,
    "tests/integration/test_nights.py": True,
    "tests/integration/test_story.py": False,
    "tests/test_packaging.py": False,
    "tests/test_plugin_authors.py": False,
    "tests/integration/test_faulty_services.py": False,
    "tests/integration/test_samples.py": False,
    "tests/integration/test_damage.py": False,
    "tests/integration/test_crashes.py": False,
    "core/tests/engine/test_killed_backups.py": False,
    "plugins/sources/mysql/tests/test_restore.py": False,
}
#: Files that share what takes long to make: the wheels, and an environment that they are installed into.
_TOGETHER = {"tests/test_packaging.py": "wheels", "tests/test_plugin_authors.py": "wheels"}
NAMED = _LONGEST.keys() | _TOGETHER.keys()
#: What needs the gateway of Ceph, which takes half a minute to start: it is started once.
_CEPH = re.compile(r"plugins/sinks/s3/tests/test_(conformance|locks|real_service)\.py::.*|tests/.*[\[-]s3\]")
#: A cell of the matrix: all of one source share its server.
_CELL = re.compile(r"tests/integration/test_story\.py::.*\[(?P<source>.+)-\w+\]")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests in the order in which workers take them."""
    order = list(_LONGEST)
    items.sort(key=lambda item: order.index(file) if (file := file_of(item.nodeid)) in _LONGEST else len(order))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker more than there are processors: many tests wait, for a server, a deadline or a stall.

    With `-n logical` as many as there are: for quick tests, which wait for nothing.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors + 1 if config.getoption("numprocesses") == "auto" else processors


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A scheduler that keeps groups together, in the order of the tests."""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):  # type: ignore[misc]  # it comes without types
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Sharing(config, log)


def file_of(test: str) -> str:
    """The file in a test's id."""
    return test.partition("::")[0]


def group_of(test: str) -> str:
    """The name of the group of the test with that id."""
    file = file_of(test)
    if _LONGEST.get(file):
        return test
    if _CEPH.fullmatch(test):
        return "ceph"
    cell = _CELL.fullmatch(test)
    return f"{file} {cell['source']}" if cell else _TOGETHER.get(file, file)
