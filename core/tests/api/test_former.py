"""Names that settings and options do not have: refused, with the name to use, and without the value."""

from typing import ClassVar

import pytest
from pydantic import ValidationError

from penstock.api import PluginSettings, RestoreOptions, RestoreTarget, SecretRef, UsageError
from penstock.api.former import name_now


class Settings(PluginSettings):
    """One of them was renamed."""

    former: ClassVar[dict[str, str]] = {"token": "password", "max_size": "size"}

    password: SecretRef | None = None
    size: int = 1


class Options(RestoreOptions):
    """One of them was renamed."""

    engine = "Ledger"
    former: ClassVar[dict[str, str]] = {"old": "new"}

    new: str = "x"


def test_the_first_former_name_is_found_with_its_name_now() -> None:
    assert name_now({"a": "b"}, ["x", "a"]) == ("a", "b")
    assert name_now({"a": "b"}, ["x", "b"]) is None


def test_a_former_setting_is_refused_with_its_name_now_and_without_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"token": "hunter2", "size": 2})
    (error,) = caught.value.errors()
    assert error["msg"] == "token is not a setting; use password"
    assert Settings.model_validate({"size": 2}).size == 2


def test_a_former_option_is_refused_with_its_name_now_and_without_the_value() -> None:
    with pytest.raises(UsageError, match="unknown option old for a restore into Ledger") as caught:
        Options.of(RestoreTarget(options={"old": "hunter2"}))
    assert caught.value.hint == "Use new instead."
    assert "hunter2" not in str(caught.value)
