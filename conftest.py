"""The fixtures that tests of all distributions share."""

from hypothesis import settings

# postgres first: the others import it, and pytest must come before them to show the values of failing assertions.
pytest_plugins = (
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
settings.register_profile("penstock", deadline=None)
settings.load_profile("penstock")
