"""penstock.toml: where repositories and backups are written down."""

from penstock.settings.example import EXAMPLE
from penstock.settings.file import FILE_NAME, Settings, find_settings, load_settings, places
from penstock.settings.models import BackupSettings, Defaults, RepositorySettings
from penstock.settings.schema import settings_schema
from penstock.settings.sizes import parse_size

__all__ = [
    "EXAMPLE",
    "FILE_NAME",
    "BackupSettings",
    "Defaults",
    "RepositorySettings",
    "Settings",
    "find_settings",
    "load_settings",
    "parse_size",
    "places",
    "settings_schema",
]
