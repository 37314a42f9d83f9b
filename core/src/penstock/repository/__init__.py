"""A repository: sealed, immutable objects under one prefix of one sink."""

from penstock.repository.repository import Repository
from penstock.repository.snapshots import SnapshotEntry
from penstock.repository.trust.access import Access

__all__ = ["Access", "Repository", "SnapshotEntry"]
