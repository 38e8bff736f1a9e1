"""Chains whose first stage goes on from a model, on grown data."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pandas
import pytest
from cli_fixtures import called, exit_code

import dglke_distill as kd
from dglke_distill.base.errors import UserError
from dglke_distill.distill import going_on
from dglke_distill.distill.plan import read_chain
from dglke_distill.distill.watcher import Watcher

OLD = [(f"e{i}", f"r{step}", f"e{(i + step) % 12}") for step in (1, 2, 5) for i in range(12)]
NEW = [*OLD, *((f"n{i}", f"r{step}", f"e{i}") for step in (1, 2) for i in range(4))]
NAME = "complex-old-dim8"
SMALL: dict[str, Any] = {"epochs": 1, "threads": 1, "search": "none"}
STILL = {"teacher.optimizer.learning_rate": 1e-9}


def frame(facts: list[tuple[str, str, str]]) -> pandas.DataFrame:
    return pandas.DataFrame(facts, columns=["head", "relation", "tail"])


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> kd.TrainingRun:
    return kd.train(
        frame(OLD), model="complex", dim=8, out=tmp_path_factory.mktemp("before") / "old", **SMALL
    )


def same_vectors(ours: kd.NamedModel, theirs: kd.NamedModel) -> None:
    for name in theirs.entities:
        np.testing.assert_allclose(
            ours.entity_embeddings[ours.entities.id(name)],
            theirs.entity_embeddings[theirs.entities.id(name)],
            atol=1e-6,
        )


def test_the_first_stage_goes_on_and_students_follow(
    before: kd.TrainingRun, tmp_path: Path
) -> None:
    out = tmp_path / "chain"
    run = kd.distill(
        frame(NEW), init=before.directory, dims=[8, 4], control="recipe", settings=STILL, out=out,
        **SMALL,
    )  # fmt: skip
    assert run.teacher is not None
    same_vectors(run.teacher.model, before.model)
    assert len(run.teacher.model.entities) == 16
    found = run.teacher.results.init
    assert found is not None
    assert (found.name, found.entities) == ("old", 12)
    assert all(s.results.init is None for s in run.results.stages if s.role != "teacher")
    assert read_chain(out / "chain.toml")["init"] == str(before.checkpoint.resolve())

    # An interruption before the first stage has saved anything does not lose where it begins.
    for left in (out / "results.json", *sorted((out / "stages").rglob("*"), reverse=True)):
        left.rmdir() if left.is_dir() else left.unlink()
    again = kd.distill(frame(NEW), resume=True, out=out)
    assert again.teacher is not None
    same_vectors(again.teacher.model, before.model)


def test_the_model_is_read_once_and_let_go(
    before: kd.TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[weakref.ref[Any]] = []
    load = going_on.load_checkpoint

    def counted(*given: Any, **more: Any) -> Any:
        assert more == {"store": None, "offline": False}
        found = load(*given, **more)
        read.append(weakref.ref(found.model))
        return found

    held: list[bool] = []
    monkeypatch.setattr(going_on, "load_checkpoint", counted)
    kd.distill(
        frame(NEW), init=before.directory, dims=[8, 4], control="none", out=tmp_path / "chain",
        watcher=Watcher(stage=lambda *_: (gc.collect(), held.append(read[0]() is not None))),
        **SMALL,
    )  # fmt: skip
    assert len(read) == 1
    assert held == [True, False]  # as each stage begins


@pytest.mark.parametrize(
    ("store", "kept"),
    [
        (None, None),
        ("shipped", "shipped"),
        ("s3://team/zoo", "s3://team/zoo"),
        ("~/zoo", "HOME/zoo"),
        ("zoo", "HOME/here/zoo"),
    ],
)
def test_a_store_is_kept_by_its_whole_path(
    store: Optional[str], kept: Optional[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home directory as well, which shells leave as ~ in --store=~/zoo."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = going_on.InitModel(NAME, store=store).store
    assert found == (kept and kept.replace("HOME", str(tmp_path.resolve())))


def test_a_published_model_in_a_store_of_ones_own(
    before: kd.TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The store stands in the chain, so that going on finds the model there again."""
    store, data, out = tmp_path / "store", tmp_path / "data", tmp_path / "out"
    assert exit_code("zoo", "publish", before.checkpoint, "--name", NAME, "--store", store) == 0
    data.mkdir()
    for split, facts in {"train": NEW, "valid": NEW[:3], "test": NEW[3:6]}.items():
        (data / f"{split}.txt").write_text("".join("\t".join(fact) + "\n" for fact in facts))
    monkeypatch.chdir(tmp_path)
    words = ["run", data, "--dims", "8,4", "--control", "none", "--epochs", 1, "--threads", 1]
    words += ["--search", "none", "--out", out, "--init", NAME]
    assert f"the zoo has no model {NAME!r}" in called(capsys, *words).err
    assert exit_code(*words, "--store", "store", "--offline") == 0
    chain = read_chain(out / "chain.toml")
    assert chain["init"] == NAME and chain["init_store"] == str(store.resolve())
    (out / "results.json").unlink()
    shutil.rmtree(out / "stages")
    monkeypatch.chdir(data)
    assert exit_code("run", "--resume", "--offline", "--out", out) == 0
    said = json.loads((out / "results.json").read_text())
    assert said["stages"][0]["results"]["init"]["name"] == NAME


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dims": [16, 8]}, "of 8 floats cannot go on as a first stage of 16; give dims 8"),
        ({"model": "distmult"}, "cannot go on as distmult"),
        ({"settings": {"teacher.model.reciprocal": "other"}}, "with model.reciprocal"),
        ({"method": "direct", "dims": [8]}, "a direct chain trains no teacher"),
        ({"init": "nowhere/at/all"}, "no such checkpoint directory"),
        ({"teacher": "own"}, "teacher= is no stage to train"),
        ({"resume": True}, "a chain that goes on has it already"),
        ({"dataset": [("x", "r1", "y"), ("y", "r1", "x"), ("x", "r2", "y"), ("y", "r2", "x"),
                      ("x", "r3", "x"), ("y", "r3", "y")]}, "none of the 2 entities"),
    ],
)  # fmt: skip
def test_what_cannot_go_on_is_one_line(
    before: kd.TrainingRun, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    options: dict[str, Any] = {
        "init": before.directory, "dims": [8, 4], "control": "none", "out": tmp_path / "out",
        **SMALL, **given,
    }  # fmt: skip
    if given.get("teacher"):
        options["teacher"] = before.checkpoint
    if "settings" in given:
        options["settings"] = {"teacher.model.reciprocal": not reciprocal(before)}
    data = frame(options.pop("dataset", NEW))
    with pytest.raises(UserError) as caught:
        kd.distill(data, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def reciprocal(run: kd.TrainingRun) -> bool:
    return bool(run.model.model.reciprocal)
