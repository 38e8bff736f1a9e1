"""The typed tree of ``results.json``: what is written is all declared, and old files still load."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clock_fixtures import clock_chain, write_clock
from report_fixtures import write_comparison_results, write_run

import dglke_distill
from dglke_distill.artifacts import results, results_parts
from dglke_distill.artifacts.results import ChainResults, ResultsNode, TrainingResults
from dglke_distill.artifacts.results_files import (
    read_chain_results,
    read_comparison_results,
    read_training_results,
    results_kind,
    write_results,
)
from dglke_distill.base.errors import UserError
from dglke_distill.distill.compare import ComparisonConfig, run_comparison

SHIPPED = sorted(
    (Path(dglke_distill.__file__).parent / "zoo" / "models" / "models").rglob("results.json")
)


def nodes(value: Any, place: str = "") -> Iterator[tuple[str, ResultsNode]]:
    """Every typed object in a tree, with its place."""
    if isinstance(value, ResultsNode):
        yield place, value
        for name in type(value).model_fields:
            yield from nodes(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from nodes(each, f"{place}.{key}")
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from nodes(each, f"{place}[{i}]")


def undeclared(tree: ResultsNode) -> list[str]:
    return [f"{place}.{key}" for place, node in nodes(tree) for key in node.model_extra or {}]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two chains, so that files of all three kinds are there."""
    clock = write_clock(tmp_path_factory.mktemp("data") / "clock")
    directory = tmp_path_factory.mktemp("compare") / "run"
    chain = clock_chain(clock)
    run_comparison(ComparisonConfig(methods=["iterde", "direct"], chain=chain), directory)
    return directory


def test_every_key_that_is_written_is_declared(compared: Path) -> None:
    """A new key belongs into ``artifacts/results.py``, with what it means."""
    comparison = read_comparison_results(compared / "results.json")
    chain = read_chain_results(compared / "chains" / "iterde-seed0" / "results.json")
    trainings = [read_training_results(path) for path in compared.rglob("checkpoint/results.json")]
    assert len(trainings) >= 4
    for tree in (comparison, chain, *trainings):
        assert undeclared(tree) == []
        assert len(list(nodes(tree))) > 5


def test_typed_values_are_those_of_the_file(compared: Path) -> None:
    path = compared / "chains" / "iterde-seed0" / "results.json"
    written = json.loads(path.read_text())
    chain = read_chain_results(path)
    assert chain.to_tree() == written
    last, stage = written["stages"][-1], chain.stages[-1]
    assert stage.results.metrics["test"].hits_at_3 == last["results"]["metrics"]["test"]["hits@3"]
    assert stage.results.model is not None and stage.results.training is not None
    assert stage.results.model.parameters == last["results"]["model"]["parameters"]
    seconds = ("seconds", "setup_seconds", "validation_seconds")
    assert stage.results.training.all_seconds == pytest.approx(
        sum(last["results"]["training"][key] for key in seconds)
    )
    frame = chain.frame()
    assert list(frame["stage"]) == [
        s["name"] for s in written["stages"] for _ in s["results"]["metrics"]
    ]
    tested = frame[frame["split"] == "test"]
    assert list(tested["mrr"]) == [
        s["results"]["metrics"]["test"]["mrr"] for s in written["stages"]
    ]
    sides = stage.results.frame().set_index(["split", "side"])["mrr"]
    by_side = last["results"]["metrics"]["valid"]["by_side"]
    assert sides["valid", "head"] == by_side["head"]["mrr"]
    comparison = read_comparison_results(compared / "results.json")
    rows = json.loads((compared / "results.json").read_text())["rows"]
    assert list(comparison.frame()["mrr"]) == [row["mrr"] for row in rows]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parts[-3])
