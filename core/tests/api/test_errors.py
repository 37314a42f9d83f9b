"""The tree that api/errors draws at its top is the tree that its modules define, down to the exit codes."""

import copy
import inspect
import pickle
import pkgutil
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

from penstock.api import errors
from penstock.api.errors import ObjectLocked, PenstockError, SinkError


@dataclass(frozen=True)
class Drawn:
    name: str
    parent: str | None
    exit_code: int | None
    retryable: bool


_LINE = re.compile(r"^(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: {2,}(?P<code>\d+) *(?P<what>.*))?$")


def _drawn() -> list[Drawn]:
    tree: list[Drawn] = []
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := _LINE.match(line):
            depth = len(match["branch"]) // 4
            del path[depth:]
            code = int(match["code"]) if match["code"] else None
            tree.append(
                Drawn(match["name"], path[-1] if path else None, code, "a retry can help" in (match["what"] or ""))
            )
            path.append(match["name"])
    return tree


DRAWN = _drawn()
CLASSES: dict[str, type[PenstockError]] = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, PenstockError) and not name.startswith("_")
}


def _public_parent(kind: type[PenstockError]) -> str | None:
    """The next class up the tree that operators can meet."""
    return next((base.__name__ for base in kind.__mro__[1:] if base.__name__ in CLASSES), None)


def _make(kind: type[PenstockError]) -> PenstockError:
    positional = [name for name in inspect.signature(kind).parameters if name not in ("hint", "details")]
    return kind(*positional, hint="do this", details=("line 1", "line 2"))


def test_the_drawing_was_understood() -> None:
    assert len(DRAWN) > 30
    assert DRAWN[0] == Drawn("PenstockError", None, 1, False)


def test_the_drawing_shows_every_class_once_and_no_other() -> None:
    assert sorted(drawn.name for drawn in DRAWN) == sorted(CLASSES)


def test_every_class_is_public() -> None:
    assert sorted(errors.__all__) == sorted(CLASSES)


def test_what_a_module_of_the_tree_publishes_is_published_by_the_tree() -> None:
    modules = [import_module(one.name) for one in pkgutil.iter_modules(errors.__path__, f"{errors.__name__}.")]
    assert sorted(name for module in modules for name in module.__all__) == sorted([*errors.__all__, "say_more"])


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda drawn: drawn.name)
def test_a_class_has_its_drawn_parent_exit_code_and_use_of_a_retry(drawn: Drawn) -> None:
    kind = CLASSES[drawn.name]
    assert _public_parent(kind) == drawn.parent
    assert kind.retryable == drawn.retryable
    if drawn.exit_code is not None:
        assert kind.exit_code == drawn.exit_code


def test_a_class_drawn_without_an_exit_code_only_groups_others_and_shares_the_first_ones() -> None:
    for group in (drawn for drawn in DRAWN if drawn.exit_code is None):
        first = next(drawn for drawn in DRAWN if drawn.parent == group.name)
        assert CLASSES[group.name].exit_code == first.exit_code


def test_drawn_exit_codes_are_unique() -> None:
    counts = Counter(drawn.exit_code for drawn in DRAWN if drawn.exit_code is not None)
    assert [code for code, count in counts.items() if count > 1] == []


def test_exit_codes_leave_room_for_success_and_for_the_shells_own() -> None:
    for kind in CLASSES.values():
        # 126 and above are the shell's; 130 is what it gives for Ctrl-C, which is meant.
        assert 0 < kind.exit_code < 126 or kind is errors.Interrupted


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_class_says_in_its_docstring_what_it_means(kind: type[PenstockError]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != PenstockError.__doc__ or kind is PenstockError


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_class_carries_message_hint_and_details(kind: type[PenstockError]) -> None:
    error = _make(kind)
    assert str(error) == error.message
    assert error.hint == "do this"
    assert error.details == ("line 1", "line 2")


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_every_error_survives_the_way_between_processes(kind: type[PenstockError]) -> None:
    error = _make(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_a_sink_error_names_the_key_where_there_is_one() -> None:
    assert str(SinkError("packs/ab/cd", "refused")) == "packs/ab/cd: refused"
    assert str(SinkError("", "refused")) == "refused"


def test_of_locked_objects_the_one_that_stays_the_longest_is_told_first() -> None:
    day = datetime(2026, 12, 1, 9, 30, 1, tzinfo=UTC)
    error = ObjectLocked.of({"a": day, "c": day + timedelta(days=2), "b": day + timedelta(days=1)})
    assert str(error) == "c: locked until 2026-12-03 09:30:01 UTC"
    assert error.details == ("b: locked until 2026-12-02 09:30:01 UTC", "a: locked until 2026-12-01 09:30:01 UTC")
    assert (error.key, error.until, len(error.locked)) == ("c", day + timedelta(days=2), 3)
    assert error.hint is None


def test_what_nobody_knows_the_end_of_stays_the_longest() -> None:
    error = ObjectLocked.of({"a": datetime.max.replace(tzinfo=UTC), "b": None})
    assert str(error) == "b: locked, and nobody knows until when"
    assert error.until is None
    assert "legal hold" in str(error.hint)


def test_many_locked_objects_are_not_all_told_in_lines() -> None:
    error = ObjectLocked.of({f"packs/{number}": None for number in range(100)})
    assert len(error.locked) == 100
    assert len(error.details) == 21
    assert error.details[-1] == "and 79 more"
