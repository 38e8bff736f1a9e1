"""The shipped recipes of the OGB datasets."""

from __future__ import annotations

from pathlib import Path

import pytest
from ogb_fixtures import write_biokg, write_wikikg2

from dglke_distill import cli
from dglke_distill.config import compose
from dglke_distill.distill.plan import compose_chain, plan
from dglke_distill.leaderboard import compose_seeds

MODELS = ("TransE", "RotatE", "ComplEx", "DistMult")
DIMS = {"ogbl-wikikg2": [500, 250, 100, 50], "ogbl-biokg": [2000, 1000, 500, 200]}
STEPS = {"ogbl-wikikg2": (200_000, 16_109_182), "ogbl-biokg": (300_000, 4_762_678)}
GAMMA = {("ogbl-wikikg2", "TransE"): 30, ("ogbl-wikikg2", "RotatE"): 5}
GAMMA.update({("ogbl-biokg", "TransE"): 20, ("ogbl-biokg", "RotatE"): 20})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", DIMS)
def test_a_training_has_the_settings_of_the_official_example(dataset: str, model: str) -> None:
    dim = DIMS[dataset][0]
    config = compose([{"data": {"dataset": dataset}, "model": {"name": model, "dim": dim}}])
    assert config.recipe == f"{model}-{dataset}".lower()
    assert (config.negatives.count, config.training.batch_size) == (128, 512)
    assert config.loss.name == "self_adversarial"
    assert config.loss.options["temperature"] == 1.0
    assert config.loss.options["margin"] == GAMMA.get((dataset, model), 0)
    assert config.training.subsampling
    assert config.optimizer.name == "adam"
    distance = (dataset, model) in GAMMA
    assert config.optimizer.learning_rate == (1e-4 if distance else 1e-3)
    assert (config.optimizer.schedule, config.optimizer.step_at) == ("step", 0.5)
    assert config.optimizer.final == 0.1
    assert (config.regularizer.name == "none") == distance
    if distance:
        coordinates = dim / 2 if model == "RotatE" else dim
        bound = (GAMMA[dataset, model] + 2) / coordinates
        assert config.model.init_scale == pytest.approx(bound, abs=1e-5)
    assert config.negatives.sampler == ("typed" if dataset == "ogbl-biokg" else "uniform")
    steps, train = STEPS[dataset]
    assert config.training.epochs == pytest.approx(steps * 512 / train, abs=0.5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", DIMS)
def test_a_chain_goes_down_the_sizes(dataset: str, model: str) -> None:
    for chain in (
        compose_chain("auto", dataset, model, []),
        compose_chain("best", dataset.replace("-", "_"), model.lower(), []),
        compose_seeds(dataset, model, "auto", 10, []).chain,
    ):
        assert chain.dims == DIMS[dataset]
        stages = [stage for stage in plan(chain) if stage.role != "direct"]
        assert [stage.config.model.dim for stage in stages] == DIMS[dataset]
        assert {stage.config.model.name.lower() for stage in stages} == {model.lower()}
        assert {stage.config.recipe for stage in stages} == {f"{model}-{dataset}".lower()}
        assert [len(stage.teachers) for stage in stages] == [0, 1, 1, 1]
        students = stages[1:]
        assert all(stage.config.distillation is not None for stage in students)
        if (dataset, model) in GAMMA:
            for stage in stages:
                coordinates = stage.config.model.dim / (2 if model == "RotatE" else 1)
                bound = (GAMMA[dataset, model] + 2) / coordinates
                assert stage.config.model.init_scale == pytest.approx(bound, abs=1e-5)
    assert {stage.role for stage in plan(compose_chain("auto", dataset, model, []))} == {
        "teacher",
        "student",
        "direct",
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["ogbl_wikikg2", "ogbl_biokg"])
def test_they_take_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, model: str
) -> None:
    """A dry run takes a few steps of every stage; sizes are cut down."""
    (write_wikikg2 if name == "ogbl_wikikg2" else write_biokg)(tmp_path)
    arguments = ["run", str(tmp_path / name), "--model", model, "--dims", "16,8", "--dry-run"]
    with pytest.raises(SystemExit) as end:
        cli.main([*arguments, "--threads", "1"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "3 stages and more: at most about " in shown


def test_the_small_size_of_the_example_has_its_own_start() -> None:
    for model, bound in (("TransE", 32 / 100), ("RotatE", 7 / 50)):
        tree = {"data": {"dataset": "ogbl-wikikg2"}, "model": {"name": model, "dim": 100}}
        config = compose([tree])
        assert config.recipe == f"{model.lower()}-ogbl-wikikg2-dim100"
        assert config.model.init_scale == pytest.approx(bound)
