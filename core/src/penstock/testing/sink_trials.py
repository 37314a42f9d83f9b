"""The trials of the sink kit: calls against the clock, puts that are watched, and secrets."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import UnionType
from typing import get_args
from urllib.parse import quote

from penstock.api import ObjectMissing, PluginSettings, Secret, Sink, SinkError, UsageError
from penstock.api.events import SilentReport
from penstock.testing.secrecy import everything_said

__all__ = [
    "FirstRetry",
    "calls_of",
    "closed_port",
    "outcomes",
    "plain_secrets",
    "refuses_passwords",
    "revealed",
    "server_that_never_answers",
    "watched",
    "wrong_errors",
    "wrong_sizes",
]

_KEY = "packs/00/a"
_PASSWORD = "hunter2-s3cret"  # noqa: S105 - what must never be seen again
_NAMES_OF_SECRETS = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secret|token|credentials?)$|secret|(?:^|_)(?:account|private|api)_key$"
)


@contextmanager
def server_that_never_answers() -> Iterator[int]:
    """The port of a server on 127.0.0.1 that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()[1]


def closed_port() -> int:
    """A port of 127.0.0.1 that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def calls_of(sink: Sink) -> dict[str, Callable[[], object]]:
    """Every call that asks the service, by name; each is about the key `packs/00/a`, or a prefix of it."""
    return {
        "put": lambda: sink.put(_KEY, bytes(100_000)),
        "put(if_absent=True)": lambda: sink.put(_KEY, b"x", if_absent=True),
        "get": lambda: sink.get(_KEY),
        "get of a range": lambda: sink.get(_KEY, start=1, length=2),
        "stat": lambda: sink.stat(_KEY),
        "list": lambda: list(sink.list("packs/")),
        "delete": lambda: sink.delete(_KEY),
        "delete_many": lambda: sink.delete_many([_KEY, "packs/00/b"]),
        "preflight": sink.preflight,
    }


def outcomes(calls: Mapping[str, Callable[[], object]], patience: float) -> dict[str, BaseException | str | None]:
    """How each call ended, all made at once: with an error, well (None), or not within `patience` seconds (a text)."""
    ended: dict[str, BaseException | None] = {}

    def make(name: str) -> None:
        try:
            calls[name]()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            ended[name] = error
        else:
            ended[name] = None

    threads = [threading.Thread(target=make, args=(name,), daemon=True) for name in calls]
    for thread in threads:
        thread.start()
    end = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    finished = dict(ended)
    return {name: finished.get(name, f"has not ended after {patience:g} seconds") for name in calls}


@contextmanager
def watched(look: Callable[[], Iterable[str]]) -> Iterator[set[str]]:
    """Look again and again during the block, from two threads; gives what they found wrong, when it is over."""
    found: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            try:
                found.update(look())
            except Exception as error:  # noqa: BLE001 - whatever it is, a reader saw it
                found.add(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=watch, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        done.set()
        for thread in threads:
            thread.join()


def wrong_sizes(sink: Sink, key: str, whole: bytes) -> Iterator[str]:
    """What a reader sees of an object, if that is neither nothing nor all of it."""
    try:
        seen = sink.get(key)
        if seen != whole:
            yield f"a reader got {len(seen)} bytes of an object of {len(whole)} while it was being put"
        size = sink.stat(key).size
        if size != len(whole):
            yield f"stat gave a size of {size} for an object of {len(whole)} bytes while it was being put"
    except ObjectMissing:
        return


class FirstRetry(SilentReport):
    """A report that lets a test wait for the first retry."""

    def __init__(self) -> None:
        self.retried = threading.Event()

    def retry(self, message: str) -> None:
        """Remember that something is tried again."""
        del message
        self.retried.set()


def plain_secrets(settings: type[PluginSettings]) -> list[str]:
    """The settings that are secrets by their name, and text by their type."""
    return [
        name
        for name, field in settings.model_fields.items()
        if _NAMES_OF_SECRETS.search(name) and _is_text(field.annotation)
    ]


def revealed(sink: Sink, *texts: str) -> list[str]:
    """Which secrets of the settings are in a text. By name: failures are read by many."""
    found = []
    for name in type(sink.settings).model_fields:
        resolve = getattr(getattr(sink.settings, name), "resolve", None)
        secret = resolve() if callable(resolve) else None
        if isinstance(secret, Secret):
            told = secret.reveal()
            found += [name for text in texts if told in text or quote(told, safe="") in text]
    return found


def refuses_passwords(kind: type[Sink]) -> list[str]:
    """What is wrong with how `settings_from_url` meets passwords, for each of the schemes."""
    found = []
    for scheme in kind.schemes:
        for place in (f"user:{_PASSWORD}@host/place", f"host/place?password={_PASSWORD}", f":{_PASSWORD}@host/place"):
            shape = f"{scheme}://{place.replace(_PASSWORD, '…')}"
            try:
                kind.settings_from_url(f"{scheme}://{place}")
            except UsageError as error:
                if _PASSWORD in everything_said(error):
                    found.append(f"the error about {shape} repeats the password")
            except Exception as error:  # noqa: BLE001 - whatever it raises, it is not what the contract says
                found.append(f"{shape} raises {type(error).__name__}, not UsageError")
            else:
                found.append(f"{shape} is accepted, although everyone on the host can read a command line")
    return found


def _is_text(annotation: object) -> bool:
    if isinstance(annotation, UnionType) or get_args(annotation):
        return any(_is_text(one) for one in get_args(annotation))
    return annotation in {str, bytes}


def wrong_errors(ended: dict[str, BaseException | str | None]) -> list[str]:
    """What is wrong with how calls of a sink ended whose service cannot be used."""
    found = []
    for name, end in ended.items():
        if isinstance(end, str):
            found.append(f"{name} {end}: it has no deadline, or one that it does not keep")
        elif end is None:
            found.append(f"{name} succeeded, although the service did not answer")
        elif not isinstance(end, SinkError):
            found.append(f"{name} raised {type(end).__module__}.{type(end).__name__}, which is not a SinkError: {end}")
        elif not _KEY.startswith(end.key) and end.key != "packs/00/b" and not end.key.endswith("~"):
            found.append(f"{name} raised an error about {end.key!r}, which is not what it was called for")
    return found
