"""A PostgreSQL database: pgbench's tables, and a table of orders (text, jsonb, arrays, numbers, of realistic entropy).

Every day 0.1 % of the rows of both are updated at random, 1 % of the orders are deleted, and as many new ones inserted.
No vacuum runs, as autovacuum would not for so few changes. The dump is that of `pg_dump -Fc -Z0`. All randomness comes
from `setseed`.
"""

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.kinds.kind import Changing
from tests.servers.postgres import PostgresServer, PostgresServers

__all__ = ["PostgresDatabase", "postgres"]

_DATABASE = "nights"
#: For each of pgbench's scale.
_ORDERS = 10_000
_ARRIVALS = 100
_SHARE = 0.001

_TABLES = """
CREATE TABLE orders (
    id bigint PRIMARY KEY,
    placed timestamptz NOT NULL,
    customer text NOT NULL,
    email text NOT NULL,
    note text,
    lines jsonb NOT NULL,
    tags text[] NOT NULL,
    amounts numeric(10, 2)[] NOT NULL,
    total numeric(12, 2) NOT NULL,
    token text NOT NULL
);
-- Words out of 4,000, some of them much more often than others: they compress as texts do.
CREATE FUNCTION words(length int) RETURNS text[] LANGUAGE sql VOLATILE AS $$
    SELECT array_agg(substr(translate(md5('word' || n), '0123456789', 'aeioustrnl'), 1, 3 + n % 8))
    FROM (SELECT floor(random() * random() * 4000)::int AS n FROM generate_series(1, length)) AS chosen
$$;
CREATE FUNCTION new_orders(first bigint, amount int) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO orders
    SELECT
        first + n,
        timestamptz '2026-01-01 00:00:00+00' + (first + n) * interval '17 seconds' + random() * interval '9 seconds',
        initcap(w[1] || ' ' || w[2]),
        w[3] || floor(random() * 100000)::int || '@' || w[4] || '.example',
        CASE WHEN random() < 0.6 THEN array_to_string(w[12:], ' ') END,
        jsonb_build_object(
            'sku', upper(substr(md5(random()::text), 1, 10)),
            'quantity', 1 + floor(random() * 9)::int,
            'price', round((random() * 500)::numeric, 2),
            'options', jsonb_build_array(w[5], w[6] || ' ' || w[7], random() < 0.5),
            'weight', random()
        ),
        w[8:10],
        ARRAY[round((random() * 900)::numeric, 2), round((random() * 90)::numeric, 2)],
        round((random() * 5000)::numeric, 2),
        md5(random()::text) || md5(random()::text)
    FROM generate_series(1, amount) AS n
    CROSS JOIN LATERAL (SELECT words(16 + n * 31 % 24) AS w) AS chosen
$$
"""


@contextmanager
def postgres(scale: int, *, with_orders: bool) -> Iterator["PostgresDatabase"]:
    """On the newest server; `scale` is pgbench's: 100,000 accounts each."""
    with closing(PostgresServers()) as servers:
        server = servers.newest()
        with server.database(_DATABASE):
            yield PostgresDatabase(server, scale, with_orders=with_orders)


class PostgresDatabase(Changing):
    """The database, on a server of its own."""

    name = _DATABASE

    def __init__(self, server: PostgresServer, scale: int, *, with_orders: bool) -> None:
        self.server = server
        self._with_orders = with_orders
        self._arrivals = _ARRIVALS * scale
        command = [self._program("pgbench"), "-i", "-q", "-s", str(scale), *self._where, _DATABASE]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if with_orders:
            server.execute(_TABLES, _DATABASE)
            with server.connect(_DATABASE) as connection:
                connection.execute("SET max_parallel_workers_per_gather = 0")
                connection.execute("SELECT setseed(0.1)")
                connection.execute("SELECT new_orders(0, %s)", [_ORDERS * scale])

    def change(self, night: int) -> None:
        with self.server.connect(_DATABASE) as connection:
            connection.execute("SET max_parallel_workers_per_gather = 0")
            connection.execute("SELECT setseed(%s)", [night / 1000])
            connection.execute(
                "UPDATE pgbench_accounts SET abalance = abalance + floor(random() * 10000 - 5000)::int"
                " WHERE aid IN (SELECT aid FROM pgbench_accounts WHERE random() < %s)",
                [_SHARE],
            )
            if not self._with_orders:
                return
            connection.execute(
                "UPDATE orders SET total = round((random() * 5000)::numeric, 2), note = array_to_string(words(8), ' ')"
                " WHERE id IN (SELECT id FROM orders WHERE random() < %s)",
                [_SHARE],
            )
            connection.execute(
                "DELETE FROM orders WHERE id IN (SELECT id FROM orders ORDER BY random() LIMIT %s)", [self._arrivals]
            )
            connection.execute("SELECT new_orders((SELECT max(id) FROM orders), %s)", [self._arrivals])

    def dump(self, place: Path) -> bytes:
        command = [self._program("pg_dump"), "-Fc", "-Z0", "-f", str(place), *self._where, _DATABASE]
        subprocess.run(command, check=True)
        return b"\n"

    @property
    def _where(self) -> list[str]:
        server = self.server
        return [f"--host={server.host}", f"--port={server.port}", f"--username={server.user}"]

    def _program(self, name: str) -> str:
        if self.server.bin is None:
            raise SystemExit("the client programs of the PostgreSQL server are not on this machine")
        return str(self.server.bin / name)