def test_shipped_models_are_read_whole(path: Path) -> None:
    """They were written by the first version; nothing of them is lost."""
    written = json.loads(path.read_text(encoding="utf-8"))
    read = read_training_results(path)
    assert read.to_tree() == written
    assert undeclared(read) == []
    assert read.ranked == "test"
    assert read.metrics["test"].mrr == written["metrics"]["test"]["mrr"]


def test_there_are_shipped_models() -> None:
    assert len(SHIPPED) > 4


def test_a_file_that_is_written_is_read_the_same(tmp_path: Path) -> None:
    written = {
        "schema": 1,
        "metrics": {"test": {"mrr": 0.25, "mr": 3.5, "hits@1": 0.125, "hits@3": 0.5, "hits@10": 1.0,
                             "count": 8}},
        "of a later version": {"kept": [1, 2]},
    }  # fmt: skip
    write_results(tmp_path / "results.json", TrainingResults.of(written, "here"))
    assert json.loads((tmp_path / "results.json").read_text()) == written
    assert results_kind(tmp_path / "results.json") == "training"


def broken(directory: Path, *keys: Any, value: Any) -> Path:
    path = write_run(directory) / "results.json"
    tree = json.loads(path.read_text())
    at = tree
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    path.write_text(json.dumps(tree))
    return path


TEST = ("stages", 1, "results", "metrics", "test")
MODEL = ("stages", 1, "results", "model")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("schema",), 2, "schema 2 is unknown; a newer version wrote it"),
        (("schema",), "1", "schema 1 is unknown"),
        (("schema",), True, "schema True is unknown"),
        (("kind",), "feast", "results of a feast, where those of a chain are wanted"),
        (("stages",), [], r"stages is no list of at least one entry"),
        (("stages",), {}, r"stages is no list"),
        ((*TEST, "mrr"), "high", r"stages\[1\]\.results\.metrics\.test\.mrr is no number"),
        ((*TEST, "mrr"), True, r"metrics\.test\.mrr is no number"),
        ((*TEST, "mrr"), math.inf, "Infinity is no finite number"),
        ((*TEST, "count"), 2.5, r"metrics\.test\.count is no whole number"),
        ((*TEST, "hits@3"), None, r"metrics\.test\.hits@3 is no number"),
        ((*MODEL, "name"), 3, r"stages\[1\]\.results\.model\.name is no string"),
        (MODEL, [], r"stages\[1\]\.results\.model is no object"),
        (("stages", 0, "role"), "king", r"stages\[0\]\.role is 'king', not 'teacher', 'student'"),
    ],
)
def test_what_is_no_chain_is_named(
    tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    path = broken(tmp_path, *keys, value=value)
    with pytest.raises(UserError, match=message) as error:
        read_chain_results(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    chain = write_run(tmp_path / "chain") / "results.json"
    comparison = write_comparison_results(tmp_path / "compare") / "results.json"
    assert (results_kind(chain), results_kind(comparison)) == ("chain", "comparison")
    with pytest.raises(UserError, match="of a chain, where those of a training are wanted"):
        read_training_results(chain)
    with pytest.raises(UserError, match=r"chain/nothing\.json: no such file"):
        read_chain_results(chain.with_name("nothing.json"))


def test_older_stages_name_one_teacher_alone(tmp_path: Path) -> None:
    chain = read_chain_results(write_run(tmp_path) / "results.json")
    assert [stage.taught_by for stage in chain.stages[:2]] == [(), (chain.stages[0].name,)]
    with pytest.raises(UserError, match="seed is missing"):
        ChainResults.of({k: v for k, v in chain.to_tree().items() if k != "seed"}, "here")


def test_every_field_says_what_it_is() -> None:
    kinds = [
        kind
        for kind in {**vars(results), **vars(results_parts)}.values()
        if isinstance(kind, type) and issubclass(kind, ResultsNode) and kind is not ResultsNode
    ]
    assert len(kinds) > 15
    bare = [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, field in kind.model_fields.items()
        if not field.description
    ]
    assert bare == []
