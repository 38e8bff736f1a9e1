"""Options that would do nothing beside the others of a call: one line says so."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from cli_fixtures import called

MODEL = "complex-cldr-dim32"
ASK = f"predict {MODEL} --head Latvia --relation uses_currency"

IDLE = [
    ("run cldr --store shipped", "--store", "--init"),
    ("run cldr --offline", "--offline", "--init"),
    ("train cldr --store shipped", "--store", "--init"),
    ("train cldr --offline", "--offline", "--init"),
    *(
        (f"run --resume --out X {option}", option.split()[0], "goes on by its own settings")
        for option in ("--dims 4,2", "--model transe", "--epochs 3", "--config f.toml", "--seed 0",
                       "--set shared.training.epochs=3", "--teacher t", "--control none",
                       "--search none", "--threads 1", "--columns head=1,relation=2,tail=3",
                       "--allow-other-data", "--recipe auto", "--store shipped")
    ),
    *(
        (f"train --resume --out X {option}", option.split()[0], "goes on by its own settings")
        for option in ("--recipe none", "--config f.toml", "--search none", "--store shipped")
    ),
    ("compare --resume --out X --methods bkd", "--methods", "goes on by its own settings"),
    ("tune --resume --out X --model transe", "--model", "goes on by its own settings"),
    ("tune --resume --out X --epochs 2", "--epochs", "goes on by its own settings"),
    ("ogb run --resume --out X --dims 4", "--dims", "goes on by its own settings"),
    ("dist launch --local 2 --trainers 2 -- train P", "--trainers", "--local says"),
    ("dist launch --local 2 --trainers 1 -- train P", "--trainers", "--local says"),
    ("dist launch --local 2 --port 4000 -- train P", "--port", "is of --hosts"),
    ("dist launch --local 2 --rsh ssh -- train P", "--rsh", "is of --hosts"),
    ("dist launch --torchrun --trainers 2 -- train P", "--trainers", "torchrun has said it"),
    ("dist launch --torchrun --python p -- train P", "--python", "is of --hosts"),
    ("dist launch --local 1 -- train P --resume --out X --config f", "--config", "own settings"),
    ("dist launch --local 1 -- run P --resume --out X --dims 4", "--dims", "own settings"),
    ("dist partition cldr --parts 2 --out X --seed 3", "--seed", "--method random"),
    (f"compress {MODEL} --to int8 --out X --dataset cldr", "--dataset", "--evaluate"),
    (f"compress {MODEL} --to int8 --out X --allow-other-data", "--allow-other-data", "--evaluate"),
    ("import F --out X --data-root .", "--data-root", "--dataset"),
    ("import F --out X --set data.header=true", "--set", "--dataset"),
    (f"calibrate {MODEL} --overwrite", "--overwrite", "--out or --plot"),
    (f"calibrate {MODEL} --negatives @f --drawn 3 --out X", "--drawn", "drawn"),
    (f"discover {MODEL} --overwrite", "--overwrite", "--out"),
    (f"{ASK} --overwrite", "--overwrite", "--out"),
    (f"{ASK} --allow-other-data", "--allow-other-data", "--exclude-known"),
    (f"{ASK} --candidates observed --types t.tsv", "--types", "typed or type:NAME"),
    (f"{ASK} --tail LVL -k 3", "--count (-k)", "whole triple"),
    ("data info cldr --columns head=1,relation=2,tail=3", "--columns", "own tables"),
    ("data info cldr --set data.header=true", "--set", "own tables"),
    ("data prepare cldr --overwrite", "--overwrite", "--out"),
    ("data prepare cldr --out-format openke", "--out-format", "--out"),
    ("data check cldr --json --top 3", "--top", "--json"),
    ("zoo publish X --dataset cldr", "--dataset", "--with-known publishes and --against"),
    (f"zoo verify {MODEL} --threads 1", "--threads", "--metrics"),
    (f"zoo verify {MODEL} --allow-other-data", "--allow-other-data", "--metrics"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "option", "why"), IDLE, ids=[line for line, _, _ in IDLE])
def test_an_option_without_effect_is_refused(
    line: str,
    option: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = called(capsys, *shlex.split(line))
    assert said.code == 2 and said.out == ""
    (error,) = said.err.splitlines()
    assert error.startswith(f"error: {option}: ") and why in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["evaluate", "export --format npz --out out"])
def test_a_store_is_of_names(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    name, *more = command.split()
    said = called(capsys, name, "model", *more, "--store", "shipped")
    assert said.code == 2
    assert said.err == (
        "error: --store shipped: is where names are looked up, and model is a folder; leave it "
        "out\n"
    )
