"""The source: one server, dumped by redis-cli as one RDB file."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field

from penstock.api import (
    Capability,
    ChildOutput,
    Dump,
    DumpPlan,
    DumpStream,
    Inspection,
    InventoryItem,
    PluginSettings,
    Restore,
    RestorePlan,
    RestoreTarget,
    Source,
    StreamAttributes,
    StreamSpec,
    TargetNotEmpty,
    UsageError,
    env_for_child,
    run_child,
)
from penstock_redis.options import RestoreOptions
from penstock_redis.primary import Transfer, transfer
from penstock_redis.rdb import RdbStream
from penstock_redis.resp import Connection
from penstock_redis.settings import RedisSettings, settings_from_url

__all__ = ["FORMAT", "RedisSource"]

FORMAT = "rdb"
_PROBE_SECONDS = 30.0
_CONSISTENCY = "one moment: that at which the server forks to write the file"


class RdbAttributes(StreamAttributes):
    """What a snapshot says of its stream: whoever could write the snapshot chose it."""

    server_version: Annotated[str, Field(pattern=r"^[0-9]{1,9}\.[0-9]{1,9}\.")]


class RedisSource(Source):
    """Dumps a Redis server as one RDB file, and restores it by full synchronisation, as a replica gets its data.

    The option `address` of a restore is an address of this host that the server can reach; left out, it is that of the
    connection to the server.
    """

    name: ClassVar[str] = "redis"
    schemes: ClassVar[tuple[str, ...]] = ("redis",)
    Settings: ClassVar[type[PluginSettings]] = RedisSettings
    #: Not CONSISTENT: the view is taken when the stream is opened, not when the dump begins. It has only one stream.
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.PARALLEL_STREAMS})

    settings: RedisSettings

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`redis://user@host:6379`; no password."""
        return settings_from_url(url)

    @property
    def location(self) -> str:
        """The URL without a password."""
        return self.settings.location

    def inspect(self) -> Inspection:
        """Ask redis-cli for its version and the server for the rest."""
        # The cheapest question first: without a client nothing else matters.
        answer = run_child([self._client, "--version"], name="redis-cli", timeout=_PROBE_SECONDS, stop=self.stop)
        client = re.search(rb"\d+(?:\.\d+)+", answer)
        with Connection(self.settings) as server:
            info = server.info()
        return Inspection(
            engine="redis",
            server_version=info["redis_version"],
            client_version=client[0].decode() if client else "unknown",
            # What the data takes in memory; it takes less in a file.
            size_estimate=int(info["used_memory"]),
            inventory=tuple(InventoryItem("database", name, rows) for name, rows in _keyspace(info)),
            streams=(StreamSpec("dump.rdb", FORMAT, size_estimate=int(info["used_memory"])),),
            consistency=_CONSISTENCY,
        )

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """One stream; the server makes a view of its own for it when it is opened."""
        found = self.inspect()
        attributes = {"server_version": found.server_version, "client_version": found.client_version}
        streams = tuple(replace(spec, attributes=attributes) for spec in found.streams)
        yield Dump(DumpPlan(found, streams, found.consistency), self.attach)

    def attach(self, spec: StreamSpec) -> DumpStream:
        """Let redis-cli ask for a synchronisation, as a replica does, and write what it gets to its output."""
        settings = self.settings
        if spec.format != FORMAT:
            raise UsageError(f"{spec.name} has the format {spec.format}, which is not Redis's")
        password = settings.password.resolve() if settings.password else None
        user = ["--user", settings.user] if settings.user else []
        child = ChildOutput(
            [self._client, "-h", settings.host, "-p", str(settings.port), *user, "--rdb", "-"],
            name=f"redis-cli of {self.location}",
            # In the environment, which only this user can read; on the command line, everybody could.
            env=env_for_child({"REDISCLI_AUTH": password} if password else {}),
            stall_timeout=settings.stall_timeout,
            secrets=[password] if password else [],
            stop=self.stop,
        )
        return RdbStream(child, spec.name)

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        """Look at the server's version, role and content."""
        RestoreOptions.of(target)
        if len(streams) != 1 or streams[0].format != FORMAT:
            raise UsageError(f"a Redis server is restored from one stream of the format {FORMAT}")
        recorded = RdbAttributes.of(streams[0])
        with Connection(self.settings) as server:
            info = server.info()
        dumped, present = _major(recorded.server_version), _major(info["redis_version"])
        if present < dumped:
            raise UsageError(f"{self.location} is older than the server that was dumped, and may not read its format")
        if info.get("cluster_enabled") == "1" or info["role"] != "master":
            raise UsageError(
                f"{self.location} is a replica, or part of a cluster, and cannot be synchronised from here",
                hint="Restore into a server that stands alone.",
            )
        held = [f"{rows} keys in {name}" for name, rows in _keyspace(info)]
        if int(info.get("number_of_libraries", "0")):
            held.append("functions")
        if held and not target.clean:
            raise TargetNotEmpty(
                f"{self.location} holds {', '.join(held)}",
                hint="Restore into an empty server, or allow it to be replaced.",
            )
        return RestorePlan(tuple(streams), target)

    @contextmanager
    def restore(self, plan: RestorePlan) -> Iterator[Restore]:
        """Let the server synchronise from here. It replaces its data at `finish`, when it has all of it."""
        address = RestoreOptions.of(plan.target).address
        sent: list[Transfer] = []
        with ExitStack() as held:

            def write(spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
                del spec  # plan_restore has counted them
                server = held.enter_context(Connection(self.settings))
                timeout = self.settings.stall_timeout
                sent.append(held.enter_context(transfer(server, address=address, timeout=timeout, stop=self.stop)))
                sent[0].send(blocks)

            def finish() -> None:
                sent[0].finish()

            yield Restore(write, finish)

    @property
    def _client(self) -> str:
        return str(self.settings.client_path / "redis-cli") if self.settings.client_path else "redis-cli"


def _keyspace(info: dict[str, str]) -> list[tuple[str, int]]:
    """The databases that hold keys, and how many."""
    found = [(name, re.match(r"keys=(\d+),", value)) for name, value in info.items() if re.fullmatch(r"db\d+", name)]
    return [(name, int(keys[1])) for name, keys in found if keys]


def _major(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
