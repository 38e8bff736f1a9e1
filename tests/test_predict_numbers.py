"""Names that are numbers, ids that are none, and the two scores of a reciprocal model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from export_fixtures import loaded_model
from kg_bundle import Bundle
from model_formulas import ENTITIES, RELATIONS, one_thread  # noqa: F401

from dglke_distill import cli
from dglke_distill.artifacts.checkpoint import save_model
from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.data.triples import Vocabulary
from dglke_distill.interop import export_model
from dglke_distill.predict import NamedModel
from dglke_distill.predict.names import ids_of


def numbered() -> NamedModel:
    """A model whose entities are called 10, 11, ... and whose ids begin with 0."""
    loaded = loaded_model("DistMult")
    entities = Vocabulary([str(i) for i in range(ENTITIES - 1, -1, -1)])
    relations = Vocabulary(["2", "0", "1"], kind="relation")
    return NamedModel(LoadedModel(loaded.model, loaded.config, entities, relations, loaded.results))


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.predict_tails(3, "1"),
        lambda m: m.predict_tails("3", 1),
        lambda m: m.predict_heads("1", np.int32(3)),
        lambda m: m.predict_relations("1", np.int64(3)),
        lambda m: m.score([(1, "0", "2")]),
        lambda m: m.score([("1", "0", torch.tensor(2))]),
        lambda m: m.score(np.array([[1, 0, 2]])),
        lambda m: m.score(pandas.DataFrame([[1, 0, 2]])),
        lambda m: m.nearest_entities(3),
        lambda m: m.entity_ids([3]),
        lambda m: m.entity_ids(pandas.Series([3])),
        lambda m: m.relation_ids(range(2)),
        lambda m: m.predict_frame(pandas.DataFrame([[3, 1, None]], dtype=object)),
        lambda m: m.predict_frame([(None, "1", 3)]),
        lambda m: m.predict_tails("3", "1", exclude_known=[(3, 1, 2)]),
    ],
)
def test_a_number_is_refused_where_names_are_numbers(ask: Any) -> None:
    with pytest.raises(UserError, match="may be a name or an id, since names here are numbers"):
        ask(numbered())


def test_where_names_are_numbers_text_is_a_name_and_a_tensor_holds_ids() -> None:
    model = numbered()
    assert model.entity_ids(["3"]).tolist() == [ENTITIES - 4]
    assert model.entity_ids(torch.tensor([3])).tolist() == [3]
    by_name = model.score([("1", "0", "2")])
    assert torch.equal(by_name, model.score(torch.tensor([[ENTITIES - 2, 1, ENTITIES - 3]])))
    assert torch.equal(by_name, model.score(pandas.DataFrame([["1", "0", "2"]])))
    (best, *_) = model.predict_tails("3", "1")
    frame = model.predict_frame(pandas.DataFrame([["3", "1", None]], dtype=object), k=1)
    assert frame["tail"].tolist() == [best.name]


@pytest.mark.parametrize("name", [1.0, 1.9, float("nan"), True, None, b"3", np.bool_(True)])
def test_what_is_neither_text_nor_a_whole_number_is_refused(name: Any) -> None:
    for model in (numbered(), NamedModel(loaded_model("DistMult"))):
        with pytest.raises(UserError, match="give its name as text, or its id as a whole number"):
            model.entity_ids([name])


def test_names_that_are_their_ids_may_be_numbers() -> None:
    plain = Vocabulary(None, size=5)
    assert ids_of(plain, [3, "3"]).tolist() == [3, 3]
    assert ids_of(Vocabulary(["0", "1", "2"]), [2, "2"]).tolist() == [2, 2]
    assert ids_of(Vocabulary(["a", "Q7"]), [1]).tolist() == [1]
    for misleading in (["1", "0"], ["a", "7"], ["0", "1.0"], ["0", "-1"], ["0", "01"]):
        with pytest.raises(UserError, match="may be a name or an id"):
            ids_of(Vocabulary(misleading), [1])


@pytest.mark.parametrize("ids", [[-1, 0, 0], [0, -1, 0], [0, 0, ENTITIES], [0, RELATIONS, 0]])
def test_ids_in_tensors_are_checked(ids: list[int]) -> None:
    model = NamedModel(loaded_model("DistMult", reciprocal=True))
    with pytest.raises(UserError, match=r"(entity|relation) id -?\d+: ids go from 0 to"):
        model.score(torch.tensor([ids]))
    head, relation, tail = torch.tensor([ids]).unbind(1)
    with pytest.raises(UserError, match="ids go from 0 to"):
        model.top_tails(head, relation, 1)
        model.top_heads(relation, tail, 1)
    with pytest.raises(UserError, match="whole numbers"):
        model.score(torch.tensor([ids]).float())


def call(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code in (0, None)


def test_of_two_scores_the_output_says_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = loaded_model("ComplEx", reciprocal=True)
    folder = tmp_path / "model"
    save_model(folder, loaded.model, loaded.config, loaded.entities, loaded.relations, {})
    named = NamedModel(loaded)
    head, relation, tail = loaded.entities[0], loaded.relations[1], loaded.entities[2]
    ask = ["predict", str(folder), "--relation", relation, "--tail", tail]
    call([*ask, "--head", head, "--json"])
    one = json.loads(capsys.readouterr().out)
    call([*ask, "-k", "99", "--json"])
    other = json.loads(capsys.readouterr().out)
    assert one["scored_as"] == "(head, relation, ?)"
    assert other["scored_as"] == "(?, relation, tail)"
    scores = {answer["name"]: answer["score"] for answer in other["predictions"]}
    assert one["score"] == pytest.approx(float(named.score([(head, relation, tail)])[0]))
    assert scores[head] != pytest.approx(one["score"])
    call([*ask, "--head", head])
    shown = capsys.readouterr()
    assert shown.out == f"{one['score']:.4f}\n"
    assert shown.err.startswith("scored as answers to (head, relation, ?); with its reciprocal")
    call(ask)
    assert "scored as answers to (?, relation, tail); with its" in capsys.readouterr().out
    call(["predict", "--help"])
    assert "reciprocal relations scores the same triple otherwise" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_bundle_refuses_such_numbers_too(tmp_path: Path) -> None:
    model = numbered()
    loaded = LoadedModel(model.model, model.config, model.entities, model.relations, {})
    export_model(loaded, "bundle", tmp_path / "b")
    bundle = Bundle(tmp_path / "b")
    assert bundle.entity_id("3") == ENTITIES - 4
    with pytest.raises(KeyError, match="may be a name or an id"):
        bundle.predict_tails(3, "1")
    with pytest.raises(KeyError, match="is none of the"):
        bundle.predict_tails(True, "1")
