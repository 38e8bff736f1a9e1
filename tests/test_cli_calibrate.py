"""The command that calibrates, and what the others show of probabilities."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_minimal import alone

import dglke_distill as kd
from dglke_distill import cli
from dglke_distill.base.disk import NotWritten
from dglke_distill.calibration.file import CALIBRATION_FILE
from dglke_distill.cli.calibrate import show_calibration
from dglke_distill.serve.api import Api
from dglke_distill.serve.gallery import Gallery

MODEL = "complex-cldr-dim32"
LATVIA = ("--head", "Latvia", "--relation", "uses_currency")


def call(*words: Any) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return int(end.value.code or 0)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("calibrated") / "model"
    assert call("calibrate", MODEL, "--out", out, "--negatives-per-positive", 50) == 0
    return out


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "own"))


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    capsys.readouterr()
    assert call(*words) == 0
    return capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    capsys.readouterr()
    assert call(*words) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_the_command_says_what_it_found(
    own: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    del before[CALIBRATION_FILE]
    (own / CALIBRATION_FILE).unlink()
    plot = tmp_path / "reliability.svg"
    said = run(capsys, "calibrate", own, "--plot", plot, "--fewest", 30)
    assert "fitted on 581 validation facts" in said and "581 test facts" in said
    assert "a base rate of 0.5; say otherwise by --negatives-per-positive" in said
    assert "relations together serves " in said and "also_written_in_script, " in said
    assert "hold with 1 negative per fact, a base rate of 0.5" in said
    assert said.splitlines()[-2:] == [str(own / CALIBRATION_FILE), str(plot)]
    assert plot.read_text(encoding="utf-8").count("<svg") == 1
    assert {name: (own / name).read_bytes() for name in before} == before
    first = (own / CALIBRATION_FILE).read_bytes()
    told = json.loads(run(capsys, "calibrate", own, "--fewest", 30, "--json"))
    assert (own / CALIBRATION_FILE).read_bytes() == first  # the same, drawn again
    held = told["held_out"]
    assert held["after"]["brier_score"] < held["before"]["brier_score"]
    assert held["base_rate"]["brier_score"] == 0.25 and "no better than" not in said
    row = next(line for line in said.splitlines() if "base rate alone" in line)
    assert "0.0000" in row and "0.2500" in row
    assert f"{held['after']['expected_calibration_error']:.4f}" in said
    assert "uses_currency" in told["pooled"]


def test_curves_that_do_not_beat_the_base_rate_are_said_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = kd.load(MODEL).calibrate(negatives_per_positive=100_000)
    held = made.about["held_out"]
    alone = held["base_rate"]["brier_score"]
    assert alone == pytest.approx(1e-5, rel=1e-4)
    for times, told in ((0.9, False), (1.0, True), (1.1, True)):
        held["after"]["brier_score"] = times * alone
        show_calibration(made)
        said = capsys.readouterr().out
        assert ("no better than always saying the base rate" in said) is told
        assert "1e-05" in said


@pytest.mark.parametrize("format", ["bundle", "npz"])
def test_exports_say_that_probabilities_are_not_in_them(
    own: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, format: str
) -> None:
    line = "not calibrated: this export gives scores, without the model's probabilities"
    words = ["--format", format, "--out"]
    assert line in run(capsys, "export", own, *words, tmp_path / "one").splitlines()
    (own / CALIBRATION_FILE).unlink()
    assert "calibrated" not in run(capsys, "export", own, *words, tmp_path / "two")


def test_isotonic_and_negatives_of_a_file(
    own: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "false.tsv"
    data = kd.load_dataset("cldr")
    facts = {
        tuple(row)
        for split in (data.train, data.valid, data.test)
        for row in split.to_array().tolist()
    }
    lines = [
        f"{data.entities[h]}\t{data.relations[r]}\t{data.entities[t + 1]}"
        for h, r, t in data.valid.to_array().tolist()
        if t + 1 < len(data.entities) and (h, r, t + 1) not in facts
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    words = ["calibrate", own, "--method", "Isotonic", "--negatives", f"@{file}", "--json"]
    told = json.loads(run(capsys, *words))
    assert told["method"] == "isotonic" and told["negatives"] == "given"
    fitted, held = told["fitted_on"], told["held_out"]
    assert fitted["negatives"] + held["negatives"] == len(lines)
    assert told["negatives_per_positive"] == pytest.approx(fitted["negatives"] / 581)
    file.write_text(lines[0] + "\nLatvia\tuses_currency\tEuroo\n", encoding="utf-8")
    assert f"{file}, line 2: unknown entity 'Euroo'" in fails(capsys, *words)
    file.write_text("\n".join([*lines, "Latvia\tuses_currency\tEuro"]), encoding="utf-8")
    assert "Latvia, uses_currency, Euro is a fact of the" in fails(capsys, *words)
    file.write_text("\n".join(lines[:9]), encoding="utf-8")
    assert "--negatives: 9 are too few" in fails(capsys, *words)
    file.write_text("\n".join(lines[:9] * 20), encoding="utf-8")  # nine, however often repeated
    assert "--negatives: 9 are too few" in fails(capsys, *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gone-cldr-dim32",), "gone-cldr-dim32: no such"),
        ((MODEL,), "is a published model, which never changes; name the directory"),
        ((MODEL, "--out", "NEW", "--method", "plat"), "did you mean 'platt'?"),
        ((MODEL, "--out", "NEW", "--negatives", "unifrm"), "give a sampler (uniform,"),
        ((MODEL, "--out", "NEW", "--negatives", "@gone.tsv"), "gone.tsv: there is no file"),
        (
            (MODEL, "--out", "NEW", "--negatives-per-positive", "0"),
            "give a number from 1e-6 to 1e9",
        ),
        ((MODEL, "--out", "NEW", "--negatives-per-positive", "1e300"), "from 1e-6 to 1e9"),
        (
            (MODEL, "--out", "NEW", "--negatives-per-positive", "nan"),
            "give a number from 1e-6 to 1e9",
        ),
        ((MODEL, "--out", "NEW", "--plot", "a.gif"), "ends in .svg, .png or .pdf"),
        ((MODEL, "--out", "NEW", "--plot", "NEW/a.svg"), "NEW/a.svg: lies in --out, or holds it"),
        ((MODEL, "--out", "NEW", "--plot", "/proc/a.svg"), "no file can be made below /proc"),
        ((MODEL, "--out", "NEW", "--plot", f"{__file__}/a.svg"), "is a file, no folder"),
        ((MODEL, "--out", "/proc/NEW", "--plot", "a.svg"), "no file can be made below /proc"),
        ((MODEL, "--out", "NEW", "--negatives", "@"), "--negatives '@': names no file; give @FILE"),
        ((MODEL, "--out", "NEW", "--negatives", "dataset"), "has no known-false triples"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = fails(capsys, "calibrate", *words)
    assert said in error and len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_plot_and_the_model_appear_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What goes wrong late with one of them leaves neither."""

    def full(*_: Any, **__: Any) -> None:
        raise NotWritten("the disk is full")

    words = ("calibrate", MODEL, "--drawn", 1, "--out", tmp_path / "new", "--plot")
    words = (*words, tmp_path / "a.svg")
    for what in ("predict.pretrained.save_model", "report.reliability.draw_reliability"):
        with monkeypatch.context() as patch:
            patch.setattr(f"dglke_distill.{what}", full)
            assert "the disk is full" in fails(capsys, *words)
        assert list(tmp_path.iterdir()) == []
    run(capsys, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "new"]


