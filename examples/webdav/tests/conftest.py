"""A WebDAV server for the tests: WsgiDAV behind cheroot, on a loopback port, with the files of one folder."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cheroot.wsgi import Server
from wsgidav.wsgidav_app import WsgiDAVApp

from penstock_webdav.settings import WebDavSettings
from penstock_webdav.sink import WebDavSink

USER = "writer"
PASSWORD = "s3cret of the wébdav"


class OneAtATime:
    """WsgiDAV writes into the file itself, and looks before it writes: alone, its PUTs would not be atomic."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            answer = self._app(environ, start_response)
            try:
                return [b"".join(answer)]
            finally:
                if hasattr(answer, "close"):
                    answer.close()


@contextmanager
def webdav_server(folder: Path) -> Iterator[str]:
    """Serve the folder below /dav for the length of the block; gives its URL."""
    accounts = {USER: {"password": PASSWORD}}
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/dav": str(folder)},
            "simple_dc": {"user_mapping": {"*": accounts}},
            "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
            "dir_browser": {"enable": False},
            "property_manager": False,
            "lock_storage": False,
            "logging": {"enable": False, "enable_loggers": []},
            "verbose": 0,
        }
    )
    server = Server(("127.0.0.1", 0), OneAtATime(app), numthreads=16)
    server.prepare()
    serving = threading.Thread(target=server.serve, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.bind_addr[1]}/dav"
    finally:
        server.stop()
        serving.join(30)


@pytest.fixture
def webdav(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of an empty folder."""
    (tmp_path / "served").mkdir()
    with webdav_server(tmp_path / "served") as url:
        yield url


@pytest.fixture
def make_sink(webdav: str, tmp_path: Path) -> Iterator[Callable[..., WebDavSink]]:
    """Makes sinks of the server's folder `backups`, which is not there yet; closes them."""
    password = tmp_path / "password"
    password.write_text(PASSWORD, encoding="utf-8")
    with ExitStack() as closing:

        def make(**settings: object) -> WebDavSink:
            chosen = {"address": f"{webdav}/backups", "user": USER, "password": {"file": password}} | settings
            sink = WebDavSink(WebDavSettings.model_validate(chosen))
            closing.callback(sink.close)
            return sink

        yield make
