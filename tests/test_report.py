"""The report of a finished run says what its files say, and no more than a page may."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import (
    BUDGET,
    CATEGORIES,
    METHODS,
    MRR,
    PROVENANCE,
    SENTENCE,
    calibrate_stage,
    chain_stages,
    stage,
    write_comparison_results,
    write_run,
)

from dglke_distill.artifacts.results_verdict import SizeVerdict
from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.report import write_comparison, write_report
from dglke_distill.report.anchors import anchors
from dglke_distill.report.drawings import FIGURES
from dglke_distill.report.run_results import read_history, read_run, stage_labels
from dglke_distill.report.tables import run_table
from dglke_distill.report.theme import DARK, LIGHT, variables

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = '<script>alert("1")</script> $x^ |*_` --> \x07\u202e'


class Page(HTMLParser):
    """The page's elements: that they close, their ids, their tables' cells, their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.labels: list[str] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        self.ids += [str(given["id"])] if "id" in given else []
        self.targets += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href", "data")]
        self.labels += [str(given["aria-label"])] if given.get("role") == "img" else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_run(tmp_path_factory.mktemp("run"))
    calibrate_stage(directory, chain_stages()[-1]["name"])
    write_report(directory)
    return directory


@pytest.fixture(scope="module")
def page(run_directory: Path) -> Page:
    return Page((run_directory / "report" / "report.html").read_text(encoding="utf-8"))


def test_a_calibrated_stage_shows_its_errors(run_directory: Path) -> None:
    text = (run_directory / "report" / "report.html").read_text(encoding="utf-8")
    assert (
        "expected calibration error 0.2500 before, 0.0312 after, on 60 held-out test facts and "
        "120 negatives" in text
    )


def test_without_calibration_no_plot_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run")
    write_report(directory)
    assert not (directory / "report" / "reliability.svg").exists()
    calibrate_stage(directory, chain_stages()[-1]["name"], held_out={"facts": "many"})
    with pytest.raises(UserError, match=r"calibration\.safetensors: has no figures of held-out"):
        write_report(directory)


def test_every_figure_is_there_in_all_its_forms(run_directory: Path, page: Page) -> None:
    names = {path.name for path in (run_directory / "report").iterdir()}
    stems = [kind.name for kind in FIGURES]
    pictures = {f"{stem}{end}" for stem in stems for end in (".png", ".svg", "-dark.svg")}
    assert names == pictures | {"report.html", "table.md"}
    assert page.tags.count("svg") == len(FIGURES)
    assert set(stems) <= set(page.ids)
    for name in pictures:
        content = (run_directory / "report" / name).read_bytes()
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG")
        else:
            assert ElementTree.fromstring(content).tag.endswith("}svg")


def test_the_pictures_say_in_words_what_they_show(page: Page) -> None:
    quality, training, soft, categories, reliability, time = page.labels
    assert "expected calibration error 0.2500 before" in reliability
    assert "Teacher 512: test MRR 0.3571 at 2 KiB per entity" in quality
    assert "Direct, equal time 32: test MRR 0.2991 at 128 B per entity" in quality
    assert "Student 64: 40 epochs, epoch 40 kept" in training
    assert soft.count("λ from") == 4
    assert "Student 32: 1-1 0.4018, 1-N 0.2314, N-1 0.3921, N-N 0.3053" in categories
    assert "Direct 32: 2 min 26 s" in time


def numbers_of(entry: dict[str, Any]) -> list[str]:
    model, test = entry["results"]["model"], entry["results"]["metrics"]["test"]
    sizes = [model[key] for key in ("floats_per_entity", "bytes_per_entity", "parameters")]
    shares = [test[key] for key in ("mrr", "hits@1", "hits@3", "hits@10")]
    return [f"{size:,}" for size in sizes] + [f"{share:.4f}" for share in shares]


