"""Settings that a user gives and nothing reads are told by name; those of recipes never are."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_fixtures import called

import dglke_distill as kd
from dglke_distill.base.errors import UserError
from dglke_distill.config import compose, recipe_names
from dglke_distill.config.idle import idle_settings
from dglke_distill.distill.idle import idle_parts
from dglke_distill.distill.plan import compose_chain
from dglke_distill.distill.watcher import Watcher
from dglke_distill.runs.settings import flattened, nested

IDLE = [
    ("training.mode=k_vs_all loss.name=softmax negatives.count=8", "negatives.count"),
    ("training.mode=one_vs_all loss.name=softmax negatives.sampler=typed", "negatives.sampler"),
    ("training.mode=k_vs_all loss.name=bce negatives.options.constraint=type", "negatives."),
    ("negatives.sharing=private negatives.chunk_size=4", "negatives.chunk_size"),
    ("negatives.sampler=bernoulli negatives.sides=both", "negatives.sides"),
    ("optimizer.schedule=cosine optimizer.step_at=0.3", "optimizer.step_at"),
    ("optimizer.schedule=constant optimizer.final=0.3", "optimizer.final"),
    ("regularizer.name=none regularizer.weight=0.3", "regularizer.weight"),
    ("training.evaluate_every=0 training.patience=2", "training.patience"),
    ("distillation.hard_weight=0.5", "distillation.hard_weight"),
]
ALL = "training.mode=k_vs_all"
READ = [
    "negatives.count=8 negatives.sharing=chunk negatives.chunk_size=4 negatives.sides=both",
    "optimizer.schedule=step optimizer.step_at=0.3 optimizer.final=0.1",
    "regularizer.name=n3 regularizer.weight=0.3",
    "regularizer.name=none regularizer.weight=0",
    "training.evaluate_every=1 training.patience=2",
]


def given(words: str) -> list[str]:
    return [word for one in words.split() for word in ("--set", one)]


@pytest.mark.parametrize(("words", "setting"), IDLE)
def test_an_idle_setting_is_one_line(
    words: str, setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ("train", "cldr", "--recipe", "none", *given(words), "--dry-run")
    code, out, err = called(capsys, *call)
    assert code == 0 and "needs about" in out
    named = "--negatives (negatives.count)" if setting == "negatives.count" else setting
    assert err.startswith(f"warning: {named}")
    assert "does nothing here, since" in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", READ)
def test_what_is_read_passes(words: str) -> None:
    tree = nested({key: eval_value(value) for key, value in pairs(words)})
    config = compose([tree], recipe=None)
    assert idle_settings(config, flattened(tree)) == []


def pairs(words: str) -> list[list[str]]:
    return [one.split("=") for one in words.split()]


def eval_value(text: str) -> object:
    return (
        float(text)
        if text.replace(".", "").isdigit() and "." in text
        else (int(text) if text.isdigit() else text)
    )


def test_python_says_it_too(tmp_path: Path) -> None:
    told: list[str] = []
    settings = {"training.mode": "k_vs_all", "loss.name": "softmax", "model.encoder": "nope"}
    with pytest.raises(UserError, match="nope"):
        kd.train("cldr", recipe="none", negatives=3, out=tmp_path / "o", settings=settings,
                 announce=told.append)  # fmt: skip
    assert len(told) == 1 and "draws no negatives" in told[0]
    settings = {"sizes": {"5": {"training": {"epochs": 3}}}, "shared.model.encoder": "nope"}
    with pytest.raises(UserError, match="nope"):
        kd.distill("cldr", dims=[8, 4], out=tmp_path / "o", settings=settings, recipe="none",
                   watcher=Watcher(announce=told.append))  # fmt: skip
    assert "sizes.5.training.epochs: does nothing here, since the chain trains no" in told[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ("student.distillation.soft.count=5", "distillation.soft.candidates batch"),
        ("student.distillation.soft.extra_pool=5.0", "distillation.soft.extra is 0"),
        ("method=rkd student.distillation.soft.name=kl", "copies no scores"),
        ("method=direct teacher.training.epochs=2", "no such stage"),
        ("control=none direct.training.epochs=2", "no such stage"),
        (f"shared.{ALL} shared.loss.name=softmax shared.negatives.count=3", "draws no"),
        (f"student.{ALL} student.loss.name=softmax student.negatives.count=3", "draws no"),
    ],
)  # fmt: skip
def test_parts_of_a_chain(options: str, setting: str) -> None:
    tree = nested({key: eval_value(value) for key, value in pairs(options)})
    chain = compose_chain("none", "cldr", "transe", [{"dims": [8, 4]}, tree])
    (line,) = idle_parts(chain, [tree])
    assert setting in line


def test_a_part_that_one_stage_reads_passes() -> None:
    tree = {
        "shared": {"negatives": {"count": 3}},
        "student": {
            "training": {"mode": "k_vs_all"},
            "loss": {"name": "softmax"},
            "distillation": {"hard_weight": 0.5, "soft": {"candidates": "top", "count": 3}},
        },
    }
    chain = compose_chain("none", "cldr", "transe", [{"dims": [8, 4]}, tree])
    assert idle_parts(chain, [tree]) == []
    loaded = compose_chain("none", "cldr", "transe", [{"dims": [8, 4]}])
    (line,) = idle_parts(loaded, [{"teacher": {"training": {"epochs": 2}}}], ["/a/teacher"])
    assert "trains no such stage" in line


def test_no_recipe_trips() -> None:
    """What recipes say is not what the user says, and what all trainings read is never idle."""
    for recipe in recipe_names():
        config = compose([{"training": {"epochs": 3}}], recipe=recipe)
        assert not idle_settings(config, {"training.epochs": 3, "optimizer.learning_rate": 0.1})
