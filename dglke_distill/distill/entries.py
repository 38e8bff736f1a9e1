"""What a finished chain has to offer a zoo: one entry per student, ready to be published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dglke_distill.artifacts.results import ChainResults, StageResults, TrainingResults
from dglke_distill.artifacts.results_verdict import VerdictTime
from dglke_distill.base.files import atomic_write_text
from dglke_distill.config import told_recipe
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.chain_recipes import chain_recipe_names, shipped_chain
from dglke_distill.distill.finished import with_teachers
from dglke_distill.models import ENCODERS
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY
from dglke_distill.zoo.entries import describe
from dglke_distill.zoo.registry_file import dump_entries
from dglke_distill.zoo.schema import Entry, compose_name
from dglke_distill.zoo.store import INDEX_FILE

ENTRIES_FILE = INDEX_FILE


def zoo_entries(directory: Path, results: ChainResults) -> list[Entry]:
    """Return a registry entry for each student of a chain, the largest first.

    Args:
        directory: the chain's.
        results: its results.

    Returns:
        The entries; paths are relative to the directory.
    """
    return [
        _entry(directory, results, stage) for stage in results.stages if stage.role == "student"
    ]


def _entry(directory: Path, results: ChainResults, stage: StageResults) -> Entry:
    about: dict[str, Any] = {
        "method": results.method,
        "recipe": _recipe(results.chain),
    }
    before = [each.name for each in with_teachers(stage, results.stages) if each is not stage]
    if before:  # a chain's stages stand in their order, so that the nearest teacher is the last
        about["teacher"] = [
            zoo_name(each.results) for each in reversed(results.stages) if each.name in before
        ]
    for size in [] if results.verdict is None else results.verdict.sizes:
        if size.student == stage.name and size.claim is not None:
            about["verdict"] = size.claim
            if size.time is not None and size.time.goal_valid_mrr is not None:
                about["time"] = _time(size.time)
    place = directory / stage.directory / CHECKPOINT_DIRECTORY
    return describe(place, root=directory, about=about)


def _recipe(chain: Mapping[str, Any]) -> str:
    """Return the recipe of a chain, and whether its settings differ from it."""
    return told_recipe(
        chain,
        chain_recipe_names(),
        lambda name: ChainConfig.from_mapping(shipped_chain(name), name),
    )


def _time(found: VerdictTime) -> dict[str, Any]:
    """Return how long both ways took, as entries say it."""
    time = {
        "goal_valid_mrr": found.goal_valid_mrr,
        "student_seconds": found.student_seconds,
        "direct_seconds": found.control_seconds,
        "teachers_loaded": found.teachers_loaded,
    }
    return {key: value for key, value in time.items() if value is not None}


def zoo_name(results: TrainingResults) -> str:
    """Return the name that a zoo has for a model with these results.

    Raises:
        ValueError: they do not say what was trained, or on what.
    """
    model, config, dataset = results.model, results.config, results.dataset
    if model is None or config is None or dataset is None:
        raise ValueError("model, config or dataset is missing")
    encoder = config["model"]["encoder"]
    return compose_name(
        model.name,
        dataset.name,
        model.floats_per_entity,
        config["training"]["dtype"],
        "" if ENCODERS.find(encoder).is_table else encoder,
    )


def write_entries(directory: Path, results: ChainResults) -> Path:
    """Write the students' entries into the chain's directory, a registry of its own."""
    path = directory / ENTRIES_FILE
    atomic_write_text(path, dump_entries(zoo_entries(directory, results)))
    return path
