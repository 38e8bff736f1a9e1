"""Errors about a setting name what the user typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dglke_distill.cli.named_options import where_typed

LOSS = "loss.name: unknown loss 'x'; known: margin"
MODEL = "model.name: unknown score function 'x'; known: TransE"
METHOD = "distillation.method: unknown method 'x'; known: iterde"


@pytest.mark.parametrize(
    ("message", "words", "said"),
    [
        (LOSS, "train d --loss x", "--loss (loss.name): unknown loss 'x'; known: margin"),
        (LOSS, "train d --loss=x", "--loss (loss.name): unknown"),
        (LOSS, "train d --loss y --set loss.name=x", "--set loss.name: unknown"),
        (LOSS, "run d --set student.loss.name=x", "--set student.loss.name: unknown"),
        (LOSS, "train d", LOSS),
        (MODEL, "run d --model y --student-model x", "--student-model (model.name): unknown"),
        (MODEL, "run d --model x --student-model y", "--model (model.name): unknown"),
        (MODEL, "run d --more-teachers y,x", "--more-teachers (model.name): unknown"),
        (METHOD, "run d --method x", "--method (distillation.method): unknown"),
        (METHOD, "compare d --methods bkd,x", "--methods (distillation.method): unknown"),
        (
            f"stage 1-a (student.*): {LOSS}",
            "train d --loss x",
            "stage 1-a (student.*): --loss (loss.name): unknown",
        ),
        ("--loss (loss.name) is 3", "train d --loss 3", "--loss (loss.name) is 3"),
        ("data.columns: 'a' is odd", "train d --columns a", "--columns (data.columns): 'a' is"),
    ],
)
def test_an_error_names_what_was_typed(message: str, words: str, said: str) -> None:
    assert where_typed(message, words.split()).startswith(said)


def test_an_error_names_the_file_that_says_it(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[student.loss]\nname = "x"\n', encoding="utf-8")
    words = ["run", "d", "--config", str(file)]
    assert where_typed(LOSS, words) == f"{file}: {LOSS}"
    assert where_typed(LOSS, [*words, "--loss", "x"]).startswith("--loss (loss.name): ")
    assert where_typed(MODEL, words) == MODEL
    assert where_typed(LOSS, ["run", "--config", str(tmp_path / "none")]) == LOSS
