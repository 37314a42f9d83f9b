from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock.api import UsageError
from penstock_sqlite.settings import SqliteSettings
from penstock_sqlite.source import SqliteSource


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///srv/app.db", "/srv/app.db"),
        ("sqlite:/srv/app.db", "/srv/app.db"),
        ("sqlite:////srv/app.db", "/srv/app.db"),
        ("sqlite:app.db", "app.db"),
        ("sqlite:./data/app.db", "./data/app.db"),
        ("sqlite:///srv/my%20app%3F%23%25.db", "/srv/my app?#%.db"),
        ("sqlite:///srv/%C3%A4.db", "/srv/ä.db"),
        ("sqlite:///srv/ä.db", "/srv/ä.db"),
        ("SQLITE:///srv/a:b.db", "/srv/a:b.db"),
        ("sqlite:///srv/%FF.db", "/srv/\udcff.db"),
    ],
)
def test_urls(url: str, path: str) -> None:
    assert SqliteSource.settings_from_url(url) == {"path": path}
    assert SqliteSettings(**SqliteSource.settings_from_url(url)).path == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite:///srv/",
        "sqlite://app.db",
        "sqlite://localhost/srv/app.db",
        "sqlite:///srv/app.db?mode=ro",
        "sqlite:///srv/app.db?",
        "sqlite:///srv/app.db#part",
        "sqlite:///srv/100%.db",
        "sqlite:///srv/%zz.db",
        "sqlite:///srv/%00.db",
        "sqlite::memory:",
        "sqlite",
    ],
)
def test_urls_that_make_no_sense(url: str) -> None:
    with pytest.raises(UsageError):
        SqliteSource.settings_from_url(url)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        SqliteSource.settings_from_url("sqlite://me:hunter2@host/srv/app.db")
    assert "hunter2" not in repr(caught.value)
    assert "hunter2" not in str(caught.value.hint)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_absolute_path_survives_in_a_url(name: str) -> None:
    path = "/srv/" + name.strip("/") + ".db"
    assert SqliteSource.settings_from_url("sqlite://" + quote(path)) == {"path": path}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"path": ""},
        {"path": ":memory:"},
        {"path": "a\0b"},
        {"path": "a.db", "busy_timeout": -1},
        {"path": "a.db", "stall_timeout": 0},
        {"path": "a.db", "row_counts": "yes"},
        {"path": "a.db", "password": "x"},
    ],
)
def test_settings_that_are_not_valid(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SqliteSettings.model_validate(settings)
