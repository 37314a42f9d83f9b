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


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown option owner for a restore into Ledger") as caught:
        of(owner="no")
    assert caught.value.hint == "Use one of: owners, place."


def test_where_there_are_no_options_the_hint_lists_none() -> None:
    class NoOptions(RestoreOptions):
        engine = "Box"

    with pytest.raises(UsageError, match="unknown option owner for a restore into Box") as caught:
        NoOptions.of(RestoreTarget(options={"owner": "no"}))
    assert caught.value.hint == "Leave it out: such a restore has no options."
    assert NoOptions.of(RestoreTarget()) == NoOptions()


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [("owners", "maybe", "Set it to auto or yes or no."), ("place", "x", "Set it to a name of 2 characters at least.")],
)
def test_a_wrong_value_is_refused_with_the_right_ones(name: str, value: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"the option {name} cannot be '{value}'") as caught:
        of(**{name: value})
    assert caught.value.hint == hint


def test_options_do_not_change() -> None:
    with pytest.raises(ValidationError):
        setattr(of(), "owners", "no")  # noqa: B010 - mypy would refuse the assignment
