"""Nights are cheap: what later nights cost, in bytes of everything that is kept, against the first."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.integration import databases
from tests.integration.cases import FilesystemCase, new_server, url_of
from tests.integration.running import Host, with_passphrase
from tests.servers.postgres import PostgresServer

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.unmeasured, pytest.mark.timeout(600)]

SCALE = 30
ROWS = 300_000
NIGHTS = 10


def test_nine_later_nights_together_cost_less_than_the_first(
    server: PostgresServer,
    repository: FilesystemCase,
    host: Host,
    new_host: Callable[[str], Host],
    ran: Callable[..., None],
) -> None:
    stored = [repository.stored()]
    with server.database("nights") as name:
        databases.pgbench(server, name, SCALE)
        server.execute(databases.ORDINARY.format(rows=ROWS), name)
        for night in range(NIGHTS):
            if night:
                server.execute(databases.NIGHT, name)
            host("backup", url_of(server, name), "--quiet")
            stored.append(repository.stored())
        content = databases.content_of(server, name)
    costs = [after - before for before, after in pairwise(stored)]
    first, later = costs[0], sum(costs[1:])
    nights = ", ".join(f"{cost:,}" for cost in costs)
    ran(FIGURES=f"nights of {nights} bytes: nine later ones are {later / first:.2f} of the first")
    assert later < 0.6 * first

    # And the last of them, put together from ten nights, is exact.
    other = new_host("new-host")
    with new_server(server.major) as fresh:
        other.environ |= with_passphrase() | {"PGPASSWORD": fresh.password, "PENSTOCK_REPOSITORY": repository.url}
        other("restore", "latest", "--to", url_of(fresh, name), "--quiet")
        assert databases.content_of(fresh, name) == content
    assert other.json("check", "--read-data")["findings"] == []
