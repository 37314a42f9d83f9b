"""Where this user's files are, by the conventions of the system: on Linux the XDG Base Directory Specification."""

from collections.abc import Callable
from pathlib import Path

import platformdirs

from penstock.settings import FILE_NAME
from penstock.workspace import Folders

__all__ = ["user_folders"]


def user_folders() -> Folders:
    """The folders of the user who runs the command; the settings file of the working directory comes first."""
    config = _unless_homeless(platformdirs.user_config_path)
    places = (Path(), config, Path("/etc/penstock"))
    return Folders(
        config=config,
        cache=_unless_homeless(platformdirs.user_cache_path),
        settings=tuple(place / FILE_NAME for place in places if place is not None),
    )


def _unless_homeless(find: Callable[..., Path]) -> Path | None:
    """None for a user of whom the system knows no home, as in a container with a user id of its own."""
    try:
        return find("penstock", appauthor=False)
    except RuntimeError:
        return None
