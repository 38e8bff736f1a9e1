"""Answers in batches, scores that cannot be ranked, and the description of what may be asked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from distill_fixtures import model_of
from serve_fixtures import FACTS, PEOPLE, Page, page, served, town, write_model, write_town

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.compression import Storage, compress
from dglke_distill.config import Config
from dglke_distill.data.triples import Vocabulary
from dglke_distill.predict.batches import best_entities
from dglke_distill.serve import Gallery, questions
from dglke_distill.serve.api import Api
from dglke_distill.serve.facts import FactShelf
from dglke_distill.serve.gallery import Shown
from dglke_distill.serve.openapi import description
from dglke_distill.serve.questions import Question, answer_all
from dglke_distill.serve.routes import ROUTES

__all__ = ["page", "town"]

RELATIONS = sorted({relation for _, relation, _ in FACTS})


def shown_model(name: str, entities: int = 50, *, int8: bool = False) -> Shown:
    model = model_of(name, entities=entities, dtype=torch.float32)
    config = Config.from_mapping({"model": {"name": name, "dim": 8}}, "test")
    if int8:
        table = {"kind": "int8"}
        storage = Storage.model_validate({"entities": table, "relations": table})
        model = compress(model, config.model, storage)
    names = Vocabulary([f"e{i}" for i in range(entities)])
    links = Vocabulary([f"r{i}" for i in range(model.num_relations)], kind="relation")
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"dataset": "no-such-dataset"})}
    )
    return Shown(name, LoadedModel(model, config, names, links, {}), FactShelf())


@pytest.mark.parametrize("most", [0, questions.ALONE])
@pytest.mark.parametrize(
    ("name", "int8"),
    [("ComplEx", False), ("ComplEx", True), ("TransE", False), ("RotatE", False),
     ("TransR", False), ("RESCAL", False), ("PairRE", False), ("HolE", False), ("TuckER", False)],
)  # fmt: skip
def test_a_question_has_its_answers_whoever_else_asks(
    monkeypatch: pytest.MonkeyPatch, name: str, int8: bool, most: int
) -> None:
    """Mixed questions in one call, against the best entities of each; alone to the last bit."""
    monkeypatch.setattr(questions, "ALONE", most)
    shown = shown_model(name, int8=int8)
    model = shown.named.model
    asked = [
        Question(shown, entity, entity % model.num_relations, side, k, False)
        for entity, side, k in itertools.product(range(20), ("tail", "head"), (3, 80))
    ]
    together = answer_all(asked)
    for question, body in zip(asked, together):
        assert isinstance(body, bytes), body
        found = json.loads(body)
        ids = torch.tensor([question.entity]), torch.tensor([question.relation])
        scores = model.score_all(*ids, question.side)[0]
        best = scores.topk(min(question.k, 50))
        assert len(found["answers"]) == min(question.k, 50)
        told = [answer["score"] for answer in found["answers"]]
        np.testing.assert_allclose(told, best.values, rtol=1e-5, atol=1e-6)
        ids_told = [int(answer["name"][1:]) for answer in found["answers"]]
        np.testing.assert_allclose(scores[ids_told], best.values, rtol=1e-5, atol=1e-6)
        assert found["known"] is None and found["side"] == question.side
    if most:
        assert [answer_all([question])[0] for question in asked] == together


def test_scored_alone_is_scored_as_ever() -> None:
    shown = shown_model("ComplEx", 3000)
    pair = torch.arange(40), torch.arange(40) % shown.named.model.num_relations
    ours = questions._best_alone(shown.named.model, *pair, "tail", 10)
    for i in range(40):
        one = best_entities(shown.named.model, pair[0][i : i + 1], pair[1][i : i + 1], "tail", 10)
        assert torch.equal(one.scores[0], ours.scores[i])
        assert torch.equal(one.ids[0], ours.ids[i])


def test_other_ks_sides_and_models_do_not_mix(page: Page, town: Path) -> None:
    api = Api(page.gallery)
    models = page.gallery.given
    queries = [
        {"entity": [entity], "relation": [relation], "side": [side], "k": [k], "model": [model],
         "known": [known]}
        for entity, relation, side, k, model, known in itertools.product(
            PEOPLE[:3], RELATIONS, ("tail", "head"), ("1", "9"), models[:2], ("show", "hide")
        )
    ]  # fmt: skip
    asked = [api.question(query) for query in queries]
    bodies = page.gallery.in_turn(lambda: answer_all(asked))
    for query, body in zip(queries, bodies):
        found = json.loads(body)
        assert (found["entity"], found["relation"]) == (query["entity"][0], query["relation"][0])
        assert (found["side"], found["model"]) == (query["side"][0], query["model"][0])
        assert len(found["answers"]) <= int(query["k"][0])
        assert found == api.answer("answers", query)
        if query["known"] == ["hide"]:
            assert not any(answer["known"] for answer in found["answers"])


# --- scores that cannot be ranked -----------------------------------------------------------------


@pytest.fixture(params=[0, questions.ALONE])
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Both ways of scoring: many questions in one product, and each alone."""
    monkeypatch.setattr(questions, "ALONE", request.param)
    yield request.param


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused(
    town: Path, tmp_path: Path, value: float, way: int
) -> None:
    """Every question has Ada as a candidate; her vector is broken after the model is loaded."""
    made = town / "transe"
    with served(
        [str(town / "complex"), str(made)], store=tmp_path / "none", data_root=town / "data"
    ) as page:
        named = page.gallery.get(str(made)).named
        with torch.no_grad():
            named.model.encoder.weight[named.entities.id("Ada"), 0] = value
        for known in ("show", "hide"):
            target = f"/api/answers?entity=Ada&relation=runs&known={known}&model={made}"
            status, headers, body = page.request(target)
            assert status == 500
            assert headers["content-type"] == "application/json"
            told = json.loads(body)
            assert "not finite" in told["error"] and "\n" not in told["error"]
            assert b"NaN" not in body and b"Infinity" not in body
        assert page.request(f"/api/map?model={made}")[0] == 200
        assert page.get("answers", entity="Ada", relation="runs")["answers"]  # the other model


