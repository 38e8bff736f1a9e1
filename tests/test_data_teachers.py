"""Teachers of other triples are refused, or named in every output."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from identity_fixtures import (
    CHAIN,
    TRAIN,
    Run,
    edit,
    facts,
    fingerprint,
    grown,
    one_file,
    results_of,
    run,
    trained,
)

from dglke_distill.artifacts import checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.data import catalog
from dglke_distill.distill.loading import load_teacher
from dglke_distill.distill.teacher_data import teacher_data
from dglke_distill.predict import NamedModel

__all__ = ["grown", "run", "trained"]  # fixtures


def test_a_teacher_of_other_triples(
    run: Run, tmp_path: Path, grown: tuple[Path, Path, str]
) -> None:
    file, teacher, before = grown
    out = tmp_path / "chain"
    flags = [file, *CHAIN, "--dims", "8,4", "--teacher", teacher, "--out", out]
    said = run("run", *flags, code=2).err
    assert before[:16] in said
    assert fingerprint(file)[:16] in said
    assert not out.exists()
    assert before[:16] in run("run", *flags, "--dry-run", code=2).err
    shown = run("run", *flags, "--allow-other-data")
    assert shown.out.count("OTHER DATA") >= 2  # as it began, and beside the table
    results = results_of(out)
    assert results["summary"]["teacher_mrr"] is None  # of another test split
    assert results["summary"]["share_of_teacher"] is None
    assert before[:16] in results["data_warnings"][0]
    assert "OTHER DATA" in (out / "report" / "report.html").read_text()
    student = out / "stages" / "0-complex-dim4" / "checkpoint"
    assert results_of(student)["dataset"]["others"][0]["fingerprint"] == before
    assert "OTHER DATA" in run("evaluate", student, "--dataset", file).out
    run("zoo", "publish", student, "--store", tmp_path / "store")
    card = run("zoo", "info", "complex-kg-dim4", "--store", tmp_path / "store").out
    assert "OTHER DATA" in card
    # What the student knows goes on to its own students.
    again = ["--dims", "4,2", "--teacher", student, "--out", tmp_path / "next"]
    said = run("run", file, *CHAIN, *again, code=2).err
    assert "OTHER DATA" in said
    run("run", file, *CHAIN, *again, "--allow-other-data")
    assert before[:16] in results_of(tmp_path / "next")["data_warnings"][0]


def test_a_teacher_of_another_seeds_split(run: Run, tmp_path: Path) -> None:
    file = one_file(tmp_path / "kg", facts())
    run("train", file, *TRAIN, "--set", "data.split_seed=1", "--out", tmp_path / "teacher")
    teacher = tmp_path / "teacher" / "checkpoint"
    flags = [file, *CHAIN, "--dims", "8,4", "--teacher", teacher, "--control", "none"]
    assert (
        "are not those it was trained on, of kg"
        in run("run", *flags, "--out", tmp_path / "a", code=2).err
    )
    run("run", *flags, "--set", "data.split_seed=1", "--out", tmp_path / "b")
    assert results_of(tmp_path / "b")["data_warnings"] == []
    # With its own seed it finds its split again.
    assert (
        json.loads(run("evaluate", teacher, "--dataset", file, "--json").out)["mrr"]
        == (results_of(teacher)["metrics"]["test"]["mrr"])
    )


def test_compare_and_several_teachers(
    run: Run, tmp_path: Path, grown: tuple[Path, Path, str]
) -> None:
    file, teacher, before = grown
    run("train", file, *TRAIN, "--seed", "1", "--out", tmp_path / "right")
    right = tmp_path / "right" / "checkpoint"
    both = ["--teacher", right, "--teacher", teacher]
    flags = [file, *CHAIN, "--dims", "8,4"]
    mulde = ["--method", "mulde", "--control", "none", "--out", tmp_path / "mulde"]
    assert before[:16] in run("run", *flags, *mulde, *both, code=2).err
    assert not (tmp_path / "mulde").exists()
    assert before[:16] in run("run", *flags, *mulde, *both, "--allow-other-data").out
    compare = ["--methods", "bkd,direct", "--teacher", teacher, "--out", tmp_path / "compare"]
    assert before[:16] in run("compare", *flags, *compare, code=2).err
    assert not (tmp_path / "compare").exists()
    assert "OTHER DATA" in run("compare", *flags, *compare, "--allow-other-data").out
    compared = results_of(tmp_path / "compare")
    assert before[:16] in compared["data_warnings"][0]
    assert {row["share_of_teacher"] for row in compared["rows"]} == {None}
    assert "OTHER DATA" in (tmp_path / "compare" / "report" / "report.html").read_text()


def test_a_teacher_that_does_not_tell(run: Run, tmp_path: Path, trained: tuple[Path, Path]) -> None:
    data, model = trained
    run("export", model, "--format", "dglke", "--out", tmp_path / "foreign")
    edit(model, lambda tree: tree["dataset"].pop("fingerprint"))
    for number, teacher in enumerate((tmp_path / "foreign", model)):
        out = tmp_path / f"chain{number}"
        flags = ["--dims", "8,4", "--teacher", teacher, "--control", "none", "--out", out]
        shown = run("run", data, *CHAIN, *flags)
        assert "could not be compared" in shown.out
        assert "could not be compared" in results_of(out)["data_warnings"][0]
        assert "could not be compared" in (out / "report" / "report.html").read_text()
        student = out / "stages" / "0-complex-dim4" / "checkpoint"
        other = results_of(student)["dataset"]["others"][0]
        assert other["fingerprint"] is None
    imported = run("import", tmp_path / "foreign", "--dataset", data, "--out", tmp_path / "ours")
    assert "could not be compared" in imported.out
    stated = results_of(tmp_path / "ours")["dataset"]
    assert "fingerprint" not in stated
    assert stated["ranked_on"] == fingerprint(data)
    shown = run("evaluate", tmp_path / "ours", "--dataset", data)
    assert "could not be compared" in shown.out


def test_in_python(grown: tuple[Path, Path, str]) -> None:
    file, teacher, before = grown
    dataset = catalog.load(str(file))
    with pytest.raises(UserError, match=before[:16]):
        load_teacher(teacher, dataset)
    load_teacher(teacher, dataset, allow_other_data=True)
    (other,) = teacher_data(teacher, dataset, allow_other_data=True)
    assert other.fingerprint == before
    named_model = NamedModel(checkpoint.load_model(teacher))
    with pytest.raises(UserError, match="name it by dataset"):
        named_model.load_known()
    with pytest.raises(UserError, match=before[:16]):
        named_model.load_known(dataset=str(file))
    named_model.load_known(dataset=str(file), allow_other_data=True)
    assert "OTHER DATA" in named_model.known_warnings[0]


def test_serve_marks_known_facts_of_the_right_data_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grown: tuple[Path, Path, str]
) -> None:
    from dglke_distill.serve import Gallery

    file, model, before = grown
    monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)
    shown = Gallery([str(model)], threads=1).get(str(model))
    assert shown.facts is None
    assert "neither in the catalog" in shown.no_facts
    shown = Gallery([str(model)], threads=1, dataset=str(file)).get(str(model))
    assert before[:16] in shown.no_facts
    allowed = Gallery([str(model)], threads=1, dataset=str(file), allow_other_data=True)
    shown = allowed.get(str(model))
    assert shown.facts is not None
    assert "OTHER DATA" in shown.about()["fact_notes"][0]
    assert os.environ.get("DGLKE_DISTILL_DATA") is None
