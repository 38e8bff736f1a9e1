"""Ranking among given candidates: our figures against the official Evaluator and by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ogb_fixtures import BIOKG_TYPES, write_biokg, write_wikikg2

from dglke_distill.base.errors import UserError
from dglke_distill.compression import Storage, compress, decompress
from dglke_distill.config import Config, ModelConfig
from dglke_distill.data.graph import build_graph
from dglke_distill.data.ogb import GivenCandidates, OgbDataset, load_ogb
from dglke_distill.data.ogb_package import official_package
from dglke_distill.data.triples import Side, Triples, Vocabulary
from dglke_distill.evaluate import NonFiniteScores, evaluate_given, popularity_control
from dglke_distill.evaluate import ogb as given_ranking
from dglke_distill.evaluate.popularity import RelationPopularity
from dglke_distill.models import build_model
from dglke_distill.models.base import KGEModel

# The official order of types is alphabetical; their entities are numbered in it.
OFFSETS = {"disease": 0, "drug": 4, "protein": 10}
KINDS = [
    ("TransE", {}, {}),
    ("TransE", {"norm": "l2", "normalize": True}, {}),
    ("RotatE", {}, {}),
    ("DistMult", {}, {"entity_bias": True}),
    ("ComplEx", {}, {"reciprocal": True}),
    ("RESCAL", {}, {"reciprocal": True}),
    ("TransR", {}, {}),
    ("PairRE", {}, {}),
]


def model_for(
    dataset: OgbDataset, name: str, options: dict[str, Any], more: dict[str, Any], dim: int = 8
) -> KGEModel:
    config = ModelConfig(name=name, dim=dim, options=options, **more)
    model = build_model(config, dataset.num_entities, dataset.num_relations)
    model.reset(1, 0.7)
    if model.bias_weight is not None:
        with torch.no_grad():
            model.bias_weight.normal_(generator=torch.Generator().manual_seed(2))
    return model


def official_mrr(
    name: str, columns: dict[str, Any], model: KGEModel, shift: dict[str, NDArray[np.int64]]
) -> tuple[float, dict[str, float]]:
    """Score the triples as the official files write them, one by one, and ask the Evaluator."""
    evaluator = official_package().Evaluator(name=name)
    lists: dict[str, list[torch.Tensor]] = {}
    by_side = {}
    for side in ("head", "tail"):
        true = {s: torch.from_numpy(columns[s] + shift[s]) for s in ("head", "tail")}
        relation = torch.from_numpy(columns["relation"])
        positive = model.score_triples(true["head"], relation, true["tail"])
        if side == "head":  # a head question, for models that answer both sides differently
            positive = side_scores(model, true["tail"], relation, true["head"][:, None])[:, 0]
        negatives = torch.from_numpy(columns[f"{side}_neg"] + shift[side][:, None])
        if side == "head":
            negative = side_scores(model, true["tail"], relation, negatives)
        else:
            repeated = [
                ids[:, None].expand_as(negatives).flatten() for ids in (true["head"], relation)
            ]
            negative = model.score_triples(*repeated, negatives.flatten()).view_as(negatives)
        judged = evaluator.eval({"y_pred_pos": positive.detach(), "y_pred_neg": negative.detach()})
        by_side[side] = float(judged["mrr_list"].mean())
        for key, values in judged.items():
            lists.setdefault(key, []).append(values)
    return float(torch.cat(lists["mrr_list"]).mean()), by_side


def side_scores(
    model: KGEModel, tail: torch.Tensor, relation: torch.Tensor, heads: torch.Tensor
) -> torch.Tensor:
    """Scores of heads, read out of the scores of all entities."""
    return model.score_all(tail, relation, "head").gather(1, heads)


@pytest.fixture(scope="module")
def wikikg2(tmp_path_factory: pytest.TempPathFactory) -> tuple[OgbDataset, dict[str, Any]]:
    root = tmp_path_factory.mktemp("wikikg2")
    written = write_wikikg2(root, negatives=20)
    return load_ogb("ogbl-wikikg2", root), written


@pytest.fixture(scope="module")
def biokg(tmp_path_factory: pytest.TempPathFactory) -> tuple[OgbDataset, dict[str, Any]]:
    root = tmp_path_factory.mktemp("biokg")
    written = write_biokg(root, negatives=20)
    return load_ogb("ogbl-biokg", root), written


@pytest.mark.parametrize(("name", "options", "more"), KINDS)
@pytest.mark.parametrize("split", ["valid", "test"])
def test_mrr_is_the_official_one(
    wikikg2: Any, name: str, options: dict[str, Any], more: dict[str, Any], split: str
) -> None:
    dataset, written = wikikg2
    model = model_for(dataset, name, options, more)
    none = np.zeros(len(written[split]["head"]), np.int64)
    shift = {"head": none, "tail": none}
    expected, by_side = official_mrr("ogbl-wikikg2", written[split], model, shift)
    result = evaluate_given(model, dataset, split)
    assert result.mrr == pytest.approx(expected, abs=1e-6)
    for side, mrr in by_side.items():
        assert result.by_side[side].mrr == pytest.approx(mrr, abs=1e-6)
    assert result.overall.count == 2 * len(none)


@pytest.mark.parametrize(("name", "options", "more"), KINDS[:5])
def test_typed_ids_are_the_official_ones(
    biokg: Any, name: str, options: dict[str, Any], more: dict[str, Any]
) -> None:
    """Local ids of a type get its offset, the negatives' too; repeated negatives make ties."""
    dataset, written = biokg
    columns = written["test"]
    shift = {
        side: np.array([OFFSETS[kind] for kind in columns[f"{side}_type"]])
        for side in ("head", "tail")
    }
    model = model_for(dataset, name, options, more)
    expected, by_side = official_mrr("ogbl-biokg", columns, model, shift)
    result = evaluate_given(model, dataset, "test")
    assert result.mrr == pytest.approx(expected, abs=1e-6)
    assert result.by_side["head"].mrr == pytest.approx(by_side["head"], abs=1e-6)
    assert min(BIOKG_TYPES.values()) < 20, "so few entities that the true one is drawn too: ties"
    assert any(rank % 1 for rank in [*result.head_ranks, *result.tail_ranks])


