"""From settings to an open repository: plugins, sinks, keys. For the command line, and for any other program.

Nothing in here prints, asks, or reads this process's environment by itself: all of that is handed in.
"""

from penstock.workspace.folders import Folders
from penstock.workspace.unlock import Credentials, Need, Prompts
from penstock.workspace.workspace import Overrides, Place, Plan, Workspace

__all__ = ["Credentials", "Folders", "Need", "Overrides", "Place", "Plan", "Prompts", "Workspace"]
