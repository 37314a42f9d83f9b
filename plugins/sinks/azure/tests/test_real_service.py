"""What only a real service, or Azurite, can prove: credentials, TLS, many keys, locks, and a whole backup."""

import base64
import json
import logging
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from tests.servers.azure import AzureServer
from tests.servers.tampering import Act, TamperingProxy

from penstock.api import RestoreTarget, Secret, Sink, SinkDenied, SinkError, SinkUnreachable
from penstock.api.object_store import clock
from penstock.engine import backup, check, restore
from penstock.repository import Repository
from penstock.repository.snapshots import list_snapshots
from penstock.testing import SyntheticSettings, SyntheticSource
from penstock_azure import AzureSettings, AzureSink

pytestmark = pytest.mark.server


def make(server: AzureServer, container: str, **more: Any) -> AzureSink:
    return AzureSink(AzureSettings.model_validate(server.settings(container, **{"deadline": 30, **more})))


@pytest.fixture
def container(azure: AzureServer) -> str:
    return azure.new_container()


def signature(server: AzureServer, container: str, *, permissions: str = "rcwl", hours: int = 1) -> str:
    allowed = ContainerSasPermissions.from_string(permissions)
    expiry = datetime.now(UTC) + timedelta(hours=hours)
    account, key = server.account, server.key
    return str(generate_container_sas(account, container, account_key=key, permission=allowed, expiry=expiry))


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + str(getattr(error, "hint", ""))


