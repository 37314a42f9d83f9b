"""The fixtures that tests of all distributions share."""

import os

from hypothesis import settings

# signals before anything may start a process; postgres first of the servers: the others import it, and pytest must come before them to show the values of failing assertions.
pytest_plugins = (
    "tests.signals",
    "tests.servers.postgres",
    "tests.servers.azure",
    "tests.servers.gcs",
    "tests.servers.mongodb",
    "tests.servers.mysql",
    "tests.servers.redis",
    "tests.servers.s3",
    "tests.clock",
    "tests.sharing",
    "tests.what_ran",
)

# How long an example takes says more of the machine than of the code.
# And in continuous integration a run tells of the change that it is made for, not of its luck with made-up examples:
# those that nobody has tried before are tried wherever somebody works on it.
settings.register_profile("penstock", deadline=None, derandomize="PENSTOCK_TEST_REQUIRE" in os.environ)
settings.load_profile("penstock")