def test_tables_hold_the_numbers_of_the_results(run_directory: Path, page: Page) -> None:
    stages = json.loads((run_directory / "results.json").read_text())["stages"]
    markdown = (run_directory / "report" / "table.md").read_text(encoding="utf-8")
    lines = [
        [cell.strip(" *") for cell in line.strip().strip("|").split(" | ")]
        for line in markdown.splitlines()
        if line.startswith("|")
    ]
    lines = [line for line in lines if not set("".join(line)) <= set("-: ")]  # rules below headings
    lines = [[cell.replace("\\", "") for cell in line] for line in lines]
    judged, rows = page.rows[:2], page.rows[2:]
    lines, also_judged = lines[:-2], lines[-2:]
    assert (lines, also_judged) == (rows, judged)
    assert len(lines) == 1 + len(stages)
    for entry, cells in zip(stages, lines[1:]):
        assert cells[2:9] == numbers_of(entry)
        assert cells[1] == "ComplEx"
        assert cells[9] == f"{100 * entry['results']['metrics']['test']['mrr'] / MRR[512]:.1f}%"
    gain = f"{100 * (MRR[32] / 0.2991 - 1):+.1f} % [5.0, 9.9]"
    assert lines[5][10] == gain
    assert lines[4][10] == "–"  # nothing is known of 64 floats
    assert judged[1] == [
        *("Student 32", "Direct, equal time 32", "0.3214", "0.2991", gain, "1,204.5", "1,711.0")
    ]
    assert SENTENCE[1:] in markdown.replace("\\", "")
    assert [line for line in markdown.splitlines() if "**" in line] == [markdown.splitlines()[6]]


def test_the_page_needs_nothing_from_elsewhere(run_directory: Path, page: Page) -> None:
    text = (run_directory / "report" / "report.html").read_text(encoding="utf-8")
    assert page.targets
    assert all(target.startswith("#") for target in page.targets)
    assert {target[1:] for target in page.targets} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", text)
    assert "prefers-color-scheme:dark" in text


def test_the_page_says_where_the_figures_come_from(page: Page) -> None:
    text = " ".join(page.text)
    assert PROVENANCE["git"]["revision"] in text
    assert "with changes not committed" in text
    assert "23.54 GiB" in text
    assert "dims = [512, 256, 128, 64, 32]" in text
    assert "dglke-distill run --config chain.toml" in text
    assert "90.0%" in text and "+7.5 % [5.0, 9.9]" in text
    assert SENTENCE[1:] in text


def test_colours_of_the_page_follow_its_theme(run_directory: Path) -> None:
    text = (run_directory / "report" / "report.html").read_text(encoding="utf-8")
    names = {name for name, _, _ in variables(read_run(run_directory).stages)}
    used = set(re.findall(r"var\((--figure-[0-9a-f]+)\)", text))
    assert used and used <= names
    assert not re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", text)
    assert f"--figure-{LIGHT.ink[1:]}:{DARK.ink};" in text
    dark = (run_directory / "report" / "quality-dark.svg").read_text(encoding="utf-8")
    assert DARK.ink in dark and LIGHT.ink not in dark


def test_written_twice_the_figures_are_the_same_bytes(run_directory: Path, tmp_path: Path) -> None:
    calibrate_stage(write_run(tmp_path), chain_stages()[-1]["name"])
    write_report(tmp_path)
    for path in (run_directory / "report").iterdir():
        assert (tmp_path / "report" / path.name).read_bytes() == path.read_bytes(), path.name
    assert b"<dc:date>" not in (tmp_path / "report" / "quality.svg").read_bytes()


def test_a_run_without_controls_categories_or_history(tmp_path: Path) -> None:
    stages = chain_stages((512, 32), controls={})
    for entry in stages:
        entry["results"]["metrics"]["test"]["by_category"] = {}
    del stages[0]["results"]["training"]  # a teacher that was loaded
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "categories.png").write_bytes(b"of a former report")
    text = write_report(write_run(tmp_path, stages)).read_text(encoding="utf-8")
    page = Page(text)
    assert not (tmp_path / "report" / "categories.png").exists()
    assert "categories" not in page.ids
    assert page.rows[0][9:] == ["Of teacher", "Seconds"]
    assert page.rows[1][-1] == "–"
    assert "Gain" not in "".join(page.text)


def test_a_teacher_that_is_no_stage(tmp_path: Path) -> None:
    write_run(tmp_path, [stage("0-complex-dim32", "student", 32, 0.3)])
    path = tmp_path / "results.json"
    tree = json.loads(path.read_text())
    tree["summary"]["teacher_mrr"] = 0.4
    path.write_text(json.dumps(tree))
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.rows[1][9] == "75.0%"
    assert "0.4000 as loaded" in page.text


