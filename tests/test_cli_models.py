"""Commands find a model in a named store; what holds for a whole run is said once."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner
from zoo_fixtures import NAME, home, store, trained

from dglke_distill import cli
from dglke_distill.base.console import SafeConsole
from dglke_distill.cli.output import TrainingDisplay

__all__ = ["home", "store", "trained"]

COMMANDS = {
    "evaluate": ["evaluate", NAME, "--threads", "1"],
    "predict": ["predict", NAME, "--head", "hour0", "--relation", "plus2"],
    "export": ["export", NAME, "--format", "npz", "--out", "out"],
    "compress": ["compress", NAME, "--to", "float16", "--out", "out"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_is_named(
    store: Path, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(cli.app, [*COMMANDS[command], "--store", str(store), "--offline"])
    assert found.exit_code == 0, found.output
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")  # where nothing was written yet
    missing = CliRunner().invoke(cli.app, [*COMMANDS[command], "--store", "shipped"])
    assert f"{NAME!r}" in str(missing.exception)


def shown(*lines: str) -> list[str]:
    console = SafeConsole(soft_wrap=True)
    console.file = text = io.StringIO()
    with TrainingDisplay(console) as display:
        for line in lines:
            display.announce(line)
    return text.getvalue().splitlines()


def test_what_holds_for_a_whole_run_is_said_once() -> None:
    same = "warning: 3 triples stand twice"
    lines = ["needs about 5 MiB (a, b)", same, "needs about 7 MiB (a, b, c)", same, "other"]
    assert shown(*lines) == ["needs about 5 MiB (a, b)", same, "other"]
    assert shown("resuming", "resuming") == ["resuming", "resuming"]


def test_advice_is_said_once_and_figures_each_time() -> None:
    first = "warning: underfitted: validation MRR 0.1; try more epochs"
    second = "warning: underfitted: validation MRR 0.2; try more epochs"
    other = "warning: underfitted: the loss has hardly moved; try a higher rate"
    assert shown(first, second, other) == [first, second.partition(";")[0], other]


def test_the_model_of_a_run_is_named(trained: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", str(trained.parent), "--head", "hour0", "--relation", "plus2"])
    assert not end.value.code
    assert capsys.readouterr().err.splitlines()[0] == f"model: {trained}"


@pytest.mark.parametrize(("storage", "larger"), [("pq", True), ("int8", False), ("float32", False)])
def test_a_larger_model_is_said_to_be_one(
    trained: Path, tmp_path: Path, storage: str, larger: bool
) -> None:
    """Twenty-odd entities save less than the codebooks of product quantisation take."""
    small = tmp_path / "small"
    shown = CliRunner().invoke(
        cli.app, ["compress", str(trained), "--to", storage, "--out", str(small)]
    )
    sizes = [
        sum(tensor.nbytes for tensor in load_file(place / "model.safetensors").values())
        for place in (trained, small)
    ]
    assert f"weights of {sizes[0]:,} bytes became {sizes[1]:,}" in shown.output
    assert (sizes[1] > sizes[0]) is larger
    assert ("warning: the new model is larger" in shown.output) is larger
