"""Searches: spaces are checked, trials are judged on valid alone, nothing is lost."""

from __future__ import annotations

import csv
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import optuna
import pytest
from distill_fixtures import write_clock

from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.config import Config, read_toml
from dglke_distill.models import SCORE_FUNCTIONS
from dglke_distill.search.durations import seconds_of
from dglke_distill.search.found import Found, StudyConfig
from dglke_distill.search.leave import state_of
from dglke_distill.search.lengths import Budget, Training, lengths_of, longer
from dglke_distill.search.owners import bury
from dglke_distill.search.space import SPACES, Range, Space, find_space, read_space, space_names
from dglke_distill.search.study import StudyWatch, _open, saved_study, space_digest, tune

SPACE = """
[fixed.model]
name = "TransE"

[fixed.negatives]
count = 4

[search."optimizer.learning_rate"]
low = 0.01
high = 1.0
log = true
default = 0.1

[search."loss.name"]
choices = ["margin", "softmax"]
default = "margin"

[search."loss.options.margin"]
low = 1.0
high = 4.0
when = { "loss.name" = "margin" }
"""


def study_of(folder: Path, text: str = SPACE, **settings: Any) -> StudyConfig:
    """Return a study over a small graph, with nine epochs a trial."""
    clock = folder / "clock" if (folder / "clock").exists() else write_clock(folder / "clock", 12)
    path = folder / "space.toml"
    path.write_text(text)
    tree = {
        "data": {"dataset": str(clock)},
        "model": {"dim": 8},
        "training": {"epochs": 9, "batch_size": 16, "threads": 1},
    }
    space = read_space(str(path))
    return StudyConfig(
        space=str(path), space_sha256=space_digest(space), settings={**tree, **settings}
    )


# --- spaces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", space_names())
def test_a_space_that_ships_is_valid_and_has_a_whole_default(name: str) -> None:
    space = read_space(name)
    assert set(space.defaults()) == {
        key
        for key, span in space.search.items()
        if all(space.defaults().get(other) == value for other, value in span.when.items())
    }
    Config.from_mapping(space.settings(space.defaults()), name)


def test_every_score_function_has_a_space() -> None:
    for name in SCORE_FUNCTIONS:
        assert (SPACES / f"{find_space(name, False)}.toml").is_file()
        assert find_space(name, True) == "student"
        own = read_space(find_space(name, False)).fixed.get("model", {}).get("name", name)
        assert own == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[search.a]\nlow = 1\n", "either choices, or low and high"),
        ("[search.a]\nlow = 2\nhigh = 1\n", "low must not be above high"),
        ("[search.a]\nlow = 0\nhigh = 1\nlog = true\n", "low must be above 0"),
        ("[search.a]\nlow = 0\nhigh = 1\ndefault = 2\n", "the default is none"),
        ("[search.a]\nchoices = [1]\nwhen = { b = 1 }\n", "must stand before it"),
        ("[search.a]\nlow = nan\nhigh = 1\n", "finite number"),
        ("[search]\n", "at least 1 entry"),
        ('[search."training.epoch"]\nchoices = [1]\ndefault = 1\n', "did you mean 'epochs'"),
    ],
)
def test_a_space_that_cannot_be_searched_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_space(str(path))


def test_an_unknown_space_is_answered_with_near_ones() -> None:
    with pytest.raises(UserError, match=r"did you mean 'complex'\?"):
        read_space("complx")


def test_a_setting_that_is_left_out_is_no_value_of_a_range() -> None:
    span = Range(low=0.1, high=0.5)
    found = [span.holds(value) for value in (0.1, 0.5, 0.6, None, True, "0.2")]
    assert found == [True, True, False, False, False, False]


def test_the_nearest_value_of_a_range() -> None:
    span, choices = Range(low=0.1, high=0.5), Range(choices=[64, 128, "auto", True])
    assert [span.nearest(value) for value in (0.2, 9, -1, None, "x", True)] == [
        0.2, 0.5, 0.1, None, None, None,
    ]  # fmt: skip
    assert [choices.nearest(value) for value in (16, 100, "auto", "x")] == [64, 128, "auto", None]


