"""The options of a restore: what is refused, and how that is said."""

from typing import Literal

import pytest
from pydantic import Field, ValidationError

from penstock.api import RestoreOptions, RestoreTarget, UsageError


class Options(RestoreOptions):
    """Some of each kind."""

    engine = "Ledger"

    owners: Literal["auto", "yes", "no"] = "auto"
    place: str | None = Field(None, min_length=2, description="a name of 2 characters at least")


def of(**words: str) -> Options:
    return Options.of(RestoreTarget(options=words))


def test_words_become_options_and_what_is_not_said_has_its_default() -> None:
    assert of(owners="no", place="here") == Options(owners="no", place="here")
    assert of() == Options(owners="auto", place=None)


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="a restore into Ledger has no option owner") as caught:
        of(owner="no")
    assert caught.value.hint == "there are: owners, place"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [("owners", "maybe", "it is auto or yes or no"), ("place", "x", "it is a name of 2 characters at least")],
)
def test_a_value_that_cannot_be_is_refused_with_those_that_can(name: str, value: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"the option {name} cannot be '{value}'") as caught:
        of(**{name: value})
    assert caught.value.hint == hint


def test_options_do_not_change() -> None:
    with pytest.raises(ValidationError):
        setattr(of(), "owners", "no")  # noqa: B010 - mypy would refuse the assignment
