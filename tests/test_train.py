"""The training loop: it learns, it resumes bit for bit, it stops when told."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state
from dglke_distill.config import Config, OptimizerConfig, TrainingConfig, compose
from dglke_distill.runs.measure import evaluate_model
from dglke_distill.runs.start import Start
from dglke_distill.runs.train_run import train_run
from dglke_distill.runs.workspace import prepare
from dglke_distill.training import loop
from dglke_distill.training.loop import Interrupted, Progress, Stride, learning_rate_factor
from dglke_distill.training.losses import build_loss
from dglke_distill.training.objective import START, HardObjective, Moment


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with facts that a rotation explains: steps of 1, 2, 3 and 5 on a clock of 30."""
    folder = tmp_path_factory.mktemp("clock")
    rng = np.random.default_rng(0)
    facts = [(i, f"plus{k}", (i + k) % 30) for i in range(30) for k in (1, 2, 3, 5)]
    order = rng.permutation(len(facts))
    lines = [f"n{facts[i][0]}\t{facts[i][1]}\tn{facts[i][2]}\n" for i in order]
    (folder / "train.txt").write_text("".join(lines[:100]))
    (folder / "valid.txt").write_text("".join(lines[100:110]))
    (folder / "test.txt").write_text("".join(lines[110:]))
    return folder