def test_settings_of_elsewhere_are_put_into_a_space() -> None:
    space = Space.model_validate(
        {
            "search": {
                "loss.name": {"choices": ["margin", "softmax"], "default": "softmax"},
                "loss.options.margin": {"low": 1, "high": 4, "when": {"loss.name": "margin"}},
                "training.batch_size": {"choices": [64, 128], "default": 128},
            }
        }
    )
    far = {"loss.name": "margin", "loss.options.margin": 9, "training.batch_size": 16, "other": 1}
    assert space.near(far) == {
        "loss.name": "margin", "loss.options.margin": 4, "training.batch_size": 64,
    }  # fmt: skip
    assert space.near({"loss.name": "bce", "loss.options.margin": 2}) == {
        "loss.name": "softmax", "training.batch_size": 128,
    }  # fmt: skip


def test_a_setting_is_chosen_only_where_its_condition_holds() -> None:
    space = Space.model_validate(
        {
            "search": {
                "loss.name": {"choices": ["margin", "softmax"]},
                "loss.options.margin": {"low": 1, "high": 4, "when": {"loss.name": "margin"}},
            }
        }
    )
    for name, wanted in (("margin", {"name": "margin", "options": {"margin": 3}}),
                         ("softmax", {"name": "softmax"})):  # fmt: skip
        trial = optuna.trial.FixedTrial({"loss.name": name, "loss.options.margin": 3})
        assert space.suggest(trial) == {"loss": wanted}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("7", 7)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text, "--time") == seconds


@pytest.mark.parametrize("text", ["", "0s", "-3s", "3 days", "nan", "1e9h", "9" * 40])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--time"):
        seconds_of(text, "--time")


# --- studies --------------------------------------------------------------------------------------


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_study_leaves_the_best_of_its_trials_as_a_recipe(tmp_path: Path) -> None:
    heard: list[tuple[int, str, Optional[float]]] = []
    watch = StudyWatch(ended=lambda number, how, mrr, found: heard.append((number, how, mrr)))
    out = tmp_path / "study"
    found = tune(study_of(tmp_path), out, trials=5, watch=watch)
    assert found.trials == 5 and [number for number, _, _ in heard] == list(range(5))
    table = rows(out)
    assert table[0]["optimizer.learning_rate"] == "0.1"  # the default comes first
    complete = {int(r["trial"]): float(r["valid_mrr"]) for r in table if r["state"] == "complete"}
    assert found.mrr == max(complete.values()) == complete[found.number]
    # The recipe trains to the same validation MRR.
    main_exits(["train", "--recipe=none", f"--config={out / 'recipe.toml'}", "--threads=1",
                str(tmp_path / "clock"), f"--out={tmp_path / 'again'}"])  # fmt: skip
    results = json.loads((tmp_path / "again/checkpoint/results.json").read_text())
    assert results["training"]["best_validation_mrr"] == found.mrr
    text = (out / "recipe.toml").read_text()
    assert f"trial {found.number} of 5" in text and results["dataset"]["fingerprint"] in text
    assert str(tmp_path) not in text


def main_exits(arguments: list[str], code: int = 0) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert (stop.value.code or 0) == code


def test_the_test_split_is_never_read_in_a_ranking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dglke_distill.runs import train_run as pipeline

    def measure(model: Any, workspace: Any, split: str, *rest: Any) -> None:
        raise AssertionError(f"{split} was ranked")

    monkeypatch.setattr(pipeline, "measure", measure)
    assert tune(study_of(tmp_path), tmp_path / "study", trials=1).mrr is not None


def test_weights_of_trials_are_not_kept(tmp_path: Path) -> None:
    out = tmp_path / "study"
    tune(study_of(tmp_path), out, trials=2)
    assert not list(out.rglob("*.safetensors"))
    assert len(list(out.glob("stages/*/config.toml"))) == 2


