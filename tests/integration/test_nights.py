"""Nights are cheap: what later nights cost, in bytes of everything that is kept, against the first."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.integration import databases
from tests.integration.cases import FilesystemCase, new_server, url_of
from tests.integration.running import Host, with_passphrase
from tests.servers.postgres import PostgresServer
from tests.soak import long, times

pytestmark = [pytest.mark.server, pytest.mark.unmeasured]


@pytest.mark.parametrize(
    ("nights", "scale", "rows", "share"),
    [
        # Few changed rows touch few chunks, whatever the size of the tables around them.
        pytest.param(4, 10, 100_000, 0.2, id="short", marks=pytest.mark.slow),
        pytest.param(10, 30, max(300_000, times(300_000)), 0.3, id="for long", marks=long(60)),
    ],
)
def test_later_nights_together_cost_less_than_the_first(
    nights: int,
    scale: int,
    rows: int,
    share: float,
    server: PostgresServer,
    repository: FilesystemCase,
    host: Host,
    new_host: Callable[[str], Host],
    ran: Callable[..., None],
) -> None:
    stored = [repository.stored()]
    with server.database("nights") as name:
        databases.pgbench(server, name, scale)
        server.execute(databases.ORDINARY.format(rows=rows), name)
        for night in range(nights):
            if night:
                server.execute(databases.NIGHT, name)
            host("backup", url_of(server, name), "--quiet")
            stored.append(repository.stored())
        content = databases.content_of(server, name)
    costs = [after - before for before, after in pairwise(stored)]
    first, later = costs[0], sum(costs[1:])
    told = ", ".join(f"{cost:,}" for cost in costs)
    ran(FIGURES=f"nights of {told} bytes: {nights - 1} later ones are {later / first:.2f} of the first")
    assert later < share * first

    # And the last of them, put together from all nights, is exact.
    other = new_host("new-host")
    with new_server(server.major) as fresh:
        other.environ |= with_passphrase() | {"PGPASSWORD": fresh.password, "PENSTOCK_REPOSITORY": repository.url}
        other("restore", "latest", "--to", url_of(fresh, name), "--quiet")
        assert databases.content_of(fresh, name) == content
    assert other.json("check", "--read-data")["findings"] == []
