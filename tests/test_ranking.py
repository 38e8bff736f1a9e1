"""Ranking against sets and loops, against hand-computed figures, and against PyKEEN."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.config import ModelConfig
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.triples import Side, Triples
from dglke_distill.evaluate import NonFiniteScores, evaluate, evaluate_subset, relation_categories
from dglke_distill.evaluate.counting import count, count_numba, count_torch
from dglke_distill.models import KGEModel, build_model


class ScoreTable:
    """A "model" whose scores are looked up: heads x relations x tails."""

    def __init__(self, scores):
        self.scores = torch.as_tensor(scores)
        self.calls = []

    def score_all(self, entity, relation, side: Side):
        self.calls.append((side, entity.tolist(), relation.tolist()))
        if side == "tail":
            return self.scores[entity, relation]
        return self.scores[:, relation, entity].T


def brute_force(scores, split, known_triples):
    """(optimistic + pessimistic) / 2 of every head and tail, by sets and loops."""
    known = {tuple(row) for row in known_triples.to_array().tolist()}
    head_ranks, tail_ranks = [], []
    for h, r, t in split.to_array().tolist():
        for position, ranks in ((0, head_ranks), (2, tail_ranks)):
            optimistic, pessimistic = 1, 1
            for candidate in range(scores.shape[0]):
                triple = [h, r, t]
                triple[position] = candidate
                if tuple(triple) == (h, r, t) or tuple(triple) in known:
                    continue
                score = scores[tuple(triple)]
                optimistic += score > scores[h, r, t]
                pessimistic += score >= scores[h, r, t]
            ranks.append((optimistic + pessimistic) / 2)
    return np.array(head_ranks), np.array(tail_ranks)


def random_triples(rng, number, entities, relations):
    columns = (rng.integers(0, n, number) for n in (entities, relations, entities))
    return Triples.from_array(np.stack(list(columns), axis=1))


@st.composite
def ranking_problems(draw):
    """Scores of few distinct values, so ties abound; splits that overlap and repeat triples."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    entities, relations = draw(st.integers(1, 24)), draw(st.integers(1, 3))
    scores = rng.integers(0, draw(st.integers(1, 6)), (entities, relations, entities))
    split = random_triples(rng, draw(st.integers(1, 40)), entities, relations)
    others = random_triples(rng, draw(st.integers(0, 60)), entities, relations)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return scores.astype(dtype), split, others


@given(ranking_problems(), st.integers(1, 5), st.booleans())
def test_ranks_are_those_of_sets_and_loops(problem, queries_per_block, split_is_known):
    scores, split, others = problem
    parts = [others, split] if split_is_known else [others]
    filtered = Triples.from_array(np.concatenate([part.to_array() for part in parts]))
    known = KnownAnswers.build(parts, scores.shape[0])
    result = evaluate(
        ScoreTable(scores),
        split,
        known,
        query_block_bytes=queries_per_block * 4 * scores.shape[0],
    )
    head_ranks, tail_ranks = brute_force(scores, split, filtered)
    np.testing.assert_array_equal(result.head_ranks, head_ranks)
    np.testing.assert_array_equal(result.tail_ranks, tail_ranks)


