"""What is tried again and what is not, against an emulator behind proxies that fail on demand."""

import base64
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.servers.attempts import CALLS, Service, SinkAttempts
from tests.servers.azure import ACCOUNT, AzureServer
from tests.servers.tampering import Act, TamperingProxy, flip

from penstock.api import (
    ObjectLocked,
    Sink,
    SinkDenied,
    SinkError,
    SinkFull,
    SinkUnreachable,
)
from penstock_azure import AzureSettings, AzureSink

pytestmark = pytest.mark.server


def make(endpoint: str, container: str = "shop-backups", **more: Any) -> AzureSink:
    values = {"account": ACCOUNT, "container": container, "endpoint": endpoint, "deadline": 20}
    return AzureSink(AzureSettings.model_validate({**values, "account_key": {"env": "AZURE_TEST_KEY"}, **more}))


def refusal(status: int, code: str, message: str = "as the script says") -> dict[str, Any]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return {
        "status": status,
        "body": body,
        "headers": {"x-ms-error-code": code, "Content-Type": "application/xml"},
    }


class TestAttempts(SinkAttempts):
    upload = "PUT"
    checksum = "MD5"
    place_word = "container"
    held = Act("PUT", **refusal(409, "BlobImmutableDueToPolicy"))

    @pytest.fixture
    def service(self, azure: AzureServer, monkeypatch: pytest.MonkeyPatch) -> Service:
        monkeypatch.setenv("AZURE_TEST_KEY", azure.key)
        return Service(azure.endpoint, azure.new_container, make)

    @pytest.mark.parametrize(
        ("status", "code", "kind", "says"),
        [
            (403, "AuthorizationPermissionMismatch", SinkDenied, "denied"),
            (403, "AuthenticationFailed", SinkDenied, "credentials were refused"),
            (401, "NoAuthenticationInformation", SinkDenied, "other credentials"),
            (403, "KeyBasedAuthenticationNotPermitted", SinkDenied, "takes no keys"),
            (409, "BlobImmutableDueToPolicy", ObjectLocked, "nobody knows until when"),
            (404, "ContainerNotFound", SinkError, "no such container: shop-backups"),
            (507, "InsufficientStorage", SinkFull, "as the script says"),
            (418, "Teapot", SinkError, "Teapot"),
        ],
    )
    def test_a_refusal_is_not_tried_again(
        self, http: TamperingProxy, status: int, code: str, kind: type[SinkError], says: str
    ) -> None:
        http.script = [Act("PUT", **refusal(status, code), stay=True)]
        with closing(make(http.endpoint)) as sink, pytest.raises(kind, match=says) as caught:
            sink.put("packs/a", b"data")
        assert http.asked("PUT") == 1
        assert type(caught.value) is kind
        assert caught.value.key == "packs/a"
        assert caught.value.__cause__ is not None

    def test_an_answer_that_is_not_of_the_api_is_reported(self, http: TamperingProxy, sink: Sink) -> None:
        http.script = [Act("GET", status=200, body=b"<html>Welcome to the hotel</html>", stay=True)]
        for call in ("get", "list"):
            with pytest.raises(SinkError, match=r"cannot be parsed|asked for"):
                CALLS[call](sink)

    @pytest.mark.parametrize("method", CALLS)
    def test_an_answer_in_another_xml_is_reported(self, http: TamperingProxy, sink: Sink, method: str) -> None:
        xml = {"Content-Type": "application/xml"}
        for verb in ("GET", "HEAD", "PUT", "DELETE"):
            http.script.append(Act(verb, status=200, body=b"<html>Welcome to the hotel</html>", headers=xml, stay=True))
        with pytest.raises(SinkError, match="cannot be parsed") as caught:
            CALLS[method](sink)
        assert not caught.value.retryable

    def test_a_large_object_is_one_request_each_way(self, http: TamperingProxy, sink: Sink) -> None:
        data = bytes(range(256)) * (300 * 1024)  # above what the SDK would cut by default
        sink.put("a", data)
        assert sink.get("a") == data
        assert [seen.method for seen in http.seen] == ["PUT", "GET"]

    @pytest.mark.usefixtures("clock")
    def test_an_object_that_arrived_damaged_is_sent_again(self, http: TamperingProxy, sink: Sink) -> None:
        http.script = [Act("PUT", status=201, headers={"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="})]
        sink.put("a", b"data")
        assert http.asked("PUT") == 2
        assert sink.get("a") == b"data"

    @pytest.mark.parametrize("method", CALLS)
    def test_a_redirect_is_not_followed(self, http: TamperingProxy, sink: Sink, method: str) -> None:
        for verb in ("GET", "HEAD", "PUT", "DELETE"):
            http.script.append(Act(verb, status=307, headers={"Location": f"{http.endpoint}/elsewhere"}, stay=True))
        with pytest.raises(SinkError, match="307"):
            CALLS[method](sink)
        assert len(http.seen) == 1

    @pytest.mark.usefixtures("clock")
    def test_a_wrong_md5_is_refused_by_the_service_and_sent_again(self, http: TamperingProxy, place: str) -> None:
        data = bytes(range(256)) * 1000
        http.script = [Act("PUT", change_request=flip)]
        with closing(make(http.endpoint, place)) as sink:
            sink.put("a", data)
            assert http.asked("PUT") == 2
            assert sink.get("a") == data
        http.script = [Act("PUT", change_request=flip, stay=True)]
        with closing(make(http.endpoint, place)) as sink:
            with pytest.raises(SinkUnreachable, match="damaged"):
                sink.put("b", data)
            assert [found.key for found in sink.list()] == ["a"]

    def test_a_preflight_proves_the_key_and_the_container_and_leaves_nothing(
        self, azure: AzureServer, sink: Sink, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sink.preflight()
        assert list(sink.list()) == []
        with closing(make(azure.endpoint, "penstock-no-such")) as other, pytest.raises(SinkError, match="no such"):
            other.preflight()
        monkeypatch.setenv("AZURE_TEST_KEY", "d3Jvbmc=")
        with closing(make(azure.endpoint, place)) as other, pytest.raises(SinkDenied):
            other.preflight()

    @pytest.mark.parametrize("kind", ["account_key", "connection_string"])
    def test_credentials_that_were_replaced_in_their_file_are_read_again(
        self, azure: AzureServer, place: str, tmp_path: Path, kind: str
    ) -> None:
        def keep(key: str) -> None:
            whole = (
                f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={azure.endpoint}"
            )
            (tmp_path / "kept").write_text(key if kind == "account_key" else whole)

        values: dict[str, Any] = {"account": ACCOUNT, "container": place, "deadline": 20}
        if kind == "account_key":
            values["endpoint"] = azure.endpoint
        keep(base64.b64encode(b"another key").decode())
        with closing(
            AzureSink(AzureSettings.model_validate({**values, kind: {"file": str(tmp_path / "kept")}}))
        ) as sink:
            for _ in range(2):
                with pytest.raises(SinkDenied):
                    sink.put("a", b"1")
            keep(azure.key)
            sink.put("a", b"2")
            assert sink.get("a") == b"2"
