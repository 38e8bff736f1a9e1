"""``import dglke_distill as kd``: what it offers, what it costs, and that it does what it says."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from clock_fixtures import write_clock

import dglke_distill as kd
from dglke_distill import cli
from dglke_distill.api.datasets import data_settings
from dglke_distill.artifacts.results_files import read_training_results
from dglke_distill.cli.commands import COMMANDS
from dglke_distill.config import Config, read_toml
from dglke_distill.runs.settings import nested

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "dgl", "numpy", "numba", "pandas", "pydantic", "scipy")
SMALL: dict[str, Any] = {"model": "complex", "recipe": "none", "epochs": 2, "threads": 1}


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clock(tmp_path_factory.mktemp("data") / "clock")


@pytest.fixture(scope="module")
def trained(clock: Path, tmp_path_factory: pytest.TempPathFactory) -> kd.TrainingRun:
    out = tmp_path_factory.mktemp("runs") / "trained"
    return kd.train(kd.load_dataset(clock), dim=8, out=out, **SMALL)


def test_what_it_offers() -> None:
    assert kd.__all__ == [
        "Dataset", "DistillationRun", "NamedModel", "Study", "TrainingRun", "UserError",
        "__version__", "check_data", "distill", "evaluate", "from_dgl", "load", "load_dataset",
        "to_dgl", "train", "tune", "zoo",
    ]  # fmt: skip
    for name in kd.__all__:
        assert getattr(kd, name) is not None
        assert name in dir(kd)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        kd.trian  # noqa: B018


def test_importing_it_is_cheap() -> None:
    """Nothing heavy is imported; half of the time is that of the interpreter's own modules."""
    code = (
        "import sys, time\nbegun = time.process_time()\nimport dglke_distill as kd\n"
        f"print(time.process_time() - begun, [m for m in {HEAVY!r} if m in sys.modules])\n"
        f"kd.UserError\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split(maxsplit=1)
        for _ in range(3)
    ]
    assert {rest for _, rest in runs} == {"[]\n[]\n"}
    assert min(float(seconds) for seconds, _ in runs) < 0.1


