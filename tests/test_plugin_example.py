"""The sample package: installed, and driven through the commands with its own components."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

EXAMPLE = ROOT / "examples" / "plugin"
DRIVER = """
import json, sys
from dglke_distill import cli
for line in json.loads(sys.argv[1]):
    try:
        cli.main(line)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    print(f"=== {code} {line[0]}", flush=True)
    if code:
        break
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed, without a network."""
    source, target = tmp_path_factory.mktemp("source") / "plugin", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    pip += ["--no-index", "--disable-pip-version-check", "--quiet", "--target", str(target)]
    subprocess.run([*pip, str(source)], check=True, timeout=300)
    return target


def drive(folder: Path, *lines: list[str], site: Any = None) -> subprocess.CompletedProcess[str]:
    """Run commands in one process, with the package installed or without."""
    path = [str(ROOT), *([str(site)] if site else [])]
    return subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(lines)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        },
        text=True,
        capture_output=True,
        timeout=600,
    )


def test_files_are_short() -> None:
    files = sorted((EXAMPLE / "distill_extras").glob("*.py"))
    assert len(files) == 8  # and __init__
    assert all(len(path.read_text().splitlines()) < 60 for path in files)


def test_components_of_a_package_go_through_every_command(tmp_path: Path, site: Path) -> None:
    small = ["--set", "training.threads=1", "--set", "training.epochs=2"]
    chain = [f"shared.training.{key}" for key in ("threads=1", "epochs=2")]
    done = drive(
        tmp_path,
        ["data", "info", "hours"],
        ["train", "hours", "--model", "cp", "--loss", "square-hinge", "--dim", "8", *small,
         "--out", "cp"],
        ["evaluate", "cp/checkpoint"],
        ["run", "hours", "--model", "cp", "--recipe", "none", "--dims", "16,4", "--method",
         "halving", "--set", "student.distillation.soft.name=Reverse-KL",
         *(part for setting in chain for part in ("--set", setting)), "--out", "chain"],
        ["zoo", "publish", "cp/checkpoint"],
        ["zoo", "verify", "cp-hours-dim8"],
        ["predict", "cp-hours-dim8", "--head", "06:00", "--relation", "next", "-k", "3"],
        ["compress", "cp/checkpoint", "--to", "int4", "--out", "cp4"],
        ["evaluate", "cp4"],
        ["export", "cp4", "--format", "tsv", "--out", "cp.tsv"],
        ["formats"],
        site=site,
    )  # fmt: skip
    assert "=== 0 formats" in done.stdout, (done.stdout[-2000:], done.stderr)
    stages = sorted(
        path.name for path in (tmp_path / "chain" / "stages").iterdir() if path.is_dir()
    )
    assert {"0-teacher-cp-dim16", "1-cp-dim8", "2-cp-dim4"} <= set(stages)
    packed = json.loads((tmp_path / "cp4" / "config.json").read_text())
    assert [(one["name"], one["package"]) for one in packed["requires"]] == [
        ("CP", "distill-extras"), ("int4", "distill-extras"),
    ]  # fmt: skip
    rows = [line.split("\t") for line in (tmp_path / "cp.tsv").read_text().splitlines()]
    assert [row[0] for row in rows] == [f"{hour:02}:00" for hour in range(24)]
    from safetensors.numpy import load_file

    whole = load_file(tmp_path / "cp" / "checkpoint" / "model.safetensors")["encoder.weight"]
    found = np.array([[float(value) for value in row[1:]] for row in rows])
    step = (whole.max(axis=1) - whole.min(axis=1)) / 15
    assert (np.abs(found - whole).max(axis=1) <= 0.5 * step + 2e-3).all()

    asked = ["predict", "cp-hours-dim8", "--head", "06:00", "--relation", "next"]
    for command in (["evaluate", "cp/checkpoint"], asked):
        alone = drive(tmp_path, command)
        (line,) = alone.stderr.splitlines()
        assert f"=== 2 {command[0]}" in alone.stdout
        assert "'CP' of the package distill-extras 1.0, which is not here" in line


def test_its_components_keep_the_contracts_of_their_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from distill_extras.cp import CP
    from distill_extras.halving import Halving
    from distill_extras.hours import Hours
    from distill_extras.int4 import Int4
    from distill_extras.reverse_kl import ReverseKL
    from distill_extras.square_hinge import SquareHinge
    from distill_extras.tsv import TabSeparated

    from dglke_distill import testing

    def cp(h: list[float], r: list[float], t: list[float]) -> float:
        return sum(a * b * c for a, b, c in zip(h, r, t[len(r) :]))

    def hinge(positive: float, negatives: list[float], margin: float) -> float:
        return sum(max(0.0, margin - positive + n) ** 2 for n in negatives) / len(negatives)

    def reverse(student: list[float], teacher: list[float], temperature: float) -> float:
        ours, theirs = (
            [math.exp(x / temperature) / sum(math.exp(y / temperature) for y in row) for x in row]
            for row in (student, teacher)
        )
        return temperature**2 * sum(p * math.log(p / q) for p, q in zip(ours, theirs))

    testing.check_score_function(CP, cp)
    testing.check_loss(SquareHinge, hinge, options={"margin": 0.5})
    testing.check_soft_loss(ReverseKL, reverse, options={"temperature": 2.0})
    testing.check_method(Halving)
    testing.check_dataset(Hours)
    testing.check_storage(Int4, 0.04)
    testing.check_export_format(TabSeparated, tmp_path)
