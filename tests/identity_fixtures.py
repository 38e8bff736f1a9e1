"""Datasets and models whose facts are compared, and the commands run on them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_fixtures import Outcome, Run, called

from dglke_distill.data import catalog
from dglke_distill.data.formats import read_file
from dglke_distill.data.writers import write_dataset

SMALL = [
    "--recipe", "none", "--model", "complex", "--epochs", "2", "--threads", "1",
]  # fmt: skip
TRAIN = [*SMALL, "--dim", "8"]
CHAIN = [*SMALL, "--set", "shared.training.batch_size=64"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)

    def call(*arguments: Any, code: int = 0) -> Outcome:
        outcome = called(capsys, *arguments)
        assert outcome.code == code, (outcome.out, outcome.err)
        if code == 2:
            assert outcome.err.startswith("error: ")
            assert outcome.err.count("\n") == 1
        return outcome

    return call


def facts(count: int = 243, entities: int = 30) -> list[str]:
    draw = random.Random(5)
    lines: dict[str, None] = {}
    while len(lines) < count:
        h, t = draw.randrange(entities), draw.randrange(entities)
        lines[f"e{h}\tr{draw.randrange(3)}\te{t}\n"] = None
    return list(lines)


def one_file(folder: Path, lines: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kg.tsv").write_text("".join(lines))
    return folder / "kg.tsv"


def written(folder: Path, lines: list[str], seed: int = 0) -> Path:
    """A folder of train, valid and test."""
    source = one_file(folder.parent / f"source-{folder.name}", lines)
    write_dataset(read_file(source, split_seed=seed), folder)
    return folder


@pytest.fixture
def trained(run: Run, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of triples and a model's checkpoint."""
    data = written(tmp_path / "mine", facts())
    run("train", data, *TRAIN, "--out", tmp_path / "model")
    return data, tmp_path / "model" / "checkpoint"


def fingerprint(place: Path) -> str:
    return catalog.load(str(place)).fingerprint


def results_of(model: Path) -> dict[str, Any]:
    return json.loads((model / "results.json").read_text())


def edit(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tree = results_of(model)
    change(tree)
    (model / "results.json").write_text(json.dumps(tree))


@pytest.fixture
def grown(run: Run, tmp_path: Path) -> tuple[Path, Path, str]:
    """A file that grew, the teacher trained before, and the fingerprint of that time."""
    lines = facts(243)
    file = one_file(tmp_path / "kg", lines[:240])
    run("train", file, *TRAIN, "--out", tmp_path / "teacher")
    before = fingerprint(file)
    one_file(tmp_path / "kg", lines)
    return file, tmp_path / "teacher" / "checkpoint", before
