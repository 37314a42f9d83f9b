"""The restore of one database by tables: its schema, what is filled in, and what comes after the rows."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from tempfile import TemporaryFile

from penstock.api import RestoreFailed, StreamSpec
from penstock_postgres.archives import Into
from penstock_postgres.attributes import ArchiveAttributes, RowsAttributes
from penstock_postgres.dumping import LARGE_OBJECTS, ROWS
from penstock_postgres.script import CopyRows, Entry, Script
from penstock_postgres.table_rows import copy_in

__all__ = ["OpenTables", "TablesRestore"]

_BLOCK = 1 << 20


class TablesRestore:
    """Takes the streams of a database one after the other, the schema first.

    The schema is needed again when all rows are in, for indexes, constraints and triggers: until then it is in a
    temporary file that has no name, and that nobody else can open.
    """

    def __init__(self, into: Into, *, clean: bool) -> None:
        self._into = into
        self._clean = clean
        self._schema = TemporaryFile()  # noqa: SIM115 - `close` closes it
        self._name = self._encoding = ""

    def begin(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Make what comes before the rows; with `clean`, drop all that the dump holds first."""
        self._name = spec.name
        self._encoding = ArchiveAttributes.of(spec).properties.encoding  # which the rows have, too
        for block in blocks:
            self._schema.write(block)
        if self._clean:
            self._run(only_drops=True, clean=True)
        self._run("--section=pre-data")

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """Fill in what one of the other streams holds."""
        if spec.format == ROWS:
            self._write_rows(spec, blocks)
        elif spec.format == LARGE_OBJECTS:
            self._into.run(spec.name, blocks, clean=self._clean)
        else:
            self._into.work.run(Script(blocks))

    def _write_rows(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        recorded = RowsAttributes.of(spec)
        connection = self._into.connection
        if connection.info.parameter_status("client_encoding") != self._encoding:
            connection.execute("SELECT pg_catalog.set_config('client_encoding', %s, false)", [self._encoding])
        statement = copy_in(recorded).as_bytes(connection)
        count = 0

        def lines() -> Iterator[bytes]:
            nonlocal count
            for block in blocks:
                some = bytes(block)
                count += some.count(b"\n")
                yield some

        taken = lines()
        entry = Entry("TABLE DATA", recorded.table, recorded.namespace)
        self._into.work.run([CopyRows(statement, entry, taken)])
        for _ in taken:  # what was not taken
            pass
        if recorded.rows is not None and count != recorded.rows:
            raise RestoreFailed(f"{spec.name} holds {count} rows, and {recorded.rows} were dumped")

    def complete(self) -> None:
        """Make what comes after the rows."""
        self._run("--section=post-data")

    def close(self) -> None:
        """Free the temporary file."""
        self._schema.close()

    def _run(self, *words: str, clean: bool = False, only_drops: bool = False) -> None:
        self._into.run(self._name, self._blocks(), *words, clean=clean, only_drops=only_drops)

    def _blocks(self) -> Iterator[memoryview]:
        self._schema.seek(0)
        while block := self._schema.read(_BLOCK):
            yield memoryview(block)


class OpenTables:
    """A restore by tables that goes on from one call to the next: whatever fails ends it at once, and undoes it."""

    def __init__(self, block: AbstractContextManager[TablesRestore]) -> None:
        """Enter `block`, which is left by `complete`, by `abandon`, or by the first failure."""
        self._block = block
        self._tables: TablesRestore | None = block.__enter__()

    def begin(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """As `TablesRestore.begin`."""
        self._do(lambda tables: tables.begin(spec, blocks))

    def write(self, spec: StreamSpec, blocks: Iterable[memoryview]) -> None:
        """As `TablesRestore.write`."""
        self._do(lambda tables: tables.write(spec, blocks))

    def complete(self) -> None:
        """Leave the block."""
        if self._tables is not None:
            self._tables = None
            self._block.__exit__(None, None, None)

    def abandon(self) -> None:
        """Leave the block as after a failure; does nothing when it was left."""
        if self._tables is not None:
            self._tables = None
            self._block.__exit__(_Abandoned, _Abandoned(), None)

    def _do(self, work: Callable[[TablesRestore], None]) -> None:
        tables = self._tables
        if tables is None:
            raise RestoreFailed("the restore of this database has ended already")
        try:
            work(tables)
        except BaseException:  # an interrupt, too, is undone
            self._tables = None
            # It may raise a clearer error instead.
            self._block.__exit__(*sys.exc_info())
            raise


class _Abandoned(Exception):
    """Nobody finishes the restore."""
