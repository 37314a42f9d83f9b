"""`keep` and `timezone` in the settings."""

from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from penstock.api import PolicyKeepsNothing, SettingsError
from penstock.settings import load_settings
from penstock.settings.durations import parse_duration

HEAD = '[repositories.main]\nurl = "file:///srv/backups"\n[backups.shop]\nurl = "sqlite:///srv/shop.db"\n'
WHOLE = (
    'keep = { last = 7, within = "48h", hourly = 24, daily = 14, weekly = 8, monthly = 12, yearly = 3, '
    'tags = ["release"], at_least = 3 }\ntimezone = "Europe/Berlin"\n'
)


def written(folder: Path, text: str) -> Path:
    path = folder / "penstock.toml"
    path.write_text(HEAD + text)
    return path


def test_all_rules(tmp_path: Path) -> None:
    shop = load_settings(written(tmp_path, WHOLE)).backups["shop"]
    assert shop.timezone == ZoneInfo("Europe/Berlin")
    assert shop.keep is not None
    assert dict(shop.keep) == {
        "last": 7, "within": timedelta(days=2), "hourly": 24, "daily": 14, "weekly": 8, "monthly": 12, "yearly": 3,
        "tags": ("release",), "at_least": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("keep = {}", "keeps nothing but what at_least says"),
        ("keep = { at_least = 5 }", "keeps nothing but what at_least says"),
        ("keep = { tags = [] }", "keeps nothing but what at_least says"),
        ("keep = { last = 0, daily = 0 }", "keeps nothing but what at_least says"),
        ("keep = { daily = -1 }", "keep.daily"),
        ("keep = { daily = true }", "keep.daily"),
        ('keep = { daily = "7" }', "keep.daily"),
        ("keep = { dayly = 7 }", "keep.dayly: unknown key; did you mean daily? (allowed: last, within, hourly, daily,"),
        ("keep = { at_least = 0, daily = 1 }", "keep.at_least"),
        ("keep = { within = 48 }", "keep.within"),
        ('keep = { within = "48" }', "keep.within"),
        ('keep = { within = "0h" }', "keep.within"),
        ('keep = { within = "a while" }', "keep.within"),
        ('keep = { within = "999999999999w" }', "keep.within"),
        ('keep = { tags = ["a b"] }', "keep.tags"),
        ('timezone = "Europe/Atlantis"', "timezone"),
        ('timezone = "../../etc/passwd"', "timezone"),
        ('timezone = ""', "timezone"),
        ("timezone = 1", "timezone"),
        ("renew_every = 90", "renew_every"),
        ('renew_every = "23h"', "renew_every"),
        ('renew_every = "90"', "renew_every"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(written(tmp_path, wrong))
    message = "\n".join((raised.value.message, *raised.value.details))
    assert "backups.shop" in message
    assert said in message


def test_a_rule_of_zero_is_none(tmp_path: Path) -> None:
    shop = load_settings(written(tmp_path, "keep = { hourly = 0, daily = 7 }")).backups["shop"]
    assert shop.keep is not None
    assert (shop.keep.hourly, shop.keep.daily) == (0, 7)


def test_policies_that_keep_nothing_are_an_error_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(PolicyKeepsNothing, match=r"backups\.shop\.keep: keeps nothing but"):
        load_settings(written(tmp_path, "keep = {}"))
    with pytest.raises(PolicyKeepsNothing) as both:
        load_settings(written(tmp_path, "keep = {}\n[defaults]\nkeep = { daily = 0 }"))
    assert [line.partition(":")[0] for line in both.value.details] == ["backups.shop.keep", "defaults.keep"]
    with pytest.raises(SettingsError) as mixed:
        load_settings(written(tmp_path, "keep = {}\n[defaults]\ntimezone = 1"))
    assert type(mixed.value) is SettingsError
    assert len(mixed.value.details) == 2


def test_a_misspelt_rule_of_the_defaults_is_compared_with_rules(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"defaults\.keep\.weakly: unknown key; did you mean weekly\?"):
        load_settings(written(tmp_path, "[defaults]\nkeep = { weakly = 7 }"))


@pytest.mark.parametrize(
    ("text", "hours"), [("48h", 48), ("2w", 336), ("1d12h", 36), ("1d 12h", 36), ("90m", 1.5), ("1D", 24)]
)
def test_lengths_of_time(text: str, hours: float) -> None:
    assert parse_duration(text) == timedelta(hours=hours)
