"""``dglke-distill run`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pytest
from cli_fixtures import Outcome, called
from distill_fixtures import write_clock

from dglke_distill.config import read_toml

TINY = ["--recipe", "none", "--model", "DistMult", "--threads", "1"]
TINY += ["--set", "shared.training.batch_size=32", "--set", "shared.negatives.count=4"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: Any) -> Outcome:
        return called(capsys, "run", *arguments)

    return call


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of triples, which is split by us."""
    folder = write_clock(tmp_path_factory.mktemp("data") / "clock")
    lines = "".join((folder / f"{split}.txt").read_text() for split in ("train", "valid", "test"))
    path = folder.parent / "hours.tsv"
    path.write_text(lines)
    return path


def test_a_chain_of_a_file_of_triples_and_its_resume(run: Any, table: Path) -> None:
    done = run(table, *TINY, "--dims", "8,4", "--epochs", "2", "--seed", "7", "--out", "here")
    assert done.code == 0, done.err
    assert "stage 1 of 4: 0-teacher-distmult-dim8" in done.out
    assert "stage 3 of 4: direct-distmult-dim4" in done.out
    out = Path("here")
    *_, line, verdict = done.out.splitlines()
    assert line.startswith(f"report: {out / 'report'}")
    results = json.loads((out / "results.json").read_text())
    assert verdict == results["verdict"]["sentence"]
    assert "trained directly" in verdict
    assert results["seed"] == 7
    roles = {s["role"]: s["results"]["training"]["epochs"] for s in results["stages"]}
    assert [roles[role] for role in ("teacher", "student", "direct")] == [2, 2, 2]
    assert roles.get("direct_tuned", 10) >= 2
    assert (out / "report" / "report.html").stat().st_size > 1000
    chain = read_toml(out / "chain.toml")
    assert chain["dims"] == [8, 4]
    assert chain["shared"]["training"] == {"epochs": 2, "seed": 7, "threads": 1, "batch_size": 32}

    again = run("--resume", "--out", out)
    assert again.code == 0, again.err
    assert again.out.count("done already") == len(results["stages"])
    assert json.loads((out / "results.json").read_text())["verdict"] == results["verdict"]
    taken = run(table, *TINY, "--dims", "8,4", "--out", out)
    assert (taken.code, len(taken.err.splitlines())) == (2, 1)
    assert "add --resume" in taken.err


def test_a_trained_teacher_and_a_student_of_another_kind(run: Any, table: Path) -> None:
    small = [table, *TINY, "--epochs", "1", "--control", "none"]
    assert run(*small, "--dims", "8,4", "--out", "first").code == 0
    teacher = Path("first/stages/0-teacher-distmult-dim8/checkpoint")
    done = run(
        *small,
        *("--dims", "8,6", "--teacher", teacher, "--student-model", "TransE", "--out", "second"),
    )
    assert done.code == 0, done.err
    (stage,) = json.loads(Path("second/results.json").read_text())["stages"]
    assert stage["name"] == "0-transe-dim6"
    assert stage["teachers"] == [str(teacher.resolve())]
    assert run("--resume", "--out", "second").code == 0


@pytest.mark.parametrize(
    ("sizes", "dims"),
    [
        (["--dims", "16,8,4"], [16, 8, 4]),
        (["--from", "16", "--to", "4"], [16, 8, 4]),
        (["--from", "16", "--to", "4", "--ratio", "4"], [16, 4]),
        (["--from", "12", "--to", "4", "--ratio", "1.5"], [12, 8, 6, 4]),
    ],
)
def test_a_dry_run_prints_the_plan_and_leaves_nothing(
    run: Any, table: Path, sizes: list[str], dims: list[int]
) -> None:
    shown = run(table, *TINY, *sizes, "--epochs", "3", "--dry-run")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert f"{2 * len(dims) - 1} stages and more: at most about " in lines[0]
    names = [f"0-teacher-distmult-dim{dims[0]}"]
    names += [f"{number}-distmult-dim{dim}" for number, dim in enumerate(dims[1:], start=1)]
    names += [f"direct-distmult-dim{dim}" for dim in dims[1:]]
    for name, dim in zip(names, [*dims, *dims[1:]]):
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        cells = line.split()
        alone = "teacher" in name or "direct" in name
        teacher = "-" if alone else str(int(name.partition("-")[0]) - 1)
        assert cells[:4] == [name, teacher, str(dim), str(4 * dim)]
        assert cells[4] == f"{(24 + 2 * 3) * dim:,}"  # reciprocal relations
        assert cells[5] == "3"
    assert not Path("runs").exists()


