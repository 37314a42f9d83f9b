import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.api import UsageError
from penstock_mongodb.settings import MongoSettings, settings_from_url
from penstock_mongodb.source import MongoSource


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("mongodb://db", {"hosts": ["db"]}),
        ("mongodb://db:27018,[::1]:27019/", {"hosts": ["db:27018", "[::1]:27019"]}),
        ("mongodb://m%C3%A4x@db/shop", {"hosts": ["db"], "user": "mäx", "database": "shop", "auth_source": "shop"}),
        ("mongodb://me@db/shop?authSource=admin&w=majority&retryWrites=true",
         {"hosts": ["db"], "user": "me", "database": "shop", "auth_source": "admin"}),
        ("mongodb+srv://cluster.example.org/?tls=true", {"hosts": ["cluster.example.org"], "srv": True, "tls": "true"}),
        ("MONGODB://db/?replicaSet=rs0&readPreference=secondary&tlsCAFile=/ca.pem&oplog=yes",
         {"hosts": ["db"], "replica_set": "rs0", "read_preference": "secondary", "tls_ca": "/ca.pem",
          "oplog": "yes"}),
    ],
)  # fmt: skip
def test_a_url_stands_for_settings(url: str, settings: dict[str, Any]) -> None:
    assert settings_from_url(url) == settings
    MongoSettings.model_validate(settings)


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://me:hunter2@db",
        "mongodb://me:hunter2@x@db/shop",
        "mongodb://me@db/?password=hunter2",
        "mongodb://me@db/?tlsCertificateKeyFilePassword=hunter2",
        "mongodb://me@db/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_from_url(url)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "url", ["mongodb://", "mongodb:///shop", "mongodb://@db", "mongodb://me@", "mongodb://db/?nonsense=1", "http://db",
            "mongodb://db/?tls=true&ssl=true", "mongodb://db/?tlsInsecure=true"]
)  # fmt: skip
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        settings_from_url(url)


@pytest.mark.parametrize(
    "settings",
    [
        {"hosts": "db/?x=y"},
        {"hosts": "me:pw@db"},
        {"hosts": []},
        {"srv": True, "hosts": ["a", "b"]},
        {"database": "a", "exclude_databases": "b"},
        {"tls": "verify-ca"},
        {"oplog": "yes", "databases": "a"},
        {"password": "hunter2"},
        {"nonsense": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        MongoSettings.model_validate(settings)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("said", "meant"), [(True, "verify-full"), ("false", "disable"), ("require", "require")])
def test_tls_may_be_said_as_in_mongodbs_own_connection_strings(said: object, meant: str) -> None:
    assert MongoSettings.model_validate({"tls": said}).tls == meant


def test_the_location_is_a_url_without_a_password() -> None:
    settings = MongoSettings.model_validate({"hosts": ["a:1", "b"], "user": "m@x", "password": {"env": "X"}})
    assert MongoSource(settings).location == "mongodb://m%40x@a:1,b/"
    assert repr(MongoSource(settings)) == "<MongoSource mongodb://m%40x@a:1,b/>"


@pytest.mark.slow
def test_the_plugin_loads_without_the_driver() -> None:
    program = "import sys, penstock_mongodb.plugin as p; p.penstock_register_source(); print('pymongo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
