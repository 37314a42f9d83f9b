"""An archive as pg_dump writes it: its output, which must begin as archives do."""

from penstock.api import ChildOutput, DumpFailed, DumpStream
from penstock.api.servers import Advice
from penstock_postgres.connection import STANDBY_HINT

__all__ = ["ADVICE", "CheckedArchive"]

_MAGIC = b"PGDMP"
#: What to do about what a server says to whoever dumps.
ADVICE = Advice(
    {
        "conflict with recovery": STANDBY_HINT,
        "max_locks_per_transaction|out of shared memory": (
            "pg_dump locks every table at once: raise max_locks_per_transaction on the server, or make a backup of "
            "each part (schemas, tables)."
        ),
        r"(lock|statement) timeout|could not obtain lock": (
            "Another session holds a table for longer than lock_timeout: dump when it is done, or raise lock_timeout."
        ),
        r"invalid page in block|could not read blocks? |missing chunk number": (
            "The table is damaged on the server's disk: restore it from an older snapshot, or leave it out "
            "(exclude_table_data)."
        ),
    }
)


class CheckedArchive(DumpStream):
    """The archive has a beginning of its own, and no end: that it is whole is for pg_dump's exit to say."""

    def __init__(self, child: ChildOutput, name: str) -> None:
        self._child = child
        self._name = name
        self._start = b""

    @property
    def has_begun(self) -> bool:
        """Whether a byte was read: pg_dump has locked every table by then."""
        return bool(self._start)

    def readinto(self, buffer: memoryview, /) -> int:
        """As `ChildOutput` does."""
        count = self._child.readinto(buffer)
        if len(self._start) < len(_MAGIC):
            self._start += bytes(buffer[: min(count, len(_MAGIC) - len(self._start))])
        return count

    def close(self) -> None:
        """As `ChildOutput` does; then its beginning is judged."""
        try:
            self._child.close()
            if self._start != _MAGIC:
                raise DumpFailed(f"{self._name} does not begin as an archive of pg_dump does")
        except DumpFailed as error:
            ADVICE.give(error)
            raise

    def abort(self) -> None:
        """End pg_dump."""
        self._child.abort()
