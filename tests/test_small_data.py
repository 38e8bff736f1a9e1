"""Data that no recipe names: which model and method they get, and when."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clock_fixtures import write_clock

import dglke_distill as kd
from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.config import Config
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.compare import ComparisonConfig, saved_comparison
from dglke_distill.distill.plan import plan
from dglke_distill.distill.settings import chain_settings
from dglke_distill.kernels import set_num_threads
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search import beforehand
from dglke_distill.search.space import read_space


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


def study_of(clock: str, **asked: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    flags = {"dataset": clock, "dim": 8, **asked.pop("flags", {})}
    given = {"changes": (), "space": None, "taught": False, **asked}
    return beforehand.before_study(flags, workspaces=Workspaces(), **given)[:2]


def comparison_of(clock: str, folder: Path, *words: str) -> ComparisonConfig:
    """Return the settings of a comparison that trained two floats for an epoch."""
    fixed = "--dims 4,2 --methods direct --epochs 1 --threads 1".split()
    with pytest.raises(SystemExit) as ended:
        main(["compare", clock, *fixed, "--out", str(folder), *words])
    assert not ended.value.code
    return saved_comparison(folder)


def test_a_study_begins_with_what_train_takes(clock: str) -> None:
    flags, first = study_of(clock)
    config = training_of(clock, flags={"dim": 8})
    assert flags["model"] == config.model.name == "ComplEx"
    known, usual, *_ = first
    assert known["training.mode"] == config.training.mode == "k_vs_all"
    assert known["optimizer.learning_rate"] == config.optimizer.learning_rate
    assert known["regularizer.weight"] == config.regularizer.weight != usual["regularizer.weight"]
    assert config.training.batch_size == 16
    assert known["training.batch_size"] == 64  # the least that the space has
    assert usual == read_space("complex").first()[0]


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ({"flags": {"model": "rotate"}}, "RotatE"),
        ({"changes": [{"training": {"mode": "negatives"}}]}, "TransE"),
        ({"changes": [{"loss": {"name": "softmax"}}]}, "TransE"),
        ({"taught": True}, "ComplEx"),
    ],
)
def test_a_study_has_the_model_that_is_asked_for(
    clock: str, asked: dict[str, Any], model: str
) -> None:
    flags, first = study_of(clock, **asked)
    assert flags["model"] == model
    assert len(first) == len({json.dumps(each, sort_keys=True) for each in first})


def test_a_space_that_is_named_says_which_model(clock: str) -> None:
    flags, first = study_of(clock, space="rotate")
    assert "model" not in flags and first == read_space("rotate").first()


@pytest.mark.slow
def test_a_comparison_has_the_chain_that_run_takes(clock: str, tmp_path: Path) -> None:
    chain = comparison_of(clock, tmp_path / "open").chain
    assert chain.recipe == chain_of(clock).recipe == "best-complex" and chain.fit is not None
    assert comparison_of(clock, tmp_path / "model", "--model", "transe").chain.recipe is None
    words = ("--set", "direct.loss.name=logistic")  # of a method's own
    assert comparison_of(clock, tmp_path / "own", *words).chain.recipe is None


@pytest.fixture(scope="module")
def eight(clock: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint of a teacher of eight floats."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    kd.train(clock, dim=8, epochs=1, search="none", threads=1, out=out)
    return str(out / "checkpoint")


@pytest.mark.slow
def test_sizes_begin_with_that_of_a_loaded_teacher(clock: str, eight: str) -> None:
    def chain_below(**asked: Any) -> ChainConfig:
        chain = chain_settings(clock, **asked)
        return beforehand.before_chain(
            chain, (), file=None, recipe="auto", search="none", workspaces=Workspaces(),
            loaded=[eight], announce=said.append,
        )  # fmt: skip

    said: list[str] = []
    assert chain_below(dims=[8, 2]).dims == [8, 2] and said == []
    with pytest.raises(UserError, match=r"--dims 16,8,4: .* has 8 floats; .* --dims 8,4$"):
        chain_below(dims=[16, 8, 4])
    with pytest.raises(UserError, match=r"has 8 floats, .* 256,128,64,32, is smaller; .* 8,4$"):
        chain_below()


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
    assert chain.fit is not None and chain.dims == [8, 4] and chain.rivals == ["TransE"]
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
    assert chain_of(clock, model="complex").rivals == []
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


def test_a_name_that_no_checkpoint_could_give_back_is_refused(tmp_path: Path) -> None:
    """Not after training, by whoever loads the model."""
    for length in (200_000, 300_000):
        path = tmp_path / f"{length}.tsv"
        path.write_text(f"a\tr\tb\nb\tr\ta\na\tr\ta\n{'x' * length}\tr\tb\n")
        if length == 200_000:
            out = tmp_path / "out"
            with pytest.raises(SystemExit) as ended:
                main(["train", str(path), *"--model distmult --dim 4 --recipe none".split(),
                      *"--epochs 1 --threads 1 --out".split(), str(out)])  # fmt: skip
            assert not ended.value.code
            assert "x" * length in kd.load(out).entities
            continue
        with pytest.raises(UserError, match=r"begins 'xxx.* has 300,000 letters.*: shorten it"):
            kd.load_dataset(str(path))


def test_a_link_to_itself_beside_a_file_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "kg.tsv"
    path.write_text("a\tr\tb\nb\tr\ta\na\tr\ta\nb\tr\tb\n")
    before = kd.load_dataset(str(path)).fingerprint
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing")
    assert kd.load_dataset(str(path)).fingerprint == before