@given(ranking_problems())
def test_device_path_counts_the_same(problem):
    scores, split, others = problem
    known = KnownAnswers.build([others, split], scores.shape[0])
    order = np.lexsort((split.tail, split.relation, split.head))
    head, relation, tail = (
        c[order].astype(np.int64) for c in (split.head, split.relation, split.tail)
    )
    queries, starts = np.unique(np.stack([head, relation]), axis=1, return_index=True)
    block = torch.from_numpy(scores[queries[0], queries[1]])
    arguments = (
        np.append(starts, len(tail)).astype(np.int64),
        tail,
        *known.gather(queries[0], queries[1], "tail"),
    )
    greater, equal, bad = count_torch(block, *arguments)
    expected_greater, expected_equal, expected_bad = count_numba(block.numpy(), *arguments)
    np.testing.assert_array_equal(greater, expected_greater)
    np.testing.assert_array_equal(equal, expected_equal)
    assert bad == expected_bad == -1


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 8, 9, 100])
def test_any_number_of_answers_to_one_query(number):
    rng = np.random.default_rng(number)
    scores = rng.integers(0, 50, (1, 1000)).astype(np.float32)
    targets = np.sort(rng.choice(1000, number, replace=False)).astype(np.int64)
    known = np.union1d(targets[::2], rng.choice(1000, 30)).astype(np.int64)
    greater, equal, bad = count_numba(
        scores, np.array([0, number]), targets, np.array([0, len(known)]), known
    )
    assert bad == -1
    for j, target in enumerate(targets):
        rest = np.delete(scores[0], np.union1d(known, [target]))
        assert greater[j] == np.sum(rest > scores[0, target])
        assert equal[j] == np.sum(rest == scores[0, target])


def test_half_precision_scores_are_ranked():
    scores = torch.tensor([[1.0, 3.0, 2.0, 2.0]], dtype=torch.bfloat16)
    none = np.zeros(0, np.int64)
    zeros = np.zeros(2, np.int64)
    greater, equal, bad = count(scores, np.array([0, 1]), np.array([2]), zeros, none)
    assert (greater.tolist(), equal.tolist(), bad) == ([1], [1], -1)


def test_scores_in_any_memory_layout_are_ranked():
    scores = np.arange(5 * 2 * 5).reshape(5, 2, 5).astype(np.float32)
    split = random_triples(np.random.default_rng(0), 12, 5, 2)
    table = ScoreTable(scores)
    shared_row = torch.arange(5.0)

    class Expanded:
        def score_all(self, entity, relation, side):
            return shared_row.expand(len(entity), 5)

    known = KnownAnswers.build([split], 5)
    head_ranks, tail_ranks = brute_force(scores, split, split)
    result = evaluate(table, split, known)
    np.testing.assert_array_equal(result.head_ranks, head_ranks)
    np.testing.assert_array_equal(result.tail_ranks, tail_ranks)
    popularity = np.broadcast_to(np.arange(5.0), (5, 2, 5))
    result = evaluate(Expanded(), split, known)
    np.testing.assert_array_equal(result.tail_ranks, brute_force(popularity, split, split)[1])
    assert shared_row.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("answers", [1, 2, 6])
def test_scores_that_are_not_finite_are_refused(value, answers):
    scores = np.zeros((7, 2, 7), np.float32)
    scores[3, 1, 6] = value
    split = Triples.from_array(np.array([[3, 1, t] for t in range(answers)] + [[0, 0, 0]]))
    known = KnownAnswers.build([split], 7)
    with pytest.raises(NonFiniteScores, match=r"candidate 6 for the query \(3, 1, \?\)") as caught:
        evaluate(ScoreTable(scores), split, known)
    assert (caught.value.entity, caught.value.relation, caught.value.side) == (3, 1, "tail")
    assert isinstance(caught.value, FloatingPointError)
    arguments = (np.array([0, 1]), np.array([0]), np.array([0, 0]), np.zeros(0, np.int64))
    assert count_torch(torch.from_numpy(scores[3:4, 1]), *arguments)[2] == 0
    assert count_torch(torch.from_numpy(scores[2:3, 1]), *arguments)[2] == -1


def test_a_bad_head_query_is_named():
    scores = np.zeros((4, 1, 4), np.float32)
    scores[2, 0, 1] = np.nan
    split = Triples.from_array(np.array([[0, 0, 1]]))
    with pytest.raises(NonFiniteScores, match=r"candidate 2 for the query \(\?, 0, 1\) is nan"):
        evaluate(ScoreTable(scores), split, KnownAnswers.build([split], 4))


