"""What can befall a wait for a child. The public classes turn each into a sentence for the operator."""

__all__ = ["LEFT_BEHIND", "STALL_HINT", "CompanionLost", "LeftBehind", "Stalled", "Stopped", "Trouble"]

LEFT_BEHIND = "has ended, but a process that it left behind keeps its pipe open"
STALL_HINT = "Allow a longer stall timeout if the engine may be silent for that long."


class Trouble(Exception):
    """Base of all that can befall a wait."""


class Stalled(Trouble):
    """The child neither gave nor took a byte in time."""


class LeftBehind(Trouble):
    """The child has ended, but a process that it left behind keeps the pipe open, and silent."""


class Stopped(Trouble):
    """The child was killed from here, perhaps by another thread, while this one waited or before."""


class CompanionLost(Trouble):
    """The child that this one depends on has ended."""
