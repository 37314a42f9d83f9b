"""What `help(penstock.api)` shows: every public name with its first sentence, by the module that it is from."""

import inspect
import sys
from collections import defaultdict
from collections.abc import Iterable

__all__ = ["index"]

_PACKAGE = "penstock.api"


def index(names: Iterable[str]) -> str:
    """The names of the package, a line each."""
    package = vars(sys.modules[_PACKAGE])
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(names, key=str.casefold):
        one = package[name]
        # Constants and aliases have neither a module nor a docstring of their own.
        own = inspect.isclass(one) or inspect.isfunction(one)
        place = str(one.__module__) if own else ""
        lines = (one.__doc__ or "").splitlines() if own else []
        modules[place if place.startswith(_PACKAGE) else ""].append(f"{name:<19} {lines[0] if lines else ''}".rstrip())
    parts = [
        f"{module or 'constants and types'}\n" + "\n".join(f"    {line}" for line in lines)
        for module, lines in sorted(modules.items())
    ]
    return "\n\n".join(parts)
