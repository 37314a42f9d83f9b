"""The fixtures that tests of all distributions share."""

import os

import pytest
from hypothesis import settings
from tests.soak import SOAKING, examples

# signals before anything may start a process. Of the servers postgres first: the others import it, and pytest must come
# before them to show the values of failing assertions.
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
    "tests.error_details",
    "tests.frames",
    "tests.sharing",
    "tests.what_ran",
)

# As if its tests were in the modules of those that inherit them.
pytest.register_assert_rewrite("tests.servers.attempts")

# How long an example takes says more of the machine than of the code.
# And in continuous integration a run tells of the change that it is made for, not of its luck with made-up examples:
# those that nobody has tried before are tried wherever somebody works on it.
settings.register_profile(
    "penstock",
    deadline=None,
    max_examples=examples(100),
    derandomize="PENSTOCK_TEST_REQUIRE" in os.environ and not SOAKING,
    print_blob=True,
)
settings.load_profile("penstock")
