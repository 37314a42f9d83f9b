"""docs/exit-codes.md is kept true."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from penstock.api import errors
from penstock.api.errors import PenstockError
from penstock.cli.output.console import CLOSED_PIPE

PAGE = Path(__file__).parents[3] / "docs" / "exit-codes.md"


def table() -> list[str]:
    """The lines of the page's table, by exit code, what others are a kind of first."""
    rows = sorted(_rows(), key=lambda row: row[:2])
    head = ["| code | error | meaning |", "| ---: | --- | --- |"]
    return [*head, *(f"| {code} | {name} | {meaning} |" for code, _, name, meaning in rows)]


def _rows() -> Iterator[tuple[int, int, str, str]]:
    yield 0, 0, "", "Everything that was asked for was done."
    yield CLOSED_PIPE, 0, "", "The reader of the output exited, as `head` does; nothing was damaged."
    for name in errors.__all__:
        error: type[PenstockError] = getattr(errors, name)
        meaning = " ".join((inspect.getdoc(error) or "").split("\n\n", maxsplit=1)[0].split())
        if error is PenstockError:
            meaning = "Something that has no code of its own, or a bug in Penstock or in a plugin."
        retry = " A retry can help." if error.retryable else ""
        yield error.exit_code, len(error.__mro__), f"`{name}`", meaning + retry


def test_the_page_has_every_error_with_its_code_and_meaning() -> None:
    published = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert published == table(), "the table should be:\n" + "\n".join(table())


def test_errors_that_share_a_code_are_of_one_kind() -> None:
    by_code: dict[int, list[type[PenstockError]]] = {}
    for name in errors.__all__:
        error = getattr(errors, name)
        by_code.setdefault(error.exit_code, []).append(error)
    for code, sharing in by_code.items():
        first = min(sharing, key=lambda error: len(error.__mro__))
        assert all(issubclass(error, first) for error in sharing), code
        assert 0 < code < 128 or code == 130, "others are taken by shells"


def test_the_page_names_no_code_that_does_not_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"`([A-Z]\w+)`", text)) <= set(errors.__all__)
