"""Where this user's files are, by the conventions of the system: on Linux the XDG Base Directory Specification."""

from pathlib import Path

import platformdirs

from penstock.settings import FILE_NAME
from penstock.workspace import Folders

__all__ = ["user_folders"]


def user_folders() -> Folders:
    """The folders of the user who runs the command; the settings file of the working directory comes first."""
    config = platformdirs.user_config_path("penstock", appauthor=False)
    return Folders(
        config=config,
        cache=platformdirs.user_cache_path("penstock", appauthor=False),
        settings=(Path(FILE_NAME), config / FILE_NAME, Path("/etc/penstock") / FILE_NAME),
    )
