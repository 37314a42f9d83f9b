"""What is looked for before a dump: it prevents none, but should be known. One list."""

from collections.abc import Iterator
from dataclasses import dataclass

from penstock.api import Check
from penstock.api.servers import unverified_server
from penstock_mongodb.client import newest_server, version_of
from penstock_mongodb.probe import Deployment
from penstock_mongodb.settings import MongoSettings

__all__ = ["CHECKS", "RESTORE_CHECKS", "Facts"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a look at the deployment found."""

    deployment: Deployment
    client_version: str
    settings: MongoSettings
    #: Users and roles that were wished for and may not be read, as a sentence.
    unreadable_accounts: tuple[str, ...] = ()


def _newer_server(facts: Facts) -> Iterator[str]:
    version, client = facts.deployment.version, facts.client_version
    if newest_server(client) < version_of(version):
        major, minor = newest_server(client)
        yield (
            f"the server is MongoDB {version}, but mongodump {client} was made for {major}.{minor} and older ones: "
            "install newer Database Tools"
        )


def _older_server(facts: Facts) -> Iterator[str]:
    if version_of(facts.deployment.version) < (4, 2):
        yield f"MongoDB {facts.deployment.version} is older than what the Database Tools support"


def _sharded(facts: Facts) -> Iterator[str]:
    if facts.deployment.topology == "sharded cluster":
        yield "this is a sharded cluster: what is moved or written during the dump may be missing, or be there twice"


def _standalone(facts: Facts) -> Iterator[str]:
    if facts.deployment.topology == "standalone":
        yield (
            "this is a standalone server, which has no oplog: what is written during the dump is in it in part. A "
            "replica set of one member ends that"
        )


def _choice(facts: Facts) -> Iterator[str]:
    if facts.deployment.has_oplog and facts.settings.oplog == "auto" and facts.settings.chosen:
        yield "a choice of databases is dumped without the oplog, and not at one point in time"


def _line_breaks(facts: Facts) -> Iterator[str]:
    for name in facts.deployment.broken_names:
        yield f"{name!r} has a line break in its name: mongorestore brings it back with the option replay=no alone"


def _old_indexes(facts: Facts) -> Iterator[str]:
    for name in facts.deployment.old_indexes:
        yield f"the index {name} is one that only servers before 3.4 made: a restore converts it"


def _accounts(facts: Facts) -> Iterator[str]:
    yield from facts.unreadable_accounts


#: In the order in which they are said; `settings.CheckName` has their names.
CHECKS: tuple[Check[Facts], ...] = (
    unverified_server(lambda facts: facts.settings.tls_warnings),
    Check("newer-server", "tools that do not know a server may dump what they cannot restore", _newer_server),
    Check("older-server", "the tools no longer support the server", _older_server),
    Check("sharded-cluster", "chunks of a sharded cluster move while it is read", _sharded),
    Check("standalone", "without an oplog there is no point in time", _standalone),
    Check("chosen-databases", "the oplog is of all databases, or of none", _choice),
    Check("line-break-in-name", "mongorestore passes over such a collection, unless it is named to it", _line_breaks),
    Check("old-index", "newer servers take no index without a direction for each field", _old_indexes),
    Check("accounts-left-out", "a deployment without its users is of no use to its applications", _accounts),
)
#: Before a restore, of the settings alone; `warnings.ignore` switches them off there, too.
RESTORE_CHECKS: tuple[Check[MongoSettings], ...] = (unverified_server(lambda settings: settings.tls_warnings),)
