"""Directories of finished runs and comparisons, as the distiller leaves them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dglke_distill.base.tensor_files import save_state

DATASET = {
    "name": "fb15k237",
    "fingerprint": "30f2e395b9df4f65b584b6f85d8ccc729ad1fdccc7474e38829a4a3b92e3b2ee",
    "entities": 14541,
    "relations": 237,
    "triples": {"train": 272115, "valid": 17535, "test": 20466},
}
PROVENANCE = {
    "version": "0.1.0",
    "git": {"revision": "0e800e5093764f1c3c2e2e126d87c6735dbeb4ec", "dirty": True},
    "python": "3.11.7",
    "torch": "2.13.0+cpu",
    "dgl": "1.1.3",
    "hardware": {"cpu": "AMD EPYC", "cores": 2, "memory_bytes": 25274793984, "cuda": []},
    "platform": "Linux-6.18-x86_64-with-glibc2.36",
    "date": "2026-11-23T21:33:13+00:00",
}
CATEGORIES = {"1-1": (384, 1.25), "1-N": (2578, 0.72), "N-1": (9010, 1.22), "N-N": (28960, 0.95)}
MRR = {512: 0.3571, 256: 0.3522, 128: 0.3437, 64: 0.3341, 32: 0.3214}
DIMS = (512, 256, 128, 64, 32)
BUDGET = "direct-complex-dim32-budget"
CONTROLS = {"direct-complex-dim32": 0.2953, BUDGET: 0.2991}


def metrics(mrr: float, *, categories: bool = True) -> dict[str, Any]:
    """As ``RankingResult.to_dict``; hits differ from each other and from the MRR."""
    figures = {"mr": 170.0, "hits@1": 0.72 * mrr, "hits@3": 1.09 * mrr, "hits@10": 1.5 * mrr}
    hits = {"hits@1": 0.1, "hits@3": 0.2, "hits@10": 0.3}
    by_category = {
        name: {"both": {"mrr": mrr * factor, "mr": 100.0, **hits, "count": count}}
        for name, (count, factor) in CATEGORIES.items()
    }
    return {
        "mrr": mrr,
        **figures,
        "count": 40932,
        "by_side": {},
        "by_category": by_category if categories else {},
    }


def stage(
    name: str,
    role: str,
    dim: int,
    mrr: float,
    *,
    teacher: str | None = None,
    model: str = "ComplEx",
    epochs: int = 40,
    seconds: float = 300.0,
    categories: bool = True,
) -> dict[str, Any]:
    """A stage as it stands in ``results.json``."""
    results: dict[str, Any] = {
        "schema": 1,
        "dataset": DATASET,
        "model": {
            "name": model,
            "dim": dim,
            "floats_per_entity": dim,
            "bytes_per_entity": 4 * dim,
            "parameters": (14541 + 474) * dim,
        },
        "metrics": {
            "valid": metrics(mrr + 0.006),
            "test": metrics(mrr, categories=categories),
        },
        "training": {
            "epochs": epochs,
            "best_epoch": epochs - epochs % 5,
            "best_validation_mrr": mrr + 0.005,
            "seconds": seconds,
            "validation_seconds": 0.12 * seconds,
        },
        "provenance": PROVENANCE,
    }
    if role == "student":
        results["distillation"] = {"method": "iterde"}
        results["training"]["setup_seconds"] = 0.04 * seconds
    directory = f"stages/{name}"
    return {
        "name": name, "role": role, "teacher": teacher, "directory": directory, "results": results
    }  # fmt: skip


def chain_stages(
    dims: Sequence[int] = DIMS, *, controls: Mapping[str, float] = CONTROLS
) -> list[dict[str, Any]]:
    """The stages of a chain and its controls at the last of the dims."""
    found: list[dict[str, Any]] = []
    for index, dim in enumerate(dims):
        role = "student" if index else "teacher"
        name = f"{index}-{role}-complex-dim{dim}" if not index else f"{index}-complex-dim{dim}"
        before = found[-1]["name"] if found else None
        seconds = 90 + 1.6 * dim
        found.append(stage(name, role, dim, MRR[dim], teacher=before, seconds=seconds))
    for name, mrr in controls.items():
        role = "direct_budget" if name.endswith("budget") else "direct"
        seconds = 1900.0 if role == "direct_budget" else 130.0
        found.append(stage(name, role, dims[-1], mrr, seconds=seconds, epochs=60))
    return found


def history(of: Mapping[str, Any]) -> list[dict[str, float | str]]:
    """A plausible course of a stage's training."""
    training, student = of["results"]["training"], of["role"] == "student"
    epochs, best = training["epochs"], training["best_validation_mrr"]
    rows: list[dict[str, float | str]] = []
    for epoch in range(1, epochs + 1):
        part = epoch / epochs
        hard, soft, weight = 2.4 + 4.5 * math.exp(-5 * part), 0.9 * math.exp(-3 * part), part**1.5
        row: dict[str, float | str] = {"epoch": float(epoch), "loss": hard, "hard": hard}
        if student:
            row.update(loss=hard + weight * soft, soft=soft, soft_weight=weight)
        checked = epoch % 5 == 0 or epoch == epochs
        row.update(learning_rate=0.1 * (1 - part), seconds=part * training["seconds"])
        row["validation_mrr"] = (
            best * (1 - math.exp(-6 * part)) / (1 - math.exp(-6)) if checked else ""
        )
        rows.append(row)
    return rows


