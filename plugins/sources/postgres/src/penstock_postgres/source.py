"""The source: one PostgreSQL database, or those of a server."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from penstock.api import (
    Capability,
    Dump,
    DumpStream,
    Inspection,
    PluginSettings,
    Restore,
    RestorePlan,
    RestoreTarget,
    Source,
    StreamSpec,
)
from penstock_postgres.settings import PostgresSettings, settings_from_url

__all__ = ["PostgresSource"]

# What loads the driver is imported where it is used: the command line lists plugins without it.


class PostgresSource(Source):
    """PostgreSQL databases, and the roles and tablespaces of their server, by the server's own client programs."""

    name: ClassVar[str] = "postgres"
    schemes: ClassVar[tuple[str, ...]] = ("postgres", "postgresql")
    Settings: ClassVar[type[PluginSettings]] = PostgresSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.PARALLEL_STREAMS, Capability.CONSISTENT}
    )

    settings: PostgresSettings

    def __repr__(self) -> str:
        return f"<PostgresSource {self.location}>"

    def capabilities(self) -> frozenset[Capability]:
        """Several databases share no view."""
        return self.possible_capabilities - ({Capability.CONSISTENT} if self.settings.databases else set())

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`postgres://user@host:port/database`, with further settings in the query; no password."""
        return settings_from_url(url)

    @property
    def location(self) -> str:
        """The URL without a password."""
        return self.settings.location

    @property
    def most_streams(self) -> int | None:
        """As the settings say."""
        return self.settings.max_connections

    def inspect(self) -> Inspection:
        """Look, without dumping or counting: rows come from the statistics."""
        from penstock_postgres.dumps import inspect_source

        return inspect_source(self.settings, self.stop)

    def dump(self) -> AbstractContextManager[Dump]:
        """Hold one exported snapshot for the length of the block; of several databases, each for that of its stream."""
        from penstock_postgres.dumps import hold_dump

        return hold_dump(self.settings, self.stop, self.report)

    def attach(self, spec: StreamSpec) -> DumpStream:
        """Start pg_dump, or pg_dumpall, on a stream of another process's plan."""
        from penstock_postgres.dumps import attach_stream

        return attach_stream(self.settings, spec, self.stop, self.report)

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        """Connect to the target, compare versions, and see whether it is empty and has the roles that are needed."""
        from penstock_postgres.target import plan_restore

        return plan_restore(self.settings, streams, target, self.stop)

    def restore(self, plan: RestorePlan) -> AbstractContextManager[Restore]:
        """Restore roles and tablespaces, and each archive, all or nothing where the server allows it."""
        from penstock_postgres.restore import restoring

        return restoring(self.settings, plan.target, stop=self.stop, report=self.report)
