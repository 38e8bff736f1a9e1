"""Several processes that train one table: they share it, they take every batch once, they end."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import torch
from distill_fixtures import model_of, settings_of, workspace_of, write_clock
from torch import nn

from dglke_distill.base.tensor_files import load_state
from dglke_distill.config import Config
from dglke_distill.distill.methods import METHODS, build_method
from dglke_distill.models.tables import SharedTables, tables_in
from dglke_distill.runs.train_run import train_run
from dglke_distill.runs.workspace import build_loader, build_objective, build_optimizer
from dglke_distill.sampling.unique import Relabeler
from dglke_distill.training.hogwild import Workers, _arrays_shared
from dglke_distill.training.loop import Interrupted, Lost, TrainState, train


def clock_settings(folder: Path, **training: Any) -> Config:
    return Config.from_mapping(
        {
            "data": {"dataset": str(folder)},
            "model": {"name": "RotatE", "dim": 16},
            "negatives": {"count": 8},
            "loss": {"options": {"margin": 3.0}},
            "training": {
                "epochs": 400, "batch_size": 8, "evaluate_every": 400, "threads": 2, **training
            },
        },
        "test",
    )  # fmt: skip


def learn(workers: Optional[int]) -> tuple[dict[str, torch.Tensor], TrainState, Any]:
    """Train a few epochs with Adam, whose steps depend on their number."""
    config = settings_of(
        optimizer={"name": "adam", "learning_rate": 0.01},
        training={"epochs": 3, "batch_size": 3, "subsampling": True},
    )
    workspace = workspace_of()
    with tables_in(SharedTables()):
        model = model_of("ComplEx", entity_bias=True)
    model.set_row_sparse(entities=True, relations=True)
    loader = build_loader(config, workspace, model)
    objective = build_objective(config, model)
    learned = nn.ModuleDict({"model": model, "objective": objective})
    optimizer = build_optimizer(config.optimizer, learned)
    settings = config.optimizer, config.training
    if workers is None:
        state = train(model, loader, objective, optimizer, *settings)
    else:
        with Workers(workers, learned, loader, optimizer, *settings) as started:
            state = train(model, loader, objective, optimizer, *settings, steps=started.steps)
    kept = {f"{i}.{name}": tensor for i, each in enumerate(optimizer.state.values())
            for name, tensor in each.items()}  # fmt: skip
    return {**model.state_dict(), **kept}, state, optimizer


def test_one_worker_takes_the_very_steps_of_this_process() -> None:
    alone, state, optimizer = learn(None)
    shared, other, steps = learn(1)
    assert alone.keys() == shared.keys()
    assert all(torch.equal(alone[name], shared[name]) for name in alone)
    for record, same in zip(state.history, other.history):
        record["seconds"] = same["seconds"]
        assert record == pytest.approx(same, rel=1e-12)
    assert optimizer.param_groups[0]["steps"] == steps.param_groups[0]["steps"] > 3
    assert multiprocessing.active_children() == []


def test_a_dead_worker_and_ctrl_c_leave_runs_that_go_on(tmp_path: Path) -> None:
    """A worker is killed; the run goes on from there, until Ctrl-C is pressed."""
    config = clock_settings(write_clock(tmp_path / "clock"), processes=2)

    def kill_one(progress: Any) -> None:
        victim = multiprocessing.active_children()[0].pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)

    with pytest.raises(Lost, match=r"ended by signal 9; perhaps memory .* --resume"):
        train_run(config, tmp_path / "run", report=kill_one)
    assert multiprocessing.active_children() == []
    first = load_state(tmp_path / "run" / "resume.safetensors")[1]["state"]
    assert 0 < first["epoch"] * 8 + first["batch"]

    with pytest.raises(Interrupted):
        train_run(
            config,
            tmp_path / "run",
            resume=True,
            report=lambda progress: os.kill(os.getpid(), signal.SIGINT),
        )
    assert multiprocessing.active_children() == []
    second = load_state(tmp_path / "run" / "resume.safetensors")[1]["state"]
    assert (second["epoch"], second["batch"]) > (first["epoch"], first["batch"])


def test_a_file_of_a_plugin_is_imported_by_every_process(tmp_path: Path) -> None:
    """Its model trains in two processes, which know it by the file that the command names."""
    plugin = tmp_path / "mine_in_a_file.py"
    plugin.write_text(
        "from dglke_distill.models import SCORE_FUNCTIONS\n"
        "from dglke_distill.models.distmult import DistMult\n"
        "class MineInAFile(DistMult):\n"
        '    """DistMult by another name."""\n'
        '    name = "MineInAFile"\n'
        "SCORE_FUNCTIONS.register(MineInAFile)\n"
    )
    command = [sys.executable, "-m", "dglke_distill", "--plugin", plugin.name, "train",
               write_clock(tmp_path / "clock"), "--recipe", "none", "--model", "mineinafile",
               "--dim", "4", "--epochs", "1", "--processes", "2", "--out", "run"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(
        [str(part) for part in command], cwd=tmp_path, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "run" / "checkpoint" / "results.json").read_text())
    assert written["model"]["name"] == "MineInAFile"
    assert written["config"]["training"]["processes"] == 2


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if kind.taught])
def test_what_a_student_minimises_can_be_sent(name: str) -> None:
    method = build_method(name, {})
    config = settings_of(
        model={"name": "TransE", "dim": 6},
        loss={"name": "self_adversarial"},
        distillation={"method": name, "initialization": "random",
                      "soft": {"candidates": "neighbors", "count": 3}},
    )  # fmt: skip
    config = Config.from_mapping(
        {**config.model_dump(exclude_none=True),
         "distillation": {**config.model_dump()["distillation"], **method.settings().get(
             "distillation", {})}}, "test",
    )  # fmt: skip
    workspace = workspace_of()
    student = model_of("TransE", 6)
    student.set_row_sparse(entities=True, relations=True)
    teachers = [model_of("TransE", 8, seed=i + 1) for i in range(method.least_teachers)]
    objective = method.objective(config, student, teachers, workspace)
    loader = build_loader(config, workspace, student)
    kept: dict[int, Any] = {}
    with _arrays_shared(kept):
        data = ForkingPickler.dumps((student, objective, loader))
    theirs, same, again = ForkingPickler.loads(data)
    batch, other = next(loader.epoch(1)), next(again.epoch(1))
    with torch.no_grad():
        expected, found = objective(student, batch), same(theirs, other)
    torch.testing.assert_close(found.total, expected.total)
    with torch.no_grad():
        student.encoder.weight[0, 0] = 7.0
    assert theirs.encoder.weight[0, 0] == 7.0, "the table is shared"


def test_large_arrays_are_sent_once_and_scratch_never() -> None:
    large, small = np.arange(10_000), np.arange(3)
    scratch = Relabeler(5000)
    kept: dict[int, Any] = {}
    with _arrays_shared(kept):
        data = [ForkingPickler.dumps((large, small, large[::2], scratch)) for _ in range(2)]
    assert list(kept) == [id(large)]
    (first, tiny, strided, slots), (second, *_) = (ForkingPickler.loads(each) for each in data)
    assert np.array_equal(first, large) and np.array_equal(strided, large[::2])
    assert np.array_equal(tiny, small)
    first[0] = 5
    assert second[0] == 5
    nodes, rows = scratch([np.array([4, 4, 2])])
    assert slots._slots.any() == 0, "a worker's slots are its own"
    assert nodes.tolist() == [4, 2] and rows[0].tolist() == [0, 0, 1]
    # Outside, arrays are sent as ever.
    assert np.array_equal(ForkingPickler.loads(ForkingPickler.dumps(large)), large)
