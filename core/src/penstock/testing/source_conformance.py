"""What every source must do, as tests.

The author of a source writes a `SourceLab`, and one fixture:

    class TestMySource(SourceConformance):
        @pytest.fixture
        def lab(self, tmp_path: Path) -> SourceLab:
            return MyLab(tmp_path)

Where a seed takes long, the fixture may give what another one, of a wider scope, has made: no test needs a database
that no other has used.

The tests are adversarial: they look for what dumps are known to get wrong, and let the dump program be killed, stall,
or lie about its end. A subclass may add tests. It may replace one only if it says why with `deviates`, and never an
`essential` one: without those a backup may be worth nothing, or a secret be read. What does not apply to a source (it
has no child process, or no secret) its lab says with `NotApplicable`; that is a skip by name.
"""

import pytest

from penstock.testing.dumping import Dumped, dump_all
from penstock.testing.kit import ConformanceKit, NotApplicable, deviates
from penstock.testing.source_dumps import DumpTests
from penstock.testing.source_lab import BadObject, ChildProgram, Differences, SourceLab, Target
from penstock.testing.source_plans import PlanTests
from penstock.testing.source_processes import ProcessTests
from penstock.testing.source_restores import RestoreTests
from penstock.testing.source_secrets import SecrecyTests
from penstock.testing.source_surroundings import SurroundingsTests
from penstock.testing.source_views import ViewTests

__all__ = [
    "BadObject",
    "ChildProgram",
    "Differences",
    "Dumped",
    "NotApplicable",
    "SourceConformance",
    "SourceLab",
    "Target",
    "deviates",
    "dump_all",
]


class SourceConformance(
    SurroundingsTests, DumpTests, ViewTests, PlanTests, RestoreTests, ProcessTests, SecrecyTests, ConformanceKit
):
    """All tests of a source; see the module. `patience` is how many seconds a call may take that should end at once."""

    @pytest.fixture
    def lab(self) -> SourceLab:
        """The source and its surroundings. To be overridden."""
        raise NotImplementedError("a subclass of SourceConformance has a fixture `lab` that gives a SourceLab")
