"""A secret never shows itself, and a reference to one either resolves or says where it leads nowhere."""

import copy
import json
import logging
import os
import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, TypeAdapter, ValidationError

from penstock.api import PluginSettings, Secret, SecretRef, SecretUnavailable
from penstock.api import secrets as secrets_module
from penstock.api.secrets import SecretCommand, SecretEnv, SecretFile

VALUE = "hunter2"


class TestSecret:
    @pytest.mark.parametrize(
        "shown",
        [
            str(Secret(VALUE)),
            repr(Secret(VALUE)),
            f"{Secret(VALUE)} {Secret(VALUE)!r} {Secret(VALUE)!s} {Secret(VALUE)!a}",
            "%s %r" % (Secret(VALUE), Secret(VALUE)),  # noqa: UP031 - what logging does
            str([Secret(VALUE), {"password": Secret(VALUE)}]),
            repr(dir(Secret(VALUE))),
            pytest.param(str(hash(Secret(VALUE))), id="hash"),  # another one in each process
        ],
    )
    def test_it_never_shows_itself(self, shown: str) -> None:
        assert VALUE not in shown

    def test_only_reveal_tells(self) -> None:
        assert Secret(VALUE).reveal() == VALUE

    def test_it_has_no_dictionary_to_look_into(self) -> None:
        with pytest.raises(TypeError):
            vars(Secret(VALUE))

    def test_a_log_does_not_show_it(self, caplog: pytest.LogCaptureFixture) -> None:
        logging.getLogger("test").warning("connecting with %s", Secret(VALUE))
        assert caplog.messages == ["connecting with ***"]

    def test_it_cannot_be_padded_into_view(self) -> None:
        with pytest.raises(TypeError) as caught:
            f"{Secret(VALUE):>20}"
        assert VALUE not in str(caught.value)

    def test_equal_secrets_do_not_compare_equal(self) -> None:
        assert Secret(VALUE) != Secret(VALUE)
        assert Secret(VALUE) != VALUE  # type: ignore[comparison-overlap]
        with pytest.raises(TypeError) as caught:
            sorted([Secret(VALUE), Secret("a")])  # type: ignore[type-var]
        assert VALUE not in str(caught.value)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_it_is_not_pickled(self, protocol: int) -> None:
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(Secret(VALUE), protocol)

    def test_it_is_neither_copied_nor_written_as_json(self) -> None:
        for leak in (copy.copy, copy.deepcopy, json.dumps):
            with pytest.raises(TypeError) as caught:
                leak(Secret(VALUE))
            assert VALUE not in str(caught.value)


class TestEnv:
    def test_it_reads_the_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHOP_PASSWORD", VALUE)
        assert SecretEnv(env="SHOP_PASSWORD").resolve().reveal() == VALUE

    def test_it_reads_the_given_environment_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHOP_PASSWORD", "other")
        assert SecretEnv(env="SHOP_PASSWORD").resolve({"SHOP_PASSWORD": VALUE}).reveal() == VALUE
        with pytest.raises(SecretUnavailable):
            SecretEnv(env="SHOP_PASSWORD").resolve({})

    @pytest.mark.parametrize("environ", [{}, {"SHOP_PASSWORD": ""}])
    def test_an_unset_or_empty_variable_is_named(self, environ: dict[str, str]) -> None:
        with pytest.raises(SecretUnavailable, match="SHOP_PASSWORD is not set"):
            SecretEnv(env="SHOP_PASSWORD").resolve(environ)


class TestFile:
    @pytest.mark.parametrize(
        "data",
        [b"hunter2", b"hunter2\n", b"hunter2\r\n", b"hunter2\nuser: me\n", b"hunter2\n\xff\xfe"],
    )
    def test_its_first_line_is_the_secret(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "secret").write_bytes(data)
        assert SecretFile(file=tmp_path / "secret").resolve().reveal() == VALUE

    @pytest.mark.slow
    @given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1))
    def test_every_other_character_belongs_to_the_secret(self, text: str) -> None:
        assert secrets_module._first_line(text.encode() + b"\nmore", "x").reveal() == text

    @pytest.mark.parametrize("data", [b"", b"\n", b"\r\nhunter2", b"\nhunter2"])
    def test_an_empty_first_line_is_no_secret(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "secret").write_bytes(data)
        with pytest.raises(SecretUnavailable, match="empty secret"):
            SecretFile(file=tmp_path / "secret").resolve()

    def test_a_missing_file_and_a_folder_are_named_with_the_reason(self, tmp_path: Path) -> None:
        with pytest.raises(SecretUnavailable, match=r"missing: No such file"):
            SecretFile(file=tmp_path / "missing").resolve()
        with pytest.raises(SecretUnavailable, match=r"Is a directory"):
            SecretFile(file=tmp_path).resolve()

    def test_what_is_no_text_is_refused_without_being_shown(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"hunter2\xff")
        with pytest.raises(SecretUnavailable, match="not UTF-8") as caught:
            SecretFile(file=tmp_path / "secret").resolve()
        assert VALUE not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__cause__ is None

    def test_a_secret_is_refused_rather_than_cut(self, tmp_path: Path) -> None:
        longest = 64 * 1024
        (tmp_path / "secret").write_bytes(b"x" * longest + b"\n" + b"y" * longest)
        assert SecretFile(file=tmp_path / "secret").resolve().reveal() == "x" * longest
        (tmp_path / "secret").write_bytes(b"x" * (longest + 1))
        with pytest.raises(SecretUnavailable, match="more than 65536 bytes"):
            SecretFile(file=tmp_path / "secret").resolve()