@pytest.mark.parametrize("first", ["kd.distill, kd.evaluate", "None"])
def test_rooms_of_the_same_name_stay_rooms(first: str) -> None:
    code = (
        f"import dglke_distill as kd\n{first}\n"
        "import dglke_distill.distill.plan, dglke_distill.evaluate\n"
        "from dglke_distill.distill.plan import ChainConfig\n"
        "assert dglke_distill.distill.plan.ChainConfig is ChainConfig\n"
        "import inspect\n"
        "assert callable(kd.distill) and callable(kd.evaluate)\n"
        "assert 'split' in inspect.signature(kd.evaluate).parameters\n"
        "assert 'Train a teacher and distil it' in kd.distill.__doc__\n"
        "assert kd.evaluate.__doc__.startswith('Rank a split with a trained model')\n"
        "assert not callable(kd.training)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def flags_of(command: str) -> set[str]:
    place = COMMANDS[command]
    found = getattr(import_module(f"dglke_distill.cli.{place.module}"), place.attribute)
    return set(inspect.signature(found).parameters)


@pytest.mark.parametrize(
    ("command", "call", "others"),
    [
        # --track belongs to the commands; a call tells its progress to `report`
        # --store and --offline are of --init; kd.load takes them, and init takes what it returns
        ("train", "train", {"assignments", "context", "dry_run", "track", "store", "offline"}),
        # the sizes are a list here, so that --from, --to and --ratio are one line of Python
        (
            "run",
            "distill",
            {"assignments", "context", "dry_run", "first", "last", "ratio", "track", "store"}
            | {"offline"},
        ),
        ("evaluate", "evaluate", {"as_json"}),
        ("tune", "tune", {"assignments", "context", "time"}),
    ],
)
def test_calls_take_the_flags_of_their_commands(command: str, call: str, others: set[str]) -> None:
    own = {"settings", "report", "announce", "watcher", "watch", "seconds"}
    keywords = set(inspect.signature(getattr(kd, call)).parameters)
    assert flags_of(command) - others == keywords - own


def test_a_training_is_that_of_the_command(
    clock: Path, trained: kd.TrainingRun, tmp_path: Path
) -> None:
    arguments = ["train", clock, "--dim", 8, "--model", "complex", "--recipe", "none", "--epochs",
                 2, "--threads", 1, "--out", tmp_path / "cli"]  # fmt: skip
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        assert not end.code
    ours, theirs = trained.directory, tmp_path / "cli"
    assert (ours / "config.toml").read_bytes() == (theirs / "config.toml").read_bytes()
    weights = "checkpoint/model.safetensors"
    assert (ours / weights).read_bytes() == (theirs / weights).read_bytes()
    written = read_training_results(theirs / "checkpoint" / "results.json")
    assert trained.metrics["test"].mrr == written.metrics["test"].mrr
    assert list(trained.history()["epoch"]) == [1, 2]
    figures = trained.frame().set_index(["split", "side"])["mrr"]
    assert figures["test", "both"] == trained.metrics["test"].mrr


def figures(tree: Any) -> Any:
    """Return results without what differs from run to run: times, places and names of runs."""
    if isinstance(tree, dict):
        other = {"provenance", "command", "time", "peak_memory_bytes"}
        return {
            key: figures(value)
            for key, value in tree.items()
            if key not in other and "seconds" not in key and "per_second" not in key
        }
    return [figures(each) for each in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("search", ["none", 0.001])
def test_own_data_get_what_the_command_gives_them(clock: Path, tmp_path: Path, search: Any) -> None:
    """Defaults that fit the size of the data, a race, and the same figures bit for bit."""
    flags = ["--epochs", 2, "--threads", 1, "--search", search, "--seed", 5]
    for command, sizes in (("run", ["--dims", "8,4", "--control", "recipe"]), ("train", [])):
        arguments = [command, clock, *sizes, *flags, "--out", tmp_path / command]
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        assert not end.value.code
    same: dict[str, Any] = {"epochs": 2, "threads": 1, "search": search, "seed": 5}
    kd.distill(clock, dims=[8, 4], control="recipe", out=tmp_path / "chain", **same)
    theirs, ours = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("run", "chain")
    )
    assert theirs["chain"]["fit"] == {"entities": 30, "triples": 100}
    assert theirs["chain"]["search_seconds"] == (None if search == "none" else search)
    assert figures(ours) == figures(theirs)
    assert len(theirs["stages"]) == 3 and theirs["summary"]
    said: list[str] = []
    run = kd.train(kd.load_dataset(clock), out=tmp_path / "ours", announce=said.append, **same)
    assert read_toml(run.directory / "config.toml")["training"]["batch_size"] == 16  # it fits
    assert (run.directory / "config.toml").read_bytes() == (
        tmp_path / "train" / "config.toml"
    ).read_bytes()
    written = [
        json.loads((place / "checkpoint" / "results.json").read_text())
        for place in (run.directory, tmp_path / "train")
    ]
    assert figures(written[0]) == figures(written[1])
    raced = any("raced for" in line or "ended within" in line for line in said)
    assert raced is (search != "none")


def test_evaluate_ranks_whatever_is_a_model(
    clock: Path, trained: kd.TrainingRun, tmp_path: Path
) -> None:
    for model in (trained.model, str(trained.checkpoint), trained.checkpoint):
        found = kd.evaluate(model, split="valid", dataset=clock, threads=1)
        assert found.mrr == trained.metrics["valid"].mrr
        assert found.dataset.name == "clock" and found.warnings == []
        with pytest.raises(kd.UserError, match="its dataset clock is neither in the catalog"):
            kd.evaluate(model)  # a path in a checkpoint is never opened
    assert kd.evaluate(trained, threads=1).mrr == trained.metrics["test"].mrr
    other = kd.load_dataset(write_clock(tmp_path / "other", hours=25))
    with pytest.raises(kd.UserError, match="trained: trained on 30 entities that are not the 25"):
        kd.evaluate(trained, dataset=other)


def test_a_model_comes_and_goes(trained: kd.TrainingRun, tmp_path: Path) -> None:
    place = trained.model.save_pretrained(tmp_path / "saved")
    again = kd.NamedModel.from_pretrained(place)
    names = list(again.entities)
    asked = (names[0], again.relations[0])
    assert again.predict_tails(*asked, k=3) == trained.model.predict_tails(*asked, k=3)
    assert again.results == trained.model.results
    assert again.results == json.loads((place / "results.json").read_text())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(kd.UserError, match=r"mine"):
        again.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    with pytest.raises(kd.UserError, match=r"nothing/here"):
        kd.load("nothing/here")
    shipped = kd.NamedModel.from_pretrained("complex-cldr-dim32", store="shipped", offline=True)
    assert shipped.card.startswith("#")
    assert kd.load("complex-cldr-dim32").results == shipped.results


def test_a_chain_under_a_trained_teacher(
    clock: Path, trained: kd.TrainingRun, tmp_path: Path
) -> None:
    settings = {"student.training.batch_size": 16, "shared": {"training": {"seed": 3}}}
    chain = kd.distill(
        clock,
        dims=[8, 4],
        control="recipe",
        teacher=trained,
        settings=settings,
        out=tmp_path / "chain",
        **SMALL,
    )
    assert [stage.role for stage in chain.results.stages] == ["student", "direct"]
    assert chain.teacher is None and list(chain.stages) == list(chain.frame()["stage"].unique())
    (student,) = chain.students
    stated = read_toml(student.directory / "config.toml")["training"]
    assert (stated["batch_size"], stated["seed"], stated["epochs"]) == (16, 3, 2)
    assert chain.model.model.floats_per_entity == 4
    assert chain.verdict is not None and "direct" in chain.verdict
    assert chain.results.summary.teacher_mrr == trained.metrics["test"].mrr
    again = kd.distill(out=tmp_path / "chain", resume=True)
    assert again.results.stages == chain.results.stages


def test_a_study(clock: Path, tmp_path: Path) -> None:
    study = kd.tune(
        kd.load_dataset(clock), model="complex", dim=4, epochs=1, trials=2, threads=1,
        out=tmp_path / "study",
    )  # fmt: skip
    assert len(study.frame()) == study.found.trials == 2
    assert study.config.model.dim == 4
    run = kd.train(clock, config=study.recipe, recipe="none", out=tmp_path / "best")
    found = Config.from_mapping(read_toml(run.directory / "config.toml"), "best")
    assert found.optimizer == study.config.optimizer


@pytest.mark.parametrize(
    ("call", "keywords", "message"),
    [
        ("train", {"settings": {"training.epoch": 1}}, r"training\.epoch'; did you mean 'epochs'"),
        ("train", {"settings": {"training..epochs": 1}}, r"'training\.\.epochs' is no name"),
        ("train", {"settings": {3: 1}}, "3 is no name such as"),
        ("train", {"dataset": "no such thing"}, "no such thing"),
        ("train", {"model": "complexx"}, "complexx"),
        ("train", {"resume": True}, "say which run by out="),
        ("train", {"search": "soon"}, "search 'soon': write seconds, or a number with"),
        ("distill", {"search": -1}, "search -1: write seconds, or a number with"),
        ("distill", {"resume": True}, "say which chain by out="),
        ("distill", {"dims": [4, 8]}, "larger than the one before it"),
        ("tune", {"method": "iterde"}, "give both"),
        ("evaluate", {"model": "complex-cldr-dim33"}, "complex-cldr-dim3"),
        ("evaluate", {"model": "complex-cldr-dim32", "split": "tset"}, "tset"),
        ("load_dataset", {"name_or_path": "cldrr"}, "cldr"),
    ],
)
def test_bad_calls_are_one_line(
    call: str, keywords: dict[str, Any], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kd.UserError, match=message) as error:
        getattr(kd, call)(**keywords)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_settings_may_be_nested_or_dotted() -> None:
    assert nested({"a.b": 1, "a": {"c": 2}, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}
    assert nested(None) == {}


def test_a_dataset_remembers_where_it_was_read(clock: Path, tmp_path: Path) -> None:
    settings, dataset = data_settings(kd.load_dataset(clock, split_seed=3))
    assert settings["data"]["dataset"] == str(clock) and settings["data"]["split_seed"] == 3
    assert isinstance(dataset, kd.Dataset)
    assert data_settings("cldr") == ({"data": {"dataset": "cldr"}}, None)
