"""The contract of a sink: it keeps immutable objects under keys."""

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from penstock.api.errors import ObjectLocked, SinkError, UsageError
from penstock.api.models import ObjectInfo
from penstock.api.plugin import Plugin
from penstock.api.rights import PolicyText, Rights

__all__ = ["Sink", "validate_key", "validate_prefix"]

_LONGEST_KEY = 200
_PART = r"(?!\.{1,2}(?:/|\Z))[a-z0-9_.-]+"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*")


def validate_key(key: str) -> None:
    """Raise `SinkError` unless `key` follows the rules stated by `Sink`.

    A sink calls it where an invalid key could do harm, such as escaping its folder. It does not know the limits of a
    particular storage.
    """
    _validate(key, shown=key)


def validate_prefix(prefix: str) -> None:
    """Raise `SinkError` unless a valid key can start with `prefix`; an empty prefix is fine."""
    _validate(prefix + "x" if len(prefix) < _LONGEST_KEY else prefix, shown=prefix)


def _validate(key: str, *, shown: str) -> None:
    if len(key) > _LONGEST_KEY:
        raise SinkError(shown, f"not a valid key: longer than {_LONGEST_KEY} characters")
    if not _KEY.fullmatch(key):
        raise SinkError(
            shown,
            "not a valid key",
            hint="Use only a-z, 0-9, '-', '_', '.' and '/', with no empty, '.' or '..' part.",
        )


class Sink(Plugin):
    """Stores objects. Every method may be called from several threads at once.

    Keys are relative, of lower-case letters, digits, `-`, `_`, `.` and `/`, at most 200 characters, with no empty,
    `.` or `..` part (`validate_key`); an invalid key is refused with a `SinkError`. No key is the folder of another:
    where `a/b` is put, `a` never is. Objects are a few tens of MiB at most. Errors are `SinkError`s that carry the key,
    but for the `DamagedObject` of `get`; the SDK's own exceptions cross this boundary only as causes.

    A sink retries within a total deadline, then raises `SinkUnreachable`. No wait between attempts outlives `stop`.
    When the run stops, the core abandons requests that hang: nothing else may wait for them, `close` included.
    """

    @property
    def connections(self) -> int:
        """How many concurrent requests are worthwhile, at least 1: it sizes every pool of the core."""
        return 4

    def preflight(self) -> None:
        """Check before a backup begins whether it can succeed: permissions, an existing place, any space at all.

        Raises `SinkDenied`, `SinkFull`, `SinkUnreachable`. Should cost a request or two at most, and succeed with
        whatever `policy` says for a writer, who may not list everything.
        """

    @abstractmethod
    def put(self, key: str, data: bytes | bytearray | memoryview, *, if_absent: bool = False) -> None:
        """Store `data` under `key`, all or nothing, durably on return; a reader never sees a part of it.

        On return `data` belongs to the caller again: do not keep it. An existing object is replaced or, with
        `if_absent`, left unchanged and `ObjectExists` raised. Of several concurrent calls with `if_absent`, one
        succeeds (between hosts too, if the sink declares `CONDITIONAL_PUT`). After any other error the key holds what
        it held before, or all of `data`. What is locked may refuse to be replaced, with `ObjectLocked`.
        """

    @abstractmethod
    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes from `start`, at most `length` of them, or to its end.

        A range that extends past the end is cut there; one that starts at or past the end gives b"". Before the end,
        fewer bytes than requested are never returned. Raises `ObjectMissing`, and may raise `DamagedObject` when a
        checksum that the service keeps says, transfer after transfer, that these are not the object's bytes.
        """

    @abstractmethod
    def stat(self, key: str) -> ObjectInfo:
        """The object's size and time. Raises `ObjectMissing`."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, each once, in no particular order; pages are fetched lazily.

        Objects put or deleted meanwhile may or may not appear. Unfinished uploads never appear.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Free the object: all its versions, and whatever hides them, are gone; no error if it is missing.

        An object that a lock, a retention policy or a hold protects stays as it was, readable and listed, and
        `ObjectLocked` says until when. Where the credential may not delete versions, `SinkDenied` says so: an object is
        never merely hidden. What a service keeps of deleted objects for some days (soft delete) frees itself.
        """

    def delete_many(self, keys: Iterable[str]) -> None:
        """Free these objects, as `delete` does; no error if one is missing. Override it if the service takes batches.

        What is locked keeps no other object from being deleted: once all were tried, one `ObjectLocked` has all of
        them in `locked`. After another error, some of the objects may be gone and some not.
        """
        locked: dict[str, datetime | None] = {}
        last = None
        for key in keys:
            try:
                self.delete(key)
            except ObjectLocked as error:
                locked |= error.locked
                last = error
        if last is not None:
            raise last if last.locked == locked else ObjectLocked.of(locked) from last

    @property
    def retention(self) -> timedelta | None:
        """How long an object is protected from deletion after its `put`. None without `OBJECT_LOCK`."""
        return None

    def retain(self, key: str, until: datetime) -> None:
        """Protect the object from deletion at least until `until` (with a time zone); never shortens protection.

        For sinks that declare `OBJECT_LOCK`: a backup calls it for every object that its snapshot needs and that was
        put earlier. Raises `ObjectMissing`; without `OBJECT_LOCK`, `SinkError`.
        """
        del until
        raise SinkError(key, "this sink locks no objects")

    def policy(self, rights: Sequence[Rights]) -> tuple[PolicyText, ...]:
        """What to paste into the service so that a credential has these rights and no more; asks nobody.

        Raises `UsageError` where the service has nothing of the kind.
        """
        del rights
        raise UsageError("this sink knows no policies", hint="Look for what its service has to confine a credential.")

    @abstractmethod
    def close(self) -> None:
        """Close connections without waiting for requests that hang. The last call; may be repeated."""
