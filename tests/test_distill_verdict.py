"""Verdicts: gains with their intervals, in words, and the time that both ways took."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import torch
from distill_fixtures import chain_tree, write_clock

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.artifacts.results import ChainResults, StageResults, Verdict
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import save_state
from dglke_distill.cli.output import verdict_lines
from dglke_distill.config import Config
from dglke_distill.data import catalog
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.controls import doubtful
from dglke_distill.distill.gains import Gain, gain_between
from dglke_distill.distill.tuner import Searches, Tuned
from dglke_distill.distill.verdict import _claim, control_of, judge, seconds_to_reach
from dglke_distill.distill.watcher import Watcher
from dglke_distill.evaluate import evaluate
from dglke_distill.report.numbers import gain_text as report_gain_text
from dglke_distill.runs.ranks import RANKS_FILE, read_reciprocal_ranks
from dglke_distill.runs.workspace import Workspaces


def ranks_of(rng: np.random.Generator, triples: int, shift: float = 0.0) -> Any:
    """Return reciprocal ranks with a mean of about a third plus ``shift``."""
    return np.clip(rng.beta(1.0, 2.0, (triples, 2)) + shift, 1e-6, 1.0)


def test_the_interval_is_that_of_the_ratio_of_two_means() -> None:
    """Against the delta method: the variance of a ratio of means of paired values."""
    rng = np.random.default_rng(1)
    control = ranks_of(rng, 4000)
    student = np.clip(1.04 * control + rng.normal(0, 0.1, control.shape), 1e-6, None)
    gain = gain_between([student], [control])
    ours, theirs = student.mean(1), control.mean(1)
    share = ours.mean() / theirs.mean()
    assert gain.value == pytest.approx(share - 1)
    error = np.std(ours - share * theirs, ddof=1) / theirs.mean() / math.sqrt(len(ours))
    assert gain.low == pytest.approx(share - 1 - 1.96 * error, abs=0.15 * error)
    assert gain.high == pytest.approx(share - 1 + 1.96 * error, abs=0.15 * error)
    assert (gain.questions, gain.seeds) == (8000, 1)
    assert gain_between([student], [control]) == gain  # seeded


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        control, student = ranks_of(rng, 150), ranks_of(rng, 150)  # no true difference
        gain = gain_between([student], [control], seed)
        covered += gain.low <= 0 <= gain.high
    assert 180 <= covered <= 198


def test_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    control = ranks_of(rng, 3000)
    students = [control * factor for factor in (0.9, 1.0, 1.2)]
    gain = gain_between(students, [control] * 3)
    assert gain.value == pytest.approx(3.1 / 3 - 1)
    # Student's t of three values: 4.303 standard errors of their mean.
    half = 4.303 * np.std([0.9, 1.0, 1.2], ddof=1) / math.sqrt(3)
    assert gain.low == pytest.approx(gain.value - half, abs=1e-3)
    assert gain.high == pytest.approx(gain.value + half, abs=1e-3)
    assert gain.seeds == 3


def test_the_interval_over_seeds_covers_the_truth_as_often() -> None:
    rng = np.random.default_rng(8)
    covered = 0
    for seed in range(200):
        questions = ranks_of(rng, 150)
        models = [
            [questions * (1 + rng.normal(0, 0.05)) + rng.normal(0, 0.05, questions.shape)]
            for _ in range(6)
        ]
        students, controls = ([each[0] for each in part] for part in (models[:3], models[3:]))
        gain = gain_between(students, controls, seed)
        covered += gain.low <= 0 <= gain.high
    assert 184 <= covered <= 199


def test_models_that_were_asked_other_questions_are_not_compared() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(UserError, match="different sizes"):
        gain_between([ranks_of(rng, 5)], [ranks_of(rng, 6)])
    one = gain_between([ranks_of(rng, 1)], [ranks_of(rng, 1)])
    assert (one.low, one.high) == (-math.inf, math.inf)
    claim = _claim(one, "alike", [])
    assert "one test triple gives no interval" in claim and "inf" not in claim
    assert report_gain_text(0.312, None, None) == "+31.2 % (no interval)"


def entry(
    name: str,
    role: str,
    place: Path,
    ranks: Any,
    valid: Optional[float],
    dim: int = 8,
    seconds: float = 16.0,
) -> StageResults:
    """Return a stage as results hold it, its ranks and history written."""
    folder = place / "stages" / name
    folder.mkdir(parents=True)
    sides = {side: torch.from_numpy(1 / ranks[:, i]) for i, side in enumerate(("head", "tail"))}
    save_state(folder / RANKS_FILE, sides, {})
    with (folder / "history.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["epoch", "seconds", "validation_mrr"])
        writer.writerows([(1, 4.0, ""), (2, 8.0, (valid or 0) / 2), (4, 16.0, valid)])
    figures = {"mr": 2.0, "hits@1": 0.2, "hits@3": 0.4, "hits@10": 0.6, "count": 2 * len(ranks)}
    metrics: dict[str, Any] = {"test": {**figures, "mrr": float(ranks.mean())}}
    training = {"epochs": 4, "best_epoch": 4, "best_validation_mrr": valid, "seconds": seconds}
    training.update(validation_seconds=2.0, setup_seconds=0.5)
    if valid is not None:
        metrics["valid"] = {**figures, "mrr": valid}
    model = {"name": "TransE", "dim": dim, "parameters": 9}
    model.update(floats_per_entity=dim, bytes_per_entity=4 * dim)
    tree = {
        "name": name, "role": role, "teachers": [], "directory": f"stages/{name}",
        "results": {"model": model, "metrics": metrics, "training": training},
    }  # fmt: skip
    return StageResults.of(tree, "test")


@pytest.mark.parametrize(
    ("factor", "valid", "outcome", "words"),
    [
        (1.2, 0.5, "better", "the student is better by 20.0 % [20.0, 20.0] than the same size"),
        (1.0, 0.5, "alike", "the student is not distinguishable from the same size"),
        (0.8, 0.5, "direct", "train directly here: the student is worse by 20.0 % [20.0, 20.0]"),
        (
            1.2,
            0.3,
            "unclaimed",
            "no gain is claimed over the same size trained directly: the student's test MRR is "
            "20.0 % [20.0, 20.0] higher, but validation does not agree",
        ),
        (1.005, 0.5, "unclaimed", "0.5 % [0.5, 0.5] higher, but up to 1 % may be due to the one"),
        (
            0.995,
            0.5,
            "unclaimed",
            "no loss is claimed over the same size trained directly: the student's test MRR is "
            "0.5 % [0.5, 0.5] lower, but up to 1 % may be due to the one seed (--seeds 3 says more",
        ),
    ],
)
def test_each_verdict_in_words(
    tmp_path: Path, factor: float, valid: float, outcome: str, words: str
) -> None:
    control = ranks_of(np.random.default_rng(5), 150) / 2
    stages = [
        entry("student", "student", tmp_path, control * factor, valid),
        entry("other", "direct", tmp_path, control * 0.5, 0.3),
        entry("control", "direct_tuned", tmp_path, control, 0.4),
        entry("big", "direct", tmp_path, control * 3, 0.9, dim=16),
    ]
    verdict = judge(tmp_path, stages, searched={"control": Tuned(None, 30.0, 7)})
    (size,) = verdict.sizes
    assert (size.control, size.outcome) == ("control", outcome)
    assert words in size.sentence
    assert verdict.sentence == size.sentence
    assert "wide" not in size.sentence  # 300 questions
    assert "\n" not in size.sentence
    assert (f"{tmp_path}/stages/control/config.toml" in size.sentence) == (outcome == "direct")
    assert [control.trials for control in size.controls] == [0, 7]
    # 0.4: at the last validation of the control; the student of 0.5 has 0.25 before that.
    reached = 16.0 + 2.0 + 0.5
    assert size.control_seconds == 30.0 + reached
    assert size.student_seconds == (reached if valid == 0.5 else None)
    json.dumps(verdict.to_tree(), allow_nan=False)


def test_a_small_split_and_what_is_missing_are_said(tmp_path: Path) -> None:
    control = ranks_of(np.random.default_rng(6), 40) / 2
    student = entry("student", "student", tmp_path, control, 0.5)
    direct = entry("direct", "direct", tmp_path, control, None)
    (size,) = judge(tmp_path, [student, direct], searched={}).sizes
    assert "only 80 test questions: the interval is wide" in size.sentence
    assert size.time is not None and size.time.student_seconds is None  # nothing to reach
    (tmp_path / "stages" / "direct" / RANKS_FILE).unlink()
    (size,) = judge(tmp_path, [student, direct], searched={}).sizes
    assert size.gain is None
    assert size.sentence.startswith("no verdict: the ranks of single test questions")
    (size,) = judge(tmp_path, [student], searched={}).sizes
    assert size.sentence.startswith("no verdict: nothing of the same size")
    assert control_of(student, [student]) is None


def test_seconds_count_validations_until_then(tmp_path: Path) -> None:
    stage = entry("student", "student", tmp_path, np.full((3, 2), 0.5), 0.4)
    assert seconds_to_reach(tmp_path, stage, 0.2) == 8.0 + 0.5 * 2.0 + 0.5
    assert seconds_to_reach(tmp_path, stage, 0.41) is None
    assert seconds_to_reach(tmp_path, stage, None) is None


def test_damaged_ranks_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / RANKS_FILE
    for tensors in (
        {"head": torch.ones(3)},
        {"head": torch.ones(3), "tail": torch.ones(2)},
        {"head": torch.ones(3), "tail": torch.zeros(3)},
        {"head": torch.ones(3), "tail": torch.full((3,), math.nan)},
    ):
        save_state(path, tensors, {})
        with pytest.raises(UserError, match="restore the file"):
            read_reciprocal_ranks(path)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clock(tmp_path_factory.mktemp("data") / "clock")


def test_a_chain_with_tuned_controls_and_seeds(clock: Path, tmp_path: Path) -> None:
    asked: list[tuple[int, float]] = []

    def tuner(
        config: Config,
        place: Path,
        seconds: float,
        epoch: float,
        workspaces: Workspaces,
        watcher: Watcher,
        known: Sequence[Mapping[str, Any]] = (),
        rivals: Sequence[Config] = (),
    ) -> Tuned:
        assert list(rivals) == []
        assert list(known) == [{"optimizer.learning_rate": 0.3}] * len(asked)
        asked.append((config.model.dim, seconds))
        optimizer = config.optimizer.model_copy(update={"learning_rate": 0.3})
        found = config.model_copy(update={"optimizer": optimizer})
        return Tuned(found, 2.5, 7, 0.25, {"optimizer.learning_rate": 0.3})

    tree = {**chain_tree(clock, epochs=3), "control": "tuned", "seeds": 2}
    chain = ChainConfig.from_mapping(tree, "test")
    with pytest.raises(UserError, match="need a search"):
        run_chain(chain, tmp_path / "none")
    results = run_chain(chain, tmp_path / "run", searches=Searches(tuner, _never)).to_tree()
    stages = {stage["name"]: stage for stage in results["stages"]}
    assert [dim for dim, _ in asked] == [8, 4]
    spent = [sum(_seconds(stages[n]) for n in names) for names in (CHAIN[:2], CHAIN)]
    direct = [_seconds(stages[f"direct-complex-dim{dim}"]) for dim in (8, 4)]
    assert [seconds for _, seconds in asked] == pytest.approx(np.subtract(spent, direct))
    tuned = stages["direct-complex-dim4-tuned"]["results"]
    assert tuned["config"]["optimizer"]["learning_rate"] == 0.3
    again = {stage["repeats"] for stage in results["repeats"]}
    assert again >= set(CHAIN) and len(again) == 5  # and a control of each size
    for stage in results["repeats"]:
        assert stage["seed"] == stage["results"]["config"]["training"]["seed"] == 1
        assert all(name.endswith("-seed1") for name in stage["teachers"])
    last = results["verdict"]["sizes"][-1]
    pairs = [(stages[last["student"]], stages[last["control"]])]
    pairs.append(
        tuple(
            next(s for s in results["repeats"] if s["repeats"] == last[kind])
            for kind in ("student", "control")
        )
    )
    means = [np.mean([p[i]["results"]["metrics"]["test"]["mrr"] for p in pairs]) for i in (0, 1)]
    assert last["gain"] == pytest.approx(means[0] / means[1] - 1, rel=1e-5)
    assert last["seeds"] == 2 and "over 2 seeds" in last["sentence"]
    shown = (last["student_mrr"], last["control_mrr"])  # beside such a gain: means, too
    assert shown == pytest.approx(tuple(means))
    (line,) = [x for x in verdict_lines(ChainResults.of(results, "x")) if last["student"] in x]
    assert f"MRR {means[0]:.4f}, {means[1]:.4f} directly" in line and "over 2 seeds" in line
    assert [control["headroom"] for control in last["controls"]] == [None, 0.25]
    resumed = run_chain(
        chain, tmp_path / "run", resume=True, searches=Searches(_never, _never)
    ).to_tree()
    assert resumed["verdict"] == results["verdict"]


def test_a_control_of_another_model_is_named_after_it(clock: Path, tmp_path: Path) -> None:
    def tuner(*arguments: Any) -> Tuned:
        config, (rival,) = arguments[0], arguments[-1]
        assert rival.model.dim == config.model.dim == 4
        assert (rival.model.name, rival.training.epochs) == ("TransE", 2)
        return Tuned(rival, 1.5, 7, 0.0, {"model.name": "TransE"})

    tree = {**chain_tree(clock, epochs=2), "control": "tuned", "rivals": ["TransE"]}
    chain = ChainConfig.from_mapping({**tree, "dims": [8, 4]}, "test")
    run = run_chain(chain, tmp_path / "run", searches=Searches(tuner, _never))
    assert run.stages[-1].name == "direct-transe-dim4-tuned"
    assert run.stages[-1].role == "direct_tuned"
    assert run.verdict is not None
    (size,) = run.verdict.sizes
    tuned = next(each for each in size.controls if each.name == "direct-transe-dim4-tuned")
    assert (tuned.trials, tuned.searched_seconds) == (7, 1.5)
    for stage in ("0-teacher-complex-dim8", "1-complex-dim4"):  # all is done: nothing is read
        assert (tmp_path / "run" / "stages" / stage).is_dir()
    again = run_chain(chain, tmp_path / "run", resume=True, searches=Searches(_never, _never))
    assert again.verdict == run.verdict


@pytest.mark.parametrize(
    ("outcome", "value", "said"),
    [
        ("better", 0.1, "better by 10.0 % [5.0, 15.0] than the same size trained directly as B"),
        ("direct", -0.1, "train directly here, as B: the student is worse by 10.0 % [5.0, 15.0]"),
        ("alike", 0.1, "not distinguishable from the same size trained directly as B: 10.0 %"),
        ("unclaimed", 0.1, "no gain is claimed over the same size trained directly as B: the stu"),
    ],
)
def test_a_claim_names_the_controls_model(outcome: str, value: float, said: str) -> None:
    low, high = sorted((value - 0.05, value + 0.05))
    gain = Gain(value, low, high, questions=10_000, seeds=1)
    assert said in _claim(gain, outcome, [], "B")
    assert "as B" not in _claim(gain, outcome, [])


def test_own_data_get_further_seeds_where_a_verdict_needs_them(
    clock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubted: list[Any] = []

    def named(verdict: Any) -> list[str]:
        doubted.append(doubtful(verdict))
        return CHAIN[2:]

    def nothing(*arguments: Any) -> Tuned:
        return Tuned(None, 0.5, 0)

    monkeypatch.setattr("dglke_distill.distill.chain.doubtful", named)
    tree = {**chain_tree(clock, epochs=2), "control": "tuned", "search_seconds": 3.0}
    chain = ChainConfig.from_mapping({**tree, "method": "fan_out"}, "test")
    results = run_chain(chain, tmp_path / "run", searches=Searches(nothing, nothing)).to_tree()
    # Its teacher and its control again, and no other student.
    repeated = [(stage["repeats"], stage["seed"]) for stage in results["repeats"]]
    names = [CHAIN[0], CHAIN[2], "direct-complex-dim4"]
    assert repeated == [(name, seed) for seed in (1, 2) for name in names]
    assert [size["seeds"] for size in results["verdict"]["sizes"]] == [1, 3]
    assert len(doubted) == 1
    one = run_chain(
        chain.model_copy(update={"seeds": 1}), tmp_path / "one", searches=Searches(nothing, nothing)
    ).to_tree()
    assert one["repeats"] == [] and len(doubted) == 1


def test_a_difference_on_few_questions_is_doubtful() -> None:
    outcomes = ("better", "alike", "unclaimed", "direct")
    asked = [(of, count) for of in outcomes for count in (100, 5000, 5001)]
    sizes = [
        {"student": f"{of}-{count}", "dim": 8, "outcome": of, "sentence": "", "questions": count}
        for of, count in [*asked, ("none", None)]
    ]
    verdict = Verdict.of({"level": 0.95, "interval": "", "sizes": sizes}, "test")
    assert doubtful(verdict) == ["better-100", "better-5000", "direct-100", "direct-5000"]


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        (Tuned(None, 30.0, 30, 0.1), "better", "better by 20.0 %"),
        (
            Tuned(None, 30.0, 30, 0.195),
            "unclaimed",
            "20.0 % [20.0, 20.0] higher, but a longer search of settings for direct training may "
            "find 19.5 % more, and up to 1 % may be due to the one seed",
        ),
        (Tuned(None, 30.0, 30, 0.3), "unclaimed", "direct training may find 30.0 % more"),
        # The last training, from 0.3 to the control's 0.4, might be thrice as long as well.
        (Tuned(None, 30.0, 30, 0.1, {}, 0.3), "unclaimed", "direct training may find 32.5 % more"),
        # It was worse than what the search had found before.
        (Tuned(None, 30.0, 30, 0.1, {}, 0.48), "unclaimed", "training may find 32.0 % more"),
        (Tuned(None, 30.0, 5), "unclaimed", "but only 5 settings of direct training were tried"),
        (Tuned(None, 30.0, 0), "unclaimed", "but no settings of direct training were searched for"),
    ],
)
def test_a_gain_must_surpass_what_a_longer_search_may_find(
    tmp_path: Path, found: Tuned, outcome: str, words: str
) -> None:
    control = ranks_of(np.random.default_rng(5), 150) / 2
    stages = [
        entry("student", "student", tmp_path, control * 1.2, 0.5),
        entry("control", "direct_tuned", tmp_path, control, 0.4),
    ]
    (size,) = judge(tmp_path, stages, searched={"control": found}, tuned=True).sizes
    assert size.outcome == outcome
    assert words in size.sentence
    (untuned,) = judge(tmp_path, stages, searched={}).sizes
    assert untuned.outcome == "better"
    assert "settings are its recipe's, not searched for" in untuned.sentence


CHAIN = ["0-teacher-complex-dim16", "1-complex-dim8", "2-complex-dim4"]


def _never(*arguments: Any) -> Tuned:
    raise AssertionError("searched again")


def _seconds(stage: dict[str, Any]) -> float:
    training = stage["results"]["training"]
    return sum(training[key] for key in ("seconds", "validation_seconds", "setup_seconds"))


def test_the_ranks_that_are_kept_are_those_of_the_model(clock: Path, tmp_path: Path) -> None:
    tree = {**chain_tree(clock, epochs=2), "dims": [8, 4]}
    run_chain(ChainConfig.from_mapping(tree, "test"), tmp_path / "run")
    place = tmp_path / "run" / "stages" / "1-complex-dim4"
    model, dataset = load_model(place / "checkpoint").model, catalog.load(str(clock))
    known = KnownAnswers.build([dataset.train, dataset.valid, dataset.test], dataset.num_entities)
    ranked = evaluate(model, dataset.test, known)
    found = read_reciprocal_ranks(place / RANKS_FILE)
    assert np.allclose(found[:, 0], 1 / ranked.head_ranks)
    assert np.allclose(found[:, 1], 1 / ranked.tail_ranks)


def test_a_control_with_less_time_is_named(tmp_path: Path) -> None:
    ranks = ranks_of(np.random.default_rng(7), 150) / 2
    student = entry("student", "student", tmp_path, ranks, 0.5, seconds=90.0)
    direct = entry("direct", "direct", tmp_path, ranks, 0.4)
    for limit, said in ((10.0, True), (None, False)):
        verdict = judge(tmp_path, [student, direct], searched={}, limit=limit)
        note = "direct training had 18 s, the student and its teachers 92 s"
        assert (note in (verdict.sentence or "")) == said
