"""Files of a run under way that were damaged or edited: refused by what a run can have left."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, compose
from dglke_distill.runs.train_run import train_run
from dglke_distill.training import loop

About = dict[str, Any]
Tensors = dict[str, torch.Tensor]
ROWS, SUM = "model.encoder.weight", "optimizer.0"


def config(folder: Path) -> Config:
    training = {"epochs": 3, "batch_size": 16, "evaluate_every": 1, "threads": 1}
    tree = {
        "data": {"dataset": str(folder)},
        "model": {"name": "TransE", "dim": 4},
        "negatives": {"count": 4},
        "training": training,
    }
    return compose([tree], recipe=None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset, and a run on it that lacks nothing but its checkpoint."""
    folder = tmp_path_factory.mktemp("data")
    facts = [f"e{i}\tr{(i + j) % 2}\te{j}\n" for i, j in itertools.permutations(range(8), 2)]
    for name, part in (("train", facts[12:]), ("valid", facts[:6]), ("test", facts[6:12])):
        (folder / f"{name}.txt").write_text("".join(part))
    run = tmp_path_factory.mktemp("runs") / "run"
    train_run(config(folder), run)
    shutil.rmtree(run / "checkpoint")
    return folder, run


@pytest.fixture()
def begun(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The dataset, and a copy of the run to damage."""
    shutil.copytree(finished[1], tmp_path / "run")
    return finished[0], tmp_path / "run"


def edit(path: Path, change: Callable[[About, Tensors], Any]) -> None:
    """Change metadata and tensors of a file of ours."""
    with safe_open(path, framework="pt") as stream:
        header = stream.metadata()
    about, tensors = json.loads(header["dglke_distill"]), load_file(path)
    change(about, tensors)
    save_file(tensors, path, {"dglke_distill": json.dumps(about)})


def put(*keys: Any, value: Any) -> Callable[[About, Tensors], Any]:
    """Return a change that sets one value of the metadata."""

    def change(about: About, _: Tensors) -> None:
        node = about
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


def structure(old: str, new: str) -> Callable[[About, Tensors], Any]:
    """Return a change to the text that holds the optimiser's state together."""

    def change(_: About, tensors: Tensors) -> None:
        text = bytes(tensors["optimizer.structure"].tolist()).decode()
        assert old in text
        changed = list(text.replace(old, new, 1).encode())
        tensors["optimizer.structure"] = torch.tensor(changed, dtype=torch.uint8)

    return change


DAMAGE: dict[str, Callable[[About, Tensors], Any]] = {
    "no state": lambda about, _: about.pop("state"),
    "state is a list": put("state", value=[]),
    "no dataset": lambda about, _: about.pop("dataset"),
    "dataset is a number": put("dataset", value=5),
    "threads as text": put("threads", value="x"),
    "other settings": put("config", value="x = 1"),
    "run is a number": put("run", value=5),
    "no epoch": lambda about, _: about["state"].pop("epoch"),
    "unknown key": put("state", "more", value=1),
    "epoch -5": put("state", "epoch", value=-5),
    "epoch 10^9": put("state", "epoch", value=10**9),
    "epoch one": put("state", "epoch", value="one"),
    "epoch true": put("state", "epoch", value=True),
    "epoch 1.5": put("state", "epoch", value=1.5),
    "early end": put("state", "epoch", value=1),
    "batch -1": put("state", "batch", value=-1),
    "batch 10^9": put("state", "batch", value=10**9),
    "best 2": put("state", "best", value=2),
    "best nan": put("state", "best", value=math.nan),
    "best high": put("state", "best", value="high"),
    "best epoch": put("state", "best_epoch", value=99),
    "no best epoch": put("state", "best_epoch", value=0),
    "stale": put("state", "stale", value=10**6),
    "history short": put("state", "history", value=[]),
    "history text": put("state", "history", value=[{"epoch": "x"}] * 3),
    "history numbers": put("state", "history", value=[1, 2, 3]),
    "seconds -1": put("state", "seconds", value=-1.0),
    "seconds inf": put("state", "seconds", value=math.inf),
    "finished 1": put("state", "finished", value=1),
    "loss nan": put("state", "loss_sum", value=math.nan),
    "parts": put("state", "parts_sum", value={"hard": "x"}),
    "rows missing": lambda _, tensors: tensors.pop(ROWS),
    "rows cut": lambda _, tensors: tensors.update({ROWS: tensors[ROWS][1:].clone()}),
    "rows double": lambda _, tensors: tensors.update({ROWS: tensors[ROWS].double()}),
    "rows nan": lambda _, tensors: tensors[ROWS].fill_(math.nan),
    "unknown tensor": lambda _, tensors: tensors.update(more=torch.zeros(2)),
    "no optimiser": lambda _, tensors: tensors.pop("optimizer.structure"),
    "its text is no text": lambda _, tensors: tensors.update(
        {"optimizer.structure": torch.zeros(3, 3)}
    ),
    "its text is no JSON": structure("{", "<"),
    "its text is deep": structure('{"dict"', "[" * 100_000 + '{"dict"'),
    "its text has another kind": structure('"dict"', '"set"'),
    "no groups": structure('"param_groups"', '"groups"'),
    "steps as text": structure('["steps", ', '["steps", "x", '),
    "steps negative": structure('["steps", ', '["steps", -'),
    "another eps": structure('["eps", ', '["eps", 9'),
    "unknown parameter": structure("[[0, ", "[[77, "),
    "a text for a parameter": structure("[[0, ", '[["0", '),
    "an unknown sum": structure('["sum", ', '["total", '),
    "sum missing": lambda _, tensors: tensors.pop(SUM),
    "sum cut": lambda _, tensors: tensors.update({SUM: tensors[SUM][1:].clone()}),
    "sum nan": lambda _, tensors: tensors[SUM].fill_(math.nan),
    "sum negative": lambda _, tensors: tensors[SUM].fill_(-1.0),
    "sum of integers": lambda _, tensors: tensors.update({SUM: tensors[SUM].long()}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_an_edited_state_is_refused(
    damage: Callable[[About, Tensors], Any], begun: tuple[Path, Path]
) -> None:
    folder, run = begun
    edit(run / "resume.safetensors", damage)
    with pytest.raises(UserError) as caught:
        train_run(config(folder), run, resume=True)
    message = str(caught.value)
    assert "\n" not in message and str(run / "resume.safetensors") in message, message
    assert not (run / "checkpoint").exists()


BEST: dict[str, Callable[[About, Tensors], Any]] = {
    "epoch": put("epoch", value=10**9),
    "epoch as text": put("epoch", value="2"),
    "figure": put("mrr", value=7),
    "figure as text": put("mrr", value="high"),
    "no figure": lambda about, _: about.pop("mrr"),
    "weights": lambda _, tensors: tensors["encoder.weight"].fill_(math.inf),
    "shape": lambda _, tensors: tensors.update({"encoder.weight": torch.zeros(1)}),
    "missing": lambda _, tensors: tensors.pop("encoder.weight"),
}


@pytest.mark.parametrize("damage", BEST.values(), ids=BEST)
def test_edited_best_weights_are_refused(
    damage: Callable[[About, Tensors], Any], begun: tuple[Path, Path]
) -> None:
    folder, run = begun
    edit(run / "best.safetensors", damage)
    with pytest.raises(UserError, match=r"best\.safetensors: [^\n]*$"):
        train_run(config(folder), run, resume=True)
    assert not (run / "checkpoint").exists()


@pytest.mark.parametrize("name", ["resume.safetensors", "best.safetensors", "config.toml"])
def test_what_is_no_file_of_a_run_is_refused(name: str, begun: tuple[Path, Path]) -> None:
    folder, run = begun
    path = run / name
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\xff" * 16, bytes(8) + whole, b"\0" * 999):
        path.write_bytes(content)
        with pytest.raises(UserError):
            train_run(config(folder), run, resume=True)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError):
        train_run(config(folder), run, resume=True)
    assert not (run / "checkpoint").exists()


def test_an_untouched_state_goes_on(begun: tuple[Path, Path]) -> None:
    folder, run = begun
    train_run(config(folder), run, resume=True)
    assert (run / "checkpoint" / "results.json").is_file()


@pytest.mark.parametrize("taken", range(1, 10))
def test_a_stop_after_any_step_goes_on_to_the_same_weights(
    taken: int, finished: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of an epoch too, which is saved before the epoch has ended."""
    folder, run = finished
    take, steps = loop.step, itertools.count(1)

    def stopping(*arguments: Any, **options: Any) -> Any:
        if next(steps) == taken:
            signal.raise_signal(signal.SIGINT)
        return take(*arguments, **options)

    monkeypatch.setattr(loop, "step", stopping)
    with pytest.raises(loop.Interrupted):
        train_run(config(folder), tmp_path / "run")
    assert next(steps) == taken + 1
    monkeypatch.setattr(loop, "step", take)
    train_run(config(folder), tmp_path / "run", resume=True)
    whole, again = (load_file(place / "resume.safetensors") for place in (run, tmp_path / "run"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_a_batch_past_the_last_is_refused(begun: tuple[Path, Path]) -> None:
    folder, run = begun

    def change(about: About, _: Tensors) -> None:
        state = about["state"]
        state.update(epoch=2, batch=4, finished=False, history=state["history"][:2])
        state.update(best_epoch=min(2, state["best_epoch"]))

    edit(run / "resume.safetensors", change)
    with pytest.raises(UserError, match="batch 4 of 3 cannot be"):
        train_run(config(folder), run, resume=True)
