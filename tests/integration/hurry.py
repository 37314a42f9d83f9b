"""Time that passes faster for those who wait for one another by the store's clock.

The protocol of writers and prunes knows four spans: how long a session lives after its last lease, how late a listing
may be, how long a tombstone stands at least, and how long a prune counts as running. All of its reasoning is about the
order of these and of the store's times, so a world in which each of them is the same part of what it is has the same
histories, only shorter: an hour is a few seconds. What does not shrink is what processes do. A backup of a tenth of a
second then takes minutes of that world, a stall of a busy machine takes hours, and kills are dense where they are rare
in life. That is harder on the protocol, never easier.

The store's own clock has to be finer than the shortest span, as it is in life.
"""

import sys
from datetime import timedelta

from penstock.repository.upkeep import leases, living, presence, tombstones

__all__ = ["LIFE", "hurry"]

#: How long a session lives after its last lease, at the usual pace.
LIFE = leases.LIFE
_SPANS = (leases.LIFE, living.LATE, living.PRUNE_LIFE, tombstones.LEAST_GRACE)
#: The same in seconds, and parts of them.
_SECONDS = {leases: ("_LIFE", "_FRESH", "_EVERY", "_AGAIN"), presence: ("_EVERY",)}


def hurry(factor: int) -> None:
    """Make time pass that much faster in this process, for good: in all modules that know one of the spans."""
    shorter = {id(span): span / factor for span in _SPANS}
    found: set[int] = set()
    for name, module in sorted(sys.modules.items()):
        if not name.startswith("penstock."):
            continue
        for attribute, value in list(vars(module).items()):
            if isinstance(value, timedelta) and id(value) in shorter:
                setattr(module, attribute, shorter[id(value)])
                found.add(id(value))
    assert found == shorter.keys()
    for module, names in _SECONDS.items():
        for name in names:
            setattr(module, name, getattr(module, name) / factor)
