"""Names, sizes, initial values and what models hand out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from model_formulas import (
    DIM,
    ENTITIES,
    RELATIONS,
    every_model,
    every_variant,
    make,
    one_thread,  # noqa: F401 (a fixture)
    some_triples,
)

from dglke_distill.base.errors import UserError
from dglke_distill.config import ModelConfig
from dglke_distill.data.triples import SIDES
from dglke_distill.models import SCORE_FUNCTIONS, build_model, canonical_name
from dglke_distill.models.autosf_structures import STRUCTURES, read_structure

close = pytest.approx


def test_normalised_models_ignore_the_length_of_entities():
    for name, options in (("TransE", {"normalize": True}), ("PairRE", {}), ("TripleRE", {})):
        model = make(name, options)
        before = model.score_all(*some_triples()[:2], "tail")
        with torch.no_grad():
            model.encoder.weight *= torch.rand(ENTITIES, 1) + 0.5
        torch.testing.assert_close(model.score_all(*some_triples()[:2], "tail"), before)


@every_model
def test_floats_that_cannot_be_split_are_refused_by_the_models_own_name(name: str) -> None:
    for dim in (1, 3, 5):
        try:
            build_model(ModelConfig(name=name, dim=dim), 4, 2)
        except UserError as error:
            assert str(error).startswith((f"model.dim: {name} ", f"model.dim={dim} ")), error


# --- tables -------------------------------------------------------------------------------------


@every_variant
def test_reset_is_a_function_of_the_seed_and_of_the_scale(name, options):
    config = ModelConfig(name=name, dim=32, options=options)
    tables = []
    for seed, scale in ((3, None), (3, None), (4, None), (3, 0.25)):
        model = build_model(config, 400, 5)
        model.reset(seed, scale)
        tables.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
        assert torch.isfinite(tables[-1]).all() and model.encoder.weight.std() > 0
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])
    spread = model.encoder.weight.detach()
    assert 0.2 < spread.abs().max() < 1.5 and 0.1 < spread.std() < 0.3


def test_rotations_start_all_round_the_circle_whatever_the_scale():
    model = build_model(ModelConfig(name="RotatE", dim=64), 5, 100)
    model.reset(0, 1e-3)
    phases = model.relation_weight.detach()
    assert phases.shape == (100, 32)
    assert phases.abs().max() <= math.pi
    assert phases.std().item() == close(math.pi / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("relation_dim", [4, 6, 9])
def test_transr_starts_as_a_translation(relation_dim):
    model = build_model(
        ModelConfig(name="TransR", dim=6, options={"relation_dim": relation_dim}), 5, 2
    )
    model.reset(0)
    row = model.relation_weight[1].detach()
    assert torch.equal(row[relation_dim:].view(6, relation_dim), torch.eye(6, relation_dim))
    assert 0 < row[:relation_dim].abs().max() < 11 / 6


@pytest.mark.parametrize("name", ["ComplEx", "RotatE"])
def test_magnitudes_of_complex_models_are_moduli(name):
    model = make(name)
    weight = model.encoder.weight.detach()
    moduli = torch.complex(*weight.chunk(2, dim=-1)).abs()
    torch.testing.assert_close(model.score_function.squared_magnitudes(weight), moduli.square())


def test_magnitudes_of_rotations_are_one_and_of_real_models_squares():
    rotate, distmult = make("RotatE"), make("DistMult")
    magnitudes = rotate.score_function.squared_magnitudes(rotate.relation_weight)
    assert torch.equal(magnitudes, torch.ones(RELATIONS, DIM // 2, dtype=torch.float64))
    weight = distmult.encoder.weight.detach()
    assert torch.equal(distmult.score_function.squared_magnitudes(weight), weight * weight)


@pytest.mark.parametrize(
    ("name", "floats"),
    [
        ("TransE", DIM),
        ("RotatE", DIM // 2),
        ("SimplE", DIM),
        ("RESCAL", DIM * DIM),
        ("TransR", DIM + DIM * DIM),
        ("PairRE", 2 * DIM),
        ("TripleRE", 3 * DIM),
        ("AutoSF", DIM),
    ],
)
def test_floats_are_counted_as_stored(name, floats):
    model = make(name, reciprocal=True, entity_bias=True)
    assert model.relation_weight.shape == (2 * RELATIONS, floats)
    assert model.floats_per_entity == DIM + 1
    assert model.bytes_per_entity == 8 * (DIM + 1)


def test_frozen_entities_are_encoded_once_and_contexts_nest():
    model = make("TransE")
    query = some_triples()[:2]
    before = model.score_all(*query, "tail")
    with model.frozen() as outer:
        with model.frozen() as inner:
            assert inner is outer
        assert model.encode() is outer
        assert torch.equal(model.score_all(*query, "tail"), before)
    with torch.no_grad():
        model.encoder.weight.mul_(2)
    assert not torch.equal(model.score_all(*query, "tail"), before)


def test_embeddings_are_handed_out_detached():
    model = make("PairRE", reciprocal=True)
    assert model.entity_embeddings.shape == (ENTITIES, DIM)
    assert not model.entity_embeddings.requires_grad
    lengths = model.entity_embeddings.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(ENTITIES, dtype=torch.float64))
    assert model.relation_embeddings.shape == (2 * RELATIONS, 2 * DIM)
    assert not model.relation_embeddings.requires_grad


def test_structures_that_leave_nothing_out_are_not_degenerate_and_rank_decides():
    """A repeated row of relation blocks is degenerate though no row or column is empty."""
    for name in STRUCTURES:
        assert len(read_structure(name)) >= 4
    repeated = [0, 0, 2, 3, 0, 0, 1, 1, 1, 1, 1, 1]  # both columns: r_0 h_0 + r_1 h_1
    with pytest.raises(UserError, match="degenerate"):
        read_structure(repeated)
    repeated[-1] = -1
    assert len(read_structure(repeated)) == 6


# --- names and mistakes -------------------------------------------------------------------------


@every_model
def test_names_are_found_in_any_letter_case(name):
    for spelled in (name, name.lower(), name.upper(), name.swapcase()):
        assert canonical_name(spelled) == name
        assert isinstance(make(spelled).score_function, SCORE_FUNCTIONS[name])


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"name": "complx"}, ["model.name", "'complx'", "ComplEx"]),
        ({"name": "zzz"}, ["model.name", "'zzz'", *SCORE_FUNCTIONS]),
        ({"encoder": "neighbour"}, ["model.encoder", "neighbor"]),
        ({"name": "ComplEx", "dim": 7}, ["model.dim", "7", "8"]),
        ({"name": "RotatE", "dim": 1}, ["model.dim", "1", "2"]),
        ({"name": "SimplE", "dim": 33}, ["model.dim", "33", "34"]),
        ({"name": "AutoSF", "dim": 34}, ["model.dim", "34", "36"]),
        ({"name": "AutoSF", "options": {"structure": "wn"}}, ["structure 'wn'", "wn18rr"]),
        ({"name": "AutoSF", "options": {"structure": [0, 1, 2]}}, ["structure has 3 numbers"]),
        ({"name": "AutoSF", "options": {"structure": [0, 1, 2, 4]}}, ["[3, 3, 4, 1] is no term"]),
        (
            {"name": "AutoSF", "options": {"structure": [0, 1, 2, 3, 0, 1, 3, 0]}},
            ["[0, 1, 3, 0] is no term", "the sign is 1 or -1"],
        ),
        (
            {"name": "AutoSF", "options": {"structure": [0, 1, 2, 3, 1, 2, 2, 1]}},
            ["head block 2 meets tail block 2 twice"],
        ),
        ({"name": "AutoSF", "options": {"structure": [0, 1, 2, 2]}}, ["degenerate", "rank 3 of 4"]),
        ({"name": "TripleRE", "options": {"version": "v3"}}, ["model.options", "version", "'v3'"]),
        ({"name": "TransE", "options": {"nrm": "l1"}}, ["model.options", "TransE", "'norm'"]),
        ({"name": "TransE", "options": {"norm": "l3"}}, ["model.options", "norm", "'l3'"]),
        ({"name": "TransR", "options": {"relation_dim": 0}}, ["model.options", "relation_dim"]),
        ({"name": "DistMult", "options": {"norm": "l1"}}, ["model.options", "DistMult", "norm"]),
        ({"encoder_options": {"layers": 2}}, ["model.encoder_options", "lookup", "layers"]),
    ],
)
def test_mistakes_are_named(settings, parts):
    with pytest.raises(UserError) as caught:
        build_model(ModelConfig(**settings), ENTITIES, RELATIONS)
    for part in parts:
        assert part in str(caught.value)


def test_a_loss_of_precision_between_float32_and_float64_is_only_rounding():
    for name in SCORE_FUNCTIONS:
        double = make(name, dim=16)
        single = build_model(ModelConfig(name=name, dim=16), ENTITIES, RELATIONS, torch.float32)
        single.load_state_dict(double.state_dict())
        entity, relation, _ = some_triples()
        for side in SIDES:
            np.testing.assert_allclose(
                single.score_all(entity, relation, side).numpy(),
                double.score_all(entity, relation, side).numpy(),
                rtol=2e-5,
                atol=2e-5,
            )
