import logging
import subprocess
import sys
from pathlib import Path

import pytest
from core.tests.plugins.distributions import SINK, SOURCE, Install

from penstock.api import (
    Capability,
    Event,
    EventKind,
    PluginClash,
    PluginNotFound,
    SettingsError,
    Sink,
    Source,
    UsageError,
)
from penstock.plugins import BrokenPlugin, PluginHost


def test_nothing_is_imported_before_it_is_asked_for(install: Install, tmp_path: Path) -> None:
    install("stranger", SINK + "\nimport pathlib\npathlib.Path({path!r}).touch()", path=str(tmp_path / "imported"))
    host = PluginHost()
    assert not (tmp_path / "imported").exists()
    host.sink("made")
    assert (tmp_path / "imported").exists()


def test_a_strangers_plugin_is_found_by_name_and_scheme(install: Install) -> None:
    install("stranger-sink", SINK, name="cellar", schemes='("cellar", "vault+s")')
    install("stranger-source", SOURCE, name="ledger", schemes='("ledger",)')
    host = PluginHost()
    assert host.broken() == ()
    assert host.sink("cellar").name == "cellar"
    assert host.source("ledger").name == "ledger"
    assert host.sink_for_url("vault+s://x/y") is host.sink("cellar")
    assert host.sink_for_url("CELLAR://x") is host.sink("cellar")
    assert host.source_for_url("ledger:x") is host.source("ledger")
    with pytest.raises(PluginNotFound):
        host.source("cellar")


def test_a_listing_tells_everything_about_a_plugin(install: Install) -> None:
    install("stranger-sink", SINK, version="3.1", name="cellar", schemes='("cellar",)')
    install("stranger-source", SOURCE, name="ledger")
    source, sink = PluginHost().plugins()
    assert (sink.name, sink.kind, sink.distribution, sink.version) == ("cellar", "sink", "stranger-sink", "3.1")
    assert (sink.api_version, sink.schemes, sink.summary) == ("2.0", ("cellar",), "A sink of a stranger.")
    assert set(sink.settings_schema["properties"]) == {"path", "region"}
    assert sink.settings_schema["required"] == ["path"]
    assert sink.clashes == ()
    assert (source.kind, source.name) == ("source", "ledger")
    assert source.capabilities == frozenset({Capability.CONSISTENT})


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import penstock_no_such_sdk", "ModuleNotFoundError: No module named 'penstock_no_such_sdk'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first second"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            "from penstock.api import hookimpl\n@hookimpl\ndef penstock_register_sink(): raise OSError('no')",
            "OSError: no",
        ),
        (
            "from penstock.api import hookimpl\n@hookimpl\ndef penstock_register_sink(): yield 1 / 0",
            "ZeroDivisionError: division by zero",
        ),
        ("from penstock.api import hookimpl\n@hookimpl\ndef penstock_register_sinks(): ...", "unknown hook"),
        ("from penstock.api import hookimpl\n@hookimpl\ndef penstock_on_event(evnt): ...", "evnt"),
        ("def penstock_register_sink(): ...", "penstock_register_sink is not marked with @hookimpl"),
        (
            "from penstock.api import hookimpl\n@hookimpl\ndef penstock_register_sink(): return [3]",
            "an object of type int is not a subclass of Sink",
        ),
        (
            "from penstock.api import Source, hookimpl\n@hookimpl\ndef penstock_register_sink(): return [Source]",
            "Source is not a subclass of Sink",
        ),
        (SINK.replace("def get(", "def fetch("), "Made does not implement get"),
        (
            SINK.replace("{body}", "    api_version = '3.0'"),
            "written for version 3.0 of the plugin API, not for 2.0",
        ),
        (SINK.replace("{body}", "    api_version = 1"), "api_version must be a string"),
        (SINK.replace("{body}", "    name = 'Made_Up'"), "its name must consist of lower-case letters"),
        (SINK.replace('name = "{name}"', "# {name}"), "its name must consist of lower-case letters"),
        (SINK.replace("{schemes}", "('S3',)"), "tuple of lower-case URL schemes"),
        (SINK.replace("{schemes}", "'s3'"), "schemes must be a tuple"),
        (SINK.replace("{schemes}", "('made',)").replace("settings_from_url", "from_url"), "no settings_from_url"),
        (SINK.replace("Settings = Settings", "Settings = dict"), "Settings must be a subclass of PluginSettings"),
        (
            SINK.replace("{body}", "    possible_capabilities = frozenset({{'object-lock-x'}})"),
            "frozenset of Capability",
        ),
    ],
)
def test_a_broken_plugin_is_reported_by_name_and_stops_no_other(install: Install, code: str, reason: str) -> None:
    install("healthy", SINK, name="healthy")
    install("bad-one", code, version="0.9", entry="bad")
    host = PluginHost()
    (broken,) = host.broken()
    assert isinstance(broken, BrokenPlugin)
    assert (broken.name, broken.distribution, broken.version) == ("bad", "bad-one", "0.9")
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert "Traceback" not in broken.reason
    assert [found.name for found in host.plugins()] == ["healthy"]


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (SINK.replace("{body}", "    api_version = '1.2'"), "possible_capabilities"),
        (
            SINK.replace("{body}", "    capabilities = frozenset({{Capability.CONDITIONAL_PUT}})"),
            "possible_capabilities",
        ),
        (SOURCE.replace("{body}", "    def restore(self, spec, blocks, target): ..."), "restore() yields a Restore"),
        (
            SOURCE.replace("def dump(self): ...", "def open(self, spec): ...").replace(
                "{body}", "    api_version = '1.0'"
            ),
            "attach",
        ),
    ],
)
def test_a_plugin_of_an_earlier_contract_gets_one_sentence_that_says_what_changed(
    install: Install, code: str, change: str
) -> None:
    install("elderly", code)
    (broken,) = PluginHost().broken()
    assert "Made was written for version 1." in broken.reason
    assert "of the plugin API, not for 2.0: " in broken.reason
    assert change in broken.reason
    assert ";" not in broken.reason, "one sentence"


