"""Numbers, names and scores out of range: one line that names the setting, never a traceback."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_predict import LINKS, NAMES, named

from dglke_distill import zoo
from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.config import Config, compose, parse_assignment
from dglke_distill.data import catalog
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.settings import divided
from dglke_distill.evaluate.ranking import NonFiniteScores

TRAIN = ["train", "data", "--model", "transe", "--dim", "4", "--epochs", "1", "--threads", "1"]
RUN = ["run", "data", "--model", "transe", "--dims", "4,2", "--epochs", "1", "--threads", "1"]


@pytest.fixture()
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small dataset in the working folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    facts = [f"e{i}\tr{(i + j) % 3}\te{j}" for i, j in itertools.permutations(range(9), 2)]
    (folder / "train.txt").write_text("\n".join(facts[8:]) + "\n")
    (folder / "valid.txt").write_text("\n".join(facts[:4]) + "\n")
    (folder / "test.txt").write_text("\n".join(facts[4:8]) + "\n")
    return folder


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must refuse; return its one line of error."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and "Traceback" not in error
    return error.strip()


SETTINGS = [
    *((f"training.seed={seed}") for seed in (-1, 2**62 + 1, 2**63 - 1, 2**63, 10**30)),
    *(f"model.dim={dim}" for dim in (-1, 0, 2**21, 2**62)),
    *(f"training.threads={n}" for n in (-1, 0, 100_000, 2**40)),
    *(f"training.epochs={n}" for n in (-5, 0, 10**9)),
    *(f"training.batch_size={n}" for n in (-5, 0, 10**12)),
    *(f"negatives.count={n}" for n in (-5, 0, 10**12)),
    *(f"optimizer.learning_rate={x}" for x in ("nan", "inf", "-1", "1e300", "0")),
    "optimizer.clip_norm=nan",
    "regularizer.weight=inf",
    "loss.options.margin=nan",
    "loss.options.temperature=1e300",
    "training.checkpoint_minutes=inf",
    "training.memory_megabytes=100000000000000000000",
    "training.processes=100000",
    'data.dataset="a\\u0000b"',
    'model.name="a\\u0000b"',
    "data.split_seed=18446744073709551616",
    "evaluation.query_block_megabytes=1000000000000",
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_out_of_range_are_one_line(
    setting: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [(TRAIN, ""), (["config", "show"], "")]
    if not setting.startswith("model.dim"):  # of a chain, those are --dims
        commands.append((RUN, "shared."))
    for command, prefix in commands:
        error = refused([*command, "--set", prefix + setting], capsys)
        assert error.startswith("error: ") and "\n" not in error
        assert setting.partition("=")[0].rpartition(".")[2] in error
    assert not (data.parent / "runs").exists()
    section, key = setting.partition("=")[0].split(".", 1)
    (data / "c.toml").write_text(f"[{section}]\n{setting[len(section) + 1 :]}\n")
    error = refused([*TRAIN, "--config", str(data / "c.toml")], capsys)
    assert "c.toml" in error and "\n" not in error, key


FLAGS = {
    "dims": [*RUN[:4], "--dims", f"{2**62},4"],
    "long dims": [*RUN[:4], "--dims", "9" * 5000 + ",4"],
    "ratio 0": [*RUN[:4], "--from", "8", "--to", "2", "--ratio", "0"],
    "ratio nan": [*RUN[:4], "--from", "8", "--to", "2", "--ratio", "nan"],
    "ratio near 1": [*RUN[:4], "--from", "8", "--to", "2", "--ratio", "1.0000000000000002"],
    "from": [*RUN[:4], "--from", str(2**62), "--to", "2"],
    "seeds": ["compare", "data", "--dims", "4,2", "--seeds", str(2**63)],
    "negative seeds": ["compare", "data", "--dims", "4,2", "--seeds", "-1"],
    "seed": [*TRAIN, "--seed", str(2**63 - 1)],
    "long seed": [*TRAIN, "--seed", "9" * 5000],
    "lr": [*TRAIN, "--lr", "nan"],
    "config seed": ["config", "show", "--seed", str(2**64)],
    "port": ["serve", "x", "--port", "70000"],
    "negative port": ["serve", "x", "--port", "-1"],
    "count": ["predict", "x", "--head", "a", "--relation", "b", "-k", "-1"],
    "long count": ["predict", "x", "--head", "a", "--relation", "b", "-k", "9" * 5000],
    "data seed": ["data", "prepare", "data", "--seed", str(2**64)],
}


@pytest.mark.parametrize("arguments", FLAGS.values(), ids=FLAGS)
def test_flags_out_of_range_are_refused(
    arguments: list[str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(refused(arguments, capsys)) < 2000
    assert not (data.parent / "runs").exists()


@pytest.mark.parametrize("mode", ["negatives", "one_vs_all", "k_vs_all"])
def test_the_largest_seed_trains(mode: str, data: Path) -> None:
    flags = ["--seed", str(2**62), "--set", f"training.mode={mode}", "--out", f"runs/{mode}"]
    if mode != "negatives":
        flags += ["--loss", "softmax"]
    main_quiet([*TRAIN, *flags])
    assert (data.parent / "runs" / mode / "checkpoint" / "config.json").is_file()


def main_quiet(arguments: list[str]) -> None:
    """Run a command that must end well."""
    try:
        main(arguments)
    except SystemExit as stopped:
        assert stopped.code in (0, None)


def test_the_largest_seed_runs_chains(data: Path) -> None:
    more = ["--set", "student.distillation.soft.candidates=neighbors"]
    main_quiet([*RUN, *more, "--seed", str(2**62), "--out", "runs/chain"])
    assert (data.parent / "runs" / "chain" / "results.json").is_file()


def test_settings_given_to_python_are_bounded_too() -> None:
    for tree in (
        {"training": {"seed": 10**5000}},
        {"model": {"options": {"x": float("nan")}}},
        {"model": {"options": {"x": [1.0, float("inf")]}}},
        {"data": {"dataset": "a\0b"}},
        {"model": {"\0": 1}},
    ):
        with pytest.raises(UserError) as caught:
            compose([tree])
        assert len(str(caught.value)) < 400
    with pytest.raises(UserError, match="nested more than"):
        tree: Any = 1
        for _ in range(1000):
            tree = {"a": tree}
        Config.from_mapping(tree, "deep")
    with pytest.raises(UserError, match="sizes must be from 1"):
        ChainConfig.from_mapping({"dims": [2**62, 1]}, "x")
    with pytest.raises(UserError, match="--ratio"):
        divided(512, 32, float("nan"))
    assert parse_assignment(f"training.seed={2**62}") == {"training": {"seed": 2**62}}


def test_a_nul_in_a_name_is_one_line(tmp_path: Path) -> None:
    calls = [
        lambda: zoo.load("a\0b"),
        lambda: zoo.load("a", store="a\0b"),
        lambda: zoo.load_checkpoint("a\0/b"),
        lambda: zoo.load_checkpoint(tmp_path / "a\0b"),
        lambda: zoo.publish(tmp_path / "a\0b", store=tmp_path),
        lambda: catalog.load("a\0b"),
    ]
    for call in calls:
        with pytest.raises(UserError) as caught:
            call()
        assert "\n" not in str(caught.value)


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [11, 10**9, 10**12, 10**30, sys.maxsize])
def test_more_answers_than_entities_are_all_of_them(k: int) -> None:
    model = named()
    assert len(model.predict_tails("Latvia", "borders", k)) == len(NAMES)
    assert len(model.predict_heads("borders", "Latvia", k)) == len(NAMES)
    assert len(model.predict_relations("Latvia", "Latvia", k)) == len(LINKS)
    assert len(model.nearest_entities("Latvia", k)) == len(NAMES) - 1
    assert len(model.predict_frame([("Latvia", "borders", None)], k)) == len(NAMES)
    ids = torch.tensor([0, 1]), torch.tensor([0, 1])
    assert model.top_tails(*ids, k).ids.shape == (2, len(NAMES))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
def test_scores_that_are_not_finite_are_no_answers(value: float) -> None:
    """Squares of 1e200 overflow: the weights are finite, the scores are not."""
    model = named("TransE", {"norm": "l2"})
    with torch.no_grad():
        model.model.encoder.weight[2] = value
    ask = [
        lambda: model.predict_tails("Latvia", "borders"),
        lambda: model.predict_heads("borders", "Latvia"),
        lambda: model.predict_relations("Latvia", NAMES[2]),
        lambda: model.score([("Latvia", "borders", NAMES[2])]),
        lambda: model.predict_frame([("Latvia", "borders", None)]),
        lambda: model.top_tails(torch.tensor([0]), torch.tensor([0]), 3),
    ]
    for call in ask:
        with pytest.raises(NonFiniteScores, match="has diverged"):
            call()
    assert np.isfinite(model.score([("Latvia", "borders", "Latvia")]).numpy()).all()


def test_a_sum_that_overflows_is_no_bad_score() -> None:
    model = named("DistMult")
    with torch.no_grad():
        model.model.encoder.weight.fill_(1.0)
        model.model.relation_weight.fill_(1e307)
    answers = model.predict_tails("Latvia", "borders", 3)
    assert all(np.isfinite(answer.score) and answer.score > 1e307 for answer in answers)
