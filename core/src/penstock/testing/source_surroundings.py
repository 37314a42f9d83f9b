# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sources that is about settings, URLs and `inspect`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from penstock.api import Inspection, PenstockError, Source, SourceUnreachable, UsageError
from penstock.plugins.contract import violations
from penstock.testing import stand_ins
from penstock.testing.dumping import dump_all, within
from penstock.testing.kit import applicable, essential, must_raise
from penstock.testing.secrecy import everything_said, shown
from penstock.testing.source_lab import SourceLab
from penstock.testing.source_trials import SourceTests, silent_server

__all__ = ["SurroundingsTests"]

_PASSWORD = "pa55-of-the-kit"  # noqa: S105 - refused wherever it is tried
_PARAMETERS = ("password", "passwd", "pwd", "secret", "token")


class SurroundingsTests(SourceTests):
    """Tests that read no dump."""

    def test_the_host_takes_the_class(self, lab: SourceLab) -> None:
        found = list(violations(type(lab.source), Source))
        assert not found, f"the host refuses the class: {'; '.join(found)}"

    def test_it_says_where_it_is(self, lab: SourceLab) -> None:
        location = lab.source.location
        assert location, "location is empty: it says in logs and errors which database is meant"
        assert location.isprintable(), f"location cannot be printed: {location!a}"

    def test_unknown_settings_are_refused(self, lab: SourceLab) -> None:
        settings = lab.source.settings
        known = {name: getattr(settings, name) for name in settings.model_fields_set}
        model = type(lab.source).Settings
        model.model_validate(known)
        with must_raise(ValidationError, "a setting that does not exist"):
            model.model_validate({**known, "no_such_setting": 1})
        for name in model.model_fields:
            with must_raise(ValidationError, f"a change of the setting {name} after the settings were made"):
                setattr(settings, name, None)

    @essential("a password in a URL can be read by everybody on the host")
    def test_a_password_in_a_url_is_refused(self, lab: SourceLab) -> None:
        plugin = type(lab.source)
        if not plugin.schemes:
            pytest.skip("not applicable: the source answers to no URL")
        for scheme in plugin.schemes:
            for url in (f"{scheme}://user:{_PASSWORD}@host/name", f"{scheme}://host/name?password={_PASSWORD}"):
                shape = url.replace(_PASSWORD, "…")
                with must_raise(UsageError, f"settings_from_url, given a password ({shape}),") as raised:
                    plugin.settings_from_url(url)
                assert _PASSWORD not in everything_said(raised.error), f"the error about {shape} repeats the password"
            for name in _PARAMETERS:
                said = _refusal(plugin, f"{scheme}://host/name?{name}={_PASSWORD}")
                assert said is not None, f"a URL with ?{name}=… is taken: refuse every parameter that is not known"
                assert _PASSWORD not in said, f"the error about ?{name}=… repeats the password"

    def test_inspect_names_engine_and_versions(self, lab: SourceLab) -> None:
        found = lab.source.inspect()
        assert type(found) is Inspection, f"inspect() gives an Inspection, not {type(found).__name__}"
        for name in ("engine", "server_version", "client_version"):
            text = getattr(found, name)
            named = isinstance(text, str) and text.strip()
            assert named, f"inspect() does not tell the {name}: {text!r}"
        for warning in found.warnings:
            assert warning.strip(), "inspect() gives an empty warning"
        estimate = found.size_estimate
        assert estimate is None or estimate > 0, f"inspect() estimates {estimate} bytes: None where nothing is known"
        for name in ("inventory", "warnings", "streams"):
            assert isinstance(getattr(found, name), tuple), f"the {name} of an Inspection are a tuple"

    def test_inspect_says_what_a_dump_would_hold(self, lab: SourceLab) -> None:
        found = lab.source.inspect()
        if not (found.streams or found.consistency):
            pytest.skip("not applicable: inspect() does not say which streams a dump would have")
        with lab.source.dump() as held:
            plan = held.plan
        promised, kept = ([(spec.name, spec.format, spec.phase) for spec in one.streams] for one in (found, plan))
        assert promised == kept, f"inspect() promises the streams {promised}, and a dump has {kept}"
        assert found.consistency == plan.consistency, (
            f"inspect() promises the consistency {found.consistency!r}, and a dump has {plan.consistency!r}"
        )

    def test_inspect_starts_no_dump(self, lab: SourceLab, tmp_path: Path) -> None:
        program = applicable(lab.program)
        notes = tmp_path / "notes"
        source = lab.variant(program=stand_ins.notes_its_calls(tmp_path / "noting", program, notes))
        source.inspect()
        assert not notes.exists(), "inspect() let the dump program dump"
        dump_all(source)
        assert notes.exists(), "the lab's variant does not use the program that it is given"

    def test_an_unreachable_server_is_said_so(self, lab: SourceLab) -> None:
        self._must_not_reach(lab, lab.unreachable(), "of a server that is not there")

    def test_a_server_that_never_answers_is_given_up(self, lab: SourceLab) -> None:
        with silent_server() as (host, port):
            self._must_not_reach(lab, applicable(lab.silent(host, port)), "of a server that never answers")

    def _must_not_reach(self, lab: SourceLab, source: Source, which: str) -> None:
        def dump() -> None:
            with source.dump():
                pytest.fail(f"dump() {which} began")

        calls: dict[str, Callable[[], object]] = {f"inspect() {which}": source.inspect, f"dump() {which}": dump}
        for doing, call in calls.items():
            with must_raise(SourceUnreachable, doing) as raised:
                within(self.patience, doing, call)
            found = shown(lab, everything_said(raised.error))
            assert not found, f"the error of {doing} shows {found[0]}"


def _refusal(plugin: type[Source], url: str) -> str | None:
    """What the error about a URL says, or about the settings that come of it; None where they are taken."""
    try:
        plugin.Settings.model_validate(plugin.settings_from_url(url))
    except ValidationError:
        return ""  # the host tells it, and quotes no values
    except PenstockError as error:
        return everything_said(error)
    return None
