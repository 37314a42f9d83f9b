"""The tables, views and sequences of a database."""

from dataclasses import dataclass

from penstock_postgres.connection import Connection, rows

__all__ = ["Relation", "relations"]

_RELATIONS = """
SELECT c.oid, n.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, c.relispartition, c.relispopulated,
    c.reltuples::float8,
    CASE WHEN c.relkind IN ('r', 'm') THEN
        coalesce(pg_catalog.pg_relation_size(c.oid), 0) + CASE WHEN c.reltoastrelid <> 0
            THEN coalesce(pg_catalog.pg_relation_size(c.reltoastrelid), 0) ELSE 0 END
    END,
    coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND CASE WHEN c.relkind = 'S'
        THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
        ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END, true),
    c.relkind IN ('r', 'p') AND pg_catalog.row_security_active(c.oid),
    e.oid IS NOT NULL, coalesce(c.oid = ANY (e.extconfig), false), o.refobjid, coalesce(o.deptype = 'i', false),
    c.relfilenode
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
        AND d.objsubid = 0 AND d.deptype = 'e'
    LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    LEFT JOIN pg_catalog.pg_depend o ON c.relkind = 'S' AND o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND o.objid = c.oid AND o.objsubid = 0 AND o.refclassid = o.classid AND o.refobjsubid <> 0
        AND o.deptype IN ('a', 'i')
WHERE c.relkind IN ('r', 'p', 'm', 'f', 'S', 'v') AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """One table, partition, view, foreign table or sequence; `size` is that of its heap and TOAST.

    `owner` is the table that a sequence belongs to; `filenode` is another one after a TRUNCATE or a rewrite.
    """

    oid: int
    schema_oid: int
    schema: str
    name: str
    relkind: str
    persistence: str
    is_partition: bool
    populated: bool
    row_estimate: float
    size: int | None
    readable: bool
    policed: bool
    of_extension: bool
    configures_extension: bool
    owner: int | None
    is_identity: bool
    filenode: int

    @property
    def title(self) -> str:
        """`schema.name`, unquoted, for people."""
        return f"{self.schema}.{self.name}"

    @property
    def estimated_rows(self) -> int | None:
        """What the statistics say; -1 there (0 before PostgreSQL 14) means that nobody has looked yet."""
        return round(self.row_estimate) if self.row_estimate > 0 else None

    @property
    def dumped(self) -> bool:
        """Whether pg_dump reads it: an extension's own tables it leaves to CREATE EXTENSION."""
        return self.relkind in ("r", "p", "S") and (self.configures_extension or not self.of_extension)


def relations(connection: Connection) -> list[Relation]:
    """Every table, view and sequence of the database, in the order of the names."""
    return [Relation(*row) for row in rows(connection, _RELATIONS)]
