"""Defaults that fit the data, and the race before a training."""

from __future__ import annotations

import csv
import itertools
import json
import re
import signal
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from distill_fixtures import write_clock

from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.config import Config, compose, merge, read_toml
from dglke_distill.config.fit import fitted
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.controls import stated_of
from dglke_distill.distill.plan import compose_chain, plan
from dglke_distill.distill.tuner import Tuned
from dglke_distill.distill.watcher import Watcher
from dglke_distill.models import SCORE_FUNCTIONS
from dglke_distill.runs.settings import flattened
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search import race as race_module
from dglke_distill.search.control import equal_time, headroom, shared_headroom
from dglke_distill.search.durations import seconds_of
from dglke_distill.search.found import Ended, Found
from dglke_distill.search.lengths import last_length, lengths_of
from dglke_distill.search.race import race
from dglke_distill.search.racers import racing_settings
from dglke_distill.training import loop


@pytest.mark.parametrize("model", sorted(SCORE_FUNCTIONS))
@pytest.mark.parametrize(
    ("entities", "triples"), [(1, 1), (45, 467), (135, 5216), (14541, 272115), (10**6, 10**8)]
)
def test_what_fits_is_a_valid_setting_of_every_model(
    model: str, entities: int, triples: int
) -> None:
    named = {"data": {"dataset": "mine"}, "model": {"name": model, "dim": 32}}
    config = compose([named])
    tree = fitted(config, entities, triples)
    made = compose([tree, named])
    batch, epochs = made.training.batch_size, made.training.epochs
    assert batch <= max(config.training.batch_size, 16)
    assert batch == 16 or -(-triples // batch) >= 50
    assert config.training.epochs <= epochs <= 4 * config.training.epochs
    assert made.optimizer.learning_rate >= config.optimizer.learning_rate


def test_small_data_get_small_margins_batches_and_more_regularisation() -> None:
    transe = compose([{"data": {"dataset": "mine"}, "model": {"name": "TransE", "dim": 32}}])
    assert transe.loss.options["margin"] == 9.0
    small = fitted(transe, 45, 467)
    assert small["loss"]["options"]["margin"] < 3.5 and small["training"]["batch_size"] == 16
    assert fitted(transe, 14541, 272115)["training"]["batch_size"] == 1024
    complex_ = compose([{"data": {"dataset": "mine"}, "model": {"name": "ComplEx", "dim": 32}}])
    weights = [fitted(complex_, 100, n)["regularizer"]["weight"] for n in (467, 50_000, 272_115)]
    assert weights[0] > weights[1] > weights[2] == complex_.regularizer.weight


def test_what_a_chain_says_lies_above_what_fits() -> None:
    tree = {
        "data": {"dataset": "mine"},
        "dims": [16, 8],
        "fit": {"entities": 45, "triples": 467},
        "student": {"loss": {"options": {"margin": 7.0}}, "training": {"batch_size": 100}},
    }
    stages = {s.role: s.config for s in plan(ChainConfig.from_mapping(tree, "test"))}
    assert stages["student"].loss.options["margin"] == 7.0
    assert stages["student"].training.batch_size == 100
    assert stages["teacher"].training.batch_size == 16
    assert stages["teacher"].loss.options["margin"] < 3.5


def racing(folder: Path) -> Config:
    tree = {
        "data": {"dataset": str(write_clock(folder / "clock"))},
        "model": {"name": "TransE", "dim": 8},
        "loss": {"name": "self_adversarial", "options": {"margin": 24.0}},
        "optimizer": {"name": "adagrad", "learning_rate": 1e-6},  # learns nothing
        "training": {"epochs": 27, "batch_size": 16, "threads": 1},
    }
    return compose([tree], recipe=None)


@pytest.mark.slow
def test_a_race_finds_better_settings_and_keeps_the_rest(tmp_path: Path) -> None:
    config, lines = racing(tmp_path), []
    place = tmp_path / "race"
    found = race(config, place, 20.0, Workspaces(), Watcher(announce=lines.append))
    assert found.config is not None and found.trials > 1
    assert found.config.optimizer.learning_rate > 1e-6
    assert found.config.training.epochs == 27
    assert found.config.model.dim == 8 and found.config.data == config.data
    assert found.config.evaluation.split == "test"
    assert found.seconds < 40
    assert len(lines) == 1 and " won, valid MRR " in lines[0]
    assert not (place / "stages").exists()


@pytest.mark.parametrize("taught", [False, True])
def test_all_that_race_keep_what_was_set(taught: bool) -> None:
    stated = {
        "model": {"reciprocal": True, "options": {"hidden": 64}},
        "optimizer": {"learning_rate": 0.05},
        "training": {"batch_size": 77},
    }
    asked = merge({"model": {"name": "RotE", "dim": 14}, "distillation": {"method": "bkd"}}, stated)
    found = racing_settings(compose([asked], recipe=None), taught, stated)
    assert len(found) > 6 and all(n == found.index(one) for n, one in enumerate(found))
    assert len({one.loss.name for one in found}) > 1
    for one in found:
        assert one.model.reciprocal and one.model.options == {"hidden": 64}
        assert one.optimizer.learning_rate == 0.05
        assert one.training.batch_size == 77


@pytest.mark.parametrize("recipe", ["none", "best-complex"])
def test_a_chain_tells_its_race_what_was_set_beyond_its_recipe(recipe: str) -> None:
    said = {
        "student": {"optimizer": {"learning_rate": 0.05}},
        "shared": {"training": {"seed": 3}},
        "sizes": {"8": {"training": {"batch_size": 77}}},
    }
    chain = compose_chain(recipe, "cldr", None, [{"dims": [16, 8]}, said])
    kept = stated_of(chain, "student", 8)
    assert kept["optimizer"] == {"learning_rate": 0.05}
    assert kept["training"] == {"seed": 3, "batch_size": 77}
    assert "loss" not in kept and "distillation" not in kept
    assert stated_of(chain, "teacher", 16) == {"training": {"seed": 3}}


def test_without_time_the_defaults_win(tmp_path: Path) -> None:
    config, lines = racing(tmp_path), []
    found = race(config, tmp_path / "race", 1e-6, Workspaces(), Watcher(announce=lines.append))
    assert found.config == config
    assert lines == [
        "no training of settings ended within 1e-06 s, so that there is nothing to choose from: "
        "the defaults for this data stay; try a --search four times as long (of 240s, if none was "
        "given)"
    ]


class Slow:
    """Stands for the clock and the trainings of a race in which an epoch takes ten seconds."""

    def __init__(self, best: int) -> None:
        self.now, self.best = 0.0, best
        self.looks: list[tuple[int, float]] = []

    def monotonic(self) -> float:
        return self.now

    def trained(self, racer: Any, epochs: float, track: Any, limit: Optional[float] = None) -> Any:
        ends = self.now + 10 * epochs
        if limit is not None and ends > limit:
            self.now = limit
            raise race_module._TooLong(10 * epochs)
        if ends > track.deadline:
            self.now = track.deadline
            raise race_module._TimeIsUp
        self.now = ends
        if epochs:
            self.looks.append((racer.number, epochs))
        return racer._replace(mrr=0.5 if racer.number == self.best else 0.1, epochs=epochs)


@pytest.mark.parametrize(("seconds", "chosen"), [(60, True), (25, False)])
def test_slow_data_are_looked_at_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, chosen: bool
) -> None:
    config, lines, slow = racing(tmp_path), [], Slow(best=3)
    monkeypatch.setattr(race_module, "_FACTS", 1)
    monkeypatch.setattr(race_module, "_trained", slow.trained)
    monkeypatch.setattr(race_module, "time", slow)
    watcher = Watcher(announce=lines.append)
    found = race(config, tmp_path / "race", seconds, Workspaces(), watcher)
    parts = {number for number, epochs in slow.looks if epochs < 1}
    assert len(parts) >= 6 and 0 in parts
    assert found.trials == len(slow.looks) and slow.now <= seconds
    assert lines[0].startswith(f"{found.trials} trainings ")
    assert (found.config == config) is not chosen
    if chosen:  # after an epoch on all facts, where the defaults were beaten too
        assert {0, 3} <= {number for number, epochs in slow.looks if epochs >= 1}
    else:
        assert "too little to choose by: the defaults for this data stay" in lines[0]


