"""What is known of each model: PyKEEN's scores, and the algebra of its paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from model_formulas import (
    hol_e,
    make,
    one_score,
    one_thread,  # noqa: F401 (a fixture)
    some_triples,
    vectors,
)

from dglke_distill.data.triples import SIDES

# --- an independent implementation --------------------------------------------------------------

# Head, relation and tail block, and sign of each term.
AUTO_SF = {
    "fb15k237": [(0, 0, 2, 1), (1, 1, 1, 1), (2, 2, 3, 1), (3, 3, 0, 1)],
    "ogbl-biokg": [(0, 0, 0, 1), (1, 1, 1, 1), (2, 2, 2, 1), (3, 3, 3, 1), (0, 0, 1, 1)],
    "fb15k": [(0, 0, 3, 1), (1, 1, 2, 1), (2, 2, 1, 1), (3, 3, 0, 1), (0, 1, 1, 1), (1, 2, 0, 1)],
}


def pykeen_score(name: str, options: dict[str, Any], h, r, t) -> torch.Tensor:
    """Score rows of vectors (b, dim), (b, relation_floats), (b, dim) with PyKEEN's interactions."""
    from pykeen.nn import modules

    def parts(vectors):
        return torch.complex(*vectors.chunk(2, dim=-1))

    if name == "TransE":
        return modules.TransEInteraction(p=1 if options.get("norm", "l1") == "l1" else 2)(h, r, t)
    if name == "DistMult":
        return modules.DistMultInteraction()(h, r, t)
    if name == "ComplEx":
        return modules.ComplExInteraction()(parts(h), parts(r), parts(t))
    if name == "SimplE":
        # PyKEEN pairs first with first: the tail's roles are handed over the other way round.
        head, relation, tail = h.chunk(2, -1), r.chunk(2, -1), t.chunk(2, -1)
        return modules.SimplEInteraction()(head, relation, tail[::-1])
    if name == "RotatE":
        # PyKEEN takes the L2 norm over coordinates where the paper's code sums their moduli: the
        # two agree on each coordinate alone.
        rotation = torch.polar(torch.ones_like(r), r)
        each = modules.RotatEInteraction()(
            *(vectors.unsqueeze(-1) for vectors in (parts(h), rotation, parts(t)))
        )
        return each.sum(-1)
    if name == "RESCAL":
        return modules.RESCALInteraction()(h, r.view(-1, h.shape[1], h.shape[1]), t)
    if name == "HolE":
        return modules.HolEInteraction()(h, r, t)
    if name == "TransR":
        k = options.get("relation_dim") or h.shape[1]
        interaction = modules.TransRInteraction(
            p=1 if options.get("norm", "l1") == "l1" else 2,
            power_norm=False,
            max_projection_norm=1e9,
        )
        return interaction(h, (r[:, :k], r[:, k:].view(-1, h.shape[1], k)), t)
    if name == "PairRE":
        return modules.PairREInteraction(p=1, power_norm=False)(h, r.chunk(2, -1), t)
    if name == "TripleRE":
        u = None if options.get("version") == "v1" else options.get("u", 1.0)
        return modules.TripleREInteraction(u=u)(h, r.chunk(3, -1), t)
    if name == "AutoSF":
        blocks = (vectors.chunk(4, -1) for vectors in (h, r, t))
        # Not its from_searched_sf, which takes the first four numbers for blocks of the relation.
        return modules.AutoSFInteraction(AUTO_SF[options["structure"]])(*blocks)
    raise NotImplementedError(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("TransE", {}),
        ("TransE", {"norm": "l2"}),
        ("DistMult", {}),
        ("ComplEx", {}),
        ("SimplE", {}),
        ("RotatE", {}),
        ("RESCAL", {}),
        ("HolE", {}),
        ("TransR", {"relation_dim": 5}),
        ("TransR", {"norm": "l2"}),
        ("PairRE", {"normalize": False}),
        ("TripleRE", {"normalize": False, "u": 0.4}),
        ("TripleRE", {"normalize": False, "version": "v1"}),
        *(("AutoSF", {"structure": name}) for name in AUTO_SF),
    ],
)
def test_agrees_with_pykeen(name, options):
    model = make(name, options, dim=16)
    head, relation, tail = some_triples()
    with torch.no_grad():
        weight = model.encoder.weight
        expected = pykeen_score(
            name, options, weight[head], model.relation_weight[relation], weight[tail]
        )
        torch.testing.assert_close(model.score_triples(head, relation, tail), expected)


# --- what each model is known for ---------------------------------------------------------------

quickly = hypothesis_settings(max_examples=40, deadline=None)
close = pytest.approx


