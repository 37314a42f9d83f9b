"""For the process that runs are forked from: importing this imports everything that they use, and finds the sinks."""

from importlib import import_module

from tests.warm_program import load

__all__: list[str] = []

# First, since it sees to it that no library starts threads.
load()
import_module("tests.integration.killed_run").HOST.plugins()
