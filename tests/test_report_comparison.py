"""The report of a comparison: its table, what is in bold, and the lines below."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_fixtures import METHODS, write_comparison_results

from dglke_distill.report import write_comparison


def test_a_comparison_of_one_seed_has_no_deviation_and_nothing_in_bold(tmp_path: Path) -> None:
    text = write_comparison(write_comparison_results(tmp_path, seeds=(0,))).read_text()
    assert "±" not in text
    markdown = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    for shown in (text, markdown):
        assert "One seed: seeds may differ by more than methods do, and none is in bold." in shown
    assert "**" not in markdown


@pytest.mark.parametrize(("gap", "bold"), [(0.0025, 0), (0.0027, 1)])
def test_the_best_is_bold_if_both_deviations_lie_between(
    tmp_path: Path, gap: float, bold: int
) -> None:
    """The deviation of three seeds is 0.0013 for each method: 0.0026 together."""
    path = write_comparison_results(tmp_path) / "results.json"
    tree = json.loads(path.read_text())
    second = METHODS["ta"][0]
    for row in tree["rows"]:
        if row["method"] == "iterde":
            row["mrr"] += second + gap - METHODS["iterde"][0]
    path.write_text(json.dumps(tree))
    write_comparison(tmp_path)
    markdown = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    assert sum("**" in line for line in markdown.splitlines()) == bold
    assert "MRR: mean ± standard deviation over the seeds" in markdown
    assert "interval of 95 % by a paired bootstrap" in markdown


def test_settings_of_single_methods_stand_under_the_table(tmp_path: Path) -> None:
    write_comparison_results(tmp_path)
    (tmp_path / "comparison.toml").write_text(
        "[own.bkd.distillation.soft]\nname = 'kl'\n[own.bkd.training]\nepochs = 3\n"
        "[own.rkd.model]\nreciprocal = true\n"
    )
    page = write_comparison(tmp_path).read_text(encoding="utf-8")
    markdown = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    for line in (
        "Settings of bkd alone: distillation.soft.name=kl, training.epochs=3.",
        "Settings of rkd alone: model.reciprocal=true.",
    ):
        assert line in markdown.splitlines() and line in page
