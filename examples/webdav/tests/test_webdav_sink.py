import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.api import Deadline, ObjectExists, SinkDenied, SinkError, SinkUnreachable, UsageError
from penstock.api.object_store.http import Answer, Http
from penstock_webdav.settings import WebDavSettings, settings_from_url
from penstock_webdav.sink import WebDavSink

MakeSink = Callable[..., WebDavSink]


def test_a_url_stands_for_settings() -> None:
    assert settings_from_url("webdavs://me@host:8443/a%20b/c") == {"address": "https://host:8443/a%20b/c", "user": "me"}
    assert settings_from_url("webdav://host/a") == {"address": "http://host/a"}
    for url in ("webdavs://me:pa55@host/a", "webdavs://host/a?password=pa55"):
        with pytest.raises(UsageError) as caught:
            settings_from_url(url)
        assert "pa55" not in str(caught.value)


def test_a_password_is_not_sent_in_the_clear_unless_asked_for(tmp_path: Path) -> None:
    settings = {"address": "http://host/a", "password": {"env": "NAME"}}
    with pytest.raises(ValidationError, match="plain http"):
        WebDavSettings.model_validate(settings)
    assert WebDavSettings.model_validate(settings | {"insecure": True}).insecure
    assert WebDavSettings.model_validate(settings | {"address": "https://host/a/"}).address == "https://host/a"
    for url in ("https://me:pa55@host/a", "ftp://host/a", "https://host/a?b", "a"):
        with pytest.raises(ValidationError):
            WebDavSettings.model_validate({"address": url})


def test_a_wrong_password_is_denied(make_sink: MakeSink, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not it", encoding="utf-8")
    sink = make_sink(password={"file": wrong})
    for call in (lambda: sink.put("a", b"x"), lambda: sink.get("a"), lambda: list(sink.list())):
        with pytest.raises(SinkDenied) as caught:
            call()
        assert "not it" not in repr(caught.value)


def test_a_password_that_is_replaced_during_a_run_is_read_again(make_sink: MakeSink, tmp_path: Path) -> None:
    kept = tmp_path / "password"
    right = kept.read_text(encoding="utf-8")
    kept.write_text("the one of yesterday", encoding="utf-8")
    sink = make_sink()
    with pytest.raises(SinkDenied):
        sink.put("a", b"x")
    kept.write_text(right, encoding="utf-8")
    sink.put("a", b"x")
    kept.unlink()  # what is known goes on to be used
    assert sink.get("a") == b"x"


def test_a_missing_server_is_unreachable_after_the_deadline(make_sink: MakeSink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SinkUnreachable, match="refused"):
        make_sink(address=f"http://127.0.0.1:{port}/a", deadline=0.1).get("a")


def test_an_answer_that_breaks_off_is_never_returned(make_sink: MakeSink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart")

        thread = threading.Thread(target=answer)
        thread.start()
        sink = make_sink(address=f"http://127.0.0.1:{listener.getsockname()[1]}/a", deadline=0.5)
        with pytest.raises(SinkUnreachable, match="broke"):
            sink.get("a")
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_put_whose_answer_is_lost_is_not_taken_for_somebody_elses(
    make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make_sink()
    sink.put("warm", b"up", if_absent=True)
    send = Http.send
    lost: list[str] = []

    def lose(self: Http, key: str, method: str, url: str, deadline: Deadline, **more: Any) -> Answer:
        answer = send(self, key, method, url, deadline, **more)
        if method == "PUT" and not lost:
            lost.append(url)
            raise SinkUnreachable("a", "the answer was lost")
        return answer

    monkeypatch.setattr(Http, "send", lose)
    sink.put("a", b"mine", if_absent=True)
    assert lost
    with pytest.raises(ObjectExists):
        sink.put("a", b"mine", if_absent=True)


def test_a_server_that_ignores_conditions_is_refused(make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Http, "send", lambda *_, **__: Answer(201, {}, b""))
    with pytest.raises(SinkError, match="would overwrite existing objects"):
        make_sink().put("a", b"x", if_absent=True)


def test_a_file_whose_name_is_not_a_key_is_not_listed(make_sink: MakeSink, tmp_path: Path) -> None:
    sink = make_sink()
    sink.put("a", b"x", if_absent=True)
    (tmp_path / "served" / "backups" / "UPPER").write_text("not ours")
    assert [info.key for info in sink.list()] == ["a"]


def test_deleting_the_name_of_a_folder_removes_nothing(make_sink: MakeSink) -> None:
    sink = make_sink()
    sink.put("packs/a", b"x")
    sink.delete("packs")
    assert sink.get("packs/a") == b"x"