def test_one_question_that_cannot_be_ranked_costs_no_other(way: int, town: Path) -> None:
    shown = shown_model("DistMult")
    with torch.no_grad():
        shown.named.model.relation_weight[1] = 3e38
    asked = [Question(shown, 3, relation, "tail", 5, False) for relation in (0, 1, 2)]
    first, second, third = answer_all(asked)
    assert isinstance(second, Exception) and "(e3, r1, ?)" in str(second)
    assert isinstance(first, bytes) and isinstance(third, bytes)


# --- the description ------------------------------------------------------------------------------


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Return whether JSON fits a schema; of JSON Schema, the words that ours uses."""
    known = {"type", "items", "required", "properties", "minimum", "minItems", "maxItems", "enum"}
    assert set(schema) <= known, schema
    types: dict[str, Any] = {"string": str, "array": list, "object": dict, "null": type(None)}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    right = False
    for kind in kinds:
        if kind == "boolean":
            right |= isinstance(value, bool)
        elif kind in ("integer", "number"):
            numbers = int if kind == "integer" else (int, float)
            right |= isinstance(value, numbers) and not isinstance(value, bool)
        else:
            right |= isinstance(value, types[kind])
    if isinstance(value, list):
        right &= schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9)
        right &= all(fits(item, schema["items"]) for item in value)
    if isinstance(value, dict):
        right &= set(schema["required"]) == set(value) == set(schema["properties"])
        right &= all(fits(value[key], inner) for key, inner in schema["properties"].items())
    if isinstance(value, (int, float)) and "minimum" in schema:
        right &= value >= schema["minimum"]
    return bool(right and value in schema.get("enum", [value]))


def test_the_schema_reader_sees_what_does_not_fit() -> None:
    assert fits([1], {"type": "array", "items": {"type": "integer"}})
    assert not fits([1.5], {"type": "array", "items": {"type": "integer"}})
    assert not fits({"a": 1}, {"type": "object", "required": [], "properties": {}})
    assert not fits(True, {"type": ["number", "null"]})


def test_answers_are_as_the_description_says(page: Page, town: Path) -> None:
    status, headers, body = page.request("/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    told = json.loads(body)
    assert told == json.loads(json.dumps(description()))
    assert told["openapi"].startswith("3.1")
    questions_of: dict[str, list[dict[str, Any]]] = {
        name: [{}, {"model": str(town / "lost")}] for name in ROUTES if name != "models"
    }
    questions_of["models"] = [{}]
    questions_of["relations"].append({"entity": "Zoë", "side": "head"})
    questions_of["answers"] = [
        {**more, "entity": "Ada", "relation": "runs"} for more in questions_of["answers"]
    ]
    questions_of["explanation"] = [{"head": "Ada", "relation": "runs", "tail": "Zoë"}]
    for name, asked in questions_of.items():
        answer = told["paths"][f"/api/{name}"]["get"]["responses"]["200"]
        schema = answer["content"]["application/json"]["schema"]
        for parameters in asked:
            assert fits(page.get(name, **parameters), schema), (name, parameters)
    health = told["paths"]["/health"]["get"]["responses"]["200"]
    schema = health["content"]["application/json"]["schema"]
    assert fits(json.loads(page.request("/health")[2]), schema)
    mistake = told["components"]["schemas"]["Mistake"]
    refused = json.loads(page.request("/api/answers?entity=Adda&relation=runs")[2])
    assert refused["suggestions"] and set(refused) == set(mistake["required"])


def test_explanations_are_of_train_facts(page: Page, town: Path) -> None:
    asked = {"head": "Ada", "relation": "runs", "tail": "Zoë"}
    told = page.get("explanation", **asked, k=3)
    assert {told[part] for part in asked} == {"Ada", "runs", "Zoë"}
    assert told["facts"] and len(told["facts"]) <= 3
    for one in told["facts"]:
        assert one["fact"]["relation"] == "runs"
        assert (one["fact"]["head"], one["fact"]["tail"]) != ("Ada", "Zoë")
    address = "/api/explanation?head=Ada&relation=runs&tail="
    status, _, body = page.request(address + "Zo")
    assert status == 404 and json.loads(body)["field"] == "tail"
    status, _, body = page.request(address)
    assert status == 400 and json.loads(body)["error"] == "tail is missing"
    lost = quote(str(town / "lost"))
    status, _, body = page.request(f"{address}Ada&model={lost}")
    assert status == 400 and "dataset" in json.loads(body)["error"]


def test_every_route_is_described_and_every_parameter_taken(page: Page) -> None:
    paths = description()["paths"]
    for path in paths:
        assert page.request(path)[0] in (200, 400), path  # 400: a parameter is missing
    assert page.request("/api/answers")[0] == 400
    described = {path.rpartition("/")[2] for path in paths if path.startswith("/api/")}
    assert described == {"answers", *Api(page.gallery)._answers}
    for name in described:
        for parameter in paths[f"/api/{name}"]["get"]["parameters"]:
            key = parameter["name"]
            body = page.request(f"/api/{name}?{key}=x")[2]
            assert b"has no parameter" not in body, (name, key)
            most = parameter["schema"].get("maximum")
            if most:
                base = f"/api/{name}?entity=Ada&relation=runs&" if name == "answers" else ""
                if name == "explanation":
                    base = f"/api/{name}?head=Ada&relation=runs&tail=Ada&"
                base = base or f"/api/{name}?"
                assert page.request(f"{base}{key}={most}")[0] == 200
                assert page.request(f"{base}{key}={most + 1}")[0] == 400


def test_more_answers_than_entities_are_all(page: Page) -> None:
    entities = page.get("model")["entities"]
    found = page.get("answers", entity="Ada", relation="runs", k=1000)["answers"]
    assert len(found) == entities


def test_models_without_names_refuse_numbers_of_any_length(town: Path, tmp_path: Path) -> None:
    loaded = load_model(town / "complex")
    size = len(loaded.entities)
    plain = LoadedModel(loaded.model, loaded.config, Vocabulary(size=size), loaded.relations, {})
    gallery = Gallery([str(town / "complex")], store=tmp_path, threads=1)
    gallery._kept[str(town / "complex")] = Shown("plain", plain, FactShelf())
    api = Api(gallery)
    assert api.answer("answers", {"entity": ["3"], "relation": ["runs"]})["entity"] == "3"
    for name in ("9" * 5000, "-1", "٣", "3.0", "1e0", str(size)):
        with pytest.raises(questions.Refused, match="no entity") as refused:
            api.answer("answers", {"entity": [name], "relation": ["runs"]})
        assert refused.value.status == 404


def test_a_model_picked_later_is_asked_like_the_others(town: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", write_town(tmp_path / "facts"), "DistMult", 5)
    gallery = Gallery([str(town / "complex")], store=tmp_path / "none", threads=1)
    gallery.offered = [str(other)]
    api = Api(gallery)
    query = {"entity": ["Ada"], "relation": ["runs"], "model": [str(other)]}
    assert not api.at_hand(query)
    assert api.answer("answers", query)["model"] == str(other)
    assert api.at_hand(query)