def test_other_settings_or_another_space_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "study"
    study = study_of(tmp_path)
    tune(study, out, trials=1)
    with pytest.raises(UserError, match="begun with other settings"):
        tune(study.model_copy(update={"seed": 1}), out, trials=1)
    (tmp_path / "space.toml").write_text(SPACE.replace("0.01", "0.02"))
    with pytest.raises(UserError, match="has changed since"):
        tune(saved_study(out), out, trials=1)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="no study"):
        tune(study_of(tmp_path), tmp_path / "mine", trials=1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_where_every_trial_fails_the_reason_is_said(tmp_path: Path) -> None:
    study = study_of(tmp_path, regularizer={"name": "n4", "weight": 1.0})
    with pytest.raises(UserError, match="n4"):
        tune(study, tmp_path / "study", trials=9)


def test_a_student_is_tuned_under_its_teacher(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    main_exits(["train", str(tmp_path / "clock"), "--model=transe", "--dim=16", "--epochs=3",
                "--threads=1", f"--out={tmp_path / 'teacher'}"])  # fmt: skip
    teacher = str(tmp_path / "teacher/checkpoint")
    student = study.model_copy(update={"method": "bkd", "teachers": [teacher]})
    found = tune(student, tmp_path / "study", trials=2)
    assert found.config is not None and found.config.distillation is not None
    assert read_toml(tmp_path / "study/recipe.toml")["distillation"]["method"] == "bkd"


CHILD = """
import sys
from pathlib import Path
from dglke_distill.search.study import StudyWatch, saved_study, tune
folder = Path(sys.argv[1])
said = StudyWatch(began=lambda number, chosen: print(number, flush=True))
tune(saved_study(folder), folder, trials=int(sys.argv[2]) or None, watch=said)
"""


def begin(study: StudyConfig, out: Path) -> None:
    out.mkdir()
    (out / "study.toml").write_text(study.to_toml())


def test_a_killed_study_loses_the_running_trial_alone(tmp_path: Path) -> None:
    out = tmp_path / "study"
    begin(study_of(tmp_path), out)
    command = [sys.executable, "-c", CHILD, str(out), "6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "2":
                child.send_signal(signal.SIGKILL)
                break
    found: Found = tune(saved_study(out), out)  # no more than the study was to have
    states = [row["state"] for row in rows(out)]
    assert found.trials == 6 and (found.failed, found.interrupted) == (0, 1)
    assert len(states) == 7 and states.index("interrupted") == 2 and "fail" not in states
    # Its settings are tried once more, the first choice as it was, and not a third time.
    chosen = [row["optimizer.learning_rate"] for row in rows(out)]
    assert chosen.count(chosen[2]) == 2
    assert tune(saved_study(out), out).trials == 6  # nothing is left


def test_two_processes_share_a_study(tmp_path: Path) -> None:
    out = tmp_path / "study"
    begin(study_of(tmp_path), out)
    command = [sys.executable, "-c", CHILD, str(out), "4"]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    numbers = [list(map(int, child.communicate()[0].split())) for child in children]
    assert all(child.returncode == 0 for child in children)
    assert sorted(numbers[0] + numbers[1]) == list(range(len(numbers[0]) + len(numbers[1])))
    assert len(numbers[0] + numbers[1]) in (8, 9)  # one may begin while the other's last one ends
    assert len({row["optimizer.learning_rate"] for row in rows(out)}) > 5


def test_a_study_that_was_killed_before_its_first_trial_runs_what_was_asked_for(
    tmp_path: Path,
) -> None:
    out = tmp_path / "study"
    begin(study_of(tmp_path).model_copy(update={"trials": 3}), out)
    assert tune(saved_study(out), out).trials == 3
    assert tune(saved_study(out), out, trials=2).trials == 5  # as optuna counts: so many more
    late = tmp_path / "late"
    begin(study_of(tmp_path).model_copy(update={"seconds": 0.01}), late)
    assert tune(saved_study(late), late).trials == 1
    assert tune(saved_study(late), late).trials == 1  # its time is over


def test_settings_whose_process_was_killed_twice_are_not_tried_again(tmp_path: Path) -> None:
    out = tmp_path / "study"
    config = study_of(tmp_path)
    tune(config, out, trials=1)
    study = _open(out, config, [])
    for number, ended in ((1, "interrupted"), (2, "fail")):
        trial = study.ask()
        assert trial.number == number
        trial.set_user_attr("owner", {"host": socket.gethostname(), "pid": 2**22 + 1})
        bury(study, out)
        bury(study, out)
        assert state_of(study.get_trials()[number]) == ended
    assert len(study.get_trials()) == 3


def test_other_threads_go_on_with_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    tune(study_of(tmp_path), out, trials=1)
    more = saved_study(out, threads=2)
    assert tune(more, out, trials=1).trials == 2
    threads = [
        read_toml(path)["training"]["threads"] for path in sorted(out.glob("stages/*/config.toml"))
    ]
    assert threads == [1, 2]
    main_exits(["tune", "--resume", f"--out={out}", "--trials=1", "--threads=1"])
    assert len(rows(out)) == 3
    assert "nothing is left" not in capsys.readouterr().out
    main_exits(["tune", "--resume", f"--out={out}"])
    assert "nothing is left of what was asked for; --trials" in capsys.readouterr().out
    assert len(rows(out)) == 3


# --- trainings of several lengths -----------------------------------------------------------------


def test_trainings_are_short_first_and_the_last_is_of_the_usual_length(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    training = {"batch_size": 16, "threads": 1}
    settings = {**study.settings, "training": training}
    study = study.model_copy(update={"settings": settings, "lengths": [1, 3, 9, 27]})
    out = tmp_path / "study"
    found = tune(study, out, trials=8)
    table = rows(out)
    epochs = [int(row["training.epochs"]) for row in table]
    # Of every three settings the best is trained for longer; the last trial is the best's.
    assert sorted(epochs) == [1, 1, 1, 1, 1, 1, 3, 9] or sorted(epochs) == [1] * 5 + [3, 3, 9]
    assert epochs[:3] == [1, 1, 1] and epochs[-1] == 9
    rates = [row["optimizer.learning_rate"] for row in table]
    best = max(range(7), key=lambda n: float(table[n]["valid_mrr"]))
    assert rates[-1] == rates[best]
    assert found.config is not None and found.config.training.epochs == epochs[found.number or 0]
    assert found.chosen["training.epochs"] == epochs[found.number or 0]


def test_epochs_that_are_given_are_those_of_every_training(tmp_path: Path) -> None:
    clock = write_clock(tmp_path / "clock", 12)
    for given, lengths in (
        ([], True),
        (["--epochs=4"], False),
        (["--set=training.epochs=4"], False),
    ):
        out = tmp_path / f"study{len(list(tmp_path.iterdir()))}"
        main_exits(["tune", str(clock), "--model=transe", "--dim=4", "--trials=1", "--threads=1",
                    f"--out={out}", *given])  # fmt: skip
        (row,) = rows(out)
        study = saved_study(out)
        assert bool(study.lengths) == lengths
        trained = read_toml(out / "recipe.toml")["training"]["epochs"]
        # One trial is of the usual length: nothing is trained for longer after it.
        assert trained == (study.lengths[-2] if lengths else 4)
        assert row.get("training.epochs") == (str(trained) if lengths else None)


def test_lengths_are_a_ninth_a_third_one_and_three_times_the_usual() -> None:
    assert lengths_of(90) == [10, 30, 90, 270]
    assert lengths_of(1) == [1, 3]


def training(root: int, epochs: int, mrr: Optional[float], pace: float = 1.0) -> Training:
    return Training(root, epochs, mrr, pace)


THREE = [training(0, 10, 0.1), training(1, 10, 0.3), training(2, 10, 0.2)]


@pytest.mark.parametrize(
    ("trainings", "budget", "wanted"),
    [
        ([], Budget(), None),
        (THREE[:2], Budget(), None),  # two are too few to choose among
        (THREE, Budget(), (1, 30)),
        ([*THREE, training(1, 30, None)], Budget(), None),  # under way
        ([*THREE, training(1, 30, 0.4)], Budget(), None),
        (
            [*THREE, *(training(n, 30, 0.2 + n / 100) for n in (1, 5, 6))],
            Budget(),
            (6, 90),  # the longest first
        ),
        (THREE, Budget(left=100, whole=200), (1, 30)),
        (THREE, Budget(left=25, whole=50), None),  # 30 seconds are too many
        # In the last two fifths of the time the best one gets what is left.
        (THREE, Budget(left=80, whole=200), (1, 76)),
        (THREE, Budget(left=8000, whole=90000), (1, 270)),
        (THREE, Budget(left=15, whole=200), None),  # no longer than it has had
        ([*THREE, training(1, 270, 0.5)], Budget(left=80, whole=200), None),
        (THREE[:2], Budget(last=True), (1, 90)),
        ([*THREE, training(1, 90, 0.4)], Budget(last=True), None),
    ],
)
def test_what_is_trained_for_longer(
    trainings: list[Training], budget: Budget, wanted: Optional[tuple[int, int]]
) -> None:
    assert longer(trainings, [10, 30, 90, 270], budget) == wanted
