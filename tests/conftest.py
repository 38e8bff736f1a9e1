"""What all tests share: polite threads, a published dataset where one lies, tiny data."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

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

# Files whose tests are all `slow`; `make test-fast` does not even import them.
SLOW = frozenset(
    """
    api bounds bundle_faults calibration calibration_named candidates chain_init claims cli
    cli_calibrate cli_compress cli_data cli_exits cli_run complete
    compression data_identity data_teachers disk dist_chain dist_launch
    dist_partition dist_relations distill_chain
    distill_compare distill_dualde distill_entries distill_extra_queries distill_gradients
    distill_initialization distill_loading distill_mulde distill_objective distill_structure
    distill_verdict documents every_command
    export export_onnx extend file_kinds foreign_hostile fuzz hogwild
    hostile_data hostile_servers import_openke import_pykeen interop kernels kernels_adversarial
    kernels_distillation kernels_products kill memory node_piece node_piece_tokens ogb_data
    ogb_evaluation ogb_recipes optim_mixed plugin_example protocols published_layouts reader_fuzz
    rehearsal relation_prediction report resume runtime sampling_neighbors sampling_turns search
    serve serve_answers serve_browser serve_labels serve_limits synthetic_biokg synthetic_wikikg2
    tables testing train wikikg90m zoo_hostile zoo_many zoo_publish zoo_web
    """.split()
)

# Compiling a kernel or a busy machine makes a first example slow; that is no failure.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50
)
# The gate judges a revision, the same way each time; new examples are found where people work.
settings.register_profile("gate", settings.get_profile("default"), derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "default")


def is_slow(path: Path) -> bool:
    """Return whether all tests of a file are slow."""
    return path.name.startswith("test_") and path.stem[len("test_") :] in SLOW


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> Optional[bool]:
    """Leave out what the expression after ``-m`` would leave out after its import."""
    return True if config.option.markexpr == "not slow" and is_slow(collection_path) else None


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the collector from what is imported: it took a seventh of the time of quick tests."""
    gc.disable()
    yield
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow files; skip tests marked ``realdata`` where there are no published datasets."""
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)
    if os.environ.get("DGLKE_DISTILL_DATA"):
        return
    for item in items:
        if item.get_closest_marker("realdata"):
            item.add_marker(pytest.mark.skip(reason="DGLKE_DISTILL_DATA is not set"))


@pytest.fixture
def data_root() -> Path:
    """The folder of published datasets; only for tests marked ``realdata``."""
    return Path(os.environ["DGLKE_DISTILL_DATA"])
