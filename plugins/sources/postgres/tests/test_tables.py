"""A database by tables: its streams, and what comes back of them."""

import pytest
from plugins.sources.postgres.tests.conftest import MakeSource
from tests.servers.postgres import PostgresServer
from tests.servers.streams import dump_all, restore_all

pytestmark = pytest.mark.server


def test_everything_comes_back_as_it_was(postgres: PostgresServer, source_of: MakeSource) -> None:
    with postgres.database('nasty "näme" o\'clock = x') as name, postgres.database("copy") as copy:
        postgres.fill_nasty(name)
        dump = dump_all(source_of(postgres, name, layout="tables"))
        before = postgres.as_text(name)
        postgres.drop(copy)
        restore_all(source_of(postgres, copy), dump)
        assert postgres.as_text(copy) == before
        assert len(before) > 1_000_000
