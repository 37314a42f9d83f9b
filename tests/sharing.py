"""How tests share themselves among the workers of a run with `--dist loadgroup`.

A file's tests stay together, because they share servers and repositories that take time to make; but for files whose
tests are long and have nothing in common. The longest go first, so that no worker is left alone with one at the end.
"""

import pytest

#: By what takes longest. True: each test goes alone.
_LONGEST = {
    "tests/integration/test_nights.py": True,
    "core/tests/engine/test_memory.py": True,
    "tests/integration/test_story.py": False,
    "tests/integration/test_damage.py": False,
    "tests/integration/test_crashes.py": False,
    "tests/integration/test_samples.py": False,
    "plugins/sources/mysql/tests/test_restore.py": False,
}
#: Files that share what takes long to make: the wheels, and an environment that they are installed into.
_TOGETHER = {"tests/test_packaging.py": "wheels", "tests/test_plugin_authors.py": "wheels"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests in the order and the groups in which workers take them."""
    order = list(_LONGEST)
    items.sort(key=lambda item: order.index(file) if (file := _file(item)) in _LONGEST else len(order))
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _group(item: pytest.Item) -> str | None:
    """The name of the group; None for a test that goes alone."""
    file = _file(item)
    if _LONGEST.get(file):
        return None
    if file in _TOGETHER:
        return _TOGETHER[file]
    # All cells of one source share its server.
    cell = item.get_closest_marker("cell")
    return f"{file} {cell.args[0].partition(' x ')[0]}" if cell else file
