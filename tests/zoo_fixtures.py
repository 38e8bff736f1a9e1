"""A small trained model, stores made of it, and ways to spoil them."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from distill_fixtures import write_clock

from dglke_distill.artifacts import checkpoint
from dglke_distill.config import Config
from dglke_distill.runs import train_run as pipeline
from dglke_distill.zoo import publish

NAME = "complex-clock-dim8"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 24 entities and 3 relations, ranked on its valid and test splits."""
    folder = tmp_path_factory.mktemp("trained")
    tree = {
        "data": {"dataset": str(write_clock(folder / "clock"))},
        "model": {"name": "ComplEx", "dim": 8},
        "loss": {"name": "softmax"},
        "training": {"mode": "k_vs_all", "epochs": 3, "batch_size": 16, "threads": 1},
        "evaluation": {"split": "test"},
    }
    pipeline.train_run(Config.from_mapping(tree, "test"), folder / "run")
    return folder / "run" / pipeline.CHECKPOINT_DIRECTORY


def as_published(results: dict[str, Any]) -> dict[str, Any]:
    """Return results of a checkpoint without the place that its dataset had."""
    tree: dict[str, Any] = json.loads(json.dumps(results))
    tree["dataset"].pop("path")
    tree["config"]["data"]["dataset"] = tree["dataset"]["name"]
    return tree


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: nothing of the user's is read or written."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("DGLKE_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DGLKE_DISTILL_STORES", raising=False)
    return tmp_path


@pytest.fixture
def store(trained: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the trained model is published."""
    monkeypatch.setenv("DGLKE_DISTILL_DATA", str(trained.parent.parent))  # where its data lies
    publish(trained, store=home / "store")
    return home / "store"


def variant(trained: Path, target: Path, seed: int) -> Path:
    """Write a checkpoint like another, with weights of its own."""
    loaded = checkpoint.load_model(trained)
    loaded.model.reset(seed)
    names = loaded.entities, loaded.relations
    checkpoint.save_model(target, loaded.model, loaded.config, *names, loaded.results)
    return target


def change_registry(store: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite a store's registry, its tree changed in place."""
    index = store / "zoo.toml"
    tree = tomllib.loads(index.read_text(encoding="utf-8"))
    change(tree)
    index.write_text(tomli_w.dumps(tree), encoding="utf-8")


def change_file(store: Path, name: str, content: bytes, *, registered: bool = True) -> Path:
    """Put other bytes in the place of a model's file; if ``registered``, in the registry too."""
    tree = tomllib.loads((store / "zoo.toml").read_text(encoding="utf-8"))
    (file,) = (file for file in tree["model"][0]["files"] if file["name"] == name)
    place: Path = store / file["path"]
    place.write_bytes(content)

    def register(tree: dict[str, Any]) -> None:
        for entry in tree["model"][0]["files"]:
            if entry["name"] == name:
                entry.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))

    if registered:
        change_registry(store, register)
    return place
