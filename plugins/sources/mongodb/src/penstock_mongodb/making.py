"""Makes collections with options, and views, before their documents come: what the target refuses costs no document."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bson.errors import BSONError
from pymongo.errors import OperationFailure

from penstock.api import LeftOut, StopToken
from penstock_mongodb.commands import reason_of, repeated
from penstock_mongodb.connection import Connection
from penstock_mongodb.jobs import WORKERS, Outcome, persistently, run_jobs
from penstock_mongodb.naming import option_name
from penstock_mongodb.reading import Described

__all__ = ["Destination", "Made", "make_collections"]

_EXISTS = 48
_UNAUTHORIZED = 13
#: What mongorestore makes as well as we do.
_PLAIN_NAME = re.compile(r"\w[\w-]*(\.[\w-]+)*")
#: Options that mean nothing without each other.
_TOGETHER = (
    ("capped", "size", "max"),
    ("validator", "validationLevel", "validationAction"),
    ("timeseries.granularity", "timeseries.bucketMaxSpanSeconds", "timeseries.bucketRoundingSeconds"),
)
#: What only old servers had, and nobody misses.
_FORGOTTEN = frozenset({"flags", "temp"})
#: What `collMod` gives to a collection that is there.
_MODIFIABLE = frozenset(
    {
        "validator", "validationLevel", "validationAction", "expireAfterSeconds", "changeStreamPreAndPostImages",
        "recordPreImages",
    }
)  # fmt: skip
#: No server has as many: of more than these, none is looked for.
_MAX_OPTIONS = 30
#: No primary, shutdown, full disk, time-outs: refusals that are not about what was asked for.
_OF_THE_SERVER = frozenset({6, 7, 50, 89, 91, 189, 202, 262, 10107, 11600, 11602, 13435, 13436, 14031})

Options = Mapping[str, Any]
#: Names of options that are taken or left together; of those within `timeseries`, as `timeseries.granularity`.
_Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Destination:
    """A collection of an archive, under its name in the target."""

    database: str
    collection: str
    one: Described

    @property
    def namespace(self) -> str:
        """As the archive names it."""
        return f"{self.one.database}.{self.one.collection}"

    @property
    def is_view(self) -> bool:
        """Whether it has no documents of its own."""
        return "viewOn" in self.one.options

    @property
    def is_time_series(self) -> bool:
        """Whether mongorestore insists on making it."""
        return "timeseries" in self.one.options


@dataclass(slots=True)
class Made:
    """What mongorestore has to know. Its names are those of the archive, but for `placeholders`."""

    #: Options that are to be missing from the archive's prelude.
    without: dict[str, _Group] = field(default_factory=dict)
    #: What the target does not take at all.
    refused: list[str] = field(default_factory=list)
    #: Empty collections in the place of views, which mongorestore would make otherwise: database and name.
    placeholders: list[tuple[str, str]] = field(default_factory=list)


def make_collections(
    connection: Connection,
    wanted: Sequence[Destination],
    *,
    on_left_out: Callable[[LeftOut], None],
    stop: StopToken,
) -> Made:
    """Make those that may be refused: all but the plainest, which mongorestore makes.

    First collections, several at once, each with as many of its options as the target takes; then views, one by one.
    A time-series collection is made and dropped again, since mongorestore takes none that is there. Raises
    `PyMongoError` for a refusal that is about the user or the server as a whole.
    """
    made = Made()
    special = [one for one in wanted if one.one.options or not _PLAIN_NAME.fullmatch(one.collection)]
    collections = [partial(_guarded, _make_collection, connection, one, made) for one in special if not one.is_view]
    views = [partial(_guarded, _make_view, connection, one, made) for one in special if one.is_view]
    for jobs, workers in ((collections, WORKERS), (views, 1)):
        run_jobs(jobs, workers=workers, on_left_out=on_left_out, stop=stop)
    return made


def _option_left_out(one: Destination, names: Sequence[str], reason: str) -> LeftOut:
    """What a collection is restored without."""
    options = one.one.options
    command: dict[str, Any] = {"create": one.collection, **options}
    if _MODIFIABLE.issuperset(names):
        command = {"collMod": one.collection, **{name: options[name] for name in names}}
    elif "capped" in names and "size" in options:
        command = {"convertToCapped": one.collection, "size": options["size"]}
    return LeftOut(
        "option",
        option_name(names, one.collection),
        reason,
        statement=repeated(one.database, command),
        database=one.database,
        lost=not _FORGOTTEN.issuperset(names),
    )


def _guarded(
    make: Callable[[Connection, Destination, Made, Outcome], None], connection: Connection, one: Destination, made: Made
) -> Outcome:
    outcome = Outcome()
    try:
        make(connection, one, made, outcome)
    except (
        BSONError,
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
    ) as error:  # whoever wrote the archive wrote none
        made.refused.append(one.namespace)
        outcome.left_out.append(_all_of(one, f"its description cannot be understood: {error}"))
    return outcome


def _make_collection(connection: Connection, one: Destination, made: Made, outcome: Outcome) -> None:
    # Every collection has its index of _id now; whether by itself was once an option.
    options = {name: value for name, value in one.one.options.items() if name != "autoIndexId"}
    refused = _refusal(connection, one, options)
    if refused is not None:
        if refused.code == _EXISTS:
            return
        found = _made_without(connection, one, options, refused)
        if found is None:
            made.refused.append(one.namespace)
            outcome.left_out.append(_all_of(one, reason_of(refused)))
            return
        made.without[one.namespace] = tuple(name for group, _ in found for name in group)
        outcome.left_out += [_option_left_out(one, group, reason) for group, reason in found]
    if one.is_time_series:
        connection[one.database].command("drop", one.collection)


def _made_without(
    connection: Connection, one: Destination, options: Options, refused: OperationFailure
) -> list[tuple[_Group, str]] | None:
    """What the collection was made without, each with the reason; None if it could not be made at all.

    An option is to blame if the collection is made without it, or the server then finds fault with another one.
    """
    found: list[tuple[_Group, str]] = []
    groups = _groups(options) if len(options) <= _MAX_OPTIONS else []
    while groups:
        blamed: tuple[_Group, OperationFailure] | None = None
        for group in groups:
            other = _refusal(connection, one, _without(options, group))
            if other is None:
                return [*found, (group, reason_of(refused))]
            if blamed is None and reason_of(other) != reason_of(refused):
                blamed = group, other
        if blamed is None:
            break
        found.append((blamed[0], reason_of(refused)))
        options, refused = _without(options, blamed[0]), blamed[1]
        groups.remove(blamed[0])
    least = {"timeseries": _least(options["timeseries"])} if one.is_time_series else {}
    if _refusal(connection, one, least) is not None:
        return None
    return [*found, *((group, reason_of(refused)) for group in _groups(options))]


def _make_view(connection: Connection, one: Destination, made: Made, outcome: Outcome) -> None:
    refused = _refusal(connection, one, one.one.options, rights=False)
    if refused is None or refused.code == _EXISTS:
        return
    outcome.left_out.append(_all_of(one, reason_of(refused)))
    if _refusal(connection, one, {}) is None:
        made.placeholders.append((one.database, one.collection))
    else:
        made.refused.append(one.namespace)


def _refusal(
    connection: Connection, one: Destination, options: Options, *, rights: bool = True
) -> OperationFailure | None:
    """Make it; returns why the server refuses it, and raises that if it is not about this collection.

    With `rights`, a right that the user lacks is no matter of one collection.
    """
    try:
        persistently(lambda: connection[one.database].command({"create": one.collection, **options}))
    except OperationFailure as error:
        if error.code in _OF_THE_SERVER or (rights and error.code == _UNAUTHORIZED):
            raise
        return error
    return None


def _groups(options: Options) -> list[_Group]:
    inner = options.get("timeseries", {})
    names = [name for name in options if name != "timeseries"]
    names += [f"timeseries.{name}" for name in inner if name not in _least(inner)]
    together = [tuple(name for name in group if name in names) for group in _TOGETHER]
    alone = [(name,) for name in names if not any(name in group for group in _TOGETHER)]
    return [group for group in (*together, *alone) if group]


def _without(options: Options, group: _Group) -> dict[str, Any]:
    kept = {name: value for name, value in options.items() if name not in group}
    if "timeseries" in kept:
        inner = kept["timeseries"]
        kept["timeseries"] = {name: value for name, value in inner.items() if f"timeseries.{name}" not in group}
    return kept


def _least(inner: Options) -> dict[str, Any]:
    return {name: value for name, value in inner.items() if name in ("timeField", "metaField")}


def _all_of(one: Destination, reason: str) -> LeftOut:
    kind = "view" if one.is_view else "time-series collection" if one.is_time_series else "collection"
    statement = repeated(one.database, {"create": one.collection, **one.one.options})
    return LeftOut(kind, one.collection, reason, statement=statement, database=one.database)
