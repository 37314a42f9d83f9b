"""What all sources of database servers share: settings, URLs, choices of databases, client programs and advice."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.api import (
    ClientMissing,
    DumpFailed,
    LeftOut,
    RestoreFailed,
    RestoreTarget,
    SourceDenied,
    SourceError,
    StreamSpec,
    UsageError,
    WarningSettings,
)
from penstock.api.servers import (
    Advice,
    Names,
    Program,
    ServerRestoreOptions,
    ServerSettings,
    ServerUrls,
    TextStream,
    Wish,
    check_destinations,
    choose_databases,
    find_programs,
    last_held_back,
    leave_out,
    listed,
    path_like,
    piped,
    server_location,
    settle,
    undone_unless_finished,
    whole_text,
)
from penstock.testing.hearing import Heard

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


class Settings(ServerSettings):
    """Those of a made-up server."""

    host: str | None = None
    port: int | None = None
    tables: Names = ()
    accounts: Wish = "auto"
    warnings: WarningSettings = WarningSettings()

    @property
    def location(self) -> str:
        """Its URL."""
        return server_location(
            "ledger", self.user, self.host or "", self.database, {"databases": self.databases, "tables": self.tables}
        )


class Options(ServerRestoreOptions):
    """Those of a restore into it."""

    engine = "Ledger"


URLS = ServerUrls(
    Settings,
    "a Ledger server",
    ("ledger", "ledgers"),
    "ledger://user@host/database",
    words={"dbname": "database"},
    ignored=frozenset({"pool"}),
    secret=frozenset({"password", "pin"}),
)


def settings(**words: Any) -> Settings:
    return Settings.model_validate(words)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ledger://", {}),
        ("LEDGERS://h", {"host": "h"}),
        ("ledger://a%40b@[::1]:5/n%C3%A4s%20%2F%3F", {"user": "a@b", "host": "::1", "port": "5", "database": "näs /?"}),
        ("ledger://%2Frun/x", {"host": "/run", "database": "x"}),
        ("ledger://h/?databases=all", {"host": "h", "databases": "all"}),
        ("ledger://h/?databases=%61ll", {"host": "h", "databases": ["all"]}),
        ("ledger://h/?databases=a*,b%2Cc&tables=x+y", {"host": "h", "databases": ["a*", "b,c"], "tables": ["x+y"]}),
        ("ledger://h/?DBName=x&pool=5&accounts=no", {"host": "h", "database": "x", "accounts": "no"}),
    ],
)
def test_a_url_stands_for_settings(url: str, said: dict[str, Any]) -> None:
    assert URLS.parse(url) == said
    settings(**said)


@pytest.mark.parametrize("url", ["ledger://u:s3cret@h", "ledger://u:s3cret@x@h/d", "ledger://h/?PIN=s3cret"])
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="holds a password") as caught:
        URLS.parse(url)
    assert "s3cret" not in f"{caught.value!r} {caught.value.hint} {caught.value.details}"


@pytest.mark.parametrize(
    "url",
    [
        "ledger:h", "other://h", "ledger://h#x", "ledger://@h", "ledger://h:x", "ledger://a:1,b:2", "ledger://h/d?no=1",
        "ledger://h/d?database=e", "ledger://h/?tables=a&tables=b",
        "ledger://h/?warnings=small",
    ],
)  # fmt: skip
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        URLS.parse(url)
    assert (caught.value.hint or "U")[0].isupper()
    assert not {"password", "warnings"} & set(re.findall(r"\w+", caught.value.hint or ""))


@pytest.mark.slow
@given(st.lists(NAMES, min_size=1), st.lists(NAMES), st.none() | NAMES)
def test_a_location_is_the_url_of_the_same_settings(databases: list[str], tables: list[str], user: str | None) -> None:
    chosen = settings(databases=databases, tables=tables, user=user)
    assert settings(**URLS.parse(chosen.location)) == chosen


def test_one_text_is_a_list_of_one_and_all_is_a_word_of_its_own() -> None:
    assert settings(databases="all", tables="a,b").databases == ("*",)
    assert settings(databases="shop").databases == ("shop",)
    assert settings(databases=["all"]).databases == ("all",)
    assert settings(tables="a,b").tables == ("a,b",)


@pytest.mark.parametrize(("value", "wish"), [(True, "yes"), (False, "no"), ("auto", "auto")])
def test_a_boolean_is_a_wish(value: object, wish: str) -> None:
    assert settings(accounts=value).accounts == wish


@pytest.mark.parametrize(
    "wrong",
    [{"accounts": "maybe"}, {"databases": [""]}, {"stall_timeout": 0}, {"database": "a", "databases": "b"}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ({}, ("a1", "a2", "b")),
        ({"database": "b"}, ("b",)),
        ({"databases": "all"}, ("a1", "a2", "b")),
        ({"databases": ["a*", "own"]}, ("a1", "a2", "own")),
        ({"exclude_databases": "a*"}, ("b",)),
        ({"databases": "a*", "exclude_databases": "a2"}, ("a1",)),
    ],
)
def test_names_and_globs_choose_databases(said: dict[str, Any], chosen: tuple[str, ...]) -> None:
    assert choose_databases(["b", "own", "a2", "a1"], settings(**said), special=["own"]) == chosen


def test_a_database_is_known_by_its_name_whatever_is_in_it() -> None:
    assert choose_databases(["a*", "ab"], settings(database="a*")) == ("a*",)
    assert choose_databases(["[x]"], settings(databases="[x]")) == ("[x]",)
    assert choose_databases(["[x]", "y"], settings(exclude_databases="[x]")) == ("y",)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"database": "c"}, "no database c on ledger://"),
        ({"databases": ["a", "c*"]}, r"databases = c\* matches no database on ledger://"),
        ({"exclude_databases": "*"}, "nothing to dump"),
    ],
)
def test_a_choice_of_nothing_is_refused(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        choose_databases(["a"], settings(**said))


@given(NAMES)
def test_the_name_of_a_stream_has_nothing_that_a_path_could_misread(name: str) -> None:
    assert not set(path_like(name)) & set("/\\ \n\0:*?\"'<>|")


def test_names_that_differ_stay_different() -> None:
    assert path_like("größe.x-1_") == "größe.x-1_"
    assert path_like("a/b %2F") == "a%2Fb%20%252F"


@pytest.mark.parametrize(
    ("text", "renames"),
    [("a=b", {"a": "b"}), ("a=b, c=d", {"a": "b", "c": "d"}), ("a%2Cb=c%3Dd", {"a,b": "c=d"})],
)
def test_renames_are_pairs_with_commas_between_them(text: str, renames: dict[str, str]) -> None:
    assert Options.of(RestoreTarget(options={"rename": text})).rename == renames


@pytest.mark.parametrize("text", ["", "a", "a=", "=b", "a=b,", "a=b,a=c", "a=b=c"])
def test_renames_that_cannot_be_understood_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options.of(RestoreTarget(options={"rename": text}))
    assert "old=new,old=new" in (caught.value.hint or "")


def test_two_databases_do_not_go_into_one() -> None:
    check_destinations({"a": "b", "b": "a"}, {"a": "b", "b": "a"})
    check_destinations({"a": None}, {})
    for destinations in ({"a": "b", "b": "b"}, {"a": None, "b": None}):
        with pytest.raises(UsageError, match="2 databases cannot be restored into one: a, b"):
            check_destinations(destinations, {})
    with pytest.raises(UsageError, match="rename names c, which the restore does not have"):
        check_destinations({"a": "b"}, {"c": "d"})


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def number(answer: str) -> int | None:
    return int(answer) if answer.strip().isdecimal() else None


def test_programs_on_path_come_before_those_in_the_usual_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = program(tmp_path / "b" / "dump", "echo 1"), program(tmp_path / "v2" / "dump", "echo 2")
    (tmp_path / "v3").symlink_to(tmp_path / "v2")
    program(tmp_path / "v4" / "dump", "echo another program")
    program(tmp_path / "v5" / "dump", "exit 3")
    monkeypatch.setenv("PATH", str(tmp_path / "b"))
    found = list(find_programs(["dump"], number, folders=[f"{tmp_path}/v*"], client_path=None, install=""))
    assert [(one.path.resolve(), one.version) for one in found] == [(first, 1), (second, 2)]


def test_no_other_folder_than_client_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "path" / "dump", "echo 1")
    program(tmp_path / "chosen" / "dump", "exit 3")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(ClientMissing, match=r"no dump or dmp was found in .*chosen, which client_path names") as caught:
        list(
            find_programs(
                ["dump", "dmp"], number, folders=[], client_path=tmp_path / "chosen", install="Install Ledger."
            )
        )
    assert caught.value.hint == "Install Ledger."
    assert "exited with 3" in caught.value.details[0]


def test_a_folder_or_a_file_that_cannot_run_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "dump").mkdir()
    program(tmp_path / "dmp", "echo 1").chmod(stat.S_IRUSR)
    with pytest.raises(ClientMissing):
        list(find_programs(["dump", "dmp"], number, folders=[], client_path=tmp_path, install=""))


def test_a_child_reads_a_piped_text_from_the_descriptor_that_it_inherits() -> None:
    with piped("user = ä\n") as descriptor:
        copy = os.dup(descriptor)
        os.set_inheritable(copy, True)
        with os.fdopen(copy, "rb") as file:
            assert file.read() == "user = ä\n".encode()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_child_of_a_process_without_standard_streams_reads_a_piped_text() -> None:
    script = """
