from pathlib import Path

import pytest
from core.tests.repository.lab import Lab
from core.tests.repository.virtual import VirtualStore


@pytest.fixture
def store() -> VirtualStore:
    """A store in which time passes when a test says so."""
    return VirtualStore()


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    """A fresh repository: in `store`, where that is asked for."""
    return Lab(tmp_path / "cache", request.getfixturevalue("store") if "store" in request.fixturenames else None)