def test_a_wrong_key_is_said_and_not_shown(azure: AzureServer, container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = base64.b64encode(b"hunter2" * 9).decode()
    monkeypatch.setenv("AZURE_TEST_KEY", wrong)
    with closing(make(azure, container, account_key={"env": "AZURE_TEST_KEY"})) as sink:
        calls: list[Callable[[], object]] = [
            lambda: sink.put("a", b"x"), lambda: sink.get("a"), lambda: sink.stat("a"), lambda: list(sink.list()),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(SinkDenied) as caught:
                call()
            assert wrong not in shown(caught.value)
        assert wrong not in repr(sink) + repr(sink.settings) + repr(vars(sink)) + sink.location


def test_a_key_that_is_not_base64_is_reported_and_not_quoted(
    azure: AzureServer, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TEST_KEY", "hunter2!")
    with closing(make(azure, container, account_key={"env": "AZURE_TEST_KEY"})) as sink:
        with pytest.raises(SinkError) as caught:
            sink.put("a", b"x")
        assert "hunter2" not in shown(caught.value)


def test_a_signature_is_enough_and_never_shown(
    azure: AzureServer, container: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = signature(azure, container)
    secret = token.partition("sig=")[2][:20]
    monkeypatch.setenv("AZURE_TEST_SAS", "?" + token)
    with closing(make(azure, container, sas_token={"env": "AZURE_TEST_SAS"})) as sink:
        sink.put("a", b"x", if_absent=True)
        assert sink.get("a") == b"x"
        assert [found.key for found in sink.list()] == ["a"]
        with pytest.raises(SinkDenied, match="denied") as caught:  # d is not among its permissions
            sink.delete("a")
        assert secret not in shown(caught.value)
    values = azure.settings(container, sas_token={"env": "AZURE_TEST_SAS"}, deadline=1)
    broken = AzureSink(AzureSettings.model_validate({**values, "endpoint": "http://127.0.0.1:9/penstocktest"}))
    with closing(broken), pytest.raises(SinkUnreachable) as lost:
        broken.get("a")
    assert secret not in shown(lost.value)
    assert secret not in caplog.text


def test_a_signature_that_has_expired_is_refused(
    azure: AzureServer, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TEST_SAS", signature(azure, container, hours=-1))
    with closing(make(azure, container, sas_token={"env": "AZURE_TEST_SAS"})) as sink, pytest.raises(SinkDenied):
        sink.put("a", b"x")


def test_a_connection_string_is_enough(azure: AzureServer, container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"AccountName={azure.account};AccountKey={azure.key};BlobEndpoint={azure.endpoint};"
    monkeypatch.setenv("AZURE_TEST_STRING", text)
    with closing(make(azure, container, connection_string={"env": "AZURE_TEST_STRING"})) as sink:
        sink.put("a", b"x")
        assert sink.get("a") == b"x"


class TokenService:
    """Stands for azure-identity, whose services only Azure has. The emulator checks tokens, but not their signature."""

    def __init__(self, *, hours: int = 1, error: Exception | None = None) -> None:
        self.lifetime = timedelta(hours=hours)
        self.error = error

    def DefaultAzureCredential(self, **_: Any) -> "TokenService":
        return self

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        if self.error is not None:
            raise self.error
        assert scopes == ("https://storage.azure.com/.default",)
        now = datetime.now(UTC)
        begun, ends = now - timedelta(days=1), now + self.lifetime
        claims = {
            "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/tenant/",
            "iat": int(begun.timestamp()), "nbf": int(begun.timestamp()), "exp": int(ends.timestamp()),
        }  # fmt: skip
        parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
        token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, b"signature"))
        return AccessToken(token, int((now + timedelta(hours=1)).timestamp()))


def by_identity(server: AzureServer, container: str) -> AzureSink:
    return AzureSink(AzureSettings.model_validate(server.settings(container, account_key=None, deadline=20)))


def test_a_token_of_azure_identity_is_enough(azure_tls: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", TokenService())
    with closing(by_identity(azure_tls, azure_tls.new_container())) as sink:
        sink.put("a", b"x", if_absent=True)
        assert sink.get("a") == b"x"
        assert [found.key for found in sink.list()] == ["a"]
        sink.delete("a")


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("service", "kind", "says"),
    [
        (TokenService(hours=-1), SinkDenied, "refused|denied"),
        (TokenService(error=ClientAuthenticationError("hunter2")), SinkDenied, "no credentials that work"),
        (TokenService(error=ServiceRequestError("hunter2")), SinkUnreachable, "token service does not answer"),
    ],
)
def test_a_token_that_is_refused_or_missing_is_reported(
    azure_tls: AzureServer, monkeypatch: pytest.MonkeyPatch, service: TokenService, kind: type[SinkError], says: str
) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", service)
    container = azure_tls.new_container()
    with closing(by_identity(azure_tls, container)) as sink, pytest.raises(kind, match=says) as caught:
        sink.put("a", b"x")
    assert caught.value.key == "a"
    assert "hunter2" not in str(caught.value)


def test_tls_is_verified(azure_tls: AzureServer) -> None:
    container = azure_tls.new_container()
    with closing(make(azure_tls, container)) as sink:
        sink.put("a", bytes(20_000_000))
        assert sink.get("a") == bytes(20_000_000)
    values = azure_tls.settings(container)
    del values["tls_ca"]
    with (
        closing(AzureSink(AzureSettings.model_validate(values))) as sink,
        pytest.raises(SinkError, match="is not trusted") as caught,
    ):
        sink.get("a")
    assert not caught.value.retryable


def test_more_objects_than_fit_a_page_are_listed_lazily(azure: AzureServer, container: str) -> None:
    with TamperingProxy(azure.endpoint) as http, closing(make(azure, container, endpoint=http.endpoint)) as sink:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: sink.put(f"packs/{number:04}", b""), range(1100)))
        pages = sink.list("packs/")
        assert http.asked("GET") == 0
        next(pages)
        assert http.asked("GET") == 1
        assert len(list(pages)) == 1099
        assert http.asked("GET") == 2


def test_folders_of_a_hierarchical_namespace_are_passed_over(azure: AzureServer, container: str) -> None:
    with azure.client() as client, closing(make(azure, container)) as sink:
        client.get_container_client(container).upload_blob("packs", b"", metadata={"hdi_isfolder": "true"})
        sink.put("packs/a", b"x")
        assert [found.key for found in sink.list()] == ["packs/a"]


@pytest.mark.parametrize("mode", ["unlocked", "locked"])
def test_a_lock_is_part_of_the_put_and_lengthened_on_demand(azure: AzureServer, container: str, mode: str) -> None:
    with TamperingProxy(azure.endpoint) as http:
        http.script = [  # Azurite knows no such policies
            Act("PUT", where="comp=immutabilityPolicies", status=200, stay=True),
            Act("PUT", status=201, stay=True),
        ]
        lock = {"object_lock": mode, "object_lock_days": 30, "legal_hold": True, "access_tier": "Cool"}
        with closing(make(azure, container, endpoint=http.endpoint, **lock)) as sink:
            sink.put("a", b"x")
            headers = {name.lower(): value for name, value in http.seen[-1].headers.items()}
            assert headers["x-ms-immutability-policy-mode"].lower() == mode
            until = parsedate_to_datetime(headers["x-ms-immutability-policy-until-date"])
            assert abs(until - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
            assert headers["x-ms-legal-hold"] == "true"
            assert headers["x-ms-access-tier"] == "Cool"
            http.script.append(Act("HEAD", status=200, stay=True, headers={"Content-Length": "1"}))
            sink.retain("a", datetime.now(UTC) + timedelta(days=60))
            assert "immutabilityPolicies" in http.seen[-1].path
            held = (datetime.now(UTC) + timedelta(days=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
            told = {"Content-Length": "1", "x-ms-immutability-policy-until-date": held}
            http.script[-1] = Act("HEAD", status=200, stay=True, headers=told)
            sent = http.asked("PUT")
            sink.retain("a", datetime.now(UTC) + timedelta(days=60))
            assert http.asked("PUT") == sent, "a longer lock is left as it is"


def test_a_lock_goes_by_the_time_of_the_service(
    azure: AzureServer, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "_host_time", lambda: datetime.now(UTC) - timedelta(days=90))
    with TamperingProxy(azure.endpoint) as http:
        lock = {"object_lock": "locked", "object_lock_days": 3}
        with closing(make(azure, container, endpoint=http.endpoint, **lock)) as sink:
            sink.preflight()
            http.script = [Act("PUT", status=201, stay=True)]  # Azurite knows no such policies
            sink.put("a", b"x")
            headers = {name.lower(): value for name, value in http.seen[-1].headers.items()}
            until = parsedate_to_datetime(headers["x-ms-immutability-policy-until-date"])
            assert abs(until - datetime.now(UTC) - timedelta(days=3)) < timedelta(minutes=1)


def test_a_sink_without_locks_retains_nothing(azure: AzureServer, container: str) -> None:
    with closing(make(azure, container)) as sink, pytest.raises(SinkError, match="locks no objects"):
        sink.retain("a", datetime.now(UTC))


def test_nights_are_backed_up_checked_and_restored(azure: AzureServer, container: str, tmp_path: Path) -> None:
    with closing(make(azure, container, prefix="db")) as sink:
        _back_up_and_restore(sink, tmp_path)


def _back_up_and_restore(sink: Sink, tmp_path: Path) -> None:
    passphrase = Secret("correct horse battery staple")
    Repository.create(sink, passphrase=passphrase)
    nights = [
        backup(
            Repository.open(sink, passphrase),
            SyntheticSource(SyntheticSettings(size=24 * 2**20, streams=2, generation=generation)),
            name="shop", source_type="synthetic", cache_dir=tmp_path / "cache", memory=128 * 2**20,
            compression="auto", listener=lambda _: None,
        )
        for generation in range(2)
    ]  # fmt: skip
    assert nights[1].stored < nights[0].stored / 10, "the second night adds what changed"
    owner = Repository.open(sink, passphrase)
    assert not check(owner, read_data=True, cache_dir=None, listener=lambda _: None).findings
    for entry in list_snapshots(owner):
        target = SyntheticSource()
        restore(
            entry, target, target=RestoreTarget(), streams=None, verify_first=True,
            listener=lambda _: None,
        )  # fmt: skip
        assert sum(target.taken.values()) == 48 * 2**20
