"""``evaluate --against``: what a model gains over another on the same questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clock_fixtures import write_clock
from identity_fixtures import run as run  # a fixture

import dglke_distill as kd
from dglke_distill.artifacts.results import MethodGain
from dglke_distill.distill.gains import gain_sentence
from dglke_distill.runs.train_run import rank_loaded
from dglke_distill.zoo.fetch import load_checkpoint

SMALL, LARGE = "complex-cldr-dim32", "complex-cldr-dim64"


def reciprocal(name: str, split: str) -> np.ndarray:
    ranks: list[np.ndarray] = []
    rank_loaded(
        load_checkpoint(name),
        split,
        name=name,
        ranked=lambda result: ranks.append(np.stack([result.head_ranks, result.tail_ranks])),
    )
    return 1 / ranks[0]


def test_the_gain_and_its_interval_are_those_of_a_bootstrap_by_hand() -> None:
    found = kd.evaluate(LARGE, split="valid", against=SMALL, threads=1)
    assert found.against is not None and found.against.model == SMALL
    ours, theirs = (reciprocal(name, "valid").mean(0) for name in (LARGE, SMALL))
    assert found.mrr == pytest.approx(ours.mean())
    assert found.against.metrics.mrr == pytest.approx(theirs.mean())
    rows = np.random.default_rng(5).integers(len(ours), size=(4000, len(ours)))
    low, high = np.quantile(ours[rows].mean(1) / theirs[rows].mean(1) - 1, [0.025, 0.975])
    gain = found.against.gain
    assert gain.gain == pytest.approx(ours.mean() / theirs.mean() - 1)
    assert (gain.seeds, gain.questions) == (1, 2 * len(ours))
    assert gain.low == pytest.approx(low, abs=0.002)
    assert gain.high == pytest.approx(high, abs=0.002)


def test_the_command_prints_both_and_the_gain(run: Any) -> None:
    asked = ("evaluate", SMALL, "--split", "valid", "--threads", "1", "--against")
    tree = json.loads(run(*asked, LARGE, "--json").out)
    gain, other = tree["against"]["gain"], tree["against"]["metrics"]["mrr"]
    assert (gain["seeds"], gain["questions"]) == (1, tree["count"])
    assert gain["gain"] == pytest.approx(tree["mrr"] / other - 1)
    shown = run(*asked, LARGE).out
    assert f"{SMALL} against {LARGE}: " in shown and "interval of 95 %" in shown
    assert SMALL in shown.split("MRR")[1]


def test_a_model_is_not_its_own_control(tmp_path: Path, run: Any) -> None:
    """By its name, in memory, or as a copy under another name."""
    copy = kd.load(SMALL).save_pretrained(tmp_path / "copy")
    for other in (SMALL, str(copy)):
        line = run("evaluate", SMALL, "--against", other, code=2).err
        assert line == f"error: --against {other}: is the model itself; name another one\n"
    with pytest.raises(kd.UserError, match=f"^against {SMALL}: is the model itself; name another"):
        kd.evaluate(kd.load(SMALL), against=SMALL)


@pytest.mark.parametrize("other", ["complex-fb15k237-dim32", "no-such-model"])
def test_a_model_that_cannot_be_compared_is_named(run: Any, other: str) -> None:
    lines = run("evaluate", SMALL, "--against", other, code=2).err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {other}: ")


@pytest.mark.slow
def test_other_triples_of_the_same_counts_are_found_too(tmp_path: Path, run: Any) -> None:
    clock = write_clock(tmp_path / "clock")
    turned = tmp_path / "turned"
    turned.mkdir()
    for split in ("train", "valid", "test"):
        lines = [line.split("\t") for line in (clock / f"{split}.txt").read_text().splitlines()]
        text = "".join(f"{tail}\t{relation}\t{head}\n" for head, relation, tail in lines)
        (turned / f"{split}.txt").write_text(text)
    own = {"model": "complex", "dim": 4, "epochs": 1, "search": None, "threads": 1}
    first, second = (kd.train(data, out=tmp_path / f"of-{data.name}", **own)
                     for data in (clock, turned))  # fmt: skip
    asked = ("evaluate", first.checkpoint, "--against", second.checkpoint, "--dataset", clock)
    (line,) = run(*asked, code=2).err.strip().splitlines()
    assert f"{second.checkpoint}: was trained on other triples" in line
    done = run(*asked, "--allow-other-data")
    assert "against" in done.out and f"OTHER DATA: {second.checkpoint}" in done.out + done.err


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((0.052, 0.041, 0.063), "better by 5.2 % [4.1, 6.3]"),
        ((-0.052, -0.063, -0.041), "worse by 5.2 % [4.1, 6.3]"),
        ((0.01, -0.01, 0.03), "not distinguishable: 1.0 % [-1.0, 3.0]"),
        ((0.01, None, None), "too few questions for an interval"),
    ],
)
def test_a_gain_in_words(gain: tuple[float, Any, Any], said: str) -> None:
    value, low, high = gain
    words = gain_sentence(MethodGain(gain=value, low=low, high=high, seeds=1, questions=2))
    assert said in words and "inf" not in words


def test_models_in_memory_are_called_by_their_names() -> None:
    large, small = kd.load(LARGE), kd.load(SMALL)
    assert (large.name, small.name) == (LARGE, SMALL)
    found = kd.evaluate(large, split="valid", against=small, threads=1)
    assert found.against is not None and found.against.model == SMALL
