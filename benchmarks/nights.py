"""Nightly dumps of one changing database: the typical input of a backup program.

A private PostgreSQL server gets pgbench's tables and a table of orders (text, jsonb, arrays, numbers, with realistic
entropy). Then for every night, 0.1 % of the rows of both are updated at random, 3,000 orders are inserted and 3,000
deleted, and `pg_dump -Fc -Z0` writes `night-01.dump` and so on. No vacuum runs, as autovacuum would not for so few
changes. All randomness comes from `setseed`, so every run has the same rows.

    python -m benchmarks.nights --folder .benchmarks/nights
"""

import argparse
import subprocess
from pathlib import Path

from tests.servers.postgres import PostgresServer, PostgresServers

__all__ = ["dumps", "make_nights"]

_DATABASE = "nights"
_ORDERS = 300_000
_ARRIVALS = 3_000
_SHARE = 0.001
_PARTIAL = ".partial"

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


def make_nights(folder: Path, *, nights: int, scale: int, pgbench_only: bool) -> None:
    """Create the dumps in `folder`, unless an earlier run has done so."""
    wanted = [folder / f"night-{number:02d}.dump" for number in range(1, nights + 1)]
    if all(dump.exists() for dump in wanted):
        return
    folder.mkdir(parents=True, exist_ok=True)
    servers = PostgresServers()
    try:
        server = servers.newest()
        with server.database(_DATABASE):
            _fill(server, scale, with_orders=not pgbench_only)
            for number, dump in enumerate(wanted, start=1):
                if number > 1:
                    _one_day(server, number, with_orders=not pgbench_only)
                _dump(server, dump)
                print(f"{dump}: {dump.stat().st_size / 1e6:.0f} MB", flush=True)
    finally:
        servers.close()


def dumps(folder: Path) -> list[Path]:
    """The dumps in `folder`, night by night."""
    return sorted(folder.glob("night-*.dump"))


def _program(server: PostgresServer, name: str) -> str:
    if server.bin is None:
        raise SystemExit("the client programs of the PostgreSQL server are not on this machine")
    return str(server.bin / name)


def _where(server: PostgresServer) -> list[str]:
    return [f"--host={server.host}", f"--port={server.port}", f"--username={server.user}"]


def _fill(server: PostgresServer, scale: int, *, with_orders: bool) -> None:
    command = [_program(server, "pgbench"), "-i", "-q", "-s", str(scale), *_where(server), _DATABASE]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if with_orders:
        server.execute(_TABLES, _DATABASE)
        with server.connect(_DATABASE) as connection:
            connection.execute("SET max_parallel_workers_per_gather = 0")
            connection.execute("SELECT setseed(0.1)")
            connection.execute("SELECT new_orders(0, %s)", [_ORDERS])


def _one_day(server: PostgresServer, night: int, *, with_orders: bool) -> None:
    """The changes between two dumps."""
    with server.connect(_DATABASE) as connection:
        connection.execute("SET max_parallel_workers_per_gather = 0")
        connection.execute("SELECT setseed(%s)", [night / 1000])
        connection.execute(
            "UPDATE pgbench_accounts SET abalance = abalance + floor(random() * 10000 - 5000)::int"
            " WHERE aid IN (SELECT aid FROM pgbench_accounts WHERE random() < %s)",
            [_SHARE],
        )
        if not with_orders:
            return
        connection.execute(
            "UPDATE orders SET total = round((random() * 5000)::numeric, 2), note = array_to_string(words(8), ' ')"
            " WHERE id IN (SELECT id FROM orders WHERE random() < %s)",
            [_SHARE],
        )
        connection.execute(
            "DELETE FROM orders WHERE id IN (SELECT id FROM orders ORDER BY random() LIMIT %s)", [_ARRIVALS]
        )
        connection.execute("SELECT new_orders((SELECT max(id) FROM orders), %s)", [_ARRIVALS])


def _dump(server: PostgresServer, place: Path) -> None:
    partial = place.with_name(place.name + _PARTIAL)
    command = [_program(server, "pg_dump"), "-Fc", "-Z0", "-f", str(partial), *_where(server), _DATABASE]
    subprocess.run(command, check=True)
    partial.rename(place)


def main() -> None:
    """Parse the options and create the dumps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".benchmarks/nights"), help="folder for the dumps")
    parser.add_argument("--nights", type=int, default=10)
    parser.add_argument("--scale", type=int, default=30, help="pgbench's scale: 100,000 accounts each")
    parser.add_argument("--pgbench-only", action="store_true", help="without the orders: the worst case")
    options = parser.parse_args()
    make_nights(options.folder, nights=options.nights, scale=options.scale, pgbench_only=options.pgbench_only)


if __name__ == "__main__":
    main()
