"""A restore that is going on: each archive is given to mongorestore."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pymongo.errors import OperationFailure

from penstock.api import (
    ChildInput,
    LeftOut,
    PenstockError,
    Report,
    Restore,
    RestoreFailed,
    RestorePlan,
    SourceError,
    StopToken,
    StreamSpec,
    UsageError,
    env_for_child,
    found_by,
)
from penstock.api.servers import Advice, last_held_back, leave_out, listed, undone_unless_finished
from penstock_mongodb.archive import ARCHIVE
from penstock_mongodb.building import Wanted, build
from penstock_mongodb.checks import RESTORE_CHECKS
from penstock_mongodb.client import Client, find_client
from penstock_mongodb.connection import Connection, connect, tool_configuration, translated
from penstock_mongodb.foresight import ACCOUNTS
from penstock_mongodb.incoming import IncomingArchive
from penstock_mongodb.indexes import Indexes
from penstock_mongodb.making import Destination, Made, make_collections
from penstock_mongodb.naming import name_in_target, names_in_target
from penstock_mongodb.options import RestoreOptions
from penstock_mongodb.settings import MongoSettings
from penstock_mongodb.speech import spoken
from penstock_mongodb.target import (
    broken_names,
    renames_of,
    replays,
    target_databases,
    user_collections,
)

__all__ = ["restoring"]

_UNAUTHORIZED = 13
#: What to do about what mongorestore says, in the order in which it is looked for.
_ADVICE = Advice(
    {
        r"applying oplog.*(Unauthorized|not authorized)": (
            "Grant the restoring user a role with anyAction on anyResource, or give up the point in time with the "
            "option replay=no: the oplog changes users, roles or other system data."
        ),
        r"requires authentication|not authorized|Unauthorized": (
            "Grant the user the role restore in the database admin. If the archive holds that user, too, with another "
            "identity, it may have lost its session: run the restore again."
        ),
        r"E11000|duplicate key": "Stop whatever else writes into the target.",
        r"applying oplog": "Restore what was read, without the changes during the dump, with the option replay=no.",
    }
)


@contextmanager
def restoring(settings: MongoSettings, plan: RestorePlan, *, stop: StopToken, report: Report) -> Iterator[Restore]:
    """One restore; when the block is left without `finish`, the databases that it wrote are dropped again.

    Collections with options, and views, are made before mongorestore brings the documents; `finish` makes the indexes.
    What the target refuses of these is left out and named. MongoDB has no transaction around a restore. What a database
    held before is never dropped but with `clean`, and then when the first block of the new one is here; the error tells
    what is gone and what is left. The option undo keeps what was restored.
    """
    for warning in found_by(RESTORE_CHECKS, settings, settings.warnings):
        report.warn(warning)
    with undone_unless_finished(_Work(settings, plan, stop, report)) as restore:
        yield restore


class _Work:
    """What one restore has written to: names of databases, and whether all that is in them is its own."""

    def __init__(self, settings: MongoSettings, plan: RestorePlan, stop: StopToken, report: Report) -> None:
        target = plan.target
        self._settings = settings
        self._stop = stop
        self._report = report
        #: What the plan has told already.
        self._known = {(one.kind, one.name, one.database) for one in plan.left_out}
        self._strict = target.strict
        self._clean = target.clean
        self._options = RestoreOptions.of(target)
        if any(one.name == ACCOUNTS for one in plan.left_out):
            self._options = self._options.model_copy(update={"accounts": "no"})
        self._touched: dict[str, bool] = {}
        self._replaced: set[str] = set()
        self._restored: list[tuple[StreamSpec, Indexes]] = []

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Give one archive to mongorestore, which stops at the first error.

        It gets its last bytes only when `blocks` has ended well, and refuses an archive without its end.
        """
        if spec.format != ARCHIVE:
            raise UsageError(f"{spec.name} has the format {spec.format}, which is not one of MongoDB's")
        names = target_databases(self._settings, spec, self._options)
        if not names:  # the options leave nothing of it
            for _ in blocks:
                pass
            return
        client = find_client("mongorestore", self._settings.client_path, self._stop)
        doing = f"cannot restore {spec.name} into {self._settings.location}"
        with connect(self._settings) as connection, translated(doing, self._settings):
            archive = IncomingArchive(
                blocks, replayed=replays(spec, self._options), on_users=lambda name: _provide(connection, name)
            )
            if self._clean:
                for name in names:
                    self._drop_old(connection, name)
            # Nobody's data but the restore's own is ever dropped after a failure.
            self._touched |= {
                name: self._touched.get(name, False) or not user_collections(connection, name) for name in names
            }
            made = self._make_collections(connection, spec, archive)
            try:
                _run(self._settings, spec, archive.blocks(made), self._options, made.refused, client, self._stop)
            except SourceError as error:
                _ADVICE.give(error)
                error.details = tuple(map(spoken, error.details))
                raise
            for database, collection in made.placeholders:
                connection[database].command("drop", collection)
            if not archive.understood:
                self._leave_out(LeftOut("indexes", spec.name, "the archive does not describe them as mongodump does"))
            self._restored.append((spec, archive.indexes.without(made.refused)))

    def _make_collections(self, connection: Connection, spec: StreamSpec, archive: IncomingArchive) -> Made:
        """Make what may be refused; raises `RestoreFailed` for what nothing can be done about."""
        replayed = replays(spec, self._options)
        renames = {} if replayed else renames_of(self._settings, spec, self._options)
        chosen = () if replayed else self._options.databases
        wanted = [
            Destination(*name_in_target(one.database, one.collection, renames), one)
            for one in archive.described
            if _is_restored(one.database, one.collection, chosen)
        ]
        made = make_collections(connection, wanted, on_left_out=self._leave_out, stop=self._stop)
        if stuck := [name for name in made.refused if replayed or "\n" in name]:
            raise RestoreFailed(
                f"the target does not take {listed(stuck, 'collection', 'collections')} of the oplog",
                hint="Leave out what it does not take, and restore what was read, without the changes during the dump, "
                "with the option replay=no.",
            )
        return made

    def _leave_out(self, one: LeftOut) -> None:
        if (one.kind, one.name, one.database) in self._known:
            return
        leave_out([one], self._report, strict=self._strict)

    def _drop_old(self, connection: Connection, name: str) -> None:
        before = user_collections(connection, name)
        if not before:
            return
        self._replaced.add(name)  # before: the server goes on with a drop that is interrupted here
        try:
            _empty(connection, name)
        except OperationFailure:
            if user_collections(connection, name) == before:  # refused: it is as it was
                self._replaced.discard(name)
            raise
        self._touched[name] = True

    def finish(self) -> None:
        """Make the indexes, and keep everything."""
        restored, self._restored = self._restored, []
        if any(True for _, indexes in restored for _ in indexes):
            doing = f"cannot make the indexes in {self._settings.location}"
            with connect(self._settings, patient=True) as connection, translated(doing, self._settings):
                wanted = list(self._wanted(connection, restored))
                count = sum(len(one.specs) for one in wanted)
                indexes = "1 index" if count == 1 else f"{count} indexes"
                collections = "1 collection" if len(wanted) == 1 else f"{len(wanted)} collections"
                self._report.note(f"making {indexes} of {collections}")
                build(
                    connection, wanted, on_left_out=self._leave_out, on_changed=self._report.warn, stop=self._stop
                )  # fmt: skip
        self._touched.clear()
        self._replaced.clear()

    def _wanted(self, connection: Connection, restored: Iterable[tuple[StreamSpec, Indexes]]) -> Iterator[Wanted]:
        """The indexes of what was restored, each collection under its name in the target."""
        there: dict[str, set[str]] = {}
        for spec, indexes in restored:
            replayed = replays(spec, self._options)
            renames = {} if replayed else renames_of(self._settings, spec, self._options)
            for database, collection, specs in indexes:
                if not _is_restored(database, collection, () if replayed else self._options.databases):
                    continue
                for new, name in names_in_target(database, collection, renames):
                    if new not in there:
                        there[new] = set(connection[new].list_collection_names())
                    if name in there[new]:
                        yield Wanted(new, name, tuple(specs))
                        break
                else:
                    missing = f"all of {database}.{collection}"
                    self._leave_out(LeftOut("indexes", missing, "mongorestore restored no collection of that name"))

    def undo(self) -> tuple[str, ...]:
        """Drop what was written, and say what is gone and what is left; never raises."""
        touched, self._touched = self._touched, {}
        dropping = sorted(self._replaced - touched.keys())
        lines = [f"{name} was being dropped: look whether it is still there" for name in dropping]
        if not touched:
            return tuple(lines)
        try:
            with connect(self._settings) as connection:
                lines += [self._undone(connection, name, ours=ours) for name, ours in touched.items()]
        except PenstockError as error:  # its password may have no source any more
            gone = f"; what {', '.join(sorted(self._replaced))} held before is gone" if self._replaced else ""
            return (f"these databases may be restored in part: {', '.join(touched)}: {error.message}{gone}",)
        if "admin" in touched:
            lines.append("users and roles that were restored before the failure are left")
        return tuple(line for line in lines if line)

    def _undone(self, connection: Connection, name: str, *, ours: bool) -> str:
        gone = f"; what {name} held before is gone" if name in self._replaced else ""
        try:
            with translated("cannot look at it or drop it", self._settings):
                held = user_collections(connection, name)
                if held and ours and self._options.undo == "yes":
                    _empty(connection, name)
                    return f"the database {name}, which was restored in part, was dropped again{gone}"
                if held:
                    return f"the database {name} is restored in part: {len(held)} collections and views{gone}"
                return gone.removeprefix("; ")
        except SourceError as error:
            return f"the database {name} may be restored in part: {error.message}{gone}"


