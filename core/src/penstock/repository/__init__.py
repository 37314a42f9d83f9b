"""A repository: sealed, immutable objects under one prefix of one sink."""

from penstock.repository.access import Access
from penstock.repository.repository import Repository
from penstock.repository.snapshots import SnapshotEntry

__all__ = ["Access", "Repository", "SnapshotEntry"]
