"""Finds plugins, checks them, and makes sources and sinks from settings and URLs."""

from penstock.plugins.host import PluginHost, PluginInfo
from penstock.plugins.loading import BrokenPlugin
from penstock.plugins.registry import Kind

__all__ = ["BrokenPlugin", "Kind", "PluginHost", "PluginInfo"]