class Table:
    """Scores by entity alone, as given."""

    relation_order = False

    def __init__(self, scores: list[float]) -> None:
        self.scores = torch.tensor(scores)

    def score_candidates(
        self, entity: Any, relation: Any, candidates: torch.Tensor, side: Side
    ) -> torch.Tensor:
        return self.scores[candidates]


def by_hand(train: list[tuple[int, int, int]], test: list[tuple[int, int, int]]) -> OgbDataset:
    """Six entities, two relations; both sides' negatives are 1, 2, 3, 4."""
    triples = [Triples.from_array(np.array(part)) for part in (train, test, test)]
    given = np.tile(np.array([1, 2, 3, 4], np.int32), (len(test), 1))
    return OgbDataset(
        "ogbl-wikikg2",
        Vocabulary(size=6),
        Vocabulary(size=2, kind="relation"),
        *triples,
        valid_candidates=GivenCandidates(given, given),
        test_candidates=GivenCandidates(given, given),
    )


def test_hand_computed_ranks_with_ties() -> None:
    dataset = by_hand([(0, 0, 5)], [(0, 0, 5), (5, 1, 0)])
    # Entity 0 is beaten by 1 and 2, 5 ties with 3 and is beaten by 1, 2 and 4.
    result = evaluate_given(Table([8.0, 9.0, 9.0, 1.0, 2.0, 1.0]), dataset, "test")
    assert result.head_ranks.tolist() == [3.0, 4.5]
    assert result.tail_ranks.tolist() == [4.5, 3.0]
    assert result.mrr == pytest.approx((1 / 3 + 1 / 4.5) / 2)
    assert result.overall.hits == (0.0, 0.5, 1.0)
    figures = result.to_dict()
    assert figures["protocol"]["candidates"] == "given"
    assert figures["protocol"]["negatives"] == 4
    assert figures["hits@3"] == 0.5


@pytest.mark.parametrize(("value", "rank"), [(0.0, 3.0), (1.0, 1.0), (-1.0, 5.0)])
def test_scores_all_alike_are_in_the_middle(value: float, rank: float) -> None:
    dataset = by_hand([(0, 0, 5)], [(0, 0, 5)])
    result = evaluate_given(Table([value, 0.0, 0.0, 0.0, 0.0, value]), dataset, "test")
    assert result.head_ranks.tolist() == result.tail_ranks.tolist() == [rank]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_no_numbers_are_refused(value: float) -> None:
    dataset = by_hand([(0, 0, 5)], [(0, 0, 5)])
    with pytest.raises(NonFiniteScores, match="candidate 2"):
        evaluate_given(Table([0.0, 0.0, value, 0.0, 0.0, 1.0]), dataset, "test")


