"""Settings run commands: a file that nobody named counts only if nobody else could have put it there, or changed it."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.settings import Settings, find_settings

Harm = Callable[[Path, pytest.MonkeyPatch], None]


def given_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to another user; or this user is another, where only root may give files away."""
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)


def writable(bits: int) -> Harm:
    return lambda path, _: path.chmod(path.stat().st_mode | bits)


HARMS: dict[str, Harm] = {
    "the file is another user's": given_away,
    "a group can write the file": writable(0o020),
    "others can write the file": writable(0o002),
    "the folder is another user's": lambda path, monkeypatch: given_away(path.parent, monkeypatch),
    "a group can write the folder": lambda path, monkeypatch: writable(0o020)(path.parent, monkeypatch),
    "others can write the folder, of which only they can delete": lambda path, monkeypatch: writable(0o1002)(
        path.parent, monkeypatch
    ),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "working directory"
    folder.mkdir(mode=0o755)
    path = folder / "penstock.toml"
    path.touch(0o644)
    table = '[repositories.main]\nurl = "file:///srv/x"\npassphrase = { command = ["touch", "/nowhere"] }\n'
    path.write_text(table, encoding="utf-8")
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The settings of this user, which come next."""
    path = tmp_path / "config" / "penstock.toml"
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    path.write_text("[repositories.main]\nurl = 'file:///srv/own'\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("harm", HARMS)
def test_settings_that_another_could_have_written_are_passed_over_and_said_to_be(
    place: Path, own: Path, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    HARMS[harm](place, monkeypatch)
    found = find_settings(places=[place])
    assert found == replace(Settings(), passed_over=found.passed_over)
    assert len(found.passed_over) == 1
    assert str(place) in found.passed_over[0]
    if "another user's" not in harm:
        assert find_settings(places=[place, own]).path == own
    # Whoever names the file means it.
    assert find_settings(place).path == place


def test_a_link_counts_for_no_more_than_what_it_leads_to(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "penstock.toml"
    link.symlink_to(place)
    assert find_settings(places=[link]).path == link
    for harmed in (place, place.parent):
        mode = harmed.stat().st_mode
        writable(0o002)(harmed, monkeypatch)
        assert find_settings(places=[link]).path is None
        harmed.chmod(mode)
    assert find_settings(places=[link]).path == link


def test_settings_of_this_user_count(place: Path) -> None:
    found = find_settings(places=[place])
    assert (found.path, found.passed_over) == (place, ())