def test_the_size_of_blocks_changes_nothing_but_memory():
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((50, 4, 50)).astype(np.float32)
    split = random_triples(rng, 200, 50, 4)
    known = KnownAnswers.build([split], 50)
    whole = evaluate(ScoreTable(scores), split, known)
    for rows in (1, 3, 64):
        table = ScoreTable(scores)
        blocks = evaluate(table, split, known, query_block_bytes=rows * 50 * 4 + 3)
        assert max(len(entity) for _, entity, _ in table.calls) == rows
        np.testing.assert_array_equal(blocks.head_ranks, whole.head_ranks)
        np.testing.assert_array_equal(blocks.tail_ranks, whole.tail_ranks)
    assert evaluate(ScoreTable(scores), split, known, query_block_bytes=1).mrr == whole.mrr


def test_each_query_is_scored_once_and_in_order_of_relations():
    split = Triples.from_array(
        np.array([[0, 1, 2], [0, 0, 1], [0, 1, 3], [2, 1, 3], [0, 0, 1], [1, 0, 1]])
    )
    table = ScoreTable(np.zeros((4, 2, 4), np.float32))
    known = KnownAnswers.build([split], 4)
    result = evaluate(table, split, known, query_block_bytes=2 * 4 * 4)
    assert [call for call in table.calls if call[0] == "tail"] == [
        ("tail", [0, 1], [0, 0]),
        ("tail", [0, 2], [1, 1]),
    ]
    assert [call for call in table.calls if call[0] == "head"] == [
        ("head", [1, 2], [0, 1]),
        ("head", [3], [1]),
    ]
    assert result.num_queries == 7


def test_figures_by_hand():
    # Tail ranks 1, 2.5 (two better or equal), head ranks 1, 3; entity 3 has nothing known.
    split = Triples.from_array(np.array([[0, 0, 1], [2, 1, 3]]))
    scores = np.zeros((4, 2, 4), np.float32)
    scores[0, 0, 1] = 5.0
    scores[2, 1] = [9.0, 1.0, 0.5, 1.0]
    scores[0, 1, 3], scores[1, 1, 3] = 4.0, 2.0
    result = evaluate(
        ScoreTable(scores),
        split,
        KnownAnswers.build([split], 4),
        train=Triples.from_array(
            np.array([[0, 0, 1], *[[h, 1, t] for h in (0, 1) for t in (2, 3)]])
        ),
    )
    assert result.head_ranks.tolist() == [1.0, 3.0]
    assert result.tail_ranks.tolist() == [1.0, 2.5]
    figures = json.loads(json.dumps(result.to_dict(["likes", "knows"])))
    assert figures["mrr"] == pytest.approx((1 + 1 + 1 / 3 + 1 / 2.5) / 4)
    assert figures["mr"] == pytest.approx(7.5 / 4)
    assert (figures["hits@1"], figures["hits@3"], figures["hits@10"]) == (0.5, 1.0, 1.0)
    assert (figures["count"], figures["triples"], figures["entities"]) == (4, 2, 4)
    assert figures["by_side"]["tail"]["mrr"] == pytest.approx((1 + 1 / 2.5) / 2)
    assert figures["by_side"]["head"]["mr"] == 2.0
    assert set(figures["by_category"]) == {"1-1", "N-N"}
    assert figures["by_category"]["N-N"]["both"]["mr"] == 2.75
    assert figures["by_category"]["N-N"]["head"]["mr"] == 3.0
    assert figures["by_relation"]["likes"]["mrr"] == 1.0
    assert figures["by_relation"]["knows"]["count"] == 2
    assert figures["protocol"] == {
        "name": "all",
        "filtered": True,
        "ties": "realistic",
        "sides": "both",
        "candidates": "all",
        "estimate": False,
    }


def test_a_constant_score_is_no_good():
    split = random_triples(np.random.default_rng(0), 20, 100, 1)
    none = KnownAnswers.build([split[:0]], 100)
    result = evaluate(ScoreTable(np.zeros((100, 1, 100), np.float32)), split, none)
    assert result.overall.mean_rank == 50.5
    assert result.overall.hits == (0.0, 0.0, 0.0)


