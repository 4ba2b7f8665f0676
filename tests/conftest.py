"""Where the data is, and small makers that several tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA


@pytest.fixture
def shared() -> Path:
    """The large sets of real pictures; tests that need them are left out where they are not."""
    if not SHARED.is_dir():
        pytest.skip("the large picture sets are not here")
    return SHARED / "data"