def test_a_part_of_the_facts_has_all_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, workspaces = racing(tmp_path), Workspaces()
    monkeypatch.setattr(race_module, "_FACTS", 1)
    whole = workspaces.of(config).dataset
    part = race_module._part(workspaces, config, 0.25).of(config).dataset
    assert part.entities == whole.entities and part.relations == whole.relations
    assert len(part.train) == round(0.25 * len(whole.train)) and len(part.valid) == len(whole.valid)
    facts = [set(map(tuple, each.train.to_array().tolist())) for each in (part, whole)]
    assert facts[0] < facts[1]


@pytest.mark.parametrize("better", ["TransE", "ComplEx"])
def test_a_control_of_few_floats_is_searched_for_among_two_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: str
) -> None:
    asked: list[tuple[str, float, dict[str, Any]]] = []

    def searched(study: Any, place: Path, *, seconds: float, first: Any, **more: Any) -> Found:
        model = study.settings["model"]["name"]
        asked.append((model, seconds, first[1]))
        place.mkdir(parents=True, exist_ok=True)
        short = {"model": study.settings["model"], "training": {"epochs": study.lengths[0]}}
        config = Config.from_mapping(short, "test")
        usual.append(study.lengths[-2])
        mrr = 0.5 if model == better else 0.4
        return Found(2, 0, 0, seconds, mrr, config, 0, {"training.mode": "k_vs_all"})

    def found_with(dim: int) -> Any:
        asked.clear()
        data = {"dataset": str(tmp_path / "clock")}
        both = [
            compose([{"data": data, "model": {"name": name, "dim": dim}}])
            for name in ("ComplEx", "TransE")
        ]
        known = [
            {"model.name": name, "optimizer.learning_rate": rate}
            for name, rate in (("ComplEx", 0.04), ("TransE", 0.05))
        ]
        return equal_time(
            both[0], tmp_path / f"searches-{dim}", 100.0, 0.1, Workspaces(), Watcher(), known,
            both[1:],
        )  # fmt: skip

    write_clock(tmp_path / "clock")
    monkeypatch.setattr("dglke_distill.search.control.tune", searched)
    usual: list[int] = []
    found = found_with(16)
    assert [call[:2] for call in asked] == [("ComplEx", 60), ("TransE", 60)]
    assert found.config.training.epochs >= min(usual) > 1  # none ends as a short trial
    rates = {"ComplEx": 0.04, "TransE": 0.05}  # what the same model had at another size
    assert all(known["optimizer.learning_rate"] == rates[model] for model, _, known in asked)
    assert found.config.model.name == found.chosen["model.name"] == better
    assert (found.mrr, found.seconds) == (0.5, 60 + 60)
    assert found_with(18).config.model.name == "ComplEx"
    assert [call[:2] for call in asked] == [("ComplEx", 60)]


