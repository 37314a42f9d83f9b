"""For the tests of plugins and of Penstock itself: conformance kits, and parts that behave, or fail, on demand.

Nothing here is imported at run time. Only the conformance kits need pytest.
"""

import sys

from penstock.testing.faults import Delay, Die, Died, Fail, Fault, FaultySink, FlipBit, Truncate
from penstock.testing.memory import MemorySink
from penstock.testing.memory_source import SyntheticSettings, SyntheticSource

__all__ = [
    "Delay",
    "Die",
    "Died",
    "Fail",
    "Fault",
    "FaultySink",
    "FlipBit",
    "MemorySink",
    "SyntheticSettings",
    "SyntheticSource",
    "Truncate",
]

if "pytest" in sys.modules:  # so that a failing assertion of a kit shows its values
    sys.modules["pytest"].register_assert_rewrite(
        "penstock.testing.dumping",
        "penstock.testing.kit",
        "penstock.testing.plain",
        "penstock.testing.sink_checks",
        "penstock.testing.sink_conduct",
        "penstock.testing.sink_conformance",
        "penstock.testing.sink_listings",
        "penstock.testing.sink_locks",
        "penstock.testing.sink_objects",
        "penstock.testing.sink_processes",
        "penstock.testing.sink_races",
        "penstock.testing.sink_trials",
        "penstock.testing.source_conformance",
        "penstock.testing.source_dumps",
        "penstock.testing.source_plans",
        "penstock.testing.source_processes",
        "penstock.testing.source_restores",
        "penstock.testing.source_secrets",
        "penstock.testing.source_surroundings",
        "penstock.testing.source_trials",
        "penstock.testing.source_views",
        "penstock.testing.traces",
    )
