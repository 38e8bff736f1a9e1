"""Link prediction as an ONNX graph: ids in, the best answers and their scores out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.data.triples import Side
from dglke_distill.interop.base import (
    Array,
    ExportFormat,
    as_float32,
    entity_bias,
    entity_labels,
    entity_table,
)
from dglke_distill.interop.query_forms import AffineMap, point_forms, query_forms
from dglke_distill.kernels.hyperbolic import point_of, time_of
from dglke_distill.models.score_function import HiddenLayer

_OPSET = 17
_LARGEST = 2_000_000_000  # of a protobuf message, which an ONNX file is


class ONNXGraph(ExportFormat):
    """One file that any ONNX runtime answers queries with.

    Inputs: ``entity`` (b,) int64, the known entities; ``relation`` (b,) int64, r to ask
    (entity, r, ?) and r + number of relations to ask (?, r, entity); ``k`` (1,) int64, at
    most all entities are returned; and, if wanted, ``candidates`` (entities,) bool, who may answer:
    without it, every entity.
    Outputs: ``ids`` (b, k) int64 and ``scores`` (b, k) float32, the best first, known answers not
    taken out; where fewer than k may answer, the last scores are minus infinity. The names stand in
    the metadata ``entities`` and ``relations``, JSON lists in id order; so do ``labels`` of the
    entities, empty where one has none, where there are any.

    Distances are computed from differences, (b, entities, dim) at once, so large graphs are best
    asked a few queries at a time.
    """

    name = "onnx"
    begins = rb".{0,16}dglke_distill"
    about = "top-k link prediction as an ONNX graph"
    requires = ("onnx",)

    def write(self, loaded: LoadedModel, options: Any, place: Path) -> None:
        """Write the graph."""
        import onnx

        model = _build(loaded)
        if model.ByteSize() > _LARGEST:
            raise UserError(
                f"--format onnx: the graph has {model.ByteSize() >> 20} MiB, more than an ONNX "
                "file can hold; export a smaller model, or as bundle"
            )
        onnx.checker.check_model(model)
        place.write_bytes(model.SerializeToString())


class _Graph:
    """Nodes and constants under construction; every method returns the name of a tensor."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Array) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def axes(self, *axes: int) -> str:
        return self.constant(np.array(axes, dtype=np.int64))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def halves(self, vectors: str) -> tuple[str, str]:
        from onnx import helper

        names = [f"value{len(self.nodes)}{half}" for half in ("first", "second")]
        self.nodes.append(helper.make_node("Split", [vectors], names, axis=2))
        return names[0], names[1]


def _build(loaded: LoadedModel) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    graph = _Graph()
    hyperbolic = loaded.model.score_function.kernel == "hyperbolic_squared"
    scores = _hyperbolic(graph, loaded) if hyperbolic else _flat(graph, loaded)
    bias = entity_bias(loaded)
    if bias is not None:
        scores = graph.node("Add", scores, graph.constant(as_float32(bias)))
    everyone = np.ones(len(loaded.entities), np.bool_)
    # A constant of an input's name is its default.
    graph.constants.append(numpy_helper.from_array(everyone, "candidates"))
    nobody = graph.constant(np.array(-np.inf, np.float32))
    scores = graph.node("Where", "candidates", scores, nobody)
    count = graph.node("Min", "k", graph.constant(np.array([len(loaded.entities)], np.int64)))
    graph.nodes.append(helper.make_node("TopK", [scores, count], ["scores", "ids"], axis=1))

    def port(name: str, kind: int, *shape: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, list(shape))

    whole, number = TensorProto.INT64, TensorProto.FLOAT
    inputs = [port("entity", whole, "b"), port("relation", whole, "b"), port("k", whole, 1)]
    inputs.append(port("candidates", TensorProto.BOOL, len(loaded.entities)))
    outputs = [port("ids", whole, "b", "answers"), port("scores", number, "b", "answers")]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "link_prediction", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="dglke_distill",
        doc_string=ONNXGraph.__doc__ or "",
        ir_version=8,
    )
    about = {
        "model": loaded.config.model.name,
        "dataset": loaded.dataset_name,
        "entities": json.dumps(list(loaded.entities), ensure_ascii=False),
        "relations": json.dumps(list(loaded.relations), ensure_ascii=False),
    }
    labels = entity_labels(loaded)
    if labels is not None:
        about["labels"] = json.dumps(labels, ensure_ascii=False)
    helper.set_model_props(model, about)
    return model


def _flat(graph: _Graph, loaded: LoadedModel) -> str:
    """Score every entity: (b, entities)."""
    forms = query_forms(loaded.model)
    entities = graph.constant(as_float32(entity_table(loaded)))
    known = graph.node("Unsqueeze", graph.node("Gather", entities, "entity"), graph.axes(1))
    query = _mapped(graph, _both(forms.query), known)
    if forms.hidden is not None:
        query = graph.node("Add", query, _layer(graph, forms.hidden, known))
    if forms.candidate is None:
        candidates = entities
    else:  # one set of candidates per query: (1, entities, dim) to (b, entities, dim)
        shared = graph.node("Unsqueeze", entities, graph.axes(0))
        candidates = _mapped(graph, _both(forms.candidate), shared)
    return _compared(graph, forms.kernel, query, candidates, forms.candidate is None)