def test_wrong_input_is_refused():
    split = Triples.from_array(np.array([[0, 0, 1]]))
    table = ScoreTable(np.zeros((4, 1, 4), np.float32))
    with pytest.raises(ValueError, match="no triples"):
        evaluate(table, split[:0], KnownAnswers.build([split], 4))
    with pytest.raises(ValueError, match=r"shape \(1, 4\) for 1 queries over 5 entities"):
        evaluate(table, split, KnownAnswers.build([split], 5))


def test_a_sample_is_fixed_and_marked():
    rng = np.random.default_rng(5)
    scores = rng.standard_normal((30, 2, 30)).astype(np.float32)
    split = random_triples(rng, 100, 30, 2)
    known = KnownAnswers.build([split], 30)
    whole = evaluate(ScoreTable(scores), split, known)
    sample = evaluate_subset(ScoreTable(scores), split, known, limit=40, seed=1)
    again = evaluate_subset(ScoreTable(scores), split, known, limit=40, seed=1)
    other = evaluate_subset(ScoreTable(scores), split, known, limit=40, seed=2)
    np.testing.assert_array_equal(sample.tail_ranks, again.tail_ranks)
    assert sample.tail_ranks.tolist() != other.tail_ranks.tolist()
    assert len(sample.head_ranks) == 40
    assert set(sample.head_ranks) <= set(whole.head_ranks)
    assert sample.to_dict()["protocol"]["estimate"] is True
    assert sample.to_dict()["sampled_from"] == 100
    for limit in (None, 100, 1000):
        everything = evaluate_subset(ScoreTable(scores), split, known, limit=limit)
        assert everything.mrr == whole.mrr
        assert everything.sampled_from is None


