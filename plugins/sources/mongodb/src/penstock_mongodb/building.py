"""Makes the indexes of a restore, each by itself where need be: one that the target refuses costs no document."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import bson
from bson.errors import BSONError
from pymongo.errors import OperationFailure

from penstock.api import LeftOut, StopToken
from penstock_mongodb.commands import reason_of, repeated, text_of
from penstock_mongodb.connection import Connection
from penstock_mongodb.jobs import Outcome, persistently, run_jobs

__all__ = ["Wanted", "build", "converted", "is_old"]

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


def build(
    connection: Connection,
    wanted: Sequence[Wanted],
    *,
    on_left_out: Callable[[LeftOut], None],
    on_changed: Callable[[str], None],
    stop: StopToken,
) -> None:
    """Make all of them; what the target refuses, and what had to be changed, is told as `run_jobs` does."""
    jobs = [partial(_made, connection, one) for one in wanted]
    run_jobs(jobs, on_left_out=on_left_out, on_changed=on_changed, stop=stop)


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


def _made(connection: Connection, one: Wanted) -> Outcome:
    outcome = Outcome()
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
    except (BSONError, TypeError, ValueError) as error:  # whoever wrote the archive wrote no index
        outcome.left_out += [_left_out(one, spec, f"its description cannot be understood: {error}") for spec in specs]
    return outcome


def _alone(
    connection: Connection, one: Wanted, spec: dict[str, Any], refused: OperationFailure, outcome: Outcome
) -> None:
    """Try a refused index once more as newer servers have it; otherwise it is left out."""
    if is_old(spec):
        other = converted(spec)
        with suppress(OperationFailure):
            _create(connection, one, [other])
            outcome.changed.append(
                f"the index {spec.get('name')} of {one.namespace} is older than what this server takes, and was "
                f"converted: {text_of(_command(one, [other]))}"
            )
            return
    outcome.left_out.append(_left_out(one, spec, reason_of(refused)))


def _left_out(one: Wanted, spec: Spec, reason: str) -> LeftOut:
    return LeftOut(
        "index",
        f"{spec.get('name')} of {one.collection}",
        reason,
        statement=repeated(one.database, _command(one, [spec])),
        database=one.database,
    )


def _create(connection: Connection, one: Wanted, specs: Sequence[Spec]) -> None:
    # What is there already is no error.
    persistently(lambda: connection[one.database].command(_command(one, specs)))


def _command(one: Wanted, specs: Sequence[Spec]) -> dict[str, Any]:
    return {"createIndexes": one.collection, "indexes": list(specs)}


def _plain(spec: Spec) -> dict[str, Any]:
    """As mongorestore gives it: in the server's own version of indexes, without the old collection's name."""
    return {name: value for name, value in spec.items() if name not in ("v", "ns")}