def _hyperbolic(graph: _Graph, loaded: LoadedModel) -> str:
    """Score every entity by squared distance on the hyperboloid: (b, entities)."""
    weights = _both(point_forms(loaded.model))
    points = point_of(torch.from_numpy(entity_table(loaded)).double())
    entities = graph.constant(as_float32(points.numpy()))
    when = as_float32(time_of(points).numpy())
    times = graph.constant(when)
    one, four = (graph.constant(np.array([number], np.float32)) for number in (1, 4))
    last = graph.axes(2)
    known = graph.node("Unsqueeze", graph.node("Gather", entities, "entity"), graph.axes(1))
    time = graph.node("Unsqueeze", graph.node("Gather", times, "entity"), graph.axes(1))
    matrix, shift = (
        graph.node("Gather", graph.constant(weights[part]), "relation")
        for part in ("matrix", "shift")
    )
    moved = graph.node("Mul", time, graph.node("Unsqueeze", shift, graph.axes(1)))
    query = graph.node("Add", graph.node("MatMul", known, matrix), moved)  # (b, 1, dim)
    squares = graph.node("ReduceSum", graph.node("Mul", query, query), last, keepdims=1)
    time = graph.node("Sqrt", graph.node("Add", squares, one))
    apart = graph.node("Sub", query, entities)
    spread = graph.node("ReduceSum", graph.node("Mul", apart, apart), last, keepdims=0)
    later = graph.node("Sub", graph.node("Squeeze", time, last), graph.constant(when.T))
    half = graph.node("Sub", spread, graph.node("Mul", later, later))
    root = graph.node("Sqrt", graph.node("Relu", graph.node("Div", half, four)))
    length = graph.node("Asinh", root)
    scale = np.array([-4.0 * loaded.model.score_function.score_scale], np.float32)
    return graph.node("Mul", graph.node("Mul", length, length), graph.constant(scale))


def _both(maps: Mapping[Side, AffineMap]) -> dict[str, Array]:
    """Return the coefficients of both sides below each other: tail queries, then head queries."""
    tail, head = maps["tail"], maps["head"]
    return {
        name: as_float32(torch.cat([getattr(tail, name), getattr(head, name)]).numpy())
        for name in AffineMap._fields
        if getattr(tail, name) is not None
    }


def _mapped(graph: _Graph, weights: Mapping[str, Array], vectors: str) -> str:
    """Map vectors, (b, 1, dim) or (1, entities, dim), by the relation of each query."""

    def rows(name: str) -> Optional[str]:
        if not weights[name].any():
            return None
        gathered = graph.node("Gather", graph.constant(weights[name]), "relation")
        return graph.node("Unsqueeze", gathered, graph.axes(1))

    terms = []
    if "matrix" in weights:
        matrices = graph.constant(weights["matrix"])
        terms.append(graph.node("MatMul", vectors, graph.node("Gather", matrices, "relation")))
    else:
        scale, cross = rows("scale"), rows("cross")
        if scale is not None:
            terms.append(graph.node("Mul", vectors, scale))
        if cross is not None:
            first, second = graph.halves(vectors)
            swapped = graph.node("Concat", second, first, axis=2)
            terms.append(graph.node("Mul", swapped, cross))
    shift = rows("shift")
    if shift is not None:
        terms.append(shift)
    if not terms:  # a model whose relations are all zero
        terms.append(graph.node("Mul", vectors, graph.constant(np.zeros(1, np.float32))))
    total = terms[0]
    for term in terms[1:]:
        total = graph.node("Add", total, term)
    return total


def _layer(graph: _Graph, layers: Mapping[Side, HiddenLayer], vectors: str) -> str:
    """Pass the known entities (b, 1, dim) through the hidden layer: (b, 1, d_q)."""
    tail, head = layers["tail"], layers["head"]
    inner = graph.constant(as_float32(tail.inner.T.numpy()))
    outer = graph.constant(as_float32(tail.outer.numpy()))
    biases = graph.constant(as_float32(torch.cat([tail.bias, head.bias]).numpy()))
    bias = graph.node("Unsqueeze", graph.node("Gather", biases, "relation"), graph.axes(1))
    units = graph.node("Relu", graph.node("Add", graph.node("MatMul", vectors, inner), bias))
    return graph.node("MatMul", units, outer)


def _compared(graph: _Graph, kernel: str, query: str, candidates: str, shared: bool) -> str:
    """Score queries (b, 1, d) with candidates, (entities, d) shared or (b, entities, d) their own.

    The kernels are those of ``models.kernels.reference``.
    """
    if kernel == "dot" and shared:
        return graph.node("Gemm", graph.node("Squeeze", query, graph.axes(1)), candidates, transB=1)
    last = graph.axes(2)
    if kernel == "dot":
        product = graph.node("Mul", query, candidates)
        return graph.node("ReduceSum", product, last, keepdims=0)
    difference = graph.node("Sub", query, candidates)
    if kernel == "l1":
        parts = graph.node("Abs", difference)
        distance = graph.node("ReduceSum", parts, last, keepdims=0)
    else:
        squares = graph.node("Mul", difference, difference)
        if kernel in ("l2", "l2_squared"):
            distance = graph.node("ReduceSum", squares, last, keepdims=0)
            if kernel == "l2":
                distance = graph.node("Sqrt", distance)
        else:
            moduli = graph.node("Sqrt", graph.node("Add", *graph.halves(squares)))
            distance = graph.node("ReduceSum", moduli, last, keepdims=0)
    return graph.node("Neg", distance)