import os
for number in range(3):
    os.close(number)
from penstock.api import ChildOutput
from penstock.api.servers import piped
with piped("user = me") as descriptor:
    stream = ChildOutput(["sh", "-c", f"cat <&{descriptor}"], name="cat", pass_fds=[descriptor])
buffer, found = bytearray(100), b""
while count := stream.readinto(memoryview(buffer)):
    found += buffer[:count]
stream.close()
os._exit(0 if found == b"user = me" else 1)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_a_text_that_no_pipe_holds_is_refused_instead_of_waiting() -> None:
    with pytest.raises(SourceError, match="too long"), piped("x" * (1 << 22)):
        pass


def test_the_first_pattern_that_is_found_gives_the_hint() -> None:
    advice = Advice({r"disk\b": "Make room.", "d": "Look again."})
    assert [advice.find(text) for text in ("full disk", "dusk", "full")] == ["Make room.", "Look again.", None]
    failed = DumpFailed("it failed", details=("line", "full disk"))
    advice.give(failed)
    assert failed.hint == "Make room."
    advice.give(told := DumpFailed("it failed", hint="Own.", details=("full disk",)))
    assert told.hint == "Own."


@pytest.mark.parametrize(
    ("wish", "possible", "done", "warned"),
    [("auto", True, True, 0), ("auto", False, False, 1), ("yes", True, True, 0), ("no", True, False, 0),
     ("no", False, False, 0)],
)  # fmt: skip
def test_a_wish_is_met_where_it_can_be(wish: Wish, possible: bool, done: bool, warned: int) -> None:
    warnings: list[str] = []
    refusal = SourceDenied("the user may not")
    assert settle(wish, possible=possible, refusal=refusal, warning="left out", warnings=warnings) is done
    assert warnings == ["left out"] * warned


