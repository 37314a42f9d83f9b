"""Makes the indexes of a restore, each by itself where need be: one that the target refuses costs no document."""

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import bson
from bson import json_util
from bson.errors import BSONError
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from penstock.api import Interrupted, LeftOut, StopToken
from penstock_mongodb.connection import Connection
from penstock_mongodb.speech import spoken

__all__ = ["WORKERS", "Wanted", "build", "converted", "is_old"]

#: As many collections at once as mongorestore restores.
WORKERS = 4
_ATTEMPTS = 3
_EJSON = json_util.JSONOptions(json_mode=json_util.JSONMode.CANONICAL)
#: What servers know of an index; older ones kept whatever they were given (`convertLegacyIndexes` of the tools).
_OPTIONS = frozenset(
    {
        "2dsphereIndexVersion", "background", "bits", "bucketSize", "clustered", "coarsestIndexedLevel", "collation",
        "columnstoreProjection", "default_language", "expireAfterSeconds", "finestIndexedLevel", "hidden", "key",
        "language_override", "max", "min", "name", "ns", "partialFilterExpression", "prepareUnique", "sparse",
        "storageEngine", "textIndexVersion", "unique", "v", "weights", "wildcardProjection",
    }
)  # fmt: skip

Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The indexes of one collection, under its name in the target."""

    database: str
    collection: str
    specs: tuple[Spec, ...]

    @property
    def namespace(self) -> str:
        """`database.collection`."""
        return f"{self.database}.{self.collection}"


@dataclass(slots=True)
class _Outcome:
    left_out: list[LeftOut] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    error: PyMongoError | None = None


def build(
    connection: Connection,
    wanted: Sequence[Wanted],
    *,
    on_left_out: Callable[[LeftOut], None],
    on_changed: Callable[[str], None],
    stop: StopToken,
) -> None:
    """Make all of them; what the target refuses goes to `on_left_out`, whose error ends it.

    `on_changed` gets a sentence about each that had to be changed. Raises `Interrupted`, or `PyMongoError` when the
    server is gone. An index that was begun is then left to whoever drops the database.
    """
    waiting: SimpleQueue[Wanted] = SimpleQueue()
    for one in wanted:
        waiting.put(one)
    outcomes: SimpleQueue[_Outcome | None] = SimpleQueue()
    ended = threading.Event()

    def work() -> None:
        with suppress(Empty):
            while not ended.is_set():
                outcomes.put(_made(connection, waiting.get_nowait()))

    # They die with the process: a server may take hours for one index, and be asked to stop.
    for _ in range(min(WORKERS, len(wanted))):
        threading.Thread(target=work, daemon=True).start()
    try:
        with stop.on_stop(lambda: outcomes.put(None)):
            for _ in wanted:
                outcome = outcomes.get()
                if outcome is None:
                    raise Interrupted("interrupted")
                if outcome.error is not None:
                    raise outcome.error
                for sentence in outcome.changed:
                    on_changed(sentence)
                for left in outcome.left_out:
                    on_left_out(left)
    finally:
        ended.set()


def converted(spec: Spec) -> dict[str, Any]:
    """An index of a server before 3.4 as newer ones take it: with a direction for each field, and known options."""
    kept = {name: value for name, value in spec.items() if name in _OPTIONS}
    if isinstance(key := kept.get("key"), Mapping):
        kept["key"] = {name: _direction(value) for name, value in key.items()}
    return kept


def is_old(spec: Spec) -> bool:
    """Whether it takes a conversion; Python would not tell 1 from True."""
    return bson.encode(converted(spec)) != bson.encode(spec)


def _direction(value: object) -> object:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value):
        return value or 1
    return 1


def _made(connection: Connection, one: Wanted) -> _Outcome:
    outcome = _Outcome()
    specs = [_plain(spec) for spec in one.specs]
    try:
        try:
            _create(connection, one, specs)
        except OperationFailure as error:
            if len(specs) == 1:
                _alone(connection, one, specs[0], error, outcome)
                return outcome
            for spec in specs:
                try:
                    _create(connection, one, [spec])
                except OperationFailure as refused:
                    _alone(connection, one, spec, refused, outcome)
    except PyMongoError as error:
        outcome.error = error
    except (BSONError, TypeError, ValueError) as error:  # whoever wrote the archive wrote no index
        outcome.left_out += [_left_out(one, spec, f"its description cannot be understood: {error}") for spec in specs]
    return outcome


def _alone(
    connection: Connection, one: Wanted, spec: dict[str, Any], refused: OperationFailure, outcome: _Outcome
) -> None:
    """Try a refused index once more as newer servers have it; otherwise it is left out."""
    if is_old(spec):
        other = converted(spec)
        with suppress(OperationFailure):
            _create(connection, one, [other])
            outcome.changed.append(
                f"the index {spec.get('name')} of {one.namespace} is older than what this server takes, and was "
                f"converted: {_text(_command(one, [other]))}"
            )
            return
    told = refused.details.get("errmsg") if refused.details else None
    outcome.left_out.append(_left_out(one, spec, spoken(str(told or refused)).rpartition(" :: caused by :: ")[2]))


def _left_out(one: Wanted, spec: Spec, reason: str) -> LeftOut:
    return LeftOut(
        "index",
        f"{spec.get('name')} of {one.collection}",
        reason,
        statement=f"db.getSiblingDB({json.dumps(one.database)}).runCommand({_text(_command(one, [spec]))})",
        database=one.database,
    )


def _create(connection: Connection, one: Wanted, specs: Sequence[Spec]) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            connection[one.database].command(_command(one, specs))
        except AutoReconnect:  # the same command may be given again: what is there already is no error
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return


def _command(one: Wanted, specs: Sequence[Spec]) -> dict[str, Any]:
    return {"createIndexes": one.collection, "indexes": list(specs)}


def _plain(spec: Spec) -> dict[str, Any]:
    """As mongorestore gives it: in the server's own version of indexes, without the old collection's name."""
    return {name: value for name, value in spec.items() if name not in ("v", "ns")}


def _text(value: Mapping[str, Any]) -> str:
    """As the shell reads it."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:  # a date, a decimal, whatever JSON does not know
        return f"EJSON.deserialize({json_util.dumps(value, json_options=_EJSON)})"