def test_popularity_counts_by_hand() -> None:
    train = [(0, 0, 1), (0, 0, 1), (2, 0, 1), (2, 0, 5), (3, 0, 5), (0, 1, 4)]
    dataset = by_hand(train, [(0, 0, 5), (0, 1, 4)])
    control = RelationPopularity(dataset.train, 6, 2)
    assert control.counts(0, "tail").tolist() == [0, 3, 0, 0, 0, 2]
    assert control.counts(0, "head").tolist() == [2, 0, 2, 1, 0, 0]
    assert control.counts(1, "tail").tolist() == [0, 0, 0, 0, 1, 0]
    result = popularity_control(dataset, "test")
    # Tail of relation 0: 1 beats 5, nothing ties with it. Of relation 1: 4 ties with itself.
    assert result.tail_ranks.tolist() == [2.0, 1.5]
    # Head of relation 0: 0 and 2 have two each. Of relation 1: only 0.
    assert result.head_ranks.tolist() == [1.5, 1.0]
    assert popularity_control(dataset, "test") is result


def test_popularity_ignores_the_known_entity(wikikg2: Any) -> None:
    dataset, _ = wikikg2
    result = popularity_control(dataset, "valid")
    for side, ranks in (("head", result.head_ranks), ("tail", result.tail_ranks)):
        given = dataset.candidates("valid").of(side)
        for i, relation in enumerate(dataset.valid.relation):
            rows = dataset.train.relation == relation
            column = getattr(dataset.train, side)[rows].tolist()
            true = column.count(getattr(dataset.valid, side)[i])
            others = [column.count(candidate) for candidate in given[i]]
            greater = sum(other > true for other in others)
            equal = sum(other == true for other in others)
            assert ranks[i] == 1 + greater + equal / 2


@pytest.mark.parametrize("size", [1, 3, 256])
@pytest.mark.parametrize("name", ["ComplEx", "TransR"])
def test_blocks_change_nothing(
    wikikg2: Any, monkeypatch: pytest.MonkeyPatch, size: int, name: str
) -> None:
    dataset, _ = wikikg2
    model = model_for(dataset, name, {}, {})
    whole = evaluate_given(model, dataset, "test")
    monkeypatch.setattr(given_ranking, "_QUERIES", size)
    result = evaluate_given(model, dataset, "test", block_bytes=1 << 30)
    np.testing.assert_array_equal(result.head_ranks, whole.head_ranks)
    np.testing.assert_array_equal(result.tail_ranks, whole.tail_ranks)
    # The memory allowed bounds the block, down to one query.
    assert evaluate_given(model, dataset, "test", block_bytes=1).mrr == whole.mrr


def test_a_sample_is_the_whole_splits_ranks_at_its_rows(wikikg2: Any) -> None:
    dataset, _ = wikikg2
    model = model_for(dataset, "DistMult", {}, {})
    whole = evaluate_given(model, dataset, "valid")
    sample = evaluate_given(model, dataset, "valid", limit=4, seed=3)
    rows = np.sort(np.random.default_rng(3).choice(7, 4, replace=False))
    np.testing.assert_array_equal(sample.head_ranks, whole.head_ranks[rows])
    np.testing.assert_array_equal(sample.tail_ranks, whole.tail_ranks[rows])
    assert sample.to_dict()["protocol"]["estimate"] is True
    assert sample.sampled_from == 7
    assert evaluate_given(model, dataset, "valid", limit=7).sampled_from is None


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_a_compressed_model_scores_from_its_codes(wikikg2: Any, kind: str) -> None:
    dataset, _ = wikikg2
    config = ModelConfig(name="ComplEx", dim=8, entity_bias=True)
    model = model_for(dataset, "ComplEx", {}, {"entity_bias": True})
    storage = Storage.model_validate({"entities": {"kind": kind}, "relations": {"kind": "float16"}})
    small = compress(model, config, storage)
    plain = decompress(small, config)
    result, expected = (evaluate_given(one, dataset, "test") for one in (small, plain))
    np.testing.assert_array_equal(result.head_ranks, expected.head_ranks)
    np.testing.assert_array_equal(result.tail_ranks, expected.tail_ranks)


