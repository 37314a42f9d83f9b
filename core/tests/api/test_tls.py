"""What the setting `tls` means, by where the server is: the same for all engines."""

import pytest

from penstock.api import Check, WarningSettings, found_by
from penstock.api.servers import Tls, about_unverified, effective_tls, leaves_machine, unverified_server

HERE = ["", "/run/postgresql", "@abstract", "localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "::1", "[::1]",
        "::ffff:127.0.0.1"]  # fmt: skip
FAR = ["db", "db.example.org", "10.1.2.3", "192.0.2.2", "0.0.0.0", "fe80::1", "[2001:db8::1]", "::ffff:10.1.2.3",
       "localhost.example.org", "127.0.0.1.example.org", "127.0.0.1x", "localhost."]  # fmt: skip


@pytest.mark.parametrize("host", HERE)
def test_a_connection_that_stays_here_has_no_requirement(host: str) -> None:
    assert not leaves_machine([host])
    assert effective_tls("auto", [host], here=None) is None
    assert effective_tls("auto", [host], here="prefer") == "prefer"
    assert about_unverified("disable", [host]) == ()


@pytest.mark.parametrize("host", FAR)
def test_over_a_network_the_server_is_verified(host: str) -> None:
    assert leaves_machine(["127.0.0.1", host])
    assert effective_tls("auto", ["127.0.0.1", host], here=None) == "verify-full"


@pytest.mark.parametrize("word", ["disable", "prefer", "require", "verify-ca", "verify-full"])
def test_another_word_is_taken_as_it_is_and_warned_about_where_nobody_is_verified(word: Tls) -> None:
    assert effective_tls(word, ["db"], here=None) == effective_tls(word, ["::1"], here=None) == word
    warned = about_unverified(word, ["127.0.0.1", "db", "10.0.0.1"])
    assert warned == ((f"the connection to db, 10.0.0.1 is not verified: tls = {word}",) if "v" not in word else ())


def test_nothing_is_warned_about_where_nothing_was_said() -> None:
    assert about_unverified("auto", ["db"]) == ()


def test_an_unverified_server_is_a_check_that_can_be_switched_off() -> None:
    checks: tuple[Check[list[str]], ...] = (unverified_server(lambda hosts: about_unverified("require", hosts)),)
    warning = "the connection to db is not verified: tls = require [unverified-server]"
    assert [*found_by(checks, ["db"], WarningSettings())] == [warning]
    assert [*found_by(checks, ["::1"], WarningSettings())] == []
    assert [*found_by(checks, ["db"], WarningSettings(ignore=("unverified-server",)))] == []
