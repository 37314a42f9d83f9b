"""A store in memory that makes single attempts, and fails or loses answers as its script says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from penstock.api import Capability, Deadline, ObjectExists, ObjectInfo, ObjectLocked, ObjectMissing, SinkError
from penstock.api.object_store import ByteRange, ConnectionSettings, ObjectStoreSink, Page

Buffer = bytes | bytearray | memoryview


@dataclass
class Failing:
    """Fails one attempt; with `after`, it was carried out, and its answer lost."""

    error: Exception
    after: bool = False


@dataclass
class ScriptedStore:
    """A page of its listings has two objects."""

    batch: int = 1
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    #: What fails the next attempts, of any kind.
    script: list[Failing] = field(default_factory=list)
    #: What fails the next looks at an object that may be our own.
    own_script: list[Exception] = field(default_factory=list)
    attempts: list[tuple[str, str]] = field(default_factory=list)
    #: What is locked, and until when.
    locks: dict[str, datetime | None] = field(default_factory=dict)
    closed: int = 0
    #: The token of every page, in place of the true ones.
    token: str | None = None

    def put(self, key: str, data: Buffer, deadline: Deadline, *, if_absent: bool, mark: str) -> None:
        failing = self._begin("put", key)
        if if_absent and key in self.objects:
            raise ObjectExists(key, "the object exists already")
        self.objects[key] = (bytes(data), mark)
        self._end(failing)

    def is_own(self, key: str, data: Buffer, deadline: Deadline, *, mark: str) -> bool:
        self.attempts.append(("is_own", key))
        if self.own_script:
            raise self.own_script.pop(0)
        return self.objects.get(key, (b"", ""))[1] == mark

    def get(self, key: str, wanted: ByteRange, deadline: Deadline) -> bytes:
        failing = self._begin("get", key)
        if key not in self.objects:
            raise ObjectMissing(key, "no such object")
        data = self.objects[key][0]
        self._end(failing)
        return wanted.taken(key, data, None)

    def stat(self, key: str, deadline: Deadline) -> ObjectInfo:
        self._begin("stat", key)
        if key not in self.objects:
            raise ObjectMissing(key, "no such object")
        return ObjectInfo(key, len(self.objects[key][0]))

    def list_page(self, prefix: str, token: str | None, deadline: Deadline) -> Page:
        self._begin("list", prefix)
        names = sorted(key for key in self.objects if key.startswith(prefix))
        first = int(token or 0)
        following = str(first + 2) if first + 2 < len(names) else None
        found = [ObjectInfo(key, len(self.objects[key][0])) for key in names[first : first + 2]]
        return Page(found, following if self.token is None else self.token)

    def delete(self, keys: Sequence[str], deadline: Deadline) -> None:
        failing = self._begin("delete", " ".join(keys))
        locked = {key: self.locks[key] for key in keys if key in self.locks}
        for key in keys:
            if key not in locked:
                self.objects.pop(key, None)
        self._end(failing)
        if locked:
            raise ObjectLocked.of(locked)

    def retain(self, key: str, until: datetime, deadline: Deadline) -> None:
        self._begin("retain", key)

    def look(self, deadline: Deadline) -> None:
        self._begin("look", "")

    def close(self) -> None:
        self.closed += 1

    def asked(self, action: str) -> int:
        return sum(one == action for one, _ in self.attempts)

    def _begin(self, action: str, key: str) -> Failing | None:
        self.attempts.append((action, key))
        failing = self.script.pop(0) if self.script else None
        if failing is not None and not failing.after:
            raise failing.error
        return failing

    def _end(self, failing: Failing | None) -> None:
        if failing is not None:
            raise failing.error


class ScriptedSettings(ConnectionSettings):
    @property
    def location(self) -> str:
        return "scripted"


class ScriptedSink(ObjectStoreSink[ScriptedStore]):
    name = "scripted"
    Settings = ScriptedSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONDITIONAL_PUT})

    def __init__(self, store: ScriptedStore | None = None, **settings: object) -> None:
        super().__init__(ScriptedSettings.model_validate(settings))
        self.scripted = store or ScriptedStore()
        self.connected = 0

    def connect(self) -> ScriptedStore:
        self.connected += 1
        return self.scripted


def refused(error: SinkError, cause: Exception) -> SinkError:
    """The error with its cause, as `raise … from …` makes it."""
    error.__cause__ = cause
    return error