def test_a_later_minor_version_of_the_api_is_accepted(install: Install) -> None:
    install("stranger", SINK, body='    api_version = "2.7"')
    assert PluginHost().broken() == ()


def test_a_plugin_that_is_wanted_but_broken_is_explained(install: Install) -> None:
    install("penstock-s3", "import penstock_no_such_sdk", entry="s3")
    with pytest.raises(PluginNotFound) as caught:
        PluginHost().sink("s3")
    assert caught.value.hint is not None
    assert "penstock-s3 1.2.3: it is broken: ModuleNotFoundError" in caught.value.hint


def test_a_clash_names_both_distributions_and_fails_only_on_use(install: Install) -> None:
    install("one-cellar", SINK, name="cellar", schemes='("one",)')
    install("two-cellar", SINK, name="cellar", schemes='("two",)')
    install("other", SINK, name="other", schemes='("two",)')
    host = PluginHost()
    with pytest.raises(PluginClash, match=r"one-cellar 1\.2\.3 and Made of two-cellar 1\.2\.3"):
        host.sink("cellar")
    with pytest.raises(PluginClash, match=r"other .*two-cellar"):
        host.sink_for_url("two://x")
    assert host.sink_for_url("one://x").name == "cellar"
    assert host.sink("other").name == "other"
    clashes = {info.distribution: info.clashes for info in host.plugins()}
    assert clashes["one-cellar"] == ("the name cellar (also two-cellar)",)
    assert clashes["two-cellar"] == ("the name cellar (also one-cellar)", "the scheme two: (also other)")


def test_a_source_and_a_sink_may_share_a_name_and_a_scheme(install: Install) -> None:
    install("one", SINK, name="ledger", schemes='("ledger",)')
    install("two", SOURCE, name="ledger", schemes='("ledger",)')
    host = PluginHost()
    assert issubclass(host.sink("ledger"), Sink)
    assert issubclass(host.source_for_url("ledger://x"), Source)


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("source", "postgres", "Run pip install 'penstock[postgres]'."),
        ("source", "mariadb", "Run pip install 'penstock[mysql]'."),
        ("source", "mongodb", "Run pip install 'penstock[mongodb]'."),
        ("source", "sqlite", "Run pip install penstock."),
        ("sink", "s3", "Run pip install 'penstock[s3]'."),
        ("sink", "gcs", "Run pip install 'penstock[gcs]'."),
        ("sink", "azure", "Run pip install 'penstock[azure]'."),
        ("source", "postgers", "Try postgres instead."),
        ("sink", "celar", "Try cellar instead."),
        ("sink", "zzz", "Run penstock plugins to list them; install other plugins as distributions of their own."),
    ],
)
def test_an_unknown_name_lists_what_is_installed_and_what_to_do(
    install: Install, kind: str, name: str, hint: str | None
) -> None:
    install("stranger", SINK, name="cellar")
    host = PluginHost()
    with pytest.raises(PluginNotFound) as caught:
        host.source(name) if kind == "source" else host.sink(name)
    installed = "none" if kind == "source" else "cellar"
    assert caught.value.message == f"no plugin provides the {kind} {name!r}; installed: {installed}"
    assert caught.value.hint == hint


def test_an_unknown_scheme_is_named_without_the_rest_of_the_url(install: Install) -> None:
    with pytest.raises(PluginNotFound, match="a source for mongodb\\+srv: URLs") as caught:
        PluginHost().source_for_url("mongodb+srv://user:hunter2@host/x")
    assert caught.value.hint == "Run pip install 'penstock[mongodb]'."
    assert "hunter2" not in caught.value.message
    with pytest.raises(UsageError) as refused:
        PluginHost().sink_for_url("/srv/hunter2")
    assert "hunter2" not in refused.value.message


_WATCH = """
from penstock.api import hookimpl
seen = []
@hookimpl
def penstock_on_event(event):
    seen.append(event)
    {then}
"""


def test_events_reach_every_listener_and_a_failing_one_is_ignored(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a-good", "b-bad", "c-good"):
        install(name, _WATCH.replace("{then}", "1 / 0" if "bad" in name else ""))
    host = PluginHost()
    event = Event(EventKind.STARTED, "backup", subject="shop")
    with caplog.at_level(logging.DEBUG, logger="penstock.plugins"):
        host.notify(event)
        host.notify(event)
    for module in ("a_good", "b_bad", "c_good"):
        assert sys.modules[module].seen == [event, event]
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]
    assert "the plugin b_bad failed to handle an event" in caplog.text
    assert host.plugins() == ()


def test_a_class_that_is_registered_twice_is_no_clash(install: Install) -> None:
    install("stranger", SINK)
    install("alias", "from stranger import penstock_register_sink")
    host = PluginHost()
    assert host.sink("made").name == "made"
    assert len(host.plugins()) == 1


@pytest.mark.slow
def test_the_host_costs_little_before_it_is_used() -> None:
    program = "import sys, penstock.plugins as p; p.PluginHost(); print('penstock_filesystem' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_bundled_sink_is_found_where_it_is_installed() -> None:
    host = PluginHost()
    sink = host.make_sink_from_url("file:///srv/backups/x%20y")
    assert sink.location == "/srv/backups/x y"
    assert host.sink("filesystem") is type(sink)


def test_a_relative_folder_is_refused_with_the_reason() -> None:
    with pytest.raises(SettingsError, match="path must be absolute"):
        PluginHost().make_sink("filesystem", {"path": "srv/backups"})
