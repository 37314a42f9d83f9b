"""PgBouncer in front of a PostgreSQL server, as applications connect to it."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from tests.servers.postgres import PostgresServer, free_port, missing

__all__ = ["pooled"]

_PROGRAM = Path(__file__).parents[2] / ".servers/pgbouncer/usr/sbin/pgbouncer"
_START_SECONDS = 30.0


@contextmanager
def pooled(server: PostgresServer, *, mode: str = "transaction", size: int = 1) -> Iterator[PostgresServer]:
    """The server as a pooler with `size` connections for each database shows it; skips or fails without PgBouncer."""
    if not _PROGRAM.exists():
        missing("postgres-pgbouncer", "PgBouncer is not installed: run tests/install-servers")
    with TemporaryDirectory(prefix="pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # it refuses to run as root
        program = Path(shutil.copy(_PROGRAM, folder))
        port = free_port()
        (folder / "users.txt").write_text(f'"{server.user}" "{server.password}"\n', encoding="utf-8")
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server.host} port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
            f"auth_file = {folder}/users.txt\npool_mode = {mode}\ndefault_pool_size = {size}\n"
            "query_wait_timeout = 20\nignore_startup_parameters = extra_float_digits\n",
            encoding="utf-8",
        )
        somebody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        process = subprocess.Popen(
            [*somebody, str(program), "--quiet", str(folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            shown = replace(server, port=port, host="127.0.0.1")
            _wait(shown, process)
            yield shown
        finally:
            process.terminate()
            process.wait(30)


def _wait(pooler: PostgresServer, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            pooler.query("SELECT 1")
            return
        except psycopg.OperationalError:
            if time.monotonic() > until or process.poll() is not None:
                raise
            time.sleep(0.05)