def ended(*values: float, epochs: int = 1) -> list[Ended]:
    return [Ended(epochs, value, float(epochs)) for value in values]


def test_what_a_longer_search_may_gain() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(11).tolist()
    thirds = [max(chosen) for chosen in itertools.combinations(values, 4)]
    on_average = sum(thirds) / len(thirds)
    # The search has three fifths of the time, so that a third of all is five ninths of it.
    as_it_went = max(values[:6])
    least = min(on_average, as_it_went)
    assert headroom(ended(*values)) == pytest.approx(1 - least / max(values))
    assert headroom(ended(*[0.5] * 6)) == 0.0
    assert headroom(ended(0.1, 0.1, 0.1, 0.4, 0.4, 0.4)) == pytest.approx(0.75)  # it found late
    assert headroom(ended(*[0.5] * 5)) is None and headroom([]) is None
    assert headroom(ended(*[0.0] * 9)) is None
    many = ended(*[0.5] * 3000, *[0.501] * 1500)
    assert headroom(many) == pytest.approx(0.001 / 0.501)


def test_a_longer_search_may_gain_what_longer_trainings_have() -> None:
    # Of 15 epochs five ninths are those until the first training of three.
    longer = [*ended(*[0.4] * 6), *ended(0.5, 0.6, 0.6, epochs=3)]
    assert headroom(longer) == pytest.approx(1 - 0.4 / 0.6)
    assert headroom([*longer[:6], *ended(0.6, epochs=3)]) == pytest.approx(1 - 0.4 / 0.6)
    early = [*ended(*[0.4] * 3), *ended(0.6, epochs=3), *ended(*[0.4] * 6)]
    assert headroom(early) == 0.0
    # What five settings were trained for longer is no more settings.
    assert headroom([*longer[1:], *ended(0.6, epochs=9)]) is None


def test_the_last_training_is_longer_by_half_or_as_long_as_before() -> None:
    assert last_length(10, 1.0, 100.0, [10, 30, 90]) == 90
    assert last_length(10, 1.0, 20.0, [10, 30, 90]) == 19  # a twentieth is kept in hand
    assert last_length(10, 1.0, 15.0, [10, 30, 90]) == 10


