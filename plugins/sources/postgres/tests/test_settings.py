import re

import pytest
from pydantic import ValidationError

from penstock.api import UsageError
from penstock_postgres.settings import PostgresSettings
from penstock_postgres.source import PostgresSource


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("postgres://", {}),
        ("postgresql://db/shop", {"host": "db", "database": "shop"}),
        ("POSTGRES://me@db:6432/shop", {"user": "me", "host": "db", "port": "6432", "database": "shop"}),
        (
            "postgres://a%40b@[::1]:5433/n%C3%A4s%20%2F%3F",
            {"user": "a@b", "host": "::1", "port": "5433", "database": "näs /?"},
        ),
        ("postgres:///shop?host=/run/postgresql", {"database": "shop", "host": "/run/postgresql"}),
        ("postgres://%2Frun%2FPG/shop", {"database": "shop", "host": "/run/PG"}),
        ("postgres://db?dbname=x&accounts=no", {"host": "db", "database": "x", "accounts": "no"}),
        ("postgres://db?tls=verify-full", {"host": "db", "tls": "verify-full"}),
        ("postgres://db?sslmode=require&sslrootcert=/ca", {"host": "db", "tls": "require", "tls_ca": "/ca"}),
        ("postgres://db?databases=all", {"host": "db", "databases": "all"}),
        ("postgres://db?databases=a*,b", {"host": "db", "databases": ["a*", "b"]}),
        ("postgres://db/x?tables=a.*,b%2Cc", {"host": "db", "database": "x", "tables": ["a.*", "b,c"]}),
        ("postgres://db/x?stall_timeout=5", {"host": "db", "database": "x", "stall_timeout": "5"}),
    ],
)
def test_a_url_stands_for_settings(url: str, settings: dict[str, object]) -> None:
    assert PostgresSource.settings_from_url(url) == settings
    PostgresSettings.model_validate(settings)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://me:hunter2@db/shop",
        "postgres://me:hunter2@x@db/shop",
        "postgres://:hunter2@db",
        "postgres://db/shop?password=hunter2",
        "postgres://db/shop?sslpassword=hunter2",
    ],
)
def test_a_url_with_a_password_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        PostgresSource.settings_from_url(url)
    assert "password" in caught.value.message
    assert "PGPASSWORD" in (caught.value.hint or "")
    assert "hunter2" not in f"{caught.value!r} {caught.value.message} {caught.value.hint} {caught.value.details}"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://db", "postgres:db", "postgres://db:port/x", "postgres://a:1,b:2/x", "postgres://@db",
        "postgres://db/x?nonsense=1", "postgres://db/x?host=a", "postgres://db/x#fragment",
    ],
)  # fmt: skip
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        PostgresSource.settings_from_url(url)


def test_a_location_is_a_url_without_a_password() -> None:
    settings = PostgresSettings.model_validate(
        {"host": "::1", "port": 5433, "user": "a@b", "database": "x/y", "password": {"env": "SECRET"}}
    )
    assert settings.location == "postgres://a%40b@[::1]:5433/x%2Fy"
    assert PostgresSource.settings_from_url(settings.location)["database"] == "x/y"
    assert "SECRET" not in repr(PostgresSource(settings))


@pytest.mark.parametrize(
    "wrong",
    [{"hots": "x"}, {"port": 0}, {"password": "hunter2"}, {"tls": "x"}, {"accounts": "maybe"}, {"stall_timeout": 0}],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=re.escape(next(iter(wrong)))):
        PostgresSettings.model_validate(wrong)


def test_accountsmay_be_a_boolean() -> None:
    assert PostgresSettings.model_validate({"accounts": False}).accounts == "no"
    assert PostgresSettings.model_validate({"accounts": True}).accounts == "yes"


def test_databases_may_be_one_word_or_a_list() -> None:
    def chosen(value: object) -> tuple[str, ...]:
        return PostgresSettings.model_validate({"databases": value}).databases

    assert (chosen("all"), chosen("shop"), chosen(["all"]), chosen([])) == (("*",), ("shop",), ("all",), ())
    for url in ("postgres://h/?databases=all", "postgres://h/?databases=a%2F*,b"):
        settings = PostgresSettings.model_validate(PostgresSource.settings_from_url(url))
        assert settings.location == url
        assert settings.location_of("a/x") == "postgres://h/a%2Fx"


@pytest.mark.parametrize(
    "wrong",
    [{"layout": "tables", "databases": "all"}, {"layout": "rows"}, {"split_above": "1kB"}, {"split_above": "x"}],
)
def test_a_layout_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PostgresSettings.model_validate(wrong)


def test_sizes_have_units() -> None:
    assert PostgresSettings.model_validate({"split_above": "2GiB"}).split_above == 2 << 30
