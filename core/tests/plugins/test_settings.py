from pathlib import Path
from typing import Any, Literal

import pytest
from core.tests.plugins.distributions import SINK, Install
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from penstock.api import PluginSettings, SecretRef, SettingsError, Source
from penstock.plugins import PluginHost
from penstock.plugins.settings import validated


class _Tls(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ca_file: Path | None = None
    mode: Literal["require", "verify"] = "verify"


class _Settings(PluginSettings):
    host: str
    port: int = Field(default=5432, ge=1, le=65535, description="TCP port of the server")
    password: SecretRef | None = None
    token: SecretRef | None = Field(default=None)
    tls: _Tls | None = None
    tables: tuple[str, ...] = ()
    size: int | Literal["auto"] = "auto"

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        if value.startswith("bad"):
            raise ValueError(f"cannot resolve {value!r}")
        return value


class _Plugin(Source):
    name = "shop"
    Settings = _Settings


def _refusal(values: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        validated("source", _Plugin, values)
    assert "'shop'" in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    start = "the settings of the source plugin 'shop' are not valid"
    assert caught.value.message.startswith(start)
    return caught.value.details or (caught.value.message.removeprefix(f"{start}: "),)


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ({}, ["host is missing"]),
        ({"host": "x", "hots": "y"}, ["hots is not a setting; did you mean host?"]),
        ({"host": "x", "zzz": "y"}, ["zzz is not a setting"]),
        ({"hots": "x"}, ["host is missing", "hots is not a setting; did you mean host?"]),
        (
            {"host": "x", "port": 70000},
            ["port: Input should be less than or equal to 65535 (TCP port of the server)"],
        ),
        ({"host": "x", "tls": {"cafile": "/x"}}, ["tls.cafile is not a setting; did you mean ca_file?"]),
        ({"host": "x", "tls": {"mode": "maybe"}}, ["tls.mode: Input should be 'require' or 'verify'"]),
        ({"host": "x", "tables": ["a", 3]}, ["tables.1: Input should be a valid string"]),
        ({"host": "x", "size": "big"}, ["size: not valid"]),
        ({"host": "bad-value"}, ["host: not a valid value"]),
        ({"host": "bad"}, ["host: not a valid value"]),
    ],
)
def test_each_wrong_setting_is_named_with_what_is_allowed(values: dict[str, Any], problems: list[str]) -> None:
    assert list(_refusal(values)) == problems


@pytest.mark.parametrize("key", ["password", "token"])
@pytest.mark.parametrize(
    "value", ["hunter2", {"evn": "X"}, {"env": ""}, {"env": "X", "file": "/y"}, ["pass", "show"], 3]
)
def test_a_wrong_reference_to_a_secret_is_one_problem_that_shows_the_forms(key: str, value: object) -> None:
    (problem,) = _refusal({"host": "x", key: value})
    assert problem.startswith(f"{key}: ")
    assert problem.count("{ env = … }, { file = … } or { command = […] }") == 1


def test_the_hint_lists_what_there_is() -> None:
    with pytest.raises(SettingsError) as caught:
        validated("source", _Plugin, {})
    assert caught.value.hint == "Use only these settings: host (required), port, password, token, tls, tables, size."


@given(st.text("abcdefgh0123456789!?/:", min_size=12, max_size=20), st.sampled_from([*_Settings.model_fields, "pass"]))
def test_no_value_is_ever_repeated(secret: str, key: str) -> None:
    value = f"bad{secret}"
    for shape in (value, [value], {"env": value, "x": value}, {value[:12]: value}):
        try:
            validated("source", _Plugin, {key: shape})
        except SettingsError as error:
            shown = " ".join([error.message, error.hint or "", *error.details])
            assert value not in shown
            assert secret not in shown


def test_settings_of_an_installed_plugin_are_checked(install: Install) -> None:
    install("stranger", SINK, name="cellar", schemes='("cellar",)')
    host = PluginHost()
    sink = host.make_sink("cellar", {"path": "/x"})
    assert sink.settings.model_dump() == {"path": "/x", "region": "here"}
    with pytest.raises(SettingsError, match="sink plugin 'cellar' are not valid: path is missing"):
        host.make_sink("cellar", {"region": "/x"})


def test_a_url_becomes_settings_and_further_settings_prevail(install: Install) -> None:
    install("stranger", SINK, name="cellar", schemes='("cellar",)')
    host = PluginHost()
    assert host.make_sink_from_url("cellar://deep").settings.model_dump() == {"path": "deep", "region": "here"}
    sink = host.make_sink_from_url("cellar://deep", {"region": "there"})
    assert sink.settings.model_dump() == {"path": "deep", "region": "there"}
