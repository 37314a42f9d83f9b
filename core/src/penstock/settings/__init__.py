"""penstock.toml: repositories, backups and defaults."""

from penstock.settings.durations import parse_duration, spell_duration
from penstock.settings.example import EXAMPLE
from penstock.settings.file import FILE_NAME, Settings, find_settings, load_settings
from penstock.settings.keeping import Keep
from penstock.settings.models import BackupSettings, Defaults, RepositorySettings
from penstock.settings.schema import settings_schema
from penstock.settings.sizes import parse_size

__all__ = [
    "EXAMPLE",
    "FILE_NAME",
    "BackupSettings",
    "Defaults",
    "Keep",
    "RepositorySettings",
    "Settings",
    "find_settings",
    "load_settings",
    "parse_duration",
    "parse_size",
    "settings_schema",
    "spell_duration",
]
