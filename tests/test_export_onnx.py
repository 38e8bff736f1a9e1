from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_fixtures import (
    NAMES,
    ONE_SIDED,
    RELATION_NAMES,
    every_affine_variant,
    every_model_of_maps_and_setting,
    loaded_model,
    queries,
)
from model_formulas import DIM, ENTITIES, RELATIONS, make, one_thread  # noqa: F401
from torch import nn

from dglke_distill.base.errors import UserError
from dglke_distill.interop import export_model, onnx_graph, query_forms
from dglke_distill.interop.query_forms import swap
from dglke_distill.models.base import KGEModel

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def answers(path: Path, entity: Any, relation: Any, k: int) -> tuple[Any, Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {
        "entity": np.asarray(entity, dtype=np.int64),
        "relation": np.asarray(relation, dtype=np.int64),
        "k": np.array([k], dtype=np.int64),
    }
    ids, scores = session.run(["ids", "scores"], feed)
    return ids, scores


@every_model_of_maps_and_setting
def test_the_graph_answers_as_the_model(
    tmp_path: Path, name: str, options: Any, settings: Any
) -> None:
    loaded = loaded_model(name, options, **settings)
    path = export_model(loaded, "onnx", tmp_path / "model.onnx")
    entity, relation = queries()
    for side, shift in (("tail", 0), ("head", RELATIONS)):
        ids, scores = answers(path, entity, relation + shift, ENTITIES)
        ours = loaded.model.score_all(entity, relation, side).numpy()
        assert ids.dtype == np.int64
        np.testing.assert_array_equal(np.sort(ids, axis=1), np.tile(np.arange(ENTITIES), (33, 1)))
        np.testing.assert_allclose(
            scores, np.take_along_axis(ours, ids, axis=1), rtol=1e-4, atol=2e-5
        )
        assert (np.diff(scores, axis=1) <= 0).all()


def test_k_is_asked_for_and_names_are_inside(tmp_path: Path) -> None:
    import onnx

    loaded = loaded_model("ComplEx", reciprocal=True)
    path = export_model(loaded, "onnx", tmp_path / "model.onnx")
    best = loaded.model.score_all(torch.tensor([3]), torch.tensor([1]), "head")[0].topk(4)
    ids, scores = answers(path, [3], [1 + RELATIONS], 4)
    assert ids[0].tolist() == best.indices.tolist()
    np.testing.assert_allclose(scores[0], best.values, rtol=1e-5)
    about = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert json.loads(about["entities"]) == list(NAMES)
    assert json.loads(about["relations"]) == list(RELATION_NAMES)


def test_a_graph_too_large_for_the_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "_LARGEST", 1000)
    with pytest.raises(UserError, match="more than an ONNX file can hold"):
        export_model(loaded_model("TransE"), "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def check_queries(model: KGEModel, forms: query_forms.QueryForms) -> None:
    """Hold the queries of forms against the model's own, of both sides."""
    entity, relation = queries()
    encoded = model.encode(None)
    for side in ("head", "tail"):
        want = model.query(encoded, entity, relation, side).vectors
        have = forms.queries(encoded.vectors[entity], relation, side)
        torch.testing.assert_close(have, want)


@pytest.mark.parametrize(("name", "options"), ONE_SIDED)
def test_query_forms_of_one_sided_models(name: str, options: Any) -> None:
    model = loaded_model(name, options, dtype="float64", reciprocal=True).model
    forms = query_forms.query_forms(model)
    assert (forms.hidden is None) == ("hidden" not in options)
    check_queries(model, forms)


@every_affine_variant
def test_query_forms_are_the_models_queries(name: str, options: Any) -> None:
    model = make(name, options, reciprocal=True)
    forms = query_forms.query_forms(model)
    check_queries(model, forms)
    assert (forms.query["head"].matrix is None) == keeps_coordinates(model)


def keeps_coordinates(model: KGEModel) -> bool:
    """Whether a coordinate of a query depends on its own and its counterpart in the other half."""
    function, dim = model.score_function, model.score_function.dim
    row = model.relation_embeddings[model.num_relations :][:1]
    row = row if function.by_relation else row.expand(dim, -1)
    unit = torch.eye(dim, dtype=row.dtype)
    slope = function.whole_query(unit, row, "tail") - function.whole_query(0 * unit, row, "tail")
    return slope.shape == unit.shape and not bool(slope[(unit + swap(unit)) == 0].abs().max() > 0)


def test_halves_are_exchanged() -> None:
    assert swap(torch.arange(6.0)[None]).tolist() == [[3, 4, 5, 0, 1, 2]]
    assert swap(torch.arange(3.0)[None]).tolist() == [[0, 1, 2]]


def test_a_query_that_bends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loaded_model("DistMult")
    monkeypatch.setattr(
        type(loaded.model.score_function),
        "query",
        lambda self, entity, relation, side: nn.functional.silu(entity * relation),
    )
    for format in ("onnx", "bundle"):
        with pytest.raises(UserError, match="DistMult: its queries are no affine maps"):
            export_model(loaded, format, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bundles_refuse_hyperbolic_models(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"RotH: its queries are no affine maps.* npz or onnx$"):
        export_model(loaded_model("RotH"), "bundle", tmp_path / "out")
    with pytest.raises(UserError, match="a multiple of a distance"):
        export_model(loaded_model("RotH", {"curvature": 0.5}), "bundle", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", [{}, {"reciprocal": True}, {"entity_bias": True}])
@pytest.mark.parametrize("curvature", [1.0, 0.2])
def test_the_graph_of_a_hyperbolic_model_answers_as_it(
    tmp_path: Path, curvature: float, settings: dict[str, bool]
) -> None:
    loaded = loaded_model("RotH", {"curvature": curvature}, **settings)
    path = export_model(loaded, "onnx", tmp_path / "model.onnx")
    # In double precision: float32 loses digits on either side where points are far apart.
    exact = loaded_model("RotH", {"curvature": curvature}, dtype="float64", **settings).model
    exact.load_state_dict({name: w.double() for name, w in loaded.model.state_dict().items()})
    entity, relation = queries()
    for side, shift in (("tail", 0), ("head", RELATIONS)):
        ids, scores = answers(path, entity, relation + shift, ENTITIES)
        ours = exact.score_all(entity, relation, side).numpy()
        want = np.take_along_axis(ours, ids, axis=1)
        np.testing.assert_allclose(scores, want, rtol=1e-3, atol=1e-3)
        assert (np.diff(scores, axis=1) <= 0).all()


def test_a_hyperbolic_model_that_bends_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model("RotH")
    function = type(loaded.model.score_function)
    monkeypatch.setattr(function, "query", lambda self, entity, relation, side: entity.sin())
    with pytest.raises(UserError, match="RotH: its relations do not move points"):
        export_model(loaded, "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_matrices_beyond_reason_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_forms, "_LARGEST", 4 * RELATIONS * DIM * DIM - 1)
    export_model(loaded_model("ComplEx"), "onnx", tmp_path / "small")
    with pytest.raises(UserError, match=f"RESCAL with {DIM} floats per entity needs"):
        export_model(loaded_model("RESCAL"), "onnx", tmp_path / "out")