def config_of(folder: Path, **training: Any) -> Config:
    return compose(
        [
            {
                "data": {"dataset": str(folder)},
                "model": {"name": "TransE", "dim": 8},
                "negatives": {"count": 16},
                "loss": {"options": {"margin": 3.0}},
                "training": {
                    "epochs": 6,
                    "batch_size": 32,
                    "evaluate_every": 2,
                    "threads": 1,
                    **training,
                },
            }
        ],
        recipe=None,
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_state(run / "resume.safetensors")[0]


def assert_same_bits(first: Path, second: Path) -> None:
    left, right = weights(first), weights(second)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name
    best = (first / "checkpoint" / "model.safetensors").read_bytes()
    assert best == (second / "checkpoint" / "model.safetensors").read_bytes()


class Dies(HardObjective):
    """An objective that does something drastic at one step."""

    def __init__(self, config: Config, at: int, action: Any) -> None:
        super().__init__(build_loss(config.loss))
        self.left, self.action = at, action

    def forward(self, model: Any, batch: Any, moment: Moment = START) -> Any:
        if self.left == 0:
            self.action()
        self.left -= 1
        return super().forward(model, batch, moment)


def crash() -> None:
    raise RuntimeError("power cut")


@pytest.mark.parametrize("at", [1, 4, 7, 13])
@pytest.mark.parametrize("encoder", ["lookup", "neighbor", "node_piece"])
def test_killed_anywhere_and_resumed_ends_with_the_same_bits(
    triples: Path, tmp_path: Path, at: int, encoder: str
) -> None:
    config = config_of(triples, checkpoint_minutes=1e-9)
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"encoder": encoder})}
    )
    train_run(config, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        train_run(config, tmp_path / "cut", start=Start(lambda *_: Dies(config, at, crash)))
    train_run(config, tmp_path / "cut", resume=True)
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_resumable_run(
    triples: Path, tmp_path: Path, number: signal.Signals
) -> None:
    config = config_of(triples)
    train_run(config, tmp_path / "whole")
    ask = Dies(config, 9, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted):
        train_run(config, tmp_path / "cut", start=Start(lambda *_: ask))
    state = load_state(tmp_path / "cut" / "resume.safetensors")[1]["state"]
    assert (state["epoch"], state["batch"]) == (2, 2)
    train_run(config, tmp_path / "cut", resume=True)
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("mode", ["negatives", "one_vs_all", "k_vs_all"])
def test_every_mode_learns_the_clock(triples: Path, tmp_path: Path, mode: str) -> None:
    tree = config_of(triples, epochs=150, mode=mode, evaluate_every=30).model_dump()
    if mode == "negatives":
        tree["model"] = {"name": "RotatE", "dim": 16}
    else:
        tree["model"] = {"name": "ComplEx", "dim": 32}
        tree["loss"] = {"name": "softmax"}
        tree["optimizer"] = {"name": "adagrad", "learning_rate": 0.1}
    results = train_run(Config.from_mapping(tree, "test"), tmp_path / "run").to_tree()
    assert results["metrics"]["test"]["mrr"] > 0.5  # chance is about 0.13
    losses = [float(line.split(",")[1]) for line in _history(tmp_path / "run")]
    assert losses[-1] < 0.5 * losses[0]


def _history(run: Path) -> list[str]:
    return (run / "history.csv").read_text().splitlines()[1:]


def test_the_best_model_is_kept_and_its_checkpoint_reproduces_the_results(
    triples: Path, tmp_path: Path
) -> None:
    config = config_of(triples, epochs=40, evaluate_every=1, patience=5)
    results = train_run(config, tmp_path / "run").to_tree()
    training = results["training"]
    assert training["epochs"] == 40 or training["epochs"] == training["best_epoch"] + 5
    assert training["best_validation_mrr"] == results["metrics"]["valid"]["mrr"]
    loaded = load_model(tmp_path / "run" / "checkpoint")
    again = evaluate_model(loaded.model, prepare(config), "test", config)
    assert again.mrr == results["metrics"]["test"]["mrr"]
    assert loaded.results["provenance"]["version"]
    assert loaded.results["dataset"]["fingerprint"] == results["dataset"]["fingerprint"]


def test_one_seed_gives_one_result_and_another_seed_another(triples: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_run(config_of(triples, seed=seed), tmp_path / name)
    assert_same_bits(tmp_path / "a", tmp_path / "b")
    first, third = weights(tmp_path / "a"), weights(tmp_path / "c")
    assert not torch.equal(first["model.encoder.weight"], third["model.encoder.weight"])


def test_a_run_directory_in_use_or_without_a_run_is_refused(triples: Path, tmp_path: Path) -> None:
    config = config_of(triples)
    with pytest.raises(UserError, match="there is no run to resume"):
        train_run(config, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()
    train_run(config, tmp_path / "run")
    with pytest.raises(UserError, match="add --resume"):
        train_run(config, tmp_path / "run")
    other = config_of(triples, batch_size=16)
    with pytest.raises(UserError, match="other settings"):
        train_run(other, tmp_path / "run", resume=True)


def test_a_loss_that_explodes_is_explained(triples: Path, tmp_path: Path) -> None:
    tree = config_of(triples, epochs=50).model_dump()
    tree["model"]["name"] = "DistMult"
    tree["optimizer"] = {"name": "sgd", "learning_rate": 1e20, "schedule": "constant"}
    with pytest.raises(UserError, match="learning_rate"):
        train_run(Config.from_mapping(tree, "test"), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("settings", "points"),
    [
        ({"schedule": "constant"}, {0.0: 1.0, 0.5: 1.0, 0.99: 1.0}),
        ({"schedule": "linear"}, {0.0: 1.0, 0.5: 0.5, 1.0: 0.0}),
        ({"schedule": "linear", "final": 0.2}, {0.0: 1.0, 0.5: 0.6, 1.0: 0.2}),
        ({"schedule": "linear", "warmup": 0.2}, {0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 1.0: 0.0}),
        ({"schedule": "cosine"}, {0.0: 1.0, 0.5: 0.5, 0.25: 0.5 + math.sqrt(0.125), 1.0: 0.0}),
        ({"schedule": "step", "final": 0.1}, {0.49: 1.0, 0.5: 0.1, 0.9: 0.1}),
    ],
)
def test_learning_rate_schedules(settings: dict[str, Any], points: dict[float, float]) -> None:
    config = OptimizerConfig(**settings)
    for progress, factor in points.items():
        assert learning_rate_factor(config, progress) == pytest.approx(factor)


def test_the_time_left_is_told_by_steps_that_build_no_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first of ten steps takes 100 seconds, the others one."""
    now, reports = [0.0], list[Progress]()

    class Clock:
        perf_counter = staticmethod(lambda: now[0])

    def steps(epoch: int, batch: int) -> Iterator[Stride]:
        for number in range(batch, 5):
            now[0] += 1.0 if epoch or number else 100.0
            yield Stride(1, 8, 0.5, {})

    monkeypatch.setattr(loop, "time", Clock)
    parameter = torch.nn.Parameter(torch.zeros(1))
    loop.train(
        torch.nn.Linear(1, 1),
        range(5),
        None,
        torch.optim.SGD([parameter], lr=0.1),
        OptimizerConfig(),
        TrainingConfig(epochs=2, evaluate_every=2),
        steps=steps,
        report=reports.append,
    )
    assert [(one.epoch, one.batch, one.seconds_left) for one in reports[:9]] == [
        *((0, n, 10.0 - n) for n in range(2, 6)),
        *((1, n, 5.0 - n) for n in range(1, 6)),
    ]
    assert {one.triples_per_second for one in reports} == {8.0}