def write_run(directory: Path, stages: Sequence[Mapping[str, Any]] | None = None) -> Path:
    """Write a finished chain; ``stages`` instead of those of ``chain_stages``."""
    stages = chain_stages() if stages is None else stages
    for entry in stages:
        folder = directory / str(entry["directory"])
        folder.mkdir(parents=True, exist_ok=True)
        if "training" in entry["results"]:
            rows = history(entry)
            with (folder / "history.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "chain.toml").write_text('method = "iterde"\ndims = [512, 256, 128, 64, 32]\n')
    chain = [s for s in stages if s["role"] in ("teacher", "student")]
    results = {
        "schema": 1,
        "kind": "chain",
        "method": "iterde",
        "seed": 7,
        "dataset": DATASET,
        "chain": {"method": "iterde"},
        "stages": list(stages),
        "summary": {
            "chain_seconds": sum(s["results"].get("training", {}).get("seconds", 0) for s in chain),
        },
        "verdict": {"level": 0.95, "interval": "bootstrap", "sizes": verdicts(stages)},
        "provenance": PROVENANCE,
    }
    (directory / "results.json").write_text(json.dumps(results))
    return directory


SENTENCE = "the student is better by 7.5 % [5.0, 9.9] than the same size trained directly"


def calibrate_stage(directory: Path, name: str, held_out: Any = None) -> None:
    """Put a calibration, of which a report reads the figures alone, beside a stage's weights."""
    points = [{"predicted": 0.1, "observed": 0.2, "share": 0.5}]
    figures = {
        when: {"expected_calibration_error": error, "brier_score": 0.1, "reliability": points}
        for when, error in (("before", 0.25), ("after", 0.03125))
    }
    held = {"split": "test", "facts": 60, "negatives": 120, **figures}
    place = directory / "stages" / name / "checkpoint"
    place.mkdir(parents=True, exist_ok=True)
    about = {"about": {"held_out": held if held_out is None else held_out}}
    save_state(place / "calibration.safetensors", {"probe": torch.zeros(1)}, about)


def verdicts(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The verdict on the last student, against the control of equal time, if there is one."""
    names = {stage["name"]: stage for stage in stages}
    if BUDGET not in names:
        return []
    student = [stage for stage in stages if stage["role"] == "student"][-1]
    gain = MRR[32] / CONTROLS[BUDGET] - 1
    return [
        {
            "student": student["name"],
            "control": BUDGET,
            "dim": 32,
            "sentence": SENTENCE,
            "outcome": "better",
            "student_mrr": MRR[32],
            "control_mrr": CONTROLS[BUDGET],
            "gain": gain,
            "low": 0.0502,
            "high": 0.0991,
            "time": {"student_seconds": 1204.5, "control_seconds": 1711.0},
        }
    ]


METHODS = {
    "iterde": (0.3214, 210.0, 1400.0),
    "bkd": (0.3151, 190.0, 900.0),
    "ta": (0.3176, 200.0, 1100.0),
    "dualde": (0.3149, 540.0, 1450.0),
    "rkd": (0.3049, 230.0, 980.0),
    "fitnet": (0.3004, 240.0, 990.0),
    "direct": (0.2953, 130.0, None),
}


def write_comparison_results(directory: Path, seeds: Sequence[int] = (0, 1, 2)) -> Path:
    """Write the ``results.json`` of a comparison."""
    rows = [
        {
            "method": method,
            "seed": seed,
            "model": "ComplEx",
            "dim": 32,
            "floats_per_entity": 32,
            "bytes_per_entity": 128,
            "parameters": 480480,
            "mrr": mrr + 0.0013 * (seed - 1),
            "hits_at_1": 0.7 * mrr,
            "hits_at_3": 1.1 * mrr,
            "hits_at_10": 1.5 * mrr,
            "valid_mrr": mrr + 0.006,
            "training_seconds": seconds * (1 + 0.03 * seed),
            "chain_seconds": chain,
            "share_of_teacher": mrr / 0.3571,
            "epochs": 50 if method == "direct" else 80,
        }
        for method, (mrr, seconds, chain) in METHODS.items()
        for seed in seeds
    ]
    teacher = stage("0-teacher-complex-dim512", "teacher", 512, 0.3571)
    tree = {
        "schema": 1,
        "kind": "comparison",
        "dataset": DATASET,
        "teacher": teacher,
        "rows": rows,
        "gains": {
            method: {
                "gain": mrr / 0.2953 - 1,
                "low": 0.01,
                "high": 0.123,
                "seeds": 3,
                "questions": 9,
            }
            for method, (mrr, _, _) in METHODS.items()
            if method != "direct"
        },
        "provenance": PROVENANCE,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(tree))
    return directory