def test_of_two_searches_either_may_still_find_more() -> None:
    late, flat = ended(0.1, 0.1, 0.1, 0.4, 0.4, 0.4), ended(*[0.5] * 6)
    assert shared_headroom([flat]) == 0.0
    assert shared_headroom([late]) == pytest.approx(0.75)
    # The worse one may reach 0.4 * 1.75 = 0.7, which is 40 % above the better one.
    assert shared_headroom([flat, late]) == pytest.approx(0.4)
    assert shared_headroom([flat, ended(*[0.1] * 6)]) == 0.0
    assert shared_headroom([flat, ended(*[0.1] * 5)]) is None  # too few to say
    assert shared_headroom([]) is None and shared_headroom([ended(*[0.0] * 9)]) is None


def test_settings_by_their_names() -> None:
    config = Config.from_mapping({"loss": {"options": {"margin": 3.0}}}, "test")
    assert flattened(config.model_dump())["loss.options.margin"] == 3.0
    assert flattened(config.model_dump())["training.batch_size"] == config.training.batch_size


def test_times() -> None:
    assert seconds_of("none", "--search", none=True) is None
    assert seconds_of(" 2m ", "--search") == 120.0
    assert seconds_of(4, "--search") == seconds_of(4.0, "--search") == 4.0
    for text in ("", "0s", "-3", "soon", "1e3", "none", True, float("nan"), -1.0):
        with pytest.raises(UserError, match="--search"):
            seconds_of(text, "--search")


def call(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_run_on_own_data_searches_and_judges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_clock(tmp_path / "clock"), tmp_path / "out"
    common = ["--epochs", "4", "--threads", "1", "--search", "4s"]
    assert call("run", folder, "--dims", "8,4", *common, "--out", out) == 0
    printed = capsys.readouterr().out
    assert len(re.findall("raced for|ended within", printed)) == 2  # teacher and student
    results = json.loads((out / "results.json").read_text())
    assert results["chain"]["fit"] == {"entities": 24, "triples": 60}
    assert results["chain"]["search_seconds"] == 4.0
    (size,) = results["verdict"]["sizes"]
    student, teacher = results["stages"][1], results["stages"][0]
    own = sum(
        stage["results"]["training"][key]
        for stage in (student, teacher)
        for key in ("seconds", "validation_seconds", "setup_seconds")
    )
    assert size["time"]["chain_seconds"] > own + 0.1  # the searches count
    assert call("run", "--resume", "--out", out) == 0
    again = json.loads((out / "results.json").read_text())
    assert (again["stages"], again["verdict"]) == (results["stages"], results["verdict"])


@pytest.mark.slow
def test_train_on_own_data_searches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = write_clock(tmp_path / "clock"), tmp_path / "out"
    flags = ["--dim", "8", "--epochs", "4", "--threads", "1"]
    assert call("train", folder, *flags, "--search", "3s", "--out", out) == 0
    assert re.search("raced for|ended within", capsys.readouterr().out)
    assert read_toml(out / "config.toml")["training"]["epochs"] == 4
    assert call("train", folder, *flags, "--search", "none", "--out", tmp_path / "none") == 0
    assert "raced" not in capsys.readouterr().out
    assert read_toml(tmp_path / "none" / "config.toml")["training"]["batch_size"] == 16
    assert call("train", folder, *flags, "--search", "x", "--out", tmp_path / "bad") == 2


@pytest.mark.slow
def test_a_control_goes_on_with_its_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, place, steps, take = (
        racing(tmp_path),
        tmp_path / "search",
        itertools.count(1),
        loop.step,
    )

    def stopping(*arguments: Any, **options: Any) -> Any:
        if next(steps) == 10:
            signal.raise_signal(signal.SIGINT)
        return take(*arguments, **options)

    def searched() -> Tuned:
        return equal_time(config, place, 5.0, 0.02, Workspaces(), Watcher())

    def ended() -> list[tuple[str, str, str]]:
        with (place / "trials.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [(r["trial"], r["valid_mrr"], r["seconds"]) for r in rows if r["valid_mrr"]]

    monkeypatch.setattr(loop, "step", stopping)
    with pytest.raises(loop.Interrupted):
        searched()
    study = read_toml(place / "study.toml")
    assert study["lengths"] == lengths_of(27) and study["seconds"] == 3.0
    before = ended()
    monkeypatch.setattr(loop, "step", take)
    found = searched()
    assert before and ended()[: len(before)] == before  # what had been tried is kept
    assert found.config is not None and len(ended()) > len(before)
    monkeypatch.setattr(loop, "step", None)  # nothing is trained for a search that has ended
    assert searched() == found
