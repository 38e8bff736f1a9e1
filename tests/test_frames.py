"""Triples from tables in memory: the same dataset, and the same errors, as from files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

import dglke_distill as kd
from dglke_distill.artifacts.results import ChainResults, StageResults
from dglke_distill.artifacts.results_files import read_training_results
from dglke_distill.base.errors import UserError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

NAMES = ["head", "relation", "tail"]
FACTS = [(f"e{i}", f"r{step}", f"e{(i + step) % 12}") for step in (1, 2, 5) for i in range(12)]
SMALL: dict[str, Any] = {
    "model": "distmult", "dim": 4, "epochs": 2, "threads": 1, "search": "none",
}  # fmt: skip


def frame(facts: list[Any] = FACTS, names: list[str] = NAMES) -> pandas.DataFrame:
    return pandas.DataFrame(facts, columns=names)


def write(path: Path, facts: list[Any] = FACTS) -> Path:
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in facts), encoding="utf-8")
    return path


class Stream:
    """What gives Arrow's columns by their protocol alone, as Polars' frames do."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "given",
    [
        frame(),
        frame()[["tail", "relation", "head"]],
        frame().astype("category"),
        frame().set_index(np.arange(36) % 5),
        frame().astype(object),
        pandas.DataFrame(FACTS),
        frame().rename(columns={"head": "subject", "relation": "predicate", "tail": "object"}),
        pyarrow.table(frame()),
        pyarrow.concat_tables([pyarrow.table(frame(FACTS[:7])), pyarrow.table(frame(FACTS[7:]))]),
        pyarrow.table(frame().astype("category")),
        pyarrow.RecordBatch.from_pandas(frame()),
        Stream(pyarrow.table(frame())),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_table_is_split_as_the_same_file_is(tmp_path: Path, given: Any) -> None:
    file = kd.load_dataset(write(tmp_path / "facts.tsv"), split_seed=3)
    found = kd.load_dataset(given, split_seed=3)

    assert found.fingerprint == file.fingerprint
    assert list(found.entities) == list(file.entities)
    for split in ("train", "valid", "test"):
        assert np.array_equal(found.split(split).to_array(), file.split(split).to_array())
    assert found.name == "frame"


def test_tables_by_split_are_taken_as_they_are(tmp_path: Path) -> None:
    parts = {"train": FACTS[:30], "valid": FACTS[30:33], "test": FACTS[33:]}
    for split, facts in parts.items():
        write(tmp_path / f"{split}.tsv", facts)
    given = {
        "train": frame(parts["train"]), "dev": pyarrow.table(frame(parts["valid"])),
        "test": frame(parts["test"]),
    }  # fmt: skip

    found = kd.load_dataset(given, name="mine")
    assert found.fingerprint == kd.load_dataset(tmp_path).fingerprint
    assert (len(found.train), len(found.valid), len(found.test)) == (30, 3, 3)
    assert found.name == "mine"

    nothing = (
        frame([]),
        pandas.DataFrame({"head": [], "relation": [], "tail": []}),
        pyarrow.table({}),
    )
    for empty in (*nothing, pandas.DataFrame()):
        none = kd.load_dataset({**given, "dev": empty})
        assert len(none.valid) == 0
        assert any("valid is empty" in line for line in none.warnings)


def test_whole_numbers_are_names(tmp_path: Path) -> None:
    facts = [(i, 100, (i + 1) % 9) for i in range(9)] + [(i, 101, (i + 2) % 9) for i in range(9)]
    file = kd.load_dataset(write(tmp_path / "n.tsv", facts))
    for given in (frame(facts), frame(facts).astype("Int64"), pyarrow.table(frame(facts))):
        assert kd.load_dataset(given).fingerprint == file.fingerprint


def test_columns_and_weights_are_those_of_files(tmp_path: Path) -> None:
    table = frame(names=["x", "y", "z"]).assign(w=np.arange(36) % 4 + 0.5, year=2020)
    table.to_csv(tmp_path / "facts.csv", index=False)
    said: dict[str, Any] = {"columns": "head=z,relation=y,tail=x", "weight_column": "w"}
    file = kd.load_dataset(tmp_path / "facts.csv", **said)
    for given in (table, pyarrow.table(table)):
        found = kd.load_dataset(given, **said)
        assert found.fingerprint == file.fingerprint
        assert found.train_weight is not None
        assert file.train_weight is not None
        np.testing.assert_array_equal(found.train_weight, file.train_weight)

    numbered = pandas.DataFrame(FACTS)
    swapped = kd.load_dataset(numbered, columns="head=3,relation=2,tail=1")
    assert swapped.fingerprint == kd.load_dataset(table, columns=said["columns"]).fingerprint


LONE = "\ud800"
TWICE = pyarrow.Table.from_arrays([pyarrow.array(["a", "b"])] * 3, ["head", "head", "tail"])
# Bytes that say they are text: "a", and one that no text has.
BYTES = [None, pyarrow.array([0, 1, 2], "int32").buffers()[1], pyarrow.py_buffer(b"a\xff")]
NO_TEXT = pyarrow.table(
    {
        "head": [1, 2],
        "relation": [1, 1],
        "tail": pyarrow.Array.from_buffers(pyarrow.utf8(), 2, BYTES),
    }
)
WEIGHTS = [1.0, -2.0, *[1.0] * 34]


@pytest.mark.parametrize("arrow", [False, True])
@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (frame().drop(columns="tail"), {}, "has 2 columns (head, relation)"),
        (frame(), {"columns": "head=a,relation=b,tail=c"}, "no column 'a' among head, relation"),
        (frame().assign(year=2020), {}, "say ignore_extra=True to leave the others out"),
        (frame([("a", None, "b")]), {}, "frame, row 1: the name in column 'relation' is empty"),
        (frame([*FACTS, ("a", " ", "b")]), {}, "frame, row 37: the name in column 'relation'"),
        (frame([("a", "r", "b\tc")]), {}, "row 1: the name in column 'tail' has a tab"),
        (frame([("a", "r", "\ufeff")]), {}, "row 1: the name in column 'tail' is empty"),
        (frame(), {"columns": "h=1,r=HEAD,t=tail"}, "column 'head' is chosen twice"),
        (frame([]), {}, "frame is empty"),
        (frame([])[[]], {}, "frame is empty"),
        (frame([("a", 1.5, "b")]), {}, "column 'relation' is of type"),
        (frame([("a", True, "b")]), {}, "column 'relation' is of type bool"),
        (frame([(1, 2, 3), (1, 2, None)]), {}, "row 2: the name in column 'tail' is empty"),
        (frame([("a", "r", "b")]), {}, "the only triple cannot be held out: it is the only"),
        (frame().assign(w=WEIGHTS), {"weight_column": "w"}, "row 2: the weight '-2.0' is no"),
        (frame().assign(w=0), {"weight_column": "w"}, "every weight is 0"),
        (frame(), {"columns": "h=head,r=relation,t=tail", "weight_column": "TAIL"}, "no weight"),
        (frame(), {"delimiter": ";"}, "delimiter is of files"),
        (frame(), {"header": True}, "header is of files"),
        (frame(), {"format": "openke"}, "format 'openke' is of files"),
        (frame(), {"name": "a/b"}, "name 'a/b': give a plain name"),
        (frame(), {"name": "FB15k-237"}, "the catalog has a dataset of that name"),
    ],
)  # fmt: skip
def test_a_bad_table_is_one_line(
    given: pandas.DataFrame, options: dict[str, Any], said: str, arrow: bool
) -> None:
    if arrow and said.startswith("row 2: the name in column 'tail'"):
        table = pyarrow.table({"head": [1, 1], "relation": [2, 2], "tail": [3, None]})
    else:
        table = pyarrow.table(given) if arrow else given
    with pytest.raises(UserError) as caught:
        kd.load_dataset(table, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (frame([*FACTS, (["a"], "r", "b")]), "row 37: column 'head' holds a list"),
        (
            frame([*FACTS, ("a", "r", "x")]).astype(object).replace("x", LONE),
            "row 37: the name in column 'tail' is no Unicode",
        ),
        (pandas.concat([frame(), frame()[["head"]]], axis=1), "two columns are called 'head'"),
        (TWICE, "two columns are called 'head'"),
        (NO_TEXT, "row 2: the name in column 'tail' is no Unicode"),
        ({"train": frame()}, "there is no valid; give train, valid and test"),
        ({"train": frame(), "rest": frame()}, "'rest' is no split"),
        ({"train": frame(), "dev": frame(), "valid": frame()}, "valid is given twice"),
        ({"train": frame(), "valid": FACTS, "test": frame()}, "frame[valid]: is a list"),
        ({"train": frame([]), "valid": frame(), "test": frame()}, "the train split is empty"),
        ({}, "there is no train"),
        (pyarrow.chunked_array([[1, 2]]), "is no table of columns"),
    ],
)
def test_what_is_no_table_is_one_line(given: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        kd.load_dataset({"train": given, "valid": given, "test": given}
                        if isinstance(given, pyarrow.ChunkedArray) else given)  # fmt: skip
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_with_two_columns_of_a_name_is_one_line(tmp_path: Path) -> None:
    parquet.write_table(TWICE, tmp_path / "facts.parquet")
    with pytest.raises(UserError, match="two columns are called 'head'; rename one"):
        kd.load_dataset(tmp_path / "facts.parquet")


def test_a_name_is_for_tables_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name 'a': is for tables in memory"):
        kd.load_dataset(write(tmp_path / "facts.tsv"), name="a")


@pytest.mark.slow
def test_training_and_ranking_are_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frame").mkdir()  # no folder of the table's name is its place
    file = write(tmp_path / "facts.tsv")
    table = frame(names=["x", "y", "z"]).assign(year=2020)
    columns = "head=x,relation=y,tail=z"

    run = kd.train(table, columns=columns, out=tmp_path / "memory", **SMALL)
    same = kd.train(file, out=tmp_path / "file", **SMALL)
    mrr = same.metrics["test"].mrr
    assert run.metrics["test"].mrr == mrr

    told = read_training_results(run.checkpoint / "results.json").dataset
    assert told is not None
    assert (told.name, told.format, told.path, told.columns) == ("frame", "memory", None, columns)
    assert told.fingerprint == kd.load_dataset(file).fingerprint

    assert kd.evaluate(run).mrr == mrr
    for dataset in (table, pyarrow.table(table), frame(), file):
        assert kd.evaluate(run.checkpoint, dataset=dataset).mrr == mrr
    assert kd.evaluate(same.checkpoint, dataset=frame()).mrr == mrr
    assert kd.train(table, resume=True, out=run.directory).metrics["test"].mrr == mrr

    with pytest.raises(UserError, match="was a table in memory"):
        kd.evaluate(run.checkpoint)
    with pytest.raises(UserError, match="are not those it was trained on"):
        kd.evaluate(run.checkpoint, dataset=frame(FACTS[1:]))
    with pytest.raises(UserError, match="lie in no file; go on from Python"):
        kd.train(resume=True, out=run.directory)


@pytest.mark.slow
def test_a_chain_takes_tables_by_split(tmp_path: Path) -> None:
    parts = {"train": frame(FACTS[:30]), "valid": frame(FACTS[30:33]), "test": frame(FACTS[33:])}
    said: dict[str, Any] = {**SMALL, "control": "none", "out": tmp_path / "chain"}
    del said["dim"]
    run = kd.distill(parts, dims=[8, 4], **said)
    found = json.loads((tmp_path / "chain" / "results.json").read_text(encoding="utf-8"))
    assert found["dataset"]["format"] == "memory"
    assert found["dataset"]["fingerprint"] == kd.load_dataset(parts).fingerprint
    assert found["command"] is None
    assert kd.evaluate(run).mrr == run.students[-1].metrics["test"].mrr
    again = kd.distill(parts, resume=True, out=tmp_path / "chain")
    assert again.results.stages[-1].results.metrics["test"].mrr == kd.evaluate(run).mrr


def test_data_are_checked_in_memory(tmp_path: Path) -> None:
    file = kd.check_data(write(tmp_path / "facts.tsv")).to_dict()
    found = kd.check_data(frame()).to_dict()
    differ = {key for key in file if file[key] != found[key]}
    assert differ <= {"dataset", "name", "warnings"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> kd.TrainingRun:
    return kd.train(frame(), out=tmp_path_factory.mktemp("trained") / "run", **SMALL)


def test_what_calls_return_is_shown_in_a_line(trained: kd.TrainingRun) -> None:
    mrr = f"test MRR {trained.metrics['test'].mrr:.4f}"
    assert repr(trained) == f"TrainingRun({str(trained.directory)!r}, {mrr})"
    model = kd.load("complex-cldr-dim32")
    why = repr(model.explain("Latvia", "uses_currency", "Euro"))
    assert why.startswith("Explanation('Latvia', 'uses_currency', 'Euro': score 11.0")
    assert len(why) < 100
    stages = [StageResults.model_construct(role="student", results=trained.results, directory=".")]
    results = ChainResults.model_construct(stages=stages)
    chain = kd.DistillationRun(trained.directory, results, trained.dataset)
    assert repr(chain) == f"DistillationRun({str(trained.directory)!r}, 1 stage, {mrr})"


def test_answers_are_tables(trained: kd.TrainingRun) -> None:
    answers = trained.model.predict_tails("e1", "r2", k=3)
    rows = [(n, a.name, a.id, a.score) for n, a in enumerate(answers, 1)]
    assert list(answers.to_pandas().itertuples(index=False, name=None)) == rows
    table = answers.to_arrow()
    assert table.column_names == ["rank", "name", "id", "score"]
    assert [tuple(row.values()) for row in table.to_pylist()] == rows

    none = trained.model.predict_tails("e1", "r2", k=3, candidates=["e4"], exclude_known=[
        ("e1", "r2", "e4")])  # fmt: skip
    assert none == []
    assert none.to_arrow().column_names == ["rank", "name", "id", "score"]

    asked = trained.model.predict_frame([("e1", "r2", None), (None, "r2", "e1")], k=3)
    assert asked["question"].tolist() == [0, 0, 0, 1, 1, 1]
    for found in (asked, trained.model.discover("r2", k=4, known=FACTS)):
        assert isinstance(found, pandas.DataFrame) and type(found.to_pandas()) is pandas.DataFrame
        some = found[found["rank"] > 1].assign(more="x")  # what pandas makes of it has it too
        assert some.to_arrow().column("more").to_pylist() == ["x"] * len(some)
        none = found[found["rank"] > 100]
        for frame in (found, none):
            for table in (frame.to_arrow(), pyarrow.table(frame).select(list(frame.columns))):
                assert table.column_names == list(frame.columns)
                rows = list(frame.itertuples(index=False, name=None))
                assert [tuple(row.values()) for row in table.to_pylist()] == rows
        kinds = {field.name: str(field.type) for field in found.to_arrow().schema}
        assert kinds == {field.name: str(field.type) for field in none.to_arrow().schema}
        names = dict.fromkeys(("head", "relation", "tail"), "string")
        assert kinds == {**kinds, "rank": "int64", "score": "double", **names}
        assert pickle.loads(pickle.dumps(found)).to_arrow().equals(found.to_arrow())


def test_figures_are_tables(trained: kd.TrainingRun) -> None:
    figures = kd.evaluate(trained)
    for made in (trained, trained.results, figures):
        table, pandas_table = made.to_arrow(), made.to_pandas()
        assert table.column_names == list(pandas_table.columns)
        pandas.testing.assert_frame_equal(pandas_table, made.frame())
        assert table.column("mrr").to_pylist() == list(made.frame()["mrr"])
    sides = figures.to_arrow().to_pylist()
    assert (sides[0]["side"], sides[0]["mrr"]) == ("both", figures.mrr)
