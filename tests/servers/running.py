"""Runs a server that speaks HTTP for as long as tests need it."""

import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit


@contextmanager
def running(command: Sequence[str], url: str, *, ca: Path | None = None, **environment: str) -> Iterator[None]:
    """A server process that answers `url` with anything before the block begins; killed at the block's end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STORAGE_", "COVERAGE_"))}
    with tempfile.TemporaryFile() as log:
        if shutil.which("setpriv"):  # the kernel stops it when the test session is killed
            command = ["setpriv", "--pdeathsig=KILL", *command]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=kept | environment,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 240
            while not _answers(url, ca) or child.poll() is not None:  # another one may answer in its place
                if child.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command} did not start:\n{log.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.1)
            yield
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()


def told_by(url: str, ca: Path | None = None) -> str:
    """What the server at `url` says that it is, or where it is when it does not say."""
    name = (_headers(url, ca) or {}).get("Server", "")
    return name.replace("/", " ").strip() or f"{urlsplit(url).netloc}, which does not tell what it is"


def _answers(url: str, ca: Path | None) -> bool:
    return _headers(url, ca) is not None


def _headers(url: str, ca: Path | None) -> Mapping[str, str] | None:
    """Those of whatever it answers, None when nobody does."""
    try:
        trust = None if ca is None else ssl.create_default_context(cafile=str(ca))
        with urllib.request.urlopen(url, timeout=5, context=trust) as answer:
            return dict(answer.headers)
    except urllib.error.HTTPError as error:
        error.close()
        return dict(error.headers)
    except OSError:
        return None
