"""What a process does that is to be killed: one backup, forget or prune; and what the one does that looks afterwards.

Each is forked from a process that has imported everything, opens the repository through the sink's plugin, and answers
through a pipe: `Done`, or `Refused` with the error that an operator would see.
"""

import hashlib
import os
import random
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from core.tests.repository.lab import CHEAP, MIB, PASSPHRASE, BytesSource, needed_by, restored_from
from tests.integration.hurry import hurry

from penstock.api import PenstockError
from penstock.engine import backup, check
from penstock.engine.forget import forget
from penstock.engine.prune import prune
from penstock.plugins import PluginHost
from penstock.repository import Access, Repository
from penstock.repository.snapshots import find_snapshot, list_snapshots
from penstock.repository.trust.keyring import add_maintainer, add_writer

__all__ = ["HOST", "KEEPERS", "WRITERS", "Done", "Place", "Refused", "Seen", "content_of", "digest_of", "run"]

#: With the domain that they back up to, or None for one of their own.
WRITERS = {"anna": "main", "bert": "main", "cleo": None}
KEEPERS = ("mary", "mike")
#: Finds the sinks once for all runs.
HOST = PluginHost()
_PIECE = 40_000


@dataclass(frozen=True)
class Place:
    """Where the repository is, and how much faster time passes there."""

    url: str
    settings: Mapping[str, Any]
    environ: Mapping[str, str] = field(repr=False)
    factor: int = 1


@dataclass(frozen=True)
class Done:
    """It ran to its end, so many seconds after it was begun."""

    answer: Any
    seconds: float


@dataclass(frozen=True)
class Refused:
    """It ended with this error, so many seconds after it was begun."""

    error: str
    text: str
    seconds: float


@dataclass(frozen=True)
class Seen:
    """What somebody sees who looks at everything: findings of a check, and by its id each snapshot that is listed.

    With the number of the run that made it, and a digest of what it restores to, which is "" for what was left out.
    """

    findings: tuple[str, ...]
    snapshots: Mapping[str, tuple[int, str]]


def content_of(number: int) -> dict[str, bytes]:
    """What the database holds when the run with that number dumps it: much of it is as it was a few runs ago."""
    chance = random.Random(number)
    eras = [number // 12 - chance.randrange(2) for _ in range(6)]
    pieces = [random.Random(f"{era} {chance.randrange(5)}").randbytes(_PIECE) for era in eras]
    return {"rows": b"".join(pieces[:4]), "blobs": b"".join(pieces[4:]), "log": b"run %d\n" % number * 50}


def digest_of(streams: Mapping[str, bytes]) -> str:
    """Of names and bytes."""
    found = hashlib.sha256()
    for name, data in sorted(streams.items()):
        found.update(b"%s %d " % (name.encode(), len(data)))
        found.update(data)
    return found.hexdigest()


def run(place: Place, key: bytes, begun: float, pipe: Connection, verb: str, *arguments: Any) -> None:
    """Do it, and answer; it was begun at that time of the monotonic clock, which all processes share."""
    os.environ.update(place.environ)
    hurry(place.factor)
    with closing(pipe), closing(HOST.make_sink_from_url(place.url, place.settings)) as sink:
        try:
            if verb == "create":
                answer: Any = _create(Repository.create(sink, passphrase=PASSPHRASE, cost=CHEAP))
            else:
                answer = _VERBS[verb](Repository.open(sink, Access.from_key_file(key, "a key")), *arguments)
        except PenstockError as error:
            text = "".join(traceback.format_exception(error))
            pipe.send(Refused(type(error).__name__, text, time.monotonic() - begun))
        else:
            pipe.send(Done(answer, time.monotonic() - begun))


def _create(repository: Repository) -> dict[str, bytes]:
    """Everybody's key file."""
    keys = {"owner": repository.access}
    for name, domain in WRITERS.items():
        keys[name] = add_writer(repository, name, domain=domain)
    for name in KEEPERS:
        keys[name] = add_maintainer(repository, name)
    return {name: access.to_key_file() for name, access in keys.items()}


def _back_up(repository: Repository, number: int, cache: Path) -> str:
    return backup(
        repository,
        BytesSource(content_of(number)),
        name="shop",
        source_type="bytes",
        cache_dir=cache,
        memory=64 * MIB,
        compression=1,
        tags=[f"run-{number}"],
        listener=lambda event: None,
    ).snapshot.hex()


def _forget(repository: Repository, *snapshots: str) -> None:
    forget(repository, [find_snapshot(repository, snapshot) for snapshot in snapshots])


def _prune(repository: Repository, take_over: bool) -> int:
    report = prune(repository, grace=timedelta(), take_over=take_over, listener=lambda event: None)
    return sum(one.deleted for one in report.domains.values())


def _look(repository: Repository, left_out: frozenset[str], read_data: bool) -> Seen:
    """A check, and a restore of everything that is listed but for what is left out."""
    report = check(repository, read_data=read_data, cache_dir=None, memory=64 * MIB, listener=lambda event: None)
    snapshots = {}
    for entry in list_snapshots(repository):
        (number,) = (int(tag.removeprefix("run-")) for tag in entry.head.tags)
        name = entry.id.hex()
        snapshots[name] = (number, "" if name in left_out else digest_of(restored_from(entry)))
    return Seen(tuple(f"{one.key}: {one.problem}" for one in report.findings), snapshots)


def _left(repository: Repository) -> list[str]:
    """What is there and no snapshot needs; records of what was said and done stay, and so does some index object."""
    needed = frozenset[str]().union(*map(needed_by, list_snapshots(repository)))
    kinds = ("deletions", "notices", "marks", "index")
    there = {info.key for info in repository.sink.list("d/") if info.key.split("/")[2] not in kinds}
    return sorted(there - needed)


_VERBS: dict[str, Callable[..., Any]] = {
    "backup": _back_up,
    "forget": _forget,
    "prune": _prune,
    "look": _look,
    "left": _left,
}
