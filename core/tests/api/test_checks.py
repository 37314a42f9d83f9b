"""Checks before a dump: what they find is named, and what is ignored says nothing."""

from collections.abc import Iterator
from typing import Literal

import pytest
from pydantic import ValidationError

from penstock.api import Check, PluginSettings, WarningSettings, found_by


class Warnings(WarningSettings):
    """The two."""

    ignore: tuple[Literal["small", "odd"], ...] = ()


class Settings(PluginSettings):
    """Those of a source with two checks."""

    warnings: Warnings = Warnings()


def _small(number: int) -> Iterator[str]:
    if number < 10:
        yield f"{number} is small"


CHECKS: tuple[Check[int], ...] = (
    Check[int]("small", "nobody wants little", _small),
    Check("odd", "it cannot be shared", lambda number: ["it is odd", "very odd"] if number % 2 else []),
)


def test_what_is_found_has_the_name_of_its_check() -> None:
    assert [*found_by(CHECKS, 7, Settings().warnings)] == ["7 is small [small]", "it is odd [odd]", "very odd [odd]"]
    assert [*found_by(CHECKS, 12, Settings().warnings)] == []


def test_what_is_ignored_is_not_even_looked_for() -> None:
    def fails(_number: int) -> Iterator[str]:
        raise AssertionError

    quiet = Settings.model_validate({"warnings": {"ignore": ["odd"]}})
    assert [*found_by((Check("odd", "never", fails), *CHECKS), 7, quiet.warnings)] == ["7 is small [small]"]


@pytest.mark.parametrize("wrong", [{"ignore": ["large"]}, {"ignored": ["odd"]}, {"ignore": "odd"}, ["odd"]])
def test_a_name_that_no_check_has_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError, match="warnings"):
        Settings.model_validate({"warnings": wrong})
