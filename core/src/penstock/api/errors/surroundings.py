"""Errors before the work begins: how a command was called, its settings, secrets and plugins."""

from penstock.api.errors.base import PenstockError

__all__ = [
    "NoPolicy",
    "PluginClash",
    "PluginError",
    "PluginNotFound",
    "PolicyKeepsNothing",
    "SecretUnavailable",
    "SettingsError",
    "UsageError",
]


class UsageError(PenstockError):
    """The command line or a call is invalid."""

    exit_code = 2


class SettingsError(PenstockError):
    """A settings file or a plugin's settings are invalid; names the file, the key and what is allowed."""

    exit_code = 3


class PolicyKeepsNothing(SettingsError):
    """A `keep` of the settings has no rule that keeps anything, so that `forget` would let go of nearly everything."""

    exit_code = 7


class NoPolicy(SettingsError):
    """`forget` was to go by the settings, and no backup that it is about has a `keep` there."""

    exit_code = 8


class SecretUnavailable(PenstockError):
    """A reference to a secret (variable, file, command) cannot be resolved."""

    exit_code = 4


class PluginError(PenstockError):
    """A problem with plugins."""

    exit_code = 5


class PluginNotFound(PluginError):
    """No plugin with that name, kind or URL scheme is installed."""


class PluginClash(PluginError):
    """Two plugins claim one name or scheme."""

    exit_code = 6
