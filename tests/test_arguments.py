"""Arguments of the wrong kind: one line of error that names them, whatever the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

import dglke_distill as kd
from dglke_distill.base.arguments import (
    ANNOTATIONS,
    checked,
    items,
    number,
    options_named,
    plain,
    whole,
)

NO_NUMBERS = [None, "5", b"5", True, [], {}, object(), np.array([1, 2]), torch.tensor([1.5]), int]
NO_WHOLES = [*NO_NUMBERS, 1.5, float("nan"), np.float32(2), torch.tensor(2.0)]
BY_DEFAULT = {"Watcher", "StudyWatch"}
OTHERS_LOOK = {"NamedTriples", "Iterable[tuple[str, str, str]]",
               "Union[str, NamedTriples]", "Sequence[Mapping[str, Any]]"}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> kd.NamedModel:
    return kd.load("complex-cldr-dim32")


def calls() -> dict[str, Callable[..., Any]]:
    names = ("load", "evaluate", "train", "tune", "distill", "load_dataset", "check_data", "to_dgl")
    parts = ("save_pretrained", "add_entities", "load_support", "load_known", "calibrate",
             "load_types", "load_ranges", "load_labels")  # fmt: skip
    return {
        **{name: getattr(kd, name) for name in names},
        **{f"zoo.{name}": getattr(kd.zoo, name) for name in kd.zoo.__all__ if name.islower()},
        **{f"NamedModel.{name}": getattr(kd.NamedModel, name) for name in parts},
    }


@pytest.mark.parametrize("name", calls())
def test_a_call_looks_at_its_arguments_before_anything_is_done(name: str) -> None:
    """Each parameter is given what is of no kind, beside what the others need."""
    call = calls()[name]
    parameters = dict(inspect.signature(call).parameters)
    itself = parameters.pop("self", None)
    first: list[Any] = [] if itself is None else [None]
    needed = {key: "x" for key, of in parameters.items() if of.default is of.empty}
    if name == "to_dgl":
        needed["dataset"] = kd.load_dataset("cldr")  # type: ignore[assignment]
    looked = 0
    for key, parameter in parameters.items():
        kind = str(parameter.annotation)
        if kind.startswith("Optional["):
            kind = kind[len("Optional[") : -1]
        if kind in OTHERS_LOOK:
            continue
        assert kind in ANNOTATIONS or kind in BY_DEFAULT, (name, key, kind)
        for wrong in (object(), b"text"):
            with pytest.raises(kd.UserError) as caught:
                call(*first, **{**needed, key: wrong})
            line = str(caught.value)
            assert line.startswith(f"{key} is ") and "\n" not in line, line
            looked += 1
    assert looked


@pytest.mark.parametrize("given", [5, np.int8(5), np.uint64(5), torch.tensor(5), np.array(5)])
def test_whole_numbers_of_every_library_are_the_same(given: Any) -> None:
    assert (whole(given, "k"), type(whole(given, "k"))) == (5, int)
    assert (number(given, "k"), plain(given)) == (5.0, 5)


@pytest.mark.parametrize("given", NO_WHOLES, ids=lambda given: type(given).__name__)
def test_what_is_no_whole_number_is_refused(given: Any) -> None:
    with pytest.raises(kd.UserError, match=r"^k is .*: give a whole number$"):
        whole(given, "k")


@pytest.mark.parametrize("given", NO_NUMBERS, ids=lambda given: type(given).__name__)
def test_what_is_no_number_is_refused(given: Any) -> None:
    with pytest.raises(kd.UserError, match=r"^share is .*: give a number$"):
        number(given, "share")


def test_an_error_is_one_line_however_long_the_value() -> None:
    with pytest.raises(kd.UserError) as caught:
        items(pandas.DataFrame({"a": range(50)}).iloc, "names", "a list of names")
    assert len(str(caught.value)) < 150
    with pytest.raises(kd.UserError) as caught:
        whole(pandas.DataFrame({"a": range(50)}), "k")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 150


def test_settings_get_numbers_of_python() -> None:
    """What NumPy and torch call a number could not be written into the settings of a run."""

    @checked
    def call(a: int, b: float = 0.0, *, dims: Any = None) -> Any:
        return a, b, dims

    three: Any = torch.tensor(3)
    assert list(map(type, call(three, np.float64(0.5)))) == [int, float, type(None)]


def test_a_path_may_be_text_or_a_path(tmp_path: Path, model: kd.NamedModel) -> None:
    place = tmp_path / "saved"
    text: Any = str(place)
    cache: Any = str(tmp_path)
    assert model.save_pretrained(str(place)) == place
    assert kd.zoo.load_checkpoint(str(place)).entities[0] == model.entities[0]
    entry = kd.zoo.publish(text, "complex-ours-dim32", store=str(tmp_path / "store"))[0]
    found = kd.zoo.load("complex-ours-dim32", store=tmp_path / "store", cache_dir=cache)
    assert entry.name == "complex-ours-dim32" and len(found.entities) == len(model.entities)


@pytest.mark.parametrize("place", ["", "a\0b", "x" * 256, "x/" * 2500, "\ud800"])
def test_a_path_that_no_file_has_is_refused(place: str) -> None:
    for call in (kd.load, kd.load_dataset, kd.evaluate, kd.zoo.load_checkpoint):
        with pytest.raises(kd.UserError):
            call(place)
    with pytest.raises(kd.UserError):
        kd.train("cldr", out=place)


def test_questions_of_the_wrong_kind(model: kd.NamedModel) -> None:
    rows = ("Latvia", "uses_currency", "Euro")
    one, two = torch.tensor([1]), torch.tensor([1, 2])
    wrong: dict[str, Callable[[], Any]] = {
        "k is 1.5": lambda: model.predict_tails("Latvia", "uses_currency", k=1.5),  # type: ignore[arg-type]
        "k is None": lambda: model.predict_relations("Latvia", "Euro", k=None),  # type: ignore[arg-type]
        "k is '3'": lambda: model.nearest_entities("Latvia", k="3"),  # type: ignore[arg-type]
        "k is True": lambda: model.explain("Latvia", "uses_currency", "Euro", k=True),
        "k is nan": lambda: model.discover(["uses_currency"], k=float("nan")),  # type: ignore[arg-type]
        "min_probability is 'x'": lambda: model.predict_tails(
            "Latvia", "uses_currency", min_probability="x"  # type: ignore[arg-type]
        ),
        "exclude_known is None": lambda: model.predict_tails(
            "Latvia", "uses_currency", exclude_known=None  # type: ignore[arg-type]
        ),
        "triples is 5": lambda: model.score(5),  # type: ignore[arg-type]
        "triples is 'Latvia'": lambda: model.rank("Latvia"),  # type: ignore[arg-type]
        "triple 0 is 5": lambda: model.score([5]),  # type: ignore[list-item]
        "triple 1 is b'Latvia'": lambda: model.score([rows, b"Latvia"]),  # type: ignore[list-item]
        "questions is None": lambda: model.predict_frame(None),  # type: ignore[arg-type]
        "question 0 is None": lambda: model.predict_frame([None]),  # type: ignore[list-item]
        "entity names is 'Latvia'": lambda: model.entity_ids("Latvia"),
        "relation names is 5": lambda: model.discover(5.5),  # type: ignore[arg-type]
        "entity ids is [1]": lambda: model.top_tails([1], one, 1),  # type: ignore[arg-type]
        "entity ids: (n,) are needed": lambda: model.top_tails(two[None], two[None], 1),
        "entity ids are whole numbers": lambda: model.top_tails(one.bool(), one, 1),
        "2 ids beside 1": lambda: model.top_tails(two, one, 1),
        "entity id -1: ids go from 0": lambda: model.entity_names([-1]),
        "entity id 1000000000000": lambda: model.entity_names([10**30]),
        "entity id is 1.5": lambda: model.entity_names([1.5]),  # type: ignore[list-item]
        "relation id 99": lambda: model.relation_names(torch.tensor([99])),
    }  # fmt: skip
    for words, ask in wrong.items():
        with pytest.raises(kd.UserError) as caught:
            ask()
        expected = "relation names is 5.5" if words.startswith("relation names") else words
        assert str(caught.value).startswith(expected), (words, str(caught.value))


def test_ids_and_names_of_every_library_answer_alike(model: kd.NamedModel) -> None:
    latvia, uses = model.entities.id("Latvia"), model.relations.id("uses_currency")
    right = model.predict_tails("Latvia", "uses_currency", k=2)
    for head in (np.int32(latvia), np.str_("Latvia"), torch.tensor(latvia), latvia):
        assert model.predict_tails(head, "uses_currency", k=np.int64(2)) == right  # type: ignore[arg-type]
    for kind in (torch.uint8, torch.int16, torch.int32, torch.int64):
        if latvia <= torch.iinfo(kind).max:
            asked = torch.tensor([latvia], dtype=kind), torch.tensor([uses], dtype=torch.int32)
            assert model.top_tails(*asked, 2).ids.tolist() == [[each.id for each in right]]
    rows = [("Latvia", "uses_currency", "Euro")]
    several: tuple[Any, ...] = (
            rows, iter(rows), (list(row) for row in rows), np.array(rows), pandas.DataFrame(rows),
            [np.array([latvia, uses, model.entities.id("Euro")])],
            torch.tensor([[latvia, uses, model.entities.id("Euro")]], dtype=torch.int32),
    )  # fmt: skip
    scores = [model.score(given).tolist() for given in several]
    assert scores == [scores[0]] * len(scores)


def test_a_truth_value_is_no_number(tmp_path: Path) -> None:
    """True is 1 to Python and to pydantic; it is no size, no seed and no rate here."""
    given: dict[str, Any] = {"out": tmp_path / "run", "search": "none"}
    rate = {"optimizer.learning_rate": True}
    for wrong in ({"dim": True}, {"seed": np.True_}, {"settings": rate},
                  {"settings": {"loss.options": {"margin": True}}}):  # fmt: skip
        with pytest.raises(kd.UserError, match=r"is (np\.)?True_?[:;] (give|it must be) a "):
            kd.train("cldr", **given, **wrong)
    with pytest.raises(kd.UserError, match="one is True: give a whole number"):
        kd.distill("cldr", dims=[8, True], out=tmp_path / "chain")
    assert not list(tmp_path.iterdir())


def test_errors_of_a_call_name_its_parameters_and_those_of_a_command_its_options() -> None:
    @checked
    def call(said: str, *, out: str = "", resume: bool = False, settings: Any = None) -> None:
        raise kd.UserError(said)

    said = (
        "X: add --resume, or choose another --out, say --set a.out=3 or --set b.c=true; "
        "type `dglke-distill train --out X`, or: dglke-distill train --resume; not --outer or --new"
    )
    with pytest.raises(kd.UserError) as caught:
        call(said)
    assert str(caught.value) == (
        "X: add resume=True, or choose another out, say out=3 or settings={'b.c': 'true'}; "
        "type `dglke-distill train --out X`, or: dglke-distill train --resume; not --outer or --new"
    )
    with options_named(), pytest.raises(kd.UserError) as caught:
        call(said)
    assert str(caught.value) == said
