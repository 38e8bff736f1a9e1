"""What a finished chain has to offer a zoo: one entry per student, ready to be published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tomli_w

from dglke_distill import checkpoint, pipeline
from dglke_distill.data.manifest import load_manifest
from dglke_distill.files import atomic_write_text, sha256_file

__all__ = ["ENTRIES_FILE", "write_entries", "zoo_entries"]

ENTRIES_FILE = "zoo.toml"
_FILES = (
    checkpoint.MODEL_FILE,
    checkpoint.CONFIG_FILE,
    checkpoint.ENTITIES_FILE,
    checkpoint.RELATIONS_FILE,
    checkpoint.RESULTS_FILE,
)


def zoo_entries(directory: Path, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a registry entry for each student of a chain, the largest first.

    Args:
        directory: the chain's. results: what its ``results.json`` holds.

    Returns:
        Mappings as ``zoo.toml`` has them under ``[[model]]``; paths are relative to the directory.
    """
    stages = {stage["name"]: stage for stage in results["stages"]}
    return [
        _entry(directory, results, stage, stages)
        for stage in results["stages"]
        if stage["role"] == "student"
    ]


def _entry(
    directory: Path, results: dict[str, Any], stage: dict[str, Any], stages: dict[str, Any]
) -> dict[str, Any]:
    of, place = stage["results"], Path(stage["directory"]) / pipeline.CHECKPOINT_DIRECTORY
    model, dataset, training = of["model"], of["dataset"], of["training"]
    settings = json.loads((directory / place / checkpoint.CONFIG_FILE).read_text(encoding="utf-8"))
    manifest = load_manifest(dataset["name"])
    git = of["provenance"]["git"] or {"revision": "", "dirty": True}
    chain, teacher = [], stage["teacher"]
    while teacher in stages:
        chain.append(_name(stages[teacher]["results"]))
        teacher = stages[teacher]["teacher"]
    test = of["metrics"].get("test")
    entry: dict[str, Any] = {
        "name": _name(of),
        "version": 1,
        "model": model["name"],
        "dataset": dataset["name"],
        "dim": model["floats_per_entity"],
        "params": model["parameters"],
        "dtype": of["config"]["training"]["dtype"],
        "bytes_per_entity": model["bytes_per_entity"],
        "dataset_fingerprint": dataset["fingerprint"],
        "method": results["method"],
        "teacher": chain or [str(Path(stage["teacher"]).name)],
        "recipe": results["chain"].get("recipe") or "",
        "commit": git["revision"],
        "dirty": git["dirty"],
        "seed": training["seed"],
        "licence": manifest.license if manifest is not None else "",
        "citation": manifest.citation.strip() if manifest is not None else "",
        "vocab": {
            kind: {key: settings[kind][key] for key in ("count", "sha256")}
            for kind in ("entities", "relations")
        },
        "files": [
            {
                "path": (place / name).as_posix(),
                "sha256": sha256_file(directory / place / name),
                "bytes": (directory / place / name).stat().st_size,
            }
            for name in _FILES
        ],
    }
    if test is not None:
        entry["metrics"] = {
            "split": "test",
            "protocol": "filtered, both sides, all entities",
            "ties": "realistic",
            "mrr": test["mrr"],
            **{f"hits_at_{k}": test[f"hits@{k}"] for k in (1, 3, 10)},
        }
    return entry


def _name(results: dict[str, Any]) -> str:
    model = results["model"]
    dataset = results["dataset"]["name"]
    return f"{model['name']}-{dataset}-dim{model['floats_per_entity']}".lower()


def write_entries(directory: Path, results: dict[str, Any]) -> Path:
    """Write the students' entries into the chain's directory, a registry of its own."""
    path = directory / ENTRIES_FILE
    tree = {"schema": 1, "model": zoo_entries(directory, results)}
    atomic_write_text(path, tomli_w.dumps(tree))
    return path
