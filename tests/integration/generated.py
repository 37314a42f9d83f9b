"""Databases of PostgreSQL made up by number: a bit of everything that applications define, in another mixture each."""

import random
from collections.abc import Iterator

__all__ = ["EXTENSIONS", "ROLES", "database"]

#: The roles that own things, and that have been granted things.
ROLES = ("app", "reader", "gone away")
#: Extensions that any of the databases may have; every server's packages bring them.
EXTENSIONS = ("citext", "hstore", "pg_trgm", "btree_gist")

_TYPES = (
    "integer", "bigint", "numeric(12,3)", "text", "varchar(40)", "boolean", "date", "timestamptz", "interval", "jsonb",
    "uuid", "bytea", "inet", "text[]", "int4range", "double precision", "name", "bit(5)", "point", "tsvector",
)  # fmt: skip


def database(number: int) -> str:
    """The SQL of one database, for a superuser; everything in it is restored by plain tools unless it is broken."""
    rnd = random.Random(number)
    return "\n".join(_statements(rnd, broken=number % 5 == 0))


def _statements(rnd: random.Random, *, broken: bool) -> Iterator[str]:
    yield "GRANT CREATE ON DATABASE :name TO app;"
    for extension in EXTENSIONS:
        if rnd.random() < 0.3:
            yield f"CREATE EXTENSION {extension};"
    schemas = ["public"]
    for name in ("sales", "Odd Schema", "audit"):
        if rnd.random() < 0.5:
            yield f'CREATE SCHEMA "{name}"{" AUTHORIZATION app" if rnd.random() < 0.5 else ""};'
            schemas.append(name)
    for number in range(rnd.randint(1, 6)):
        yield from _table(rnd, rnd.choice(schemas), f"t{number}")
    features = [_types, _routines, _partitions, _views, _rules, _policies, _publications, _large, _foreign, _search]
    for feature in features:
        if rnd.random() < 0.5:
            yield from feature(rnd)
    if rnd.random() < 0.5:
        yield "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES TO reader;"
        yield "COMMENT ON SCHEMA public IS 'of ''all''';"
    if broken:
        yield from _broken(rnd)


def _table(rnd: random.Random, schema: str, name: str) -> Iterator[str]:
    full = f'"{schema}"."{name}"'
    columns = [f"c{number} {rnd.choice(_TYPES)}" for number in range(rnd.randint(1, 12))]
    key = rnd.choice(("serial PRIMARY KEY", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "integer UNIQUE"))
    unlogged = "UNLOGGED " if rnd.random() < 0.1 else ""
    yield f"CREATE {unlogged}TABLE {full} ({', '.join([f'id {key}', *columns])}, n integer DEFAULT 7 CHECK (n > 0));"
    yield f"INSERT INTO {full} (n) SELECT i FROM generate_series(1, {rnd.choice((1, 10, 2000))}) AS i;"
    yield f"CREATE INDEX ON {full} (n) WHERE n > 3;"
    if rnd.random() < 0.4:
        yield f"CREATE INDEX ON {full} ((n % 10), n DESC NULLS LAST);"
        yield f'CREATE STATISTICS "{schema}"."{name} stats" ON n, (n % 3) FROM {full};'
    if rnd.random() < 0.5:
        yield f"ALTER TABLE {full} OWNER TO app; GRANT SELECT (n), UPDATE ON {full} TO reader;"
    if rnd.random() < 0.3:
        yield f"COMMENT ON COLUMN {full}.n IS 'line one\n-- line \"two\"';"
    if rnd.random() < 0.3:
        yield f'CREATE TABLE "{schema}"."{name} child" (extra text DEFAULT current_user) INHERITS ({full});'


def _types(rnd: random.Random) -> Iterator[str]:
    yield "CREATE TYPE mood AS ENUM ('sad', 'o''k', 'happy'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0);"
    yield "CREATE TYPE pair AS (a positive, b mood); CREATE TABLE typed (p pair, m mood[] DEFAULT '{sad}', d positive);"
    yield "INSERT INTO typed VALUES (ROW(1, 'happy'), '{sad,\"o''k\"}', 3);"
    yield "CREATE TYPE span AS RANGE (subtype = float8); CREATE CAST (mood AS integer) WITH INOUT;"


def _routines(rnd: random.Random) -> Iterator[str]:
    yield "CREATE FUNCTION twice(i integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2 * i';"
    yield "CREATE PROCEDURE nothing() LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN /* ; $x$ */ END $$;"
    yield "CREATE AGGREGATE total (integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');"
    yield "CREATE OPERATOR === (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq, COMMUTATOR = ===);"
    yield "CREATE TABLE derived (a integer, b integer GENERATED ALWAYS AS (a * 2) STORED);"
    yield "INSERT INTO derived VALUES (4);"
    yield "CREATE INDEX ON derived (public.twice(a)); REVOKE EXECUTE ON FUNCTION twice FROM PUBLIC;"
    yield "CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    yield "CREATE TRIGGER sees BEFORE INSERT ON derived FOR EACH ROW WHEN (NEW.a > 1) EXECUTE FUNCTION seen();"
    yield "ALTER TABLE derived DISABLE TRIGGER sees;"


