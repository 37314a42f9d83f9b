import subprocess
import sys

import pytest

PROGRAM = """
import sys
from penstock_azure.plugin import penstock_register_sink
(sink,) = penstock_register_sink()
made = sink(sink.Settings(account="shopstore", container="shop"))
made.location, made.capabilities(), sink.possible_capabilities
made.close()
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"azure", "isodate", "urllib3", "requests"}))
"""


@pytest.mark.slow
def test_no_sdk_is_imported_before_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == ""
