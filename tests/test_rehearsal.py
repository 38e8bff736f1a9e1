"""What settings alone can tell is told before the first byte of a chain is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_fixtures import called

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, compose, recipe_names
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.distill.plan import compose_chain, plan
from dglke_distill.distill.rehearsal import check_stages
from dglke_distill.runs.rehearsal import few_facts, rehearse
from dglke_distill.runs.workspace import Workspaces

SMALL = ("--dims", "8,4", "--epochs", "1", "--control", "recipe", "--threads", "1")
ENTITIES = 9


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ring of nine entities."""
    folder = tmp_path_factory.mktemp("own") / "ring"
    folder.mkdir()
    lines = [f"e{i}\tr{i % 2}\te{(i + 1) % ENTITIES}\n" for i in range(ENTITIES)]
    for name, part in (("train", lines), ("valid", lines[:1]), ("test", lines[1:2])):
        (folder / f"{name}.txt").write_text("".join(part))
    return folder


def test_a_study_without_validation_is_told_first(
    facts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = tmp_path / "train" / "alone"
    train.mkdir(parents=True)
    for name in ("train", "valid", "test"):
        text = (facts / "train.txt").read_text() if name == "train" else ""
        (train / f"{name}.txt").write_text(text)
    place = tmp_path / "new" / "study"
    call = ("tune", train, "--model", "transe", "--trials", 1, "--out", place)
    code, _, err = called(capsys, *call)
    assert code == 2 and "alone: valid has no triples" in err and err.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("entities", "dims", "how"), [(1, "4,2", "pca"), (2, "1,1", "svd")])