def test_the_last_of_file_flags_and_assignments_wins(run: Any, table: Path) -> None:
    Path("mine.toml").write_text(
        f"dims = [8, 4]\ncontrol = 'none'\n[data]\ndataset = {json.dumps(str(table))}\n"
        "[shared.model]\nname = 'DistMult'\n[shared.training]\nthreads = 1\nbatch_size = 32\n"
        "[teacher.training]\nepochs = 50\n"
    )
    done = run(
        *("--recipe", "none", "--config", "mine.toml", "--epochs", "1"),
        *("--set", "student.training.epochs=2", "--method", "bkd"),
    )
    assert done.code == 0, done.err
    (out,) = Path("runs").iterdir()
    assert out.name == "bkd-distmult-hours"
    results = json.loads((out / "results.json").read_text())
    assert results["dataset"]["entities"] == 24
    assert [s["results"]["training"]["epochs"] for s in results["stages"]] == [1, 2]


BAD: list[tuple[list[str], Optional[str]]] = [
    (["--dims", "8,x"], "--dims '8,x': write whole numbers"),
    (["--dims", ""], "--dims ''"),
    (["--dims", "8"], "--dims: iterde needs two sizes or more"),
    (["--dims", "4,8"], "no size can be larger"),
    (["--from", "8"], "--from, --to: give both"),
    (["--ratio", "2"], "--from, --to: give both"),
    (["--from", "8", "--to", "-4"], "--to -4: must be at least 1"),
    (["--from", "8", "--to", "4", "--ratio", "1"], "--ratio: must be above 1"),
    (["--dims", "8,4", "--to", "4"], "--dims: leave it out"),
    (["--dims", "8,4", "--method", "itered"], "did you mean 'iterde'"),
    (["--dims", "8,4", "--student-model", "TransX"], "did you mean"),
    (["--dims", "8,4", "--set", "student.distillation.soft.nam=kl"], "did you mean 'name'"),
    (["--dims", "8,4", "--set", "student.distillation.soft.name=kk"], "distillation.soft.name"),
    (["--dims", "8,4", "--set", "epochs"], "--set 'epochs': write section.key=value"),
    (["--dims", "8,4", "--control", "all"], "--control is 'all'"),
    (["--dims", "8,4", "--recipe", "no-such"], "--recipe: no chain recipe for 'no-such"),
    (["--dims", "8,4", "--config", "none.toml"], "none.toml: no such file"),
    (["--dims", "8,4", "--teacher", "nowhere"], "nowhere"),
    (["--resume"], "--resume: say which chain by --out"),
    (["--resume", "--out", "nowhere"], "--model: the chain in --out goes on by its own settings"),
]


@pytest.mark.parametrize(("flags", "words"), BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Any, table: Path, flags: list[str], words: str
) -> None:
    shown = run(table, *TINY, "--epochs", "1", *flags)
    assert shown.code == 2, shown.out
    assert len(shown.err.splitlines()) == 1, shown.err
    assert shown.err.startswith("error: ")
    assert words in shown.err
    assert not Path("runs").exists() or flags[2:3] == ["--teacher"]  # nothing was trained


def test_a_missing_dataset_is_one_line(run: Any) -> None:
    shown = run("no/such/folder", *TINY, "--dims", "8,4")
    assert (shown.code, len(shown.err.splitlines())) == (2, 1)
    assert "no/such/folder" in shown.err


def test_ctrl_c_says_how_to_go_on(run: Any, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dglke_distill.training import loop as train

    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "step", interrupt)
        cut = run(table, *TINY, "--dims", "8,4", "--epochs", "1", "--out", "cut")
    assert cut.code == 130
    assert cut.err.splitlines()[-1] == "go on with: dglke-distill run --resume --out cut"
    assert run("--resume", "--out", "cut").code == 0


def test_a_chain_goes_on_only_where_there_is_one_and_of_its_dataset(run: Any, table: Path) -> None:
    shown = run("--resume", "--out", "nowhere")
    assert shown.code == 2 and "nowhere: there is no chain to resume" in shown.err
    Path("other").mkdir()
    Path("other/chain.toml").write_text('dims = [8, 4]\n[data]\ndataset = "cldr"\n')
    shown = run(table, "--resume", "--out", "other")
    assert shown.code == 2 and "the chain in other is of cldr" in shown.err