def test_several_teachers_are_joined_to_their_student(tmp_path: Path) -> None:
    stages = [
        stage("a", "teacher", 64, 0.3),
        stage("b", "teacher", 64, 0.31, model="TransE"),
        {**stage("c", "student", 32, 0.29, teacher="a"), "teachers": ["a", "b"]},
    ]
    run = read_run(write_run(tmp_path, stages))
    assert run.stages[2].entry.taught_by == ("a", "b")
    assert run.teacher is not None and run.teacher.name == "b"
    (axes,) = FIGURES[0].draw(run, LIGHT).axes
    ends = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata()) == 2]
    assert ends == [[[256, 0.3], [128, 0.29]], [[256, 0.31], [128, 0.29]]]


def test_a_teacher_alone(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path, chain_stages((32,), controls={}))).read_text())
    assert "soft-labels" not in page.ids
    assert len(page.rows) == 2


def test_without_test_figures_those_of_valid_are_shown(tmp_path: Path) -> None:
    stages = chain_stages((512, 32), controls={})
    del stages[1]["results"]["metrics"]["test"]
    text = write_report(write_run(tmp_path, stages)).read_text(encoding="utf-8")
    assert "Valid MRR" in text
    assert f"{MRR[32] + 0.006:.4f}" in text
    assert "Published figures" not in text  # those are of the test split


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    stages = [
        stage("a", "teacher", 64, 0.3, model=HOSTILE),
        stage("b", "student", 32, 0.2, teacher="a", model="ComplEx" + "x" * 300),
        stage("c", "student", 32, 0.2, teacher="a", model="日本語"),
    ]
    write_run(tmp_path, stages)
    path = tmp_path / "results.json"
    tree = json.loads(path.read_text())
    tree["dataset"]["name"] = tree["provenance"]["hardware"]["cpu"] = HOSTILE
    tree["provenance"]["command"] = "dglke-distill run '" + HOSTILE
    path.write_text(json.dumps(tree))
    (tmp_path / "chain.toml").write_text(f"# {HOSTILE}")
    text = write_report(tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert "\x07" not in text and "\u202e" not in text
    for figure in (tmp_path / "report").glob("*.svg"):
        ElementTree.parse(figure)
    row = (tmp_path / "report" / "table.md").read_text(encoding="utf-8").splitlines()[2]
    assert len(re.split(r"(?<!\\)\|", row)) == 2 + len(page.rows[0])
    assert r"\<script\>" in row


def break_key(*keys: Any, value: Any = None) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        path = directory / "results.json"
        tree = json.loads(path.read_text())
        at = tree
        for key in keys[:-1]:
            at = at[key]
        if value is None:
            del at[keys[-1]]
        else:
            at[keys[-1]] = value
        path.write_text(json.dumps(tree))

    return spoil


MODEL = ("stages", 1, "results", "model")
FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no results": (lambda d: (d / "results.json").unlink(), r"results\.json: no such file"),
    "cut short": (
        lambda d: (d / "results.json").write_text('{"schema": 1, "kind"'),
        r"results\.json: not valid JSON",
    ),
    "not an object": (lambda d: (d / "results.json").write_text("[1]"), r"results\.json: .*object"),
    "other schema": (break_key("schema", value=2), "schema 2 is unknown"),
    "other kind": (break_key("kind", value="comparison"), "of a comparison, where .* a chain"),
    "no stages": (break_key("stages", value=[]), "stages is no list"),
    "no size": (break_key(*MODEL, "parameters"), r"stages\[1\]\.results\.model\.parameters is mis"),
    "words": (break_key(*MODEL, "parameters", value="many"), r"parameters is no number"),
    "a fraction": (break_key(*MODEL, "parameters", value=1.5), r"parameters is no whole number"),
    "not finite": (
        break_key("stages", 0, "results", "metrics", "test", "mrr", value=math.nan),
        "NaN is no finite number",
    ),
    "unknown role": (break_key("stages", 0, "role", value="king"), "role is 'king'"),
    "one name twice": (break_key("stages", 1, "name", value="0-teacher-complex-dim512"), "2 times"),
    "no settings": (lambda d: (d / "chain.toml").unlink(), r"chain\.toml: no such file"),
    "no history": (
        lambda d: (d / "stages" / "1-complex-dim32" / "history.csv").unlink(),
        r"1-complex-dim32/history\.csv: no such file",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_runs_are_named(tmp_path: Path, fault: str) -> None:
    spoil, message = FAULTS[fault]
    write_run(tmp_path, chain_stages((512, 32), controls={}))
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no epochs"),
        ("loss\n1\n", "no column named epoch"),
        ("epoch,loss\n1,2\n2\n", "line 3 has 1 cell, not 2"),
        ("epoch,loss\n1,much\n", "line 2, loss: 'much' is no number"),
    ],
)
def test_broken_histories_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_history(tmp_path / "history.csv")


