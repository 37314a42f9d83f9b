"""The restore of an archive by mongorestore."""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain

from penstock.api import ChildInput, RestoreTarget, SourceError, StreamSpec, env_for_child
from penstock_mongodb.client import Client, find_client
from penstock_mongodb.connection import Connection, connect, tool_configuration, translated
from penstock_mongodb.options import RestoreOptions
from penstock_mongodb.settings import MongoSettings
from penstock_mongodb.target import (
    broken_names,
    is_left_out,
    target_databases,
    user_collections,
)

__all__ = ["restore_archive"]

#: What to do about what mongorestore says, in the order in which it is looked for.
_HINTS = {
    r"applying oplog.*(Unauthorized|not authorized)": (
        "the oplog has a change of users, roles or other things of the system's own: grant who restores a role with "
        "anyAction on anyResource for it, or give up the point in time with the option replay=no"
    ),
    r"requires authentication|not authorized|Unauthorized": (
        "the user needs the role restore in the database admin; one that the archive holds, too, with another identity "
        "may have lost its session: run it again"
    ),
    r"E11000|duplicate key": "something else writes into the target, or it was not empty",
    r"applying oplog": "the option replay=no restores what was read, without the changes during the dump",
}


def restore_archive(
    settings: MongoSettings, spec: StreamSpec, blocks: Iterable[memoryview], target: RestoreTarget
) -> None:
    """Give the archive to mongorestore, which stops at the first error.

    With `target.clean`, the databases of the archive are dropped first, when its first block is here. mongorestore
    gets its last bytes only when `blocks` has ended well, and refuses an archive without its end. MongoDB has no
    transaction around it: after a failure, the databases that the restore was writing are dropped, unless the option
    undo says no, and the error tells what is gone and what is left. Raises `RestoreFailed`.
    """
    options = RestoreOptions.of(target)
    if is_left_out(spec, options):
        return
    client = find_client("mongorestore", settings.client_path)
    rest = iter(blocks)
    first = next((bytes(block) for block in rest if block), b"")
    doing = f"cannot restore {spec.name} into {settings.location}"
    names = target_databases(spec, options)
    with connect(settings) as connection, translated(doing, settings):
        if target.clean:
            for name in names:
                _empty(connection, name)
        # Nobody's data but the restore's own is ever dropped after a failure.
        ours = [name for name in names if not user_collections(connection, name)]
        try:
            _run(settings, spec, chain([memoryview(first)], rest), options, client)
        except BaseException as error:
            details = tuple(_left(connection, settings, names, ours if options.undo == "yes" else []))
            if isinstance(error, SourceError):
                error.details = (*map(_without_documents, error.details), *details)
                error.hint = error.hint or _hint("\n".join(error.details))
            raise


def _run(
    settings: MongoSettings, spec: StreamSpec, blocks: Iterable[memoryview], options: RestoreOptions, client: Client
) -> None:
    with ExitStack() as stack:
        # No stall timeout: it may build one index for hours, and take nothing meanwhile.
        with tool_configuration(settings, read=False) as (arguments, descriptor, secrets):
            child = stack.enter_context(
                ChildInput(
                    [client.program, *arguments, *_arguments(spec, options)],
                    name=f"mongorestore of {spec.name}",
                    env=env_for_child(),
                    pass_fds=[descriptor],
                    secrets=secrets,
                )
            )
        for block in _last_held_back(blocks):
            child.write(block)


def _arguments(spec: StreamSpec, options: RestoreOptions) -> Iterator[str]:
    yield "--archive"
    # In the order in which they were, which is a property of capped collections, and stopping at the first error.
    yield "--maintainInsertionOrder"
    # A document may be older than the rule that it breaks, and is still the database's.
    yield "--bypassDocumentValidation"
    if spec.attributes["oplog"] == "yes" and options.replay == "yes":
        yield "--oplogReplay"
        return
    chosen, broken = options.chosen(), broken_names(spec, options)
    if chosen:
        yield from (f"--nsInclude={_literal(name)}.*" for name in sorted(chosen))
    elif broken:
        yield "--nsInclude=*"
    yield from (f"--nsInclude={_literal(name)}" for name in broken)
    if spec.attributes["oplog"] == "yes":
        yield "--nsExclude=config.*"
    if options.users == "no":
        yield from ("--nsExclude=admin.system.users", "--nsExclude=admin.system.roles")
    for old, new in options.renames().items():
        everything = "" if "." in old else ".*"
        yield f"--nsFrom={_literal(old, dollars=True)}{everything}"
        yield f"--nsTo={_literal(new, dollars=True)}{everything}"


def _literal(name: str, *, dollars: bool = False) -> str:
    return re.sub(r"[\\*$]" if dollars else r"[\\*]", r"\\\g<0>", name)


def _empty(connection: Connection, name: str) -> None:
    if name != "admin":
        connection.drop_database(name)
        return
    for collection in user_collections(connection, name):
        connection[name].command("drop", collection)


def _left(connection: Connection, settings: MongoSettings, names: list[str], ours: list[str]) -> Iterator[str]:
    """Undo what was restored into `ours`, and say what is gone and what is left; never raises."""
    for name in names:
        try:
            with translated("cannot look at it", settings):
                held = user_collections(connection, name)
                if held and name in ours:
                    _empty(connection, name)
                    yield f"the database {name}, which was restored in part, was dropped again"
                elif held:
                    yield f"the database {name} is restored in part: {len(held)} collections and views"
        except SourceError as error:
            yield f"the database {name} may be restored in part: {error.message}"
    if "admin" in names:
        yield "users and roles that were restored before the failure are left"


def _last_held_back(blocks: Iterable[memoryview]) -> Iterator[bytes]:
    """The blocks, each when the next has come, the last when `blocks` has ended.

    mongorestore must not have the archive's end before everything was found good.
    """
    held = b""
    for block in blocks:
        if held:
            yield held
        held = bytes(block)
    if held:
        yield held


def _without_documents(line: str) -> str:
    # What the server refuses it quotes, and that may be a user with the keys of a password.
    return re.sub(r"(execute command|applyOps:?) [{\[].*", r"\1 …", line)


def _hint(text: str) -> str | None:
    return next((hint for pattern, hint in _HINTS.items() if re.search(pattern, text)), None)
