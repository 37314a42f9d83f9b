"""The contract of a sink: it keeps immutable objects under keys."""

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from penstock.api.errors import SinkError
from penstock.api.models import ObjectInfo
from penstock.api.plugin import Plugin

__all__ = ["Sink", "validate_key", "validate_prefix"]

_LONGEST_KEY = 200
_PART = r"(?!\.{1,2}(?:/|\Z))[a-z0-9_.-]+"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*")


def validate_key(key: str) -> None:
    """Raise `SinkError` unless `key` keeps to the rules that `Sink` states.

    A sink calls it where an invalid key could do harm, such as leaving its folder; it knows no storage's own limits.
    """
    _validate(key, shown=key)


def validate_prefix(prefix: str) -> None:
    """Raise `SinkError` unless some valid key starts with `prefix`; an empty one is fine."""
    _validate(prefix + "x" if len(prefix) < _LONGEST_KEY else prefix, shown=prefix)


def _validate(key: str, *, shown: str) -> None:
    if len(key) > _LONGEST_KEY:
        raise SinkError(shown, f"not a valid key: longer than {_LONGEST_KEY} characters")
    if not _KEY.fullmatch(key):
        raise SinkError(
            shown,
            "not a valid key",
            hint="A key is made of a-z, 0-9, '-', '_', '.' and '/', with no empty, '.' or '..' part.",
        )


class Sink(Plugin):
    """Keeps objects. Every method may be called from several threads at once.

    Keys are relative, of lower-case letters, digits, `-`, `_`, `.` and `/`, at most 200 characters, with no empty,
    `.` or `..` part (`validate_key`); an invalid key is refused with a `SinkError`. No key is the folder of another:
    where `a/b` is put, `a` never is. Objects are at most some tens of MiB. Errors are `SinkError`s that carry the key;
    the SDK's own exceptions never pass this border, except as a cause.

    A sink retries on its own only what it can bound by a total deadline; then it raises `SinkUnreachable`. No wait
    between attempts outlives `stop`. A request that hangs is abandoned by the core when the run stops: nothing else
    may wait for it, `close` included.
    """

    @property
    def connections(self) -> int:
        """How many requests at once are worthwhile, at least 1: every pool of the core takes its size from here."""
        return 4

    def preflight(self) -> None:
        """See, before a backup begins, whether it can succeed: rights, a place that exists, any space at all.

        Raises `SinkDenied`, `SinkFull`, `SinkUnreachable`. Made for what costs a request or two.
        """

    @abstractmethod
    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Store `data` under `key`, all or nothing, durably on return; a reader never sees a part of it.

        `data` belongs to the caller again on return: it must not be kept. An existing object is replaced, or, with
        `if_absent`, left as it was and `ObjectExists` raised. Of several concurrent calls with `if_absent`, one
        succeeds (between hosts too, where the sink declares `CONDITIONAL_PUT`). When it raises anything else, the
        key holds what it held before, or all of `data`.
        """

    @abstractmethod
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes from `start`, at most `length` of them, or to its end.

        A range that reaches past the end gives what there is, one that starts at or past the end gives b"".
        Raises `ObjectMissing`. Fewer bytes than were asked for, without the end being reached, are never returned.
        """

    @abstractmethod
    def stat(self, key: str) -> ObjectInfo:
        """The object's size and time. Raises `ObjectMissing`."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, each once, in no particular order; pages are fetched lazily.

        Objects that are put or deleted meanwhile may be seen or not. Unfinished uploads are never seen.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; a missing one is fine."""

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove all of these objects; a missing one is fine. Overridden where the service takes batches.

        When it raises, some of them may be gone and some not.
        """
        for key in keys:
            self.delete(key)

    @property
    def retention(self) -> timedelta | None:
        """How long an object is kept from deletion, from its `put` on. None without `OBJECT_LOCK`."""
        return None

    def retain(self, key: str, until: datetime) -> None:
        """Keep the object from deletion at least until then (a time with a zone); never shortens a longer protection.

        Made for sinks that declare `OBJECT_LOCK`, where a backup calls it for every object that its snapshot needs
        and that was put earlier. Raises `ObjectMissing`; without `OBJECT_LOCK`, `SinkError`.
        """
        del until
        raise SinkError(key, "this sink locks no objects")

    @abstractmethod
    def close(self) -> None:
        """Let connections go, without waiting for requests that hang. May be called twice, and is the last call."""
