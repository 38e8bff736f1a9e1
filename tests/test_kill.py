"""Killed mid-epoch: what was saved is whole, and no more is lost than came after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
import torch
from distill_fixtures import write_clock

from dglke_distill.base import runtime
from dglke_distill.base.tensor_files import SavedState, load_state, save_state
from dglke_distill.config import Config
from dglke_distill.runs.train_run import train_run

CHILD = """
import json, sys
from pathlib import Path
from dglke_distill.config import Config
from dglke_distill.runs.train_run import train_run

def report(now):
    print(now.epoch, now.batch, flush=True)

train_run(Config.from_mapping(json.loads(sys.argv[1]), "test"), Path(sys.argv[2]), report=report)
"""


def test_killed_mid_epoch_loses_only_what_came_after_the_last_save(tmp_path: Path) -> None:
    clock = write_clock(tmp_path / "clock")
    tree = {
        "data": {"dataset": str(clock)},
        "model": {"name": "TransE", "dim": 8},
        "negatives": {"count": 4},
        "training": {"epochs": 12, "batch_size": 1, "evaluate_every": 3, "threads": 1,
                     "checkpoint_minutes": 1e-9},
    }  # fmt: skip
    config = Config.from_mapping(tree, "test")
    command = [sys.executable, "-c", CHILD, json.dumps(tree), str(tmp_path / "cut")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(2)]
        child.send_signal(signal.SIGKILL)
        epoch, batch = map(int, [*lines, *child.stdout][-1].split())
    assert child.returncode == -signal.SIGKILL
    # A report comes just before the save of the same batch.
    saved = load_state(tmp_path / "cut" / "resume.safetensors")[1]["state"]
    assert saved["batch"] > 0 or saved["epoch"] > epoch
    assert 60 * saved["epoch"] + saved["batch"] >= 60 * epoch + batch - 1
    assert not (tmp_path / "cut" / "checkpoint").exists()
    train_run(config, tmp_path / "cut", resume=True)
    train_run(config, tmp_path / "whole")
    names = {path.name for path in (tmp_path / "cut").iterdir() if not path.name.startswith(".")}
    assert names == {path.name for path in (tmp_path / "whole").iterdir()}
    ends = [load_state(tmp_path / run / "resume.safetensors")[0] for run in ("cut", "whole")]
    assert all(torch.equal(ends[0][name], tensor) for name, tensor in ends[1].items())


def added(action: Callable[[], object]) -> int:
    """Return by how much the largest resident set grows while something is done, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    before = runtime.resident_memory_bytes()
    action()
    return runtime.peak_memory_bytes() - before


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be measured anew"
)
def test_saving_and_restoring_a_table_takes_no_second_one(tmp_path: Path) -> None:
    table = torch.ones(25_000_000)  # 100 MB
    path = tmp_path / "state.safetensors"
    small = 30 << 20
    assert added(lambda: save_state(path, {"table": table}, {"epoch": 3})) < small
    table.zero_()
    saved = SavedState(path)
    assert saved.metadata == {"epoch": 3} and list(saved) == ["table"] and len(saved) == 1
    assert added(lambda: saved.read_into("table", table)) < small
    assert table.eq(1).all()
    assert torch.equal(saved["table"][:5], torch.ones(5))
    with pytest.raises(ValueError, match="table is"):
        saved.read_into("table", table[:-1])