def _partitions(rnd: random.Random) -> Iterator[str]:
    yield "CREATE TABLE parted (k integer, at date, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);"
    yield "CREATE TABLE parted_old PARTITION OF parted FOR VALUES FROM (MINVALUE) TO ('2024-01-01');"
    yield "CREATE TABLE parted_new PARTITION OF parted DEFAULT PARTITION BY HASH (k);"
    yield "CREATE TABLE parted_new_0 PARTITION OF parted_new FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
    yield "INSERT INTO parted SELECT i, date '2023-06-01' + i FROM generate_series(1, 400) AS i;"
    yield "CREATE TABLE refers (k integer, at date, FOREIGN KEY (k, at) REFERENCES parted ON DELETE CASCADE);"
    yield "INSERT INTO refers SELECT k, at FROM parted LIMIT 7;"


def _views(rnd: random.Random) -> Iterator[str]:
    yield "CREATE TABLE base (i integer PRIMARY KEY, t text); INSERT INTO base VALUES (1, 'one'), (2, NULL);"
    yield "CREATE VIEW above WITH (security_barrier) AS SELECT i, t FROM base WHERE i > 1 WITH CHECK OPTION;"
    yield "CREATE VIEW grouped AS SELECT i, t, count(*) FROM base GROUP BY i;"
    yield "CREATE MATERIALIZED VIEW kept AS SELECT * FROM grouped; CREATE UNIQUE INDEX ON kept (i);"
    yield "CREATE MATERIALIZED VIEW later AS SELECT * FROM kept WITH NO DATA;"
    yield "ALTER VIEW above OWNER TO app; GRANT SELECT ON kept TO reader WITH GRANT OPTION;"


def _rules(rnd: random.Random) -> Iterator[str]:
    yield "CREATE TABLE ruled (i integer); CREATE TABLE log (i integer, at timestamptz);"
    yield "CREATE RULE logs AS ON INSERT TO ruled DO ALSO INSERT INTO log VALUES (NEW.i, now());"
    yield "CREATE SEQUENCE counting INCREMENT -3 MAXVALUE 100 START 50 CYCLE; SELECT nextval('counting');"


def _policies(rnd: random.Random) -> Iterator[str]:
    yield "CREATE TABLE guarded (who name, what text); INSERT INTO guarded VALUES ('app', 'x');"
    yield "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE guarded FORCE ROW LEVEL SECURITY;"
    yield "CREATE POLICY own ON guarded AS RESTRICTIVE FOR SELECT TO reader USING (who = current_user);"


def _publications(rnd: random.Random) -> Iterator[str]:
    yield "CREATE TABLE published (i integer PRIMARY KEY); CREATE PUBLICATION told FOR TABLE published;"
    yield "CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
    yield "CREATE EVENT TRIGGER notes ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION noted();"


def _large(rnd: random.Random) -> Iterator[str]:
    yield f"SELECT lo_from_bytea({rnd.randint(20000, 90000)}, 'of a few bytes');"
    yield "SELECT lo_from_bytea(19999, convert_to(repeat('large ', 50000), 'UTF8'));"
    yield "ALTER LARGE OBJECT 19999 OWNER TO app; COMMENT ON LARGE OBJECT 19999 IS 'a large one';"


def _foreign(rnd: random.Random) -> Iterator[str]:
    yield "CREATE FOREIGN DATA WRAPPER none; CREATE SERVER \"far away\" FOREIGN DATA WRAPPER none OPTIONS (host 'x');"
    yield 'CREATE FOREIGN TABLE away (i integer) SERVER "far away";'
    yield 'CREATE USER MAPPING FOR app SERVER "far away" OPTIONS ("user" \'u\');'


def _search(rnd: random.Random) -> Iterator[str]:
    yield "CREATE TEXT SEARCH DICTIONARY plain (TEMPLATE = pg_catalog.simple, stopwords = english);"
    yield "CREATE TEXT SEARCH CONFIGURATION own (COPY = pg_catalog.english);"
    yield "ALTER TEXT SEARCH CONFIGURATION own ALTER MAPPING FOR word WITH plain;"
    yield "CREATE COLLATION bytes (provider = libc, locale = 'C');"


def _broken(rnd: random.Random) -> Iterator[str]:
    """Whose restore fails, of each a different kind: functions that find nothing without a search path."""
    yield "CREATE TABLE lookup (i integer); INSERT INTO lookup VALUES (1), (2);"
    yield "CREATE FUNCTION looks(i integer) RETURNS bigint LANGUAGE sql IMMUTABLE SET search_path = public"
    yield "AS 'SELECT count(*) FROM lookup';"
    yield rnd.choice(
        (
            "CREATE MATERIALIZED VIEW looked AS SELECT looks(i) FROM lookup;",
            "CREATE INDEX looked ON lookup (looks(i));",
            "CREATE TABLE checked (i integer CHECK (looks(i) > 0)); INSERT INTO checked VALUES (1);",
        )
    )
    yield "ALTER FUNCTION looks RESET search_path;"