def _run(
    settings: MongoSettings,
    spec: StreamSpec,
    blocks: Iterable[memoryview],
    options: RestoreOptions,
    refused: Sequence[str],
    client: Client,
    stop: StopToken,
) -> None:
    with ExitStack() as stack:
        # No stall timeout: it may build one index for hours, and take nothing meanwhile.
        with tool_configuration(settings, read=False) as (arguments, descriptor, secrets):
            child = stack.enter_context(
                ChildInput(
                    [client.program, *arguments, *_arguments(settings, spec, options, refused)],
                    name=f"mongorestore of {spec.name}",
                    env=env_for_child(),
                    pass_fds=[descriptor],
                    secrets=secrets,
                    stop=stop,
                )
            )
        for block in last_held_back(blocks):
            child.write(block)


def _arguments(
    settings: MongoSettings, spec: StreamSpec, options: RestoreOptions, refused: Sequence[str]
) -> Iterator[str]:
    yield "--archive"
    # It stops at the first that the target refuses; they are made afterwards.
    yield "--noIndexRestore"
    # In the order in which they were, which is a property of capped collections, and stopping at the first error.
    yield "--maintainInsertionOrder"
    # A document may be older than the rule that it breaks, and is still the database's.
    yield "--bypassDocumentValidation"
    if replays(spec, options):
        yield "--oplogReplay"
        return
    chosen, broken = options.databases, broken_names(spec, options)
    if chosen:
        yield from (f"--nsInclude={_literal(name)}.*" for name in sorted(chosen))
    elif broken:
        yield "--nsInclude=*"
    yield from (f"--nsInclude={_literal(name)}" for name in broken)
    if spec.attributes["oplog"] == "yes":
        yield "--nsExclude=config.*"
    yield from (f"--nsExclude={_literal(name)}" for name in refused)
    if options.accounts == "no":
        yield from ("--nsExclude=admin.system.users", "--nsExclude=admin.system.roles")
    for old, new in renames_of(settings, spec, options).items():
        everything = "" if "." in old else ".*"
        yield f"--nsFrom={_literal(old, dollars=True)}{everything}"
        yield f"--nsTo={_literal(new, dollars=True)}{everything}"


def _literal(name: str, *, dollars: bool = False) -> str:
    return re.sub(r"[\\*$]" if dollars else r"[\\*]", r"\\\g<0>", name)


def _empty(connection: Connection, name: str) -> None:
    if name != "admin":
        try:
            connection.drop_database(name)
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:  # the role restore may drop collections alone
                raise
        else:
            return
    # Stored functions first: who may not remove them has dropped nothing yet.
    for collection in sorted(user_collections(connection, name), key=lambda one: one != "system.js"):
        if collection == "system.js":  # no server drops it by itself
            connection[name][collection].delete_many({})
        else:
            connection[name].command("drop", collection)


def _is_restored(database: str, collection: str, chosen: Collection[str]) -> bool:
    """Whether somebody made the collection, so that its indexes are not the server's own."""
    if database in ("config", "local") or (chosen and database not in chosen):
        return False
    return not collection.startswith("system.") or collection.startswith("system.buckets.")


def _provide(connection: Connection, name: str) -> None:
    """Make the collection of users or roles where the server never had any: no oplog inserts into what is not there."""
    if name not in connection.admin.list_collection_names():
        connection.admin.command("create", name)
