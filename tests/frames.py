"""What a failed test held ends with it.

pytest keeps the traceback of a failure, and with it every object of its frames, until the next test runs: an unclosed
child, socket or file would be collected in there, and its warning, which is an error, or its descriptor would be
counted against a test that has nothing to do with it. One failure would look like five.
"""

import gc
import sys
import warnings
from collections.abc import Iterator

import pytest

_LAST = ("last_exc", "last_type", "last_value", "last_traceback")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let go of a failed test's frames as soon as everything about the failure is reported."""
    result = yield
    if any(hasattr(sys, name) for name in _LAST):
        for name in _LAST:
            if hasattr(sys, name):
                delattr(sys, name)
        with warnings.catch_warnings():
            # The failure is told already; that it left something open is its consequence.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    return result
