import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.api import UsageError
from penstock_mysql.settings import MySQLSettings, settings_from_url
from penstock_mysql.source import MySQLSource


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("mysql://", {}),
        ("mysql://h", {"host": "h"}),
        ("MariaDB://u@h:3307/shop", {"user": "u", "host": "h", "port": "3307", "database": "shop"}),
        (
            "mysql://u%40x@[::1]/a%2Fb?tls=require",
            {"user": "u@x", "host": "::1", "database": "a/b", "tls": "require"},
        ),
        ("mysql:///?socket=/run/x.sock&databases=a,b", {"socket": "/run/x.sock", "databases": ["a", "b"]}),
        (
            "mysql://h/?exclude_databases=x&consistency=server",
            {"host": "h", "exclude_databases": ["x"], "consistency": "server"},
        ),
    ],
)
def test_a_url_stands_for_settings(url: str, settings: dict[str, Any]) -> None:
    assert settings_from_url(url) == settings
    MySQLSettings.model_validate(settings)


@pytest.mark.parametrize(
    "url",
    ["mysql://u:s3cret@h/db", "mysql://u:s3cret@x@h/db", "mysql://h/db?password=s3cret", "mariadb://h/?pwd=s3cret"],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="holds a password") as caught:
        settings_from_url(url)
    assert "s3cret" not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    "url", ["postgres://h", "mysql://@h", "mysql://h:x/", "mysql://h/db?nonsense=1", "mysql://h/d?host=x"]
)
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        settings_from_url(url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"databases": ["mysql"]}, {"database": "a", "databases": "b"},
        {"database": "sys"}, {"databases": [""]}, {"exclude_tables": ["t"]},
        {"password": "s3cret"}, {"unknown": 1}, {"tls": "yes"}, {"stall_timeout": 0},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        MySQLSettings.model_validate(wrong)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u@h:3307/shop",
        "mysql://[::1]/",
        "mysql:///?socket=/run/x.sock",
        "mysql://h/?databases=a,b*",
        "mysql://h/?databases=all",
    ],
)
def test_the_location_is_the_url_again(url: str) -> None:
    source = MySQLSource(MySQLSettings.model_validate(MySQLSource.settings_from_url(url)))
    assert source.location == url
    assert url in repr(source)


def test_a_host_is_never_taken_for_a_socket(tmp_path: Path) -> None:
    assert MySQLSettings.model_validate({"host": "localhost"}).unix_socket is None
    assert MySQLSettings.model_validate({"port": 3306}).unix_socket is None
    assert MySQLSettings.model_validate({"socket": tmp_path / "s"}).unix_socket == tmp_path / "s"


@pytest.mark.slow
def test_the_plugin_is_found_without_loading_the_driver() -> None:
    code = "import sys, penstock_mysql.plugin as p; p.penstock_register_source(); print('pymysql' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
