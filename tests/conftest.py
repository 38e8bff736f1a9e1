"""What all tests share: polite threads, a published dataset where one lies, tiny data."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Before torch and numba are imported: tests are small, more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import HealthCheck, settings

import dglke_distill.base.runtime  # noqa: F401 (the environment that torch reads when it is loaded)

# A shell may have them ignored (nohup, or a job in the background), which children would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent

# Compiling a kernel or a busy machine makes a first example slow; that is no failure.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50
)
# The gate judges a revision, the same way each time; new examples are found where people work.
settings.register_profile("gate", settings.get_profile("default"), derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``realdata`` where no published datasets have been placed."""
    if os.environ.get("DGLKE_DISTILL_DATA"):
        return
    for item in items:
        if item.get_closest_marker("realdata"):
            item.add_marker(pytest.mark.skip(reason="DGLKE_DISTILL_DATA is not set"))


@pytest.fixture
def data_root() -> Path:
    """The folder of published datasets; only for tests marked ``realdata``."""
    return Path(os.environ["DGLKE_DISTILL_DATA"])
