# ruff: noqa: D102 - the names of the tests are what they promise
"""The part of the kit for sources that is about secrets."""

from pathlib import Path

from penstock.api import SourceError
from penstock.testing import stand_ins
from penstock.testing.dumping import dump_all, read_all, restore_all
from penstock.testing.hearing import Heard
from penstock.testing.kit import applicable, essential, must_raise
from penstock.testing.secrecy import everything_said, kept_as_text, masked, settings_that_are_secrets, shown
from penstock.testing.source_lab import ChildProgram, SourceLab
from penstock.testing.source_trials import SourceTests, main_stream
from penstock.testing.traces import command_lines, programs_started

__all__ = ["SecrecyTests"]

_NEVER = "a secret shows nowhere"


class SecrecyTests(SourceTests):
    """Tests of everything that a source shows, keeps and starts."""

    @essential(_NEVER)
    def test_settings_refer_to_secrets(self, lab: SourceLab) -> None:
        found = settings_that_are_secrets(type(lab.source).Settings)
        assert not found, f"settings that are secrets are of the type SecretRef, and these are not: {', '.join(found)}"

    @essential(_NEVER)
    def test_secrets_show_nowhere(self, lab: SourceLab) -> None:
        applicable(lab.secrets)
        source = lab.source
        with source.dump() as held:
            said = {
                "the repr of the source": repr(source),
                "the text of the source": str(source),
                "the repr of the settings": repr(source.settings),
                "the JSON of the settings": source.settings.model_dump_json(),
                "the location": source.location,
                "the plan": repr(held.plan),
                "an attribute of a stream": repr([sorted(spec.attributes.items()) for spec in held.plan.streams]),
            }
        for what, text in said.items():
            found = shown(lab, text)
            assert not found, f"{what} shows {found[0]}: {masked(lab, text)}"

    @essential(_NEVER)
    def test_secrets_are_kept_as_secrets(self, lab: SourceLab) -> None:
        applicable(lab.secrets)
        source = lab.source
        dump_all(source)
        found = kept_as_text(lab, source, "source")
        assert not found, f"{found[0]} keeps a secret as text: keep the SecretRef, and resolve it when it is needed"

    @essential(_NEVER)
    def test_secrets_are_in_no_command_line(self, lab: SourceLab, tmp_path: Path) -> None:
        applicable(lab.secrets)
        seen: set[str] = set()

        def look() -> None:
            seen.update(command_lines())

        source, program, target = lab.source, lab.program, lab.target().source
        if isinstance(program, ChildProgram):  # one that stays to be looked at
            source = lab.variant(program=stand_ins.stalls(tmp_path / "waiting", program, 1))
        # Those that this process starts, and those that its children start, if they live long enough to be seen.
        with programs_started() as started:
            lab.source.inspect()
            with source.dump() as held:
                look()
                for spec in held.plan.streams:
                    stream = held.open(spec)
                    look()
                    stream.abort()
            restore_all(target, dump_all(lab.source), look=look)
        seen |= started
        found = [masked(lab, line) for line in seen if shown(lab, line)]
        assert not found, f"a secret is in a command line, which everybody on the host can read: {found[0]}"

    @essential(_NEVER)
    def test_what_a_child_says_of_secrets_is_in_no_error(self, lab: SourceLab, tmp_path: Path) -> None:
        applicable(lab.secrets)
        program = applicable(lab.program)
        source = lab.variant(program=stand_ins.tells_all(tmp_path / "telling", program))
        doing = "a dump by a program that tells everything it knows"
        with must_raise(SourceError, doing) as raised, source.dump() as held:
            read_all(held.open(main_stream(held.plan)))
        found = shown(lab, everything_said(raised.error))
        assert not found, f"the error of {doing} shows {found[0]}: give the child's `secrets=` the same secrets"

    @essential(_NEVER)
    def test_what_a_child_says_of_secrets_is_in_no_message(self, lab: SourceLab, tmp_path: Path) -> None:
        applicable(lab.secrets)
        program = applicable(lab.program)
        source = lab.variant(program=stand_ins.tells_and_works(tmp_path / "chatting", program))
        source.report = heard = Heard()
        with source.dump() as held:
            said = {"the plan": repr(held.plan)}
            for spec in held.plan.streams:
                stream = held.open(spec)
                read_all(stream)
                said[f"the outcome of {spec.name}"] = repr(stream.outcome())
        for what, text in (said | heard.messages).items():
            found = shown(lab, text)
            assert not found, f"{what} shows {found[0]}, which the dump program said: {masked(lab, text)}"

    @essential(_NEVER)
    def test_what_a_child_says_of_secrets_is_in_no_error_of_a_restore(self, lab: SourceLab, tmp_path: Path) -> None:
        applicable(lab.secrets)
        program = applicable(lab.restore_program)
        dump = dump_all(lab.source)
        source = lab.restoring_with(stand_ins.tells_all(tmp_path / "telling", program)).source
        source.report = heard = Heard()
        doing = "a restore by a program that tells everything it knows"
        with must_raise(SourceError, doing) as raised:
            restore_all(source, dump)
        for what, text in {f"the error of {doing}": everything_said(raised.error), **heard.messages}.items():
            found = shown(lab, text)
            assert not found, f"{what} shows {found[0]}: give the child's `secrets=` the same secrets"
