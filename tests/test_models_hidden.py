"""The hidden layer of RESCAL, RotE and RotH: its formula, what it asks for, and where it goes."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from model_formulas import (
    DIM,
    ENTITIES,
    RELATIONS,
    in_ball,
    make,
    moebius_sum,
    norm,
    some_triples,
)
from typer.testing import CliRunner

from dglke_distill.base.errors import UserError
from dglke_distill.cli.app import app
from dglke_distill.config import ModelConfig
from dglke_distill.models import build_model

HIDDEN = 5


@pytest.fixture(params=["RESCAL", "RotE", "RotH"])
def model(request):
    """A model in double precision with a hidden layer."""
    return make(request.param, {"hidden": HIDDEN}, reciprocal=True).double().eval()


def published(model, head: list[float], relation: list[float]) -> list[float]:
    """The query of the model as published, float by float."""
    name = type(model.score_function).__name__
    if name == "RESCAL":
        return [math.fsum(head[i] * relation[i * DIM + j] for i in range(DIM)) for j in range(DIM)]
    half = DIM // 2
    head = in_ball(head) if name == "RotH" else head
    numbers = [complex(*both) for both in zip(head[:half], head[half:])]
    turned = [x * cmath.exp(1j * p) for x, p in zip(numbers, relation[DIM : DIM + half])]
    floats = [x.real for x in turned] + [x.imag for x in turned]
    if name == "RotH":
        point = moebius_sum(in_ball(relation[:DIM]), floats)
        length = norm(point, "l2")
        return [x * 2 * math.atanh(length) / length for x in point]
    return [x + m for x, m in zip(floats, relation[:DIM])]


def by_hand(model, h: int, row: int, t: int) -> float:
    """The docstring's formula, float by float."""
    function = model.score_function
    head, tail = (model.entity_embeddings[entity].tolist() for entity in (h, t))
    relation = model.relation_embeddings[row].tolist()
    inner, outer = function.inner.tolist(), function.outer.tolist()
    query = published(model, head, relation)
    for k, bias in enumerate(relation[-HIDDEN:]):
        unit = max(0.0, math.fsum(w * x for w, x in zip(inner[k], head)) + bias)
        query = [x + unit * v for x, v in zip(query, outer[k])]
    if function.kernel == "dot":
        return math.fsum(x * y for x, y in zip(query, tail))
    if function.kernel == "hyperbolic_squared":
        apart = moebius_sum([-x for x in in_ball(query)], in_ball(tail))
        return -((2 * math.atanh(norm(apart, "l2"))) ** 2)
    return -math.fsum((x - y) ** 2 for x, y in zip(query, tail))


def test_scores_follow_the_formula_on_both_sides(model):
    with torch.no_grad():
        model.relation_embeddings[:, -HIDDEN:] += 0.3
    head, relation, tail = some_triples()
    scores = model.score_triples(head, relation, tail).detach()
    asked = model.score_all(head, relation, "tail").detach()
    back = model.score_all(tail, relation, "head").detach()
    for n, (h, r, t) in enumerate(zip(head.tolist(), relation.tolist(), tail.tolist())):
        right = by_hand(model, h, r, t)
        assert float(scores[n]) == pytest.approx(right, rel=1e-9, abs=1e-9)
        assert float(asked[n, t]) == pytest.approx(right, rel=1e-9, abs=1e-9)
        inverse = by_hand(model, t, r + RELATIONS, h)
        assert float(back[n, h]) == pytest.approx(inverse, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["rescal", "rote", "roth"])
def test_it_needs_reciprocal_relations(name):
    config = ModelConfig(name=name, dim=DIM, options={"hidden": HIDDEN})
    with pytest.raises(UserError, match=r"model\.reciprocal=true"):
        build_model(config, ENTITIES, RELATIONS)


def test_relations_of_rescal_start_from_bilinear_forms():
    model = make("RESCAL", {"hidden": HIDDEN}, reciprocal=True).double().eval()
    form = torch.arange(float(DIM * DIM), dtype=torch.float64).view(DIM, DIM)
    row = model.score_function.relation_of(form)
    assert row.shape == (model.score_function.relation_floats,)
    assert torch.equal(row[: DIM * DIM].view(DIM, DIM), form)
    assert not row[DIM * DIM :].any()


@pytest.mark.parametrize("name", ["RESCAL", "RotE"])
def test_the_command_line_trains_it_and_reads_it_back(tmp_path, name):
    out = tmp_path / "run"
    words = f"--model {name} --dim 8 --recipe none --epochs 1 --threads 1 --search none"
    words += " --set model.reciprocal=true --set model.options.hidden=16"
    run = CliRunner().invoke(app, ["train", "cldr", *words.split(), "--out", str(out)])
    assert run.exit_code == 0, run.output
    asked = ["predict", str(out), "--head", "Latvia", "--relation", "uses_currency", "-k", "2"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    export = ["export", str(out), "--out", str(tmp_path / "table"), "--format"]
    for format in ("npz", "onnx", "bundle"):
        export[3] = str(tmp_path / format)
        done = CliRunner().invoke(app, [*export, format])
        assert done.exit_code == 0, done.output
    size = 2 * (2 * 16 * 8 + 2 * 26 * 16)
    assert f"the hidden layer takes {size:,} bytes of it" in done.output
    export[3] = str(tmp_path / "folder")
    refused = CliRunner().invoke(app, [*export, "dglke"])
    assert str(refused.exception).removeprefix("--") == (  # options are named in commands alone
        f"format dglke: {name} has weights that all relations share with these options, which "
        "DGL-KE has no place for; export it as npz, onnx or bundle"
    )
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("format", ["onnx", "bundle"])
def test_in_hyperbolic_space_it_goes_into_npz_alone(tmp_path, format):
    out = tmp_path / "run"
    words = "--model RotH --dim 8 --recipe none --epochs 1 --threads 1 --search none"
    words += " --set model.reciprocal=true --set model.options.hidden=16"
    run = CliRunner().invoke(app, ["train", "cldr", *words.split(), "--out", str(out)])
    assert run.exit_code == 0, run.output
    export = ["export", str(out), "--out", str(tmp_path / "table"), "--format"]
    refused = CliRunner().invoke(app, [*export, format])
    assert str(refused.exception).endswith("export it as npz")
    assert not (tmp_path / "table").exists()
    assert CliRunner().invoke(app, [*export, "npz"]).exit_code == 0
