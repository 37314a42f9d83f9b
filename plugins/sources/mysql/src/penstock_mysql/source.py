"""The source: the databases of one MySQL or MariaDB server."""

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
from penstock_mysql.settings import MySQLSettings, settings_from_url

__all__ = ["MySQLSource"]

# What loads the driver is imported where it is used: the command line lists plugins without it.


class MySQLSource(Source):
    """Databases of one MySQL or MariaDB server, and its accounts, by the client programs of the server's own make."""

    name: ClassVar[str] = "mysql"
    schemes: ClassVar[tuple[str, ...]] = ("mysql", "mariadb")
    Settings: ClassVar[type[PluginSettings]] = MySQLSettings
    possible_capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.CONCURRENT_STREAMS, Capability.PARALLEL_STREAMS}
    )

    settings: MySQLSettings

    def __repr__(self) -> str:
        return f"<MySQLSource {self.location}>"

    def capabilities(self) -> frozenset[Capability]:
        """Dumps that were started at one moment are read where that was."""
        together = self.settings.consistency == "server"
        return frozenset({Capability.CONCURRENT_STREAMS if together else Capability.PARALLEL_STREAMS})

    @classmethod
    def settings_from_url(cls, url: str) -> dict[str, Any]:
        """`mysql://user@host:3306/database`, with further settings in the query; no password."""
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
        from penstock_mysql.dumps import inspect_source

        return inspect_source(self.settings, self.stop)

    def dump(self) -> AbstractContextManager[Dump]:
        """Check all that can be checked, and, with `consistency = server`, start all databases at one moment."""
        from penstock_mysql.dumps import hold_dump

        return hold_dump(self.settings, self.stop)

    def attach(self, spec: StreamSpec) -> DumpStream:
        """Start the dump program on one database, or read the accounts."""
        from penstock_mysql.dumps import attach_stream

        return attach_stream(self.settings, spec, self.stop)

    def plan_restore(self, streams: Sequence[StreamSpec], target: RestoreTarget) -> RestorePlan:
        """Connect to the target, compare engines and versions, and see whether it is empty."""
        from penstock_mysql.target import plan_restore

        return plan_restore(self.settings, streams, target, self.stop)

    def restore(self, plan: RestorePlan) -> AbstractContextManager[Restore]:
        """Restore databases, and the accounts that the server lacks."""
        from penstock_mysql.restore import restoring

        return restoring(self.settings, plan, stop=self.stop, report=self.report)