def test_an_encoder_over_the_graph(wikikg2: Any) -> None:
    dataset, _ = wikikg2
    graph = build_graph(
        dataset.train, dataset.num_entities, inverse=True, num_relations=dataset.num_relations
    )
    config = ModelConfig(name="DistMult", dim=8, encoder="neighbor")
    model = build_model(config, dataset.num_entities, dataset.num_relations, graph=graph)
    model.reset(0)
    model.eval()
    result = evaluate_given(model, dataset, "test")
    triples, given = dataset.test, dataset.candidates("test")
    scores = model.score_all(
        *(torch.from_numpy(c.astype(np.int64)) for c in (triples.head, triples.relation)), "tail"
    )
    candidates = np.concatenate([triples.tail[:, None], given.tail], axis=1).astype(np.int64)
    chosen = scores.gather(1, torch.from_numpy(candidates)).detach().numpy()
    greater = (chosen[:, 1:] > chosen[:, :1] + 1e-6).sum(1)
    within = (chosen[:, 1:] >= chosen[:, :1] - 1e-6).sum(1)
    assert (result.tail_ranks >= 1 + greater).all()
    assert (result.tail_ranks <= 1 + within).all()


def test_the_train_split_has_no_candidates(wikikg2: Any) -> None:
    dataset, _ = wikikg2
    with pytest.raises(UserError, match="'train' of ogbl-wikikg2 has no given negatives"):
        evaluate_given(Table([0.0] * 30), dataset, "train")


def test_an_empty_split_is_refused(wikikg2: Any) -> None:
    dataset, _ = wikikg2
    empty = Triples.from_array(np.empty((0, 3), np.int32))
    none = np.empty((0, 4), np.int32)
    emptied = dataclasses.replace(dataset, test=empty, test_candidates=GivenCandidates(none, none))
    with pytest.raises(ValueError, match="no triples"):
        evaluate_given(Table([0.0] * 30), emptied, "test")


def test_a_run_is_chosen_and_reported_by_the_candidates(tmp_path: Path) -> None:
    from dglke_distill.artifacts.checkpoint import load_model
    from dglke_distill.runs.train_run import rank_loaded, train_run
    from dglke_distill.zoo.entries import describe

    write_wikikg2(tmp_path, negatives=20)
    folder = tmp_path / "ogbl_wikikg2"
    config = Config.from_mapping(
        {
            "data": {"dataset": str(folder)},
            "model": {"name": "ComplEx", "dim": 8},
            "negatives": {"count": 4},
            "training": {"epochs": 4, "evaluate_every": 1, "batch_size": 16, "threads": 1},
        },
        "test",
    )
    said: list[str] = []
    results = train_run(config, tmp_path / "run", announce=said.append).to_tree()
    assert [line for line in said if "30 entities where ogbl-wikikg2 has 2500604" in line]
    loaded = load_model(tmp_path / "run" / "checkpoint")
    dataset = load_ogb("ogbl-wikikg2", tmp_path)
    for split in ("valid", "test"):
        again = evaluate_given(loaded.model, dataset, split)
        figures = results["metrics"][split]
        assert figures["mrr"] == again.mrr
        assert figures["protocol"]["candidates"] == "given"
        assert figures["popularity_control"]["mrr"] == popularity_control(dataset, split).mrr
    # The best epoch's validation figure is that of the kept weights: the same candidates chose.
    assert results["training"]["best_validation_mrr"] == results["metrics"]["valid"]["mrr"]
    here = [{"data": {"dataset": str(folder)}}]
    ranked, _ = rank_loaded(loaded, "test", name="run", settings=here)
    assert ranked.mrr == results["metrics"]["test"]["mrr"]
    with pytest.raises(UserError, match="no given negatives"):
        rank_loaded(loaded, "train", name="run", settings=here)
    stated = describe(tmp_path / "run" / "checkpoint").metrics
    assert stated is not None
    assert stated.protocol == "filtered, both sides, given entities"
    assert stated.mrr == ranked.mrr
