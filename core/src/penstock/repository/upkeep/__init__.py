"""Upkeep of a repository: locks on the objects that snapshots need."""
