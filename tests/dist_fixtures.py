"""The embedded data in two parts, for tests of training by several trainers."""

from __future__ import annotations

from pathlib import Path

import pytest

from dglke_distill.config import DataConfig
from dglke_distill.data import catalog
from dglke_distill.data.partitioning import partition


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts of cldr, which no test changes."""
    place = tmp_path_factory.mktemp("dist") / "parts"
    partition(catalog.load("cldr"), DataConfig(), place, 2, "random")
    return place
