"""What a chain may do beside its plan, against sums written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_fixtures import called
from clock_fixtures import clock_chain, write_clock

from dglke_distill.distill.plan import plan
from dglke_distill.search.allowance import allowances

SECONDS = [10.0, 5.0, 3.0, 2.0, 1.0]
"""Of a teacher, its student, the student's student, and both controls."""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"control": "none"}, {}),
        ({"control": "recipe"}, {}),
        ({"control": "recipe", "seeds": 3}, {"2 more seeds": 2 * (18 + 3)}),
        ({"control": "both"}, {"direct-transe-dim8-budget": 15, "direct-transe-dim4-budget": 18}),
        (
            {"control": "tuned", "control_seconds": 16.0},
            {"direct-transe-dim8-tuned": 15, "direct-transe-dim4-tuned": 16},
        ),
        # Rivals have their searches too, of six tenths of the time.
        (
            {"control": "tuned", "rivals": ["DistMult", "ComplEx"], "seeds": 2},
            {
                "direct-transe-dim8-tuned": 15 * 2.2,
                "direct-transe-dim4-tuned": 18 * 2.2,
                "1 more seed": 18 + 15 + 18,
            },
        ),
        # Half of the search is the controls' own; a verdict in doubt takes three seeds.
        (
            {"control": "tuned", "search_seconds": 60.0},
            {
                "search: teacher": 15,
                "search: student": 15,
                "direct-transe-dim8-tuned": 45,
                "direct-transe-dim4-tuned": 48,
                "2 more seeds": 2 * (18 + 45 + 48),
            },
        ),
        ({"control": "tuned", "method": "direct", "search_seconds": 60.0}, {"search: direct": 30}),
    ],
)
def test_searches_controls_and_seeds_are_counted(
    tmp_path: Path, settings: dict[str, Any], expected: dict[str, float]
) -> None:
    chain = clock_chain(write_clock(tmp_path / "clock"), **settings)
    stages = plan(chain)
    found = allowances(chain, stages, SECONDS[: len(stages)])
    assert {each.name: each.seconds for each in found} == pytest.approx(expected)


def test_a_loaded_teacher_costs_nothing_and_leaves_its_search_to_the_student(
    tmp_path: Path,
) -> None:
    chain = clock_chain(
        write_clock(tmp_path / "clock"), dims=[16, 4], search_seconds=60.0, seeds=1, control="both"
    )
    found = allowances(chain, plan(chain, ["teacher"]), [5.0, 2.0])
    assert [tuple(each) for each in found] == [
        ("search: student", 30.0),
        ("direct-transe-dim4-budget", 35.0),
    ]


def test_a_dry_run_of_own_data_says_all_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    clock = write_clock(tmp_path / "clock")
    shown = called(capsys, "run", clock, "--dims", "8,4", "--threads", "1", "--dry-run")
    assert shown.code == 0, shown.err
    lines = [line.rstrip() for line in shown.out.splitlines()]
    assert lines[0].startswith("3 stages and more: at most about ")
    names = [line.split("  ")[0] for line in lines[2:]]
    assert names[3:] == [
        "search: teacher",
        "search: student",
        "direct-complex-dim4-tuned",
        "2 more seeds",
    ]
    assert "to 0:15" in lines[5] and "to 0:15" in lines[6]
    times = [line.split()[-3 if "MiB" in line else -2] for line in lines[2:]]
    total = lines[0].partition("about ")[2].split()[0]
    seconds = [sum(60**n * int(p) for n, p in enumerate(reversed(t.split(":")))) for t in times]
    (whole,) = [sum(60**n * int(p) for n, p in enumerate(reversed(total.split(":"))))]
    assert whole == pytest.approx(sum(seconds), abs=len(seconds))  # each is rounded
