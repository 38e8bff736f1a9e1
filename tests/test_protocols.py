"""Protocols of ranking: against sets and loops, and against PyKEEN's own factories."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from identity_fixtures import run as run  # a fixture
from test_ranking import ScoreTable, dyadic_model, pykeen_twin, random_triples

from dglke_distill.artifacts.results import ChainResults
from dglke_distill.base.errors import UserError
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.evaluate import PROTOCOLS, evaluate_by

BLOCK = 1 << 20


def dataset_of(entities: int, relations: int, *parts: Triples) -> Dataset:
    names = Vocabulary([f"e{i}" for i in range(entities)])
    kinds = Vocabulary([f"r{i}" for i in range(relations)], kind="relation")
    return Dataset("small", names, kinds, *parts)


def small(seed: int, entities: int = 9, relations: int = 4) -> Dataset:
    rng = np.random.default_rng(seed)
    train = random_triples(rng, 12, entities - 3, relations - 1)
    others = (random_triples(rng, n, entities, relations) for n in (8, 20))
    return dataset_of(entities, relations, train, *others)


def known_of(dataset: Dataset) -> KnownAnswers:
    splits = [dataset.train, dataset.valid, dataset.test]
    return KnownAnswers.build(splits, dataset.num_entities)


def by_loops(scores: Any, dataset: Dataset, protocol: str) -> list[float]:
    """Return the ranks of all heads and tails, sorted, by the words of the rules."""
    train, valid, test = (
        [tuple(row) for row in part.to_array().tolist()]
        for part in (dataset.train, dataset.valid, dataset.test)
    )
    known, candidates = {*train, *valid, *test}, set(range(dataset.num_entities))
    if protocol == "seen":
        candidates = {h for h, _, _ in train} | {t for _, _, t in train}
        relations = {r for _, r, _ in train}
        test = [
            (h, r, t) for h, r, t in dict.fromkeys(test) if {h, t} <= candidates and r in relations
        ]
    ranks = []
    for triple in test:
        for place in (0, 2):
            better = equal = 0
            for candidate in candidates:
                other = (*triple[:place], candidate, *triple[place + 1 :])
                if other in known or (protocol == "no-self" and candidate == triple[2 - place]):
                    continue
                better += scores[other] > scores[triple]
                equal += scores[other] == scores[triple]
            ranks.append(1 + better + equal / 2)
    return sorted(ranks)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
@pytest.mark.parametrize("seed", range(8))
def test_ranks_are_those_of_the_rule(protocol: str, seed: int) -> None:
    dataset = small(seed)
    rng = np.random.default_rng(seed + 100)
    scores = rng.integers(0, 4, (9, 4, 9)).astype(np.float32)
    found = evaluate_by(
        protocol, ScoreTable(scores), dataset, "test", known_of(dataset), query_block_bytes=64
    )
    ranks = sorted([*found.head_ranks.tolist(), *found.tail_ranks.tolist()])
    assert ranks == by_loops(scores, dataset, protocol)
    assert found.protocol == protocol == found.to_dict()["protocol"]["name"]
    assert found.dropped == len(dataset.test) - len(found.head_ranks)


def test_the_three_differ() -> None:
    dataset = small(0)
    scores = np.random.default_rng(1).normal(size=(9, 4, 9))
    ranks = {tuple(by_loops(scores, dataset, protocol)) for protocol in PROTOCOLS}
    assert len(ranks) == 3


def test_an_answer_that_is_the_entity_itself_is_ranked() -> None:
    loop = Triples.from_array(np.array([[1, 0, 1]]))
    dataset = dataset_of(3, 1, Triples.from_array(np.array([[0, 0, 2]])), loop[:0], loop)
    scores = np.zeros((3, 1, 3))
    scores[1, 0, 1] = -1
    found = evaluate_by(
        "no-self", ScoreTable(scores), dataset, "test", known_of(dataset), query_block_bytes=BLOCK
    )
    assert found.head_ranks.tolist() == found.tail_ranks.tolist() == [3.0]


def test_seen_is_what_pykeen_ranks() -> None:
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.triples import TriplesFactory

    entities, relations = 23, 4  # as the models of test_ranking
    rng = np.random.default_rng(3)
    model = dyadic_model("DistMult", rng)
    entities, relations = model.num_entities, model.num_relations
    train = random_triples(rng, 60, entities - 4, relations - 1)
    valid, test = (random_triples(rng, n, entities, relations) for n in (30, 120))
    dataset = dataset_of(entities, relations, train, valid, test)

    def labelled(part: Triples) -> Any:
        return np.array([[f"e{h}", f"r{r}", f"e{t}"] for h, r, t in part.to_array().tolist()])

    factory = TriplesFactory.from_labeled_triples(labelled(train))
    ids = {"entity_to_id": factory.entity_to_id, "relation_to_id": factory.relation_to_id}
    theirs = [TriplesFactory.from_labeled_triples(labelled(p), **ids) for p in (valid, test)]
    kept = [int(name[1:]) for name in sorted(factory.entity_to_id, key=factory.entity_to_id.get)]
    rows = [int(n[1:]) for n in sorted(factory.relation_to_id, key=factory.relation_to_id.get)]

    class Kept:
        """The tables of the entities and relations that PyKEEN knows, in its order."""

        entity_embeddings = model.entity_embeddings[kept]
        relation_embeddings = model.relation_embeddings[rows]

    evaluator = RankBasedEvaluator(filtered=True, clear_on_finalize=False)
    evaluator.evaluate(
        pykeen_twin("DistMult", Kept, factory),  # type: ignore[arg-type]
        mapped_triples=theirs[1].mapped_triples,
        additional_filter_triples=[factory.mapped_triples, theirs[0].mapped_triples],
        batch_size=16,
        use_tqdm=False,
    )
    found = evaluate_by("seen", model, dataset, "test", known_of(dataset), query_block_bytes=BLOCK)
    assert 0 < found.dropped < len(test)
    assert found.num_entities == factory.num_entities < entities
    for side, ranks in (("head", found.head_ranks), ("tail", found.tail_ranks)):
        expected = np.concatenate(evaluator.ranks[side, "realistic"])
        assert sorted(ranks.tolist()) == sorted(expected.tolist())


def test_nothing_left_to_rank_is_said() -> None:
    train, other = (Triples.from_array(np.array([row])) for row in ([0, 0, 1], [0, 1, 2]))
    dataset = dataset_of(3, 2, train, other[:0], other)
    model = ScoreTable(torch.zeros(3, 2, 3))
    with pytest.raises(UserError, match="no triple of small"):
        evaluate_by("seen", model, dataset, "test", known_of(dataset), query_block_bytes=BLOCK)


def test_the_command_says_which_protocol(run: Any) -> None:
    name = "complex-cldr-dim32"
    figures = {
        protocol: json.loads(run("evaluate", name, "--protocol", protocol, "--json").out)
        for protocol in PROTOCOLS
    }
    for protocol, of in figures.items():
        assert of["protocol"]["name"] == protocol
    assert figures["no-self"]["mrr"] > figures["all"]["mrr"]
    assert "protocol no-self" in run("evaluate", name, "--protocol", "No-Self").out
    assert "choose all, seen, no-self" in run("evaluate", name, "--protocol", "mine", code=2).err


def test_figures_of_two_protocols_do_not_stand_side_by_side() -> None:
    def stage(name: str, protocol: str) -> dict[str, Any]:
        figures = {"mrr": 0.5, "mr": 2.0, "hits@1": 0.2, "hits@3": 0.4, "hits@10": 0.9, "count": 4}
        how = {"filtered": True, "ties": "realistic", "sides": "both", "candidates": "all"}
        figures["protocol"] = {**how, "estimate": False, "name": protocol}
        results = {"schema": 1, "metrics": {"test": figures}}
        return {"name": name, "role": "teacher", "directory": name, "results": results}

    tree: dict[str, Any] = {
        "schema": 1,
        "kind": "chain",
        "method": "iterde",
        "seed": 0,
        "dataset": {"name": "d", "entities": 3, "relations": 1, "triples": {"train": 1}},
        "stages": [stage("a", "all"), stage("b", "seen")],
    }
    with pytest.raises(UserError, match="b: its test figures are of the protocol seen"):
        ChainResults.of(tree, "results.json")
    tree["stages"][1] = stage("b", "all")
    assert len(ChainResults.of(tree, "results.json").stages) == 2


@pytest.mark.realdata
def test_seen_drops_what_pykeen_drops_of_wn18rr(data_root: Any) -> None:
    from dglke_distill.data.catalog import load
    from dglke_distill.evaluate.protocols import seen_rows

    dataset = load("wn18rr", data_root=data_root)
    assert int((~seen_rows(dataset.test, dataset)).sum()) == 210
