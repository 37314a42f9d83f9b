"""Long runs: what `make soak` adds to `make test`, and how long it lasts.

A test for `make soak` alone has the marker `soak`; its short version is in `make test`. Tests of made-up examples take
many more of them then. The environment variable PENSTOCK_SOAK says that a run is such a one, and how long: 1 is what
CONTRIBUTING.md tells the time of, 4 takes four times as long, 0.1 tries whether all of it works.
"""

import math
import os

import pytest

__all__ = ["SOAKING", "examples", "long", "times"]

VARIABLE = "PENSTOCK_SOAK"
SOAKING = VARIABLE in os.environ
#: How many times the usual number of made-up examples.
_MORE_EXAMPLES = 15


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale <= 1000:
        raise pytest.UsageError(f"{VARIABLE}={text!r} is not a number above 0 and up to 1000")
    return scale


SCALE = _scale(os.environ.get(VARIABLE, "1"))


def times(count: int) -> int:
    """That many rounds of a long run, by the length that was asked for; one at least."""
    return max(1, round(count * SCALE))


def examples(count: int) -> int:
    """For `max_examples`: that many in `make test` and `make check`, and many more in a long run."""
    return max(count, round(count * _MORE_EXAMPLES * SCALE)) if SOAKING else count


def long(minutes: float) -> list[pytest.MarkDecorator]:
    """The marks of a test for `make soak` alone that ends within so many minutes on a busy machine."""
    return [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(minutes * 60 * max(1.0, SCALE))]
