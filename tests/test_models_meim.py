"""What the score functions with cores do beside their formula: normalisation, dropout, storage."""

from __future__ import annotations

import pytest
import torch
from model_formulas import DIM, ENTITIES, RELATIONS, make, some_triples

from dglke_distill.base.errors import UserError
from dglke_distill.compression import Storage, compress
from dglke_distill.compression.model import decompress
from dglke_distill.config import ModelConfig
from dglke_distill.distill.initialization import bilinear_forms
from dglke_distill.interop.query_forms import query_forms
from dglke_distill.models import build_model

NORMED = {"batch_norm": True, "input_dropout": 0.3, "query_dropout": 0.4}


@pytest.fixture
def seen():
    """A model in evaluation that has seen some batches."""
    model = make("MEIM", NORMED, reciprocal=True)
    entity, relation, _ = some_triples(40)
    for _ in range(20):
        model.query(model.encode(), entity, relation, "tail")
    return model.eval()


def test_normalisation_needs_reciprocal_relations():
    with pytest.raises(UserError, match=r"model\.reciprocal=true"):
        build_model(ModelConfig(name="meim", dim=DIM, options=NORMED), ENTITIES, RELATIONS)


def test_a_dim_must_have_equal_partitions():
    with pytest.raises(UserError, match=r"take 9, or set model\.options\.partitions"):
        build_model(ModelConfig(name="meim", dim=8, options={"partitions": 3}), 5, 2)


def test_dropout_acts_in_training_alone(seen):
    entity, relation, _ = some_triples()
    torch.testing.assert_close(
        seen.score_all(entity, relation, "tail"), seen.score_all(entity, relation, "tail")
    )
    seen.train()
    first, second = (seen.score_all(entity, relation, "tail") for _ in range(2))
    assert not torch.allclose(first, second)


def test_evaluation_normalises_by_what_was_seen_and_each_query_alone(seen):
    """A query's scores do not depend on the others of its batch."""
    entity, relation, _ = some_triples()
    together = seen.score_all(entity, relation, "tail")
    alone = [seen.score_all(e[None], r[None], "tail")[0] for e, r in zip(entity, relation)]
    torch.testing.assert_close(torch.stack(alone), together)
    function = seen.score_function
    known = seen.entity_embeddings[entity]
    norm = function.known_norm
    by_hand = (known - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(function.known_view(known), by_hand * norm.weight + norm.bias)


def test_a_batch_of_one_trains(seen):
    seen.train()
    scores = seen.score_triples(*(ids[:1] for ids in some_triples()))
    scores.sum().backward()
    assert torch.isfinite(seen.score_function.core.grad).all()


def test_compression_keeps_the_cores_and_what_was_seen(seen):
    config = ModelConfig(name="MEIM", dim=DIM, options=NORMED, reciprocal=True)
    seen.float()
    entity, relation, _ = some_triples()
    before = seen.score_all(entity, relation, "head")
    small = compress(seen, config, Storage.of("float16"))
    bounds = {"rtol": 1e-2, "atol": 1e-2 * float(before.abs().max())}
    torch.testing.assert_close(small.score_all(entity, relation, "head"), before, **bounds)
    torch.testing.assert_close(
        decompress(small, config).score_all(entity, relation, "head"), before, **bounds
    )


def test_queries_can_be_exported_and_projected(seen):
    """In evaluation normalisation is affine, so queries are; forms leave the constant part out."""
    forms = query_forms(seen)
    entity, relation, _ = some_triples()
    vectors = seen.entity_embeddings
    for side in ("head", "tail"):
        scores = forms.query[side].apply(vectors[entity], relation) @ vectors.T
        torch.testing.assert_close(scores, seen.score_all(entity, relation, side))
    rows = seen.relation_embeddings
    form = next(iter(bilinear_forms(seen.score_function, rows)))
    first = torch.zeros_like(relation)
    linear = vectors[entity] @ form @ vectors.T
    apart = seen.score_all(entity, first, "tail") - linear
    torch.testing.assert_close(apart, apart[:1].expand_as(apart))  # the same whatever the head