class TestCommand:
    def test_the_first_line_that_it_prints_is_the_secret(self) -> None:
        assert SecretCommand(command=("printf", "hunter2\nuser: me")).resolve().reveal() == VALUE

    def test_no_shell_is_involved(self) -> None:
        assert SecretCommand(command=("echo", "$HOME; echo `id`")).resolve().reveal() == "$HOME; echo `id`"

    def test_it_reads_no_input(self) -> None:
        with pytest.raises(SecretUnavailable, match="cat gave an empty secret"):
            SecretCommand(command=("cat",)).resolve()

    def test_it_runs_in_the_given_environment(self) -> None:
        command = SecretCommand(command=("/bin/sh", "-c", 'echo "$A"'))
        assert command.resolve({"A": VALUE}).reveal() == VALUE

    def test_it_does_not_get_the_owners_passphrase(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PENSTOCK_PASSPHRASE", VALUE)
        monkeypatch.setenv("OTHER", "passed on")
        command = SecretCommand(command=("/bin/sh", "-c", 'echo "${PENSTOCK_PASSPHRASE-unset}, $OTHER"'))
        assert command.resolve().reveal() == "unset, passed on"

    def test_a_failure_is_told_without_what_it_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SecretUnavailable) as caught:
            SecretCommand(command=("sh", "-c", "echo hunter2; echo hunter2 >&2; exit 3")).resolve()
        assert caught.value.message == "the secret command sh exited with 3"
        assert VALUE not in "".join(capfd.readouterr())

    def test_a_missing_program_is_named(self) -> None:
        with pytest.raises(SecretUnavailable, match="cannot run the secret command no-such-pass: No such file"):
            SecretCommand(command=("no-such-pass", "show")).resolve()

    def test_one_that_takes_too_long_is_ended_and_leaves_nothing_to_see(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(secrets_module, "_COMMAND_TIMEOUT_SECONDS", 0.3)
        with pytest.raises(SecretUnavailable, match="took over a minute") as caught:
            SecretCommand(command=("sh", "-c", "echo hunter2; exec sleep 600")).resolve()
        # What has been read until the timeout hangs on the original error.
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


class Settings(PluginSettings):
    password: SecretRef | None = None
    token: SecretRef = SecretEnv(env="TOKEN")


class TestReference:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ({"env": "NAME"}, SecretEnv(env="NAME")),
            ({"file": "/run/secrets/name"}, SecretFile(file=Path("/run/secrets/name"))),
            ({"command": ["pass", "show", "name"]}, SecretCommand(command=("pass", "show", "name"))),
            (SecretEnv(env="NAME"), SecretEnv(env="NAME")),
            (None, None),
        ],
    )
    def test_each_form_is_understood(self, written: object, meant: object) -> None:
        settings = Settings.model_validate({"password": written})
        assert settings.password == meant
        assert Settings.model_validate_json(settings.model_dump_json()) == settings

    @pytest.mark.parametrize(
        "written",
        [
            VALUE,
            [VALUE],
            {"value": VALUE},
            {"password": VALUE},
            {"env": "NAME", "value": VALUE},
            {"env": "NAME", "file": VALUE},
            {1: VALUE},
            {},
            b"hunter2",
        ],
    )
    def test_a_secret_in_its_place_is_refused_in_one_sentence_and_not_shown(self, written: object) -> None:
        with pytest.raises(ValidationError) as caught:
            Settings.model_validate({"password": written})
        (error,) = caught.value.errors()
        assert error["loc"] == ("password",)
        assert error["msg"].startswith("name where the secret is found, not the secret")
        assert VALUE not in str(caught.value) + repr(caught.value.errors()) + caught.value.json(include_input=False)

    @pytest.mark.parametrize("written", [{"env": ""}, {"command": []}, {"file": 5}, {"command": "pass show name"}])
    def test_a_form_that_leads_nowhere_is_refused(self, written: object) -> None:
        with pytest.raises(ValidationError):
            Settings.model_validate({"token": written})

    def test_it_is_frozen_and_can_cross_to_another_process(self) -> None:
        reference = SecretFile(file=Path("/run/secrets/name"))
        with pytest.raises(ValidationError):
            reference.file = Path("/other")
        assert pickle.loads(pickle.dumps(reference)) == reference

    def test_its_schema_shows_the_three_forms(self) -> None:
        schema = TypeAdapter(SecretRef, config=ConfigDict()).json_schema()
        assert len(schema["oneOf"]) == 3


@pytest.mark.parametrize("kept", ["env", "file", "command"])
def test_a_byte_order_mark_is_named_and_the_secret_is_not(kept: str, tmp_path: Path) -> None:
    place = tmp_path / "password"
    place.write_bytes(b"\xef\xbb\xbfhunter2\n")
    values = {"env": "DB_PASSWORD", "file": str(place), "command": ["cat", str(place)]}
    reference: SecretRef = TypeAdapter[SecretRef](SecretRef).validate_python({kept: values[kept]})
    with pytest.raises(SecretUnavailable, match="begins with a byte order mark") as caught:
        reference.resolve({**os.environ, "DB_PASSWORD": "\ufeffhunter2"})
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert "BOM" in (caught.value.hint or "")