def test_a_wish_that_is_insisted_on_is_refused_where_it_cannot_be_met() -> None:
    with pytest.raises(SourceDenied):
        settle("yes", possible=False, refusal=SourceDenied("the user may not"), warning="", warnings=[])


def test_many_names_are_counted_and_not_all_shown() -> None:
    assert listed(["a"], "table", "tables") == "the table a"
    assert listed(["a", "b"], "table", "tables") == "2 tables: a, b"
    assert listed(list("abcdefghijkl"), "table", "tables").endswith("i, j and 2 more")


def test_the_last_block_comes_only_after_the_end() -> None:
    taken: list[bytes] = []
    with pytest.raises(RestoreFailed):
        taken.extend(last_held_back(failing(b"a", b"b", b"")))
    assert taken == [b"a"]
    assert list(last_held_back(iter([memoryview(b"a"), memoryview(b"b")]))) == [b"a", b"b"]


def failing(*blocks: bytes) -> Any:
    yield from (memoryview(block) for block in blocks)
    raise RestoreFailed("damaged")


def test_a_text_that_is_too_long_is_not_kept() -> None:
    assert whole_text(iter([memoryview(b"ab"), memoryview(b"c")]), "the accounts", max_bytes=3) == b"abc"
    with pytest.raises(RestoreFailed, match="the accounts exceed 2 bytes"):
        whole_text(iter([memoryview(b"ab"), memoryview(b"c")]), "the accounts", max_bytes=2)