@quickly
@given(vectors(6, 4), st.sampled_from(["l1", "l2"]), st.sampled_from(SIDES))
def test_transe_does_not_change_when_everything_is_moved(rows, norm_name, side):
    h, r, t, shift = rows
    options = {"norm": norm_name}
    moved = one_score("TransE", h + shift, r, t + shift, options, side)
    assert moved == close(one_score("TransE", h, r, t, options, side), abs=1e-9)
    assert one_score("TransE", h, t - h, t, options, side) == close(0.0, abs=1e-9)


@quickly
@given(vectors(6, 3), st.sampled_from(SIDES))
def test_distmult_is_symmetric(rows, side):
    h, r, t = rows
    assert one_score("DistMult", h, r, t, side=side) == close(
        one_score("DistMult", t, r, h, side=side), abs=1e-9
    )


@quickly
@given(vectors(6, 3), st.sampled_from(SIDES))
def test_complex_is_symmetric_in_the_real_and_antisymmetric_in_the_imaginary_part(rows, side):
    h, r, t = rows
    real, imaginary = r.clone(), r.clone()
    real[3:], imaginary[:3] = 0, 0
    for relation, sign in ((real, 1), (imaginary, -1)):
        swapped = sign * one_score("ComplEx", t, relation, h, side=side)
        assert one_score("ComplEx", h, relation, t, side=side) == close(swapped, abs=1e-9)
    conjugate = r * torch.tensor([1, 1, 1, -1, -1, -1])
    assert one_score("ComplEx", h, r, t, side=side) == close(
        one_score("ComplEx", t, conjugate, h, side=side), abs=1e-9
    )


@quickly
@given(vectors(6, 3), st.sampled_from(SIDES))
def test_simple_with_swapped_relation_halves_is_the_inverse_relation(rows, side):
    h, r, t = rows
    inverse = torch.cat([r[3:], r[:3]])
    assert one_score("SimplE", h, r, t, side=side) == close(
        one_score("SimplE", t, inverse, h, side=side), abs=1e-9
    )


@quickly
@given(vectors(6, 2), vectors(3, 2), st.sampled_from(SIDES))
def test_rotate_inverts_and_composes(rows, phases, side):
    (h, t), (first, second) = rows, phases
    score = one_score("RotatE", h, first, t, side=side)
    assert score == close(one_score("RotatE", t, -first, h, side=side), abs=1e-9)
    assert score == close(one_score("RotatE", h, first + 2 * math.pi, t, side=side), abs=1e-9)
    turned = torch.view_as_real(
        torch.complex(h[:3], h[3:]) * torch.polar(torch.ones(3).double(), first)
    )
    halfway = torch.cat([turned[:, 0], turned[:, 1]])
    assert one_score("RotatE", halfway, second, t, side=side) == close(
        one_score("RotatE", h, first + second, t, side=side), abs=1e-9
    )


@quickly
@given(st.integers(1, 9).flatmap(lambda d: vectors(d, 3)), st.sampled_from(SIDES))
def test_hole_is_the_explicit_double_sum(rows, side):
    h, r, t = rows
    assert one_score("HolE", h, r, t, side=side) == close(
        hol_e(h.tolist(), r.tolist(), t.tolist()), abs=1e-6
    )


@quickly
@given(vectors(8, 3), st.sampled_from(SIDES))
def test_autosf_holds_other_bilinear_models(rows, side):
    """The structures by which its authors' searched_SFs.txt writes them."""
    h, r, t = rows
    conjugate = torch.cat([r[:4], -r[4:]])
    complex_blocks = [0, 1, 0, 1, 0, 2, 2, 1, 1, 3, 3, 1, 2, 0, 2, -1, 3, 1, 3, -1]
    for structure, expected in (
        ([0, 1, 2, 3], one_score("DistMult", h, r, t, side=side)),
        ([2, 3, 0, 1], 2 * one_score("SimplE", h, r, t, side=side)),
        (complex_blocks, one_score("ComplEx", h, conjugate, t, side=side)),
    ):
        got = one_score("AutoSF", h, r, t, {"structure": structure}, side)
        assert got == close(expected, abs=1e-9)


@quickly
@given(vectors(4, 2), vectors(16, 1), st.sampled_from(SIDES))
def test_rescal_with_the_transposed_matrix_is_the_inverse_relation(rows, matrices, side):
    (h, t), matrix = rows, matrices[0].view(4, 4)
    assert one_score("RESCAL", h, matrix, t, side=side) == close(
        one_score("RESCAL", t, matrix.T.reshape(-1), h, side=side), abs=1e-9
    )