def test_answers_show_probabilities(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = kd.load(made)
    best = model.predict_tails("Latvia", "uses_currency", k=3)
    said = run(capsys, "predict", made, *LATVIA, "-k", 3)
    assert "probability" in said and f"{best[1].probability:.4f}" in said
    assert "platt with 50 negatives per fact; uses_currency has too few facts" in said
    told = json.loads(run(capsys, "predict", made, *LATVIA, "-k", 3, "--json"))
    assert [one["probability"] for one in told["predictions"]] == [one.probability for one in best]
    assert told["calibration"] == {
        "method": "platt", "negatives_per_positive": 50.0, "pooled": True,
    }  # fmt: skip
    limit = str(best[1].probability)
    some = run(capsys, "predict", made, *LATVIA, "-k", 3, "--json", "--min-probability", limit)
    assert len(json.loads(some)["predictions"]) == 2
    told = json.loads(run(capsys, "predict", made, *LATVIA, "--tail", "Euro", "--json"))
    assert told["probability"] == best[0].probability
    assert f"probability {best[0].probability:.4f}" in run(
        capsys, "predict", made, *LATVIA, "--tail", "Euro"
    )
    told = json.loads(run(capsys, "predict", made, "--head=Latvia", "--tail=Euro", "--json"))
    assert "pooled" not in told["calibration"]
    plain = run(capsys, "predict", MODEL, *LATVIA, "--json")
    assert "probability" not in plain and "calibration" not in plain


def test_rows_have_a_column_of_probabilities(
    made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "questions.tsv"
    file.write_text("Latvia\tuses_currency\t?\n", encoding="utf-8")
    rows = run(capsys, "predict", made, "--file", file, "-k", 2).splitlines()
    assert rows[0] == "question,rank,head,relation,tail,score,probability"
    words = ("discover", made, "--relation", "uses_currency", "-k", 5, "--format", "jsonl")
    lines = run(capsys, *words).splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    chances = [one["probability"] for one in found]
    assert len(chances) == 5 and chances == sorted(chances, reverse=True)
    some = run(capsys, *words, "--min-probability", chances[2]).splitlines()
    assert [json.loads(line) for line in some if line.startswith("{")] == found[:3]


@pytest.mark.parametrize("command", ["predict", "discover"])
def test_a_model_without_probabilities_is_named(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = LATVIA if command == "predict" else LATVIA[2:]
    error = fails(capsys, command, MODEL, *words, "--min-probability", 0.5)
    assert "not calibrated" in error and "dglke-distill calibrate" in error
    for value in ("1.5", "nan"):
        error = fails(capsys, command, MODEL, *words, "--min-probability", value)
        assert f"--min-probability is {value}; give a number from 0 to 1" in error


def test_a_compressed_model_is_calibrated_anew(
    made: Path, own: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = run(capsys, "compress", made, "--to", "binary", "--out", tmp_path / "small")
    assert "calibrated anew as before: expected calibration error" in said
    small, large = kd.load(tmp_path / "small"), kd.load(made)
    assert small.calibration is not None and large.calibration is not None
    assert small.calibration.about["negatives_per_positive"] == 50
    triple = [("Latvia", "uses_currency", "Euro")]
    assert float(small.probability(triple)[0]) != float(large.probability(triple)[0])
    again = kd.load(tmp_path / "small")
    fresh = again.calibrate(negatives_per_positive=50)
    assert fresh.about == small.calibration.about


def test_without_its_data_a_compressed_model_says_how_to_calibrate_it(
    own: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = json.loads((own / "results.json").read_text(encoding="utf-8"))
    results["dataset"]["name"] = "of-mine"
    (own / "results.json").write_text(json.dumps(results), encoding="utf-8")
    capsys.readouterr()
    assert call("compress", own, "--to", "int8", "--out", tmp_path / "small") == 0
    error = capsys.readouterr().err
    assert "warning: the new model is not calibrated" in error
    assert f"dglke-distill calibrate {tmp_path / 'small'} --dataset DATASET" in error
    assert kd.load(tmp_path / "small").calibration is None


def test_probabilities_need_torch_and_numpy_alone(made: Path) -> None:
    code = """
from dglke_distill import zoo
from dglke_distill.predict import NamedModel
model = NamedModel(zoo.load_checkpoint(given))
answers = model.predict_tails("Latvia", "uses_currency", k=3)
result = [answer.probability for answer in answers]
"""
    answers = kd.load(made).predict_tails("Latvia", "uses_currency", k=3)
    assert alone(code, str(made)) == pytest.approx([one.probability for one in answers], rel=1e-6)


def test_a_published_model_keeps_its_probabilities_and_is_served_with_them(
    made: Path, own: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    said = run(capsys, "zoo", "publish", own, "--store", store)
    assert MODEL in said
    found = kd.load(MODEL, store=store)
    best = kd.load(made).predict_tails("Latvia", "uses_currency", k=3)
    assert found.predict_tails("Latvia", "uses_currency", k=3) == best
    gallery = Gallery([MODEL], store=str(store))
    query = {"entity": ["Latvia"], "relation": ["uses_currency"], "k": ["3"]}
    answers = Api(gallery).answer("answers", query)["answers"]
    assert [one["probability"] for one in answers] == [one.probability for one in best]


def test_without_an_answer_there_is_nothing_to_explain(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", made, *LATVIA, "--min-probability", 1, "--explain"]
    assert run(capsys, *words).splitlines()[-1] == "no answer to explain"
    told = json.loads(run(capsys, *words, "--json"))
    assert told["predictions"] == [] and told["explanation"] is None
