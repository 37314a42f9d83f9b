from pathlib import Path

import pytest
from core.tests.repository.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A fresh repository."""
    return Lab(tmp_path / "cache")