def test_the_run_is_read_as_written(run_directory: Path) -> None:
    run = read_run(run_directory)
    labels = list(stage_labels(run.stages).values())
    assert labels == [
        "Teacher 512",
        *(f"Student {dim}" for dim in (256, 128, 64, 32)),
        "Direct 32",
        "Direct, equal time 32",
    ]
    student = run.students[-1]
    assert student.categories["N-N"].count == CATEGORIES["N-N"][0]
    assert student.entry.seconds == pytest.approx((90 + 1.6 * 32) * 1.16)
    assert student.history.points("validation_mrr")[0] == [5, 10, 15, 20, 25, 30, 35, 40]
    (verdict,) = run.verdicts.values()
    assert (verdict.student, verdict.control) == (student.name, BUDGET)
    assert verdict.gain == pytest.approx(MRR[32] / 0.2991 - 1)
    assert run.chain_seconds == sum(90 + 1.6 * dim for dim in MRR)


def test_stages_of_one_role_and_size_are_told_apart(tmp_path: Path) -> None:
    stages = [
        stage("first", "teacher", 32, 0.3),
        stage("second", "teacher", 32, 0.3),
        stage("third", "student", 32, 0.3, teacher="first"),
    ]
    run = read_run(write_run(tmp_path, stages))
    labels = ["Teacher 32 (first)", "Teacher 32 (second)", "Student 32"]
    assert [row.cells[0] for row in run_table(run).rows] == labels


@pytest.mark.parametrize(
    ("outcomes", "best"),
    [
        (("better", "better"), "Student 64"),
        (("alike", "better"), "Student 32"),
        (("alike", "direct"), None),
        ((), "Student 64"),  # nothing was compared
    ],
)
def test_the_student_to_look_at_is_worth_it(
    tmp_path: Path, outcomes: tuple[str, ...], best: str | None
) -> None:
    stages = [
        stage("teacher", "teacher", 128, 0.35),
        stage("a", "student", 64, 0.34, teacher="teacher"),
        stage("b", "student", 32, 0.33, teacher="teacher"),
    ]
    run = read_run(write_run(tmp_path, stages))
    verdicts = {
        name: SizeVerdict(
            student=name, dim=1, gain=0.1, low=0.0, high=0.2, outcome=outcome, sentence=""
        )
        for name, outcome in zip("ab", outcomes)
    }
    rows = run_table(replace(run, verdicts=verdicts)).rows
    assert [row.cells[0] for row in rows if row.best] == ([] if best is None else [best])


def test_anchors_state_their_source() -> None:
    assert {anchor.floats_per_entity for anchor in anchors("fb15k237")} == {10, 50, 128, 200, 256}
    for anchor in (*anchors("fb15k237"), *anchors("wn18rr")):
        assert 0 < anchor.mrr < 1
        assert anchor.citation and anchor.source
    assert anchors("cldr") == ()


def test_a_comparison(tmp_path: Path) -> None:
    page_path = write_comparison(write_comparison_results(tmp_path))
    page = Page(page_path.read_text(encoding="utf-8"))
    assert [row[0] for row in page.rows[1:]] == list(METHODS)
    assert page.rows[1][6:8] == ["0.3214 ± 0.0013", f"{0.7 * 0.3214:.4f}"]
    assert page.rows[1][11:13] == [f"{100 * (0.3214 / 0.2953 - 1):+.1f} % [1.0, 12.3]", "80"]
    assert page.rows[7][11:13] == ["–", "50"]
    assert all(target.startswith("#") for target in page.targets)
    markdown = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    assert [line for line in markdown.splitlines() if "**" in line] == [markdown.splitlines()[2]]
    assert {path.name for path in page_path.parent.iterdir()} == {
        "comparison.png",
        "comparison.svg",
        "comparison-dark.svg",
        "report.html",
        "table.md",
    }


def test_the_command_writes_and_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_run(tmp_path, chain_stages((512, 32), controls={}))
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path)])
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "Student 32" in printed and "0.3214" in printed
    assert str(tmp_path / "report" / "report.html") in printed.replace("\n", "")
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path / "stages")])
    assert ended.value.code == 2
    assert "results.json: no such file" in capsys.readouterr().err