@pytest.mark.parametrize("training", [True, False])
def test_a_module_is_ranked_in_evaluation_mode_and_given_back(training):
    class Dropping(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = torch.nn.Dropout(0.9)

        def score_all(self, entity, relation, side):
            assert not torch.is_grad_enabled()
            return self.dropout(torch.arange(1.0, 51.0)).expand(len(entity), 50)

    model = Dropping().train(training)
    split = Triples.from_array(np.array([[49, 0, 49]]))
    result = evaluate(model, split, KnownAnswers.build([split], 50))
    assert result.mrr == 1.0
    assert model.training is training


# --- relation categories -------------------------------------------------------------------------


def test_categories_by_hand():
    train = Triples.from_array(
        np.array(
            [
                *[[0, 0, 1], [2, 0, 3]],  # 1-1
                *[[0, 1, 1], [0, 1, 2]],  # one head, two tails
                *[[1, 2, 0], [2, 2, 0]],  # two heads, one tail
                *[[0, 3, 0], [0, 3, 1], [1, 3, 0], [1, 3, 1]],  # N-N
                *[[0, 4, 1], [0, 4, 2], [1, 4, 3]],  # 3 facts, 2 heads: exactly 1.5
                *[[0, 6, 1], [0, 6, 2], [1, 6, 3], [2, 6, 4]],  # 4 facts, 3 heads: below 1.5
            ]
        )
    )
    assert relation_categories(train, 7).tolist() == [0, 1, 2, 3, 1, -1, 0]
    repeated = Triples.from_array(np.repeat(train.to_array(), 3, axis=0))
    assert relation_categories(repeated, 7).tolist() == [0, 1, 2, 3, 1, -1, 0]
    assert relation_categories(train, 7, threshold=1.0).tolist() == [3, 3, 3, 3, 3, -1, 3]


def test_a_relation_without_train_triples_is_reported_as_unseen():
    split = Triples.from_array(np.array([[0, 1, 1]]))
    table = ScoreTable(np.zeros((3, 2, 3), np.float32))
    train = Triples.from_array(np.array([[0, 0, 1]]))
    result = evaluate(table, split, KnownAnswers.build([split], 3), train=train)
    assert set(result.by_category) == {"unseen"}


@pytest.mark.realdata
def test_categories_of_fb15k237(data_root):
    """The counts that the literature reports, e.g. 0.94, 6.32, 22.03, 70.72 % of the test split."""
    names: tuple[dict, dict] = ({}, {})
    splits = {}
    for name in ("train", "test"):
        rows = []
        for line in (data_root / "fb15k237" / f"{name}.txt").read_text().splitlines():
            h, r, t = line.split("\t")
            rows.append(
                [names[k].setdefault(v, len(names[k])) for k, v in ((0, h), (1, r), (0, t))]
            )
        splits[name] = Triples.from_array(np.array(rows))
    categories = relation_categories(splits["train"], len(names[1]))
    assert np.bincount(categories).tolist() == [17, 26, 86, 108]
    assert np.bincount(categories[splits["test"].relation]).tolist() == [192, 1293, 4508, 14473]


# --- PyKEEN --------------------------------------------------------------------------------------

ENTITIES, RELATIONS, DIM = 40, 4, 6


def dyadic_model(name: str, rng: np.random.Generator) -> KGEModel:
    """A model of multiples of 1/4 between -1 and 1: float sums are exact, and ties abound."""
    model = build_model(ModelConfig(name=name, dim=DIM), ENTITIES, RELATIONS)
    with torch.no_grad():
        for parameter in model.parameters():
            values = rng.integers(-4, 5, tuple(parameter.shape)) / 4
            parameter.copy_(torch.from_numpy(values))
    return model


def pykeen_twin(name: str, model: KGEModel, factory):
    from pykeen.models import model_resolver

    complex_numbers = name == "ComplEx"
    options = {"scoring_fct_norm": 1} if name == "TransE" else {}
    twin = model_resolver.make(
        name,
        triples_factory=factory,
        embedding_dim=DIM // 2 if complex_numbers else DIM,
        random_seed=0,
        **options,
    )
    tables = (
        (twin.entity_representations, model.entity_embeddings),
        (twin.relation_representations, model.relation_embeddings),
    )
    for representations, ours in tables:
        weight = representations[0]._embeddings.weight
        if complex_numbers:
            real, imaginary = ours.chunk(2, dim=1)
            ours = torch.stack([real, imaginary], dim=2).reshape(weight.shape)
        with torch.no_grad():
            weight.copy_(ours)
    return twin


@pytest.mark.parametrize("name", ["TransE", "DistMult", "ComplEx"])
def test_ranks_are_pykeens(name):
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.triples import CoreTriplesFactory

    rng = np.random.default_rng(11)
    model = dyadic_model(name, rng)
    train, valid, test = (
        Triples.from_array(
            np.unique(random_triples(rng, n, ENTITIES, RELATIONS).to_array(), axis=0)
        )
        for n in (300, 60, 150)
    )
    tensors = [torch.from_numpy(part.to_array()).long() for part in (train, valid, test)]
    factory = CoreTriplesFactory(tensors[0], num_entities=ENTITIES, num_relations=RELATIONS)
    evaluator = RankBasedEvaluator(filtered=True, clear_on_finalize=False)
    figures = evaluator.evaluate(
        pykeen_twin(name, model, factory),
        mapped_triples=tensors[2],
        additional_filter_triples=tensors[:2],
        batch_size=16,
        use_tqdm=False,
    )

    result = evaluate(model, test, KnownAnswers.build([train, valid, test], ENTITIES))
    for side, ranks in (("head", result.head_ranks), ("tail", result.tail_ranks)):
        theirs = np.concatenate(evaluator.ranks[side, "realistic"])
        np.testing.assert_array_equal(ranks, theirs)
        metrics = result.by_side[side].to_dict()
        for ours, their_name in (
            ("mrr", "inverse_harmonic_mean_rank"),
            ("mr", "arithmetic_mean_rank"),
            ("hits@1", "hits_at_1"),
            ("hits@3", "hits_at_3"),
            ("hits@10", "hits_at_10"),
        ):
            expected = figures.get_metric(f"{side}.realistic.{their_name}")
            assert metrics[ours] == pytest.approx(expected, rel=1e-6)
    assert any(rank % 1 for rank in result.head_ranks), "no tie was met: the test shows little"