def test_no_axes_to_project_on_are_told_first(
    entities: int, dims: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data" / "few"
    data.mkdir(parents=True)
    for name in ("train", "valid", "test"):
        (data / f"{name}.txt").write_text(f"e0\tr\te{entities - 1}\n")
    place = tmp_path / "new" / "run"
    call = ("run", data, "--model", "transe", "--dims", dims, *SMALL[2:], "--out", place)
    how = f"student.distillation.initialization={how}"
    code, out, err = called(capsys, *call, "--search", "none", "--set", how)
    assert code == 2 and "no axes to project on; set it to random" in err
    assert "stage 1 of" not in out and not (tmp_path / "new").exists()


# Each was found only after the teacher had been trained, or after chain.toml had been written.
BAD = {
    "student.model.encoder=path": "DistMult",
    "shared.negatives.options.foo=1": "negatives.options of uniform: unknown setting 'foo'",
    "student.negatives.options.foo=1": "negatives.options of uniform: unknown setting 'foo'",
    "student.negatives.sampler=typed student.negatives.options.constraint=type": "entity types",
    "student.training.mode=k_vs_all student.loss.name=softmax student.training.subsampling=true": (
        "training.subsampling"
    ),
    "student.loss.relation_weight=1": "cannot predict relations",
    "student.model.encoder=neighbor student.model.encoder_options.fanouts=[1,2,3]": "fanouts",
    "student.model.encoder=node_piece": "needs a student whose encoder takes vectors",
    "student.training.storage=bfloat16 student.training.dtype=float64": "training.storage",
    "student.optimizer.options.foo=1": "optimizer.options",
    "student.distillation.weight.options.foo=1": "foo",
    "teacher.model.name=distmult teacher.model.encoder=path teacher.regularizer.name=none": (
        "no vectors to start from"
    ),
    "student.training.memory_megabytes=3": "training.memory_megabytes",
}


@pytest.mark.parametrize(
    ("command", "settings"), [*(("run", one) for one in BAD), ("compare", next(iter(BAD)))]
)
def test_a_bad_student_is_told_before_anything_is_written(
    command: str,
    settings: str,
    facts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [word for one in settings.split() for word in ("--set", one)]
    options = SMALL if command == "run" else (*SMALL[:4], *SMALL[6:], "--methods", "iterde")
    call = (
        command,
        facts,
        "--model",
        "transe",
        *options,
        *given,
        "--out",
        tmp_path / "new" / "run",
    )
    code, out, err = called(capsys, *call)
    assert code == 2
    assert err.count("\n") == 1
    wanted = "--memory" if "memory" in settings else BAD[settings]
    assert wanted in err
    assert "stage 1 of" not in out  # nothing was trained
    assert list(tmp_path.iterdir()) == []


def test_what_fails_as_the_first_stage_begins_leaves_nothing(
    facts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given: object, **named: object) -> None:
        raise UserError("what only training tells")

    with monkeypatch.context() as patched:
        patched.setattr("dglke_distill.runs.train_run.train", fails)
        place = tmp_path / "new" / "run"
        call = ("run", facts, "--model", "transe", *SMALL, "--search", "none", "--out", place)
        code, out, err = called(capsys, *call)
    assert (code, err) == (2, "error: what only training tells\n")
    assert "stage 1 of 3" in out
    assert list(tmp_path.iterdir()) == []
    assert called(capsys, *call).code == 0  # the same call, once the cause is mended
    assert json.loads((place / "results.json").read_text())["kind"] == "chain"
    again = called(capsys, *call)
    assert again.code == 2
    assert "--resume" in again.err


@pytest.mark.parametrize(
    ("dims", "told"),
    [((4, 2), 0), ((4, 4), 1), ((4, 4, 2), 1)],
)
def test_a_student_no_smaller_than_its_teacher_is_told(
    dims: tuple[int, ...], told: int, tmp_path: Path
) -> None:
    chain = compose_chain("none", "ring", "transe", [{"dims": list(dims), "control": "none"}])
    lines = check_stages(plan(chain), Workspaces(dataset=_ring()), tmp_path / "new")
    assert len(lines) == told
    assert all("has as many floats per entity (4) as its teacher" in line for line in lines)
    student = plan(chain)[1]
    larger = student.config.model.model_copy(update={"dim": 6})
    distillation = student.config.distillation
    assert distillation is not None
    by_chance = distillation.model_copy(update={"initialization": "random"})
    config = student.config.model_copy(update={"model": larger, "distillation": by_chance})
    stages = [plan(chain)[0], student._replace(config=config)]
    (line,) = check_stages(stages, Workspaces(dataset=_ring()), tmp_path / "new")
    assert "has more floats per entity (6) than its teacher, which has 4" in line
    assert list(tmp_path.iterdir()) == []


def _ring() -> Dataset:
    ends = np.arange(ENTITIES, dtype=np.int32)
    train = Triples(ends, ends % 2, np.roll(ends, -1))
    names = Vocabulary(size=ENTITIES, kind="entity"), Vocabulary(size=2, kind="relation")
    kinds = ends % 3
    return Dataset("ring", *names, train, train[:2], train[2:4], entity_type=kinds)


def test_every_kind_of_recipe_passes() -> None:
    kinds: dict[tuple[str, ...], Config] = {}
    for recipe in recipe_names():
        config = compose([{"model": {"dim": 120}}], recipe=recipe)
        parts = config.model.name, config.model.encoder, config.negatives.sampler
        kinds[*parts, config.training.mode, config.loss.name] = config
    assert len(kinds) > 15
    for config in kinds.values():
        rehearse(config, few_facts(_ring()), torch.device("cpu"))


def test_a_rehearsal_draws_no_number_that_a_training_would_draw() -> None:
    torch.manual_seed(5)
    rehearse(Config(), few_facts(_ring()), torch.device("cpu"))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_few_facts_are_the_first_ones_by_new_ids() -> None:
    loop = np.zeros(20, np.int32)
    whole = Dataset(
        "loops",
        Vocabulary([f"e{i}" for i in range(40)], kind="entity"),
        Vocabulary(["r", "s"], kind="relation"),
        Triples(loop + 30, loop + 1, loop + 30),
        Triples(loop[:0], loop[:0], loop[:0]),
        Triples(loop[:1], loop[:1], loop[:1]),
    )
    few = few_facts(whole)
    assert few.train.to_array().tolist() == [[0, 0, 0]] * 8
    assert (few.num_entities, few.num_relations, len(few.valid)) == (8, 1, 0)