class HalfDone:
    """A restore that was begun: it says what it leaves."""

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def undo(self) -> tuple[str, ...]:
        """One thing is left."""
        return ("the database shop still exists",)


def test_what_a_restore_leaves_is_said_however_it_ends() -> None:
    with pytest.raises(RestoreFailed) as failed, undone_unless_finished(HalfDone()):
        raise RestoreFailed("it broke off", details=("line 7",))
    assert failed.value.details == ("line 7", "the database shop still exists")
    with pytest.raises(KeyboardInterrupt) as interrupted, undone_unless_finished(HalfDone()):
        raise KeyboardInterrupt
    assert interrupted.value.__notes__ == ["the database shop still exists"]


def test_a_text_is_a_stream_like_any_other() -> None:
    stream = TextStream("accounts.sql", b"abc")
    buffer = bytearray(2)
    assert (stream.readinto(memoryview(buffer)), bytes(buffer)) == (2, b"ab")
    with pytest.raises(DumpFailed, match=r"accounts\.sql was closed before its end"):
        stream.close()
    stream.close()
    stream = TextStream("accounts.sql", b"abc")
    stream.abort()
    with pytest.raises(DumpFailed, match=r"accounts\.sql was aborted"):
        stream.readinto(memoryview(buffer))
    with pytest.raises(DumpFailed, match=r"accounts\.sql was aborted"):
        stream.close()
    stream.close()
    stream = TextStream("accounts.sql", b"")
    assert stream.readinto(memoryview(buffer)) == 0
    stream.close()
    stream.close()


def test_the_version_of_a_program_may_need_other_arguments(tmp_path: Path) -> None:
    path = program(tmp_path / "dump", 'test "$1" = --bare && echo 7')
    (found,) = find_programs(
        ["dump"], number, folders=[], client_path=tmp_path, install="", arguments=["--bare", "--version"]
    )
    assert (found.path, found.version) == (path, 7)


def test_what_a_server_does_not_take_is_reported_or_fails_a_strict_restore() -> None:
    view, needless = LeftOut("view", "v", "no table t"), LeftOut("comment", "c", "it is there", lost=False)
    said = Heard()
    leave_out([needless, view], said, strict=False)
    assert said.lost == [view]
    asked = iter([needless, view, needless])
    with pytest.raises(RestoreFailed, match="the server does not take everything: view v: no table t") as caught:
        leave_out(asked, said, strict=True)
    assert "--strict" in (caught.value.hint or "")
    assert list(asked) == [needless]
    with pytest.raises(RestoreFailed) as caught:
        leave_out([view], said, strict=True, advice=Advice({"no table": "Make the table."}))
    assert caught.value.hint == "Make the table."


def test_generic_types_can_be_made_by_name() -> None:
    program = Program[int](Path("tool"), 7)
    assert program == Program(Path("tool"), 7)
