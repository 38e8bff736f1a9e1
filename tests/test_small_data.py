"""Data that no recipe names: which model and method they get, and when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clock_fixtures import write_clock

import dglke_distill as kd
from dglke_distill.config import Config
from dglke_distill.distill.plan import ChainConfig, plan
from dglke_distill.distill.settings import chain_settings
from dglke_distill.kernels import set_num_threads
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search import beforehand


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clock(tmp_path_factory.mktemp("data") / "clock"))


def training_of(clock: str, recipe: str = "auto", **asked: Any) -> Config:
    flags = {"dataset": clock, **asked.pop("flags", {})}
    return beforehand.before_training(
        flags, asked.pop("changes", ()), data={}, file=asked.pop("file", None), recipe=recipe,
        search="none", workspaces=Workspaces(), **asked,
    )[0]  # fmt: skip


def chain_of(clock: str, recipe: str = "auto", **asked: Any) -> ChainConfig:
    over_all = asked.pop("over_all", True)
    given = {"model": None, "student_model": None, "dims": [8, 4], "changes": [], **asked}
    chain = chain_settings(clock, recipe=recipe, **given)
    return beforehand.before_chain(
        chain, given["changes"], file=None, recipe=recipe, search="none",
        workspaces=Workspaces(), over_all=over_all,
    )  # fmt: skip


def test_small_data_are_trained_over_all_entities(clock: str) -> None:
    config = training_of(clock)
    assert (config.model.name, config.training.mode, config.recipe) == (
        "ComplEx", "k_vs_all", "complex",
    )  # fmt: skip
    assert config.training.batch_size < 256  # fits the data
    assert training_of(clock, flags={"epochs": 3}).model.name == "ComplEx"


def test_a_small_chain_copies_the_teachers_distribution(clock: str) -> None:
    chain = chain_of(clock)
    assert (chain.recipe, chain.method) == ("best-complex", "fan_out")
    assert chain.fit is not None and chain.dims == [8, 4]
    teacher, student = plan(chain)[:2]
    assert {teacher.config.model.name, student.config.model.name} == {"ComplEx"}
    distillation = student.config.distillation
    assert distillation is not None
    assert (distillation.soft.name, distillation.hard_weight) == ("kl", 0.0)
    assert student.config.training.batch_size == teacher.config.training.batch_size < 256
    assert student.config.regularizer.weight == 0 < teacher.config.regularizer.weight


def test_what_is_asked_for_stays(clock: str) -> None:
    chain = chain_of(clock, method="iterde", training={"epochs": 3})
    assert chain.method == "iterde" and chain.recipe == "best-complex"
    assert {stage.config.training.epochs for stage in plan(chain)} == {3}
    assert chain_of(clock, model="rotate").recipe is None
    assert training_of(clock, flags={"model": "rotate"}).model.name == "RotatE"


@pytest.mark.parametrize(
    "asked",
    [
        {"recipe": "none"},
        {"flags": {"loss": "logistic"}},
        {"flags": {"negatives": 8}},
        {"changes": [{"training": {"mode": "negatives"}}]},
        {"changes": [{"training": {"processes": 2}}]},
        {"changes": [{"model": {"options": {"norm": "l2"}}}]},
        {"over_all": False},
    ],
)
def test_who_asks_for_sampled_negatives_gets_them(clock: str, asked: dict[str, Any]) -> None:
    assert training_of(clock, **asked).model.name == "TransE"
    assert training_of(clock, **asked).training.mode == "negatives"


@pytest.mark.parametrize(
    "asked",
    [
        {"over_all": False},
        {"changes": [{"shared": {"loss": {"name": "logistic"}}}]},
        {"changes": [{"student": {"distillation": {"hard_weight": 0.5}}}]},
        {"changes": [{"teacher": {"model": {"name": "TransE"}}}]},
        {"more_teachers": ["distmult"]},
    ],
)
def test_a_chain_that_says_more_is_left_alone(clock: str, asked: dict[str, Any]) -> None:
    chain = chain_of(clock, **asked)
    assert chain.recipe is None
    assert plan(chain)[0].config.model.name == "TransE"


def test_large_data_keep_sampled_negatives(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beforehand, "_SMALL", 30 * 100 - 1)  # its entities and train triples
    assert training_of(clock).model.name == "TransE"
    assert chain_of(clock).recipe is None
    monkeypatch.setattr(beforehand, "_SMALL", 30 * 100)
    assert training_of(clock).model.name == "ComplEx"


def test_the_file_of_settings_counts_as_asked(clock: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[loss]\nname = "logistic"\n')
    assert training_of(clock, file=file).model.name == "TransE"
    file.write_text("[training]\nepochs = 3\n")
    found = training_of(clock, file=file)
    assert (found.model.name, found.training.epochs) == ("ComplEx", 3)


def test_without_a_validation_split_no_time_is_told() -> None:
    from dglke_distill.artifacts.results_verdict import SizeVerdict, Verdict, VerdictTime
    from dglke_distill.cli.output import verdict_lines

    size = SizeVerdict(
        student="1-a", control="direct-a", dim=4, student_mrr=0.5, control_mrr=0.4, gain=0.25,
        low=0.1, high=0.4, outcome="better", sentence="", time=VerdictTime(student_seconds=None),
    )  # fmt: skip
    results = SimpleNamespace(verdict=Verdict(level=0.95, sizes=[size], interval=""))
    (line,) = verdict_lines(results)  # type: ignore[arg-type]
    assert line.endswith("[10.0, 40.0]") and "reached" not in line


def test_threads_are_those_of_each_stage_whoever_asked_for_the_data_first(clock: str) -> None:
    before, workspaces = torch.get_num_threads(), Workspaces()
    try:
        for threads in (2, 1, 2):
            tree = {"data": {"dataset": clock}, "training": {"threads": threads, "device": "cpu"}}
            assert workspaces.of(Config.from_mapping(tree, "test")).device.type == "cpu"
            assert torch.get_num_threads() == threads
    finally:
        set_num_threads(before)


@pytest.mark.slow
def test_a_chain_of_own_data_has_the_threads_that_are_asked_for(clock: str, tmp_path: Path) -> None:
    run = kd.distill(
        clock, dims=[4, 2], epochs=1, search="none", control="none", threads=1, out=tmp_path / "run"
    )
    used = [stage.results.training.threads for stage in run.results.stages]  # type: ignore[union-attr]
    assert used == [1, 1]
