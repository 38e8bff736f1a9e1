"""What a dataset gives away, and what that does to MRR: leaks, telling relations, skew.

The kinds and their thresholds are those of Akrami, Saeef, Zhang, Hu, Li 2020, "Realistic
re-evaluation of knowledge graph completion methods: an experimental study" (near-duplicate, reverse
and Cartesian-product relations, 0.8), of Toutanova, Chen 2015, "Observed versus latent features for
knowledge base and text inference" (held-out pairs that train links), and of Dettmers, Minervini,
Stenetorp, Riedel 2018, "Convolutional 2D knowledge graph embeddings" (a model of inverse relations
alone as a control).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.groups import group
from dglke_distill.data.datasets_made import of_the_data
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.overlaps import Overlaps, pair_overlaps
from dglke_distill.data.triples import SIDES, Dataset, Triples
from dglke_distill.evaluate.categories import category_name, relation_categories
from dglke_distill.evaluate.data_findings import (
    HELD_OUT,
    LEAKS,
    DataCheck,
    HeldFacts,
    Leak,
    ProductRelation,
    RelationLink,
    Repeated,
    Skew,
    Unseen,
)
from dglke_distill.evaluate.metrics import Metrics
from dglke_distill.evaluate.rule_ranks import (
    Ranks,
    Rule,
    column_counts,
    column_ranks,
    follows,
    rule_ranks,
)

THRESHOLD = 0.8
"""Share from which on two relations count as the same, or a relation as a product."""

FEWEST = 2
"""Facts that two relations must share at the least: a single one says nothing."""


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that is no share above 0 and at most 1.

    Raises:
        UserError: it is none.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"threshold {threshold}: give a share above 0 and at most 1, such as 0.8")


def check_dataset(dataset: Dataset, threshold: float = THRESHOLD) -> DataCheck:
    """Look for leaks, telling relations, repeats, unseen names and skew.

    Which relations tell each other's facts is found out in all splits together, as the cited papers
    do; what that gives away of valid and test is looked up in train alone, and so are the answers
    of the rules whose MRR is stated. Entities are ranked as everywhere here: all of them, both
    sides, other known answers left out, ties at their mean rank; also of datasets that give
    candidates of their own.

    Args:
        dataset: what to look at.
        threshold: share from which on two relations count as the same, or a relation as a product.

    Raises:
        UserError: the threshold is not above 0 and at most 1.
    """
    check_threshold(threshold)
    return _Check(dataset, threshold).findings()


class _Check:
    """The steps of a check, and what they share."""

    def __init__(self, dataset: Dataset, threshold: float) -> None:
        self.data, self.threshold = dataset, threshold
        self.size = dataset.num_entities, dataset.num_relations
        self.splits = {name: dataset.split(name) for name in ("train", *HELD_OUT)}
        self.train = KnownAnswers.build([dataset.train], dataset.num_entities)
        self.known = KnownAnswers.build(list(self.splits.values()), dataset.num_entities)
        self.trained = pair_overlaps(dataset.train, *self.size)
        self.rows = {n: dict(group(of.relation).present()) for n, of in self.splits.items()}

    def findings(self) -> DataCheck:
        """Return all of them."""
        every = self.known.triples()
        overlaps = pair_overlaps(every, *self.size)
        links = self._links(overlaps)
        leaks, derived = self._leaks(links)
        products = self._products(every)
        named = [link for link, _ in links]
        return DataCheck(
            dataset=self.data.name,
            fingerprint=self.data.fingerprint,
            entities=self.size[0],
            relations=self.size[1],
            facts={name: len(facts) for name, facts in self.splits.items()},
            threshold=self.threshold,
            leaks=leaks,
            linked=self._linked(),
            links=tuple(
                sorted(
                    (
                        replace(link, valid=found["valid"], test=found["test"])
                        for link, found in zip(named, derived)
                    ),
                    key=lambda link: (-link.valid - link.test, -link.shared, link.relation),
                )
            ),
            products=tuple(product for _, product in products),
            product=self._product([relation for relation, _ in products]),
            repeated=self._repeated(),
            unseen={name: self._unseen(self.splits[name]) for name in HELD_OUT},
            skew=self._skew(),
            warnings=tuple(of_the_data(self.data.warnings)),
        )

    def _rule(self, body: int, head: int, turned: bool) -> Rule:
        """Return a rule with its confidence in train alone, so that held-out facts do not weigh.

        Of n facts of the body s are facts of the head too: (s + 1) / (n + 2), which few facts
        leave near a half.
        """
        shared = self.trained.shared(body, head, turned)
        return Rule(body, head, turned, (shared + 1) / (int(self.trained.facts[body]) + 2))

    def _links(self, overlaps: Overlaps) -> list[tuple[RelationLink, list[Rule]]]:
        """Return relations that tell each other's facts, with the rules that follow."""
        names = self.data.relations
        links = []
        for body, head, turned, shared in overlaps.pairs():
            same = body == head
            facts, others = (
                int(overlaps.facts[r] - (overlaps.loops[r] if same else 0)) for r in (body, head)
            )
            share, other = shared / facts, shared / others
            if shared < FEWEST or share < self.threshold:
                continue
            rules = [self._rule(body, head, turned)]
            if same:
                kind = "symmetric"
            elif other < self.threshold:
                kind = "implied inverse" if turned else "implied"
            elif body < head:
                kind = "inverse" if turned else "duplicate"
                rules.append(self._rule(head, body, turned))
            else:
                continue  # found from the other side
            link = RelationLink(kind, names[body], names[head], shared, share, other, 0, 0)
            links.append((link, rules))
        return links

    def _leaks(
        self, links: list[tuple[RelationLink, list[Rule]]]
    ) -> tuple[tuple[Leak, ...], list[dict[str, int]]]:
        """Return the leaks by kind, and by link and split the facts that it gives away."""
        relations = range(self.size[1])
        rules: dict[str, list[Rule]] = {kind: [] for kind in LEAKS}
        rules["copy"] = [Rule(r, r, False, 1.0) for r in relations]
        rules["reverse"] = [self._rule(r, r, True) for r in relations]
        for link, found in links:
            if link.kind != "symmetric":  # any reverse is looked up
                rules[link.kind.partition(" ")[0]] += found
        rules["any"] = [rule for kind in LEAKS for rule in rules[kind]]
        by_split: dict[str, dict[str, HeldFacts]] = {kind: {} for kind in rules}
        derived: list[dict[str, int]] = [{} for _ in links]
        for name in HELD_OUT:
            for kind, some in rules.items():
                ranks = rule_ranks(some, self.splits[name], self.train, self.known)
                by_split[kind][name] = _held(self._given(name, some), ranks)
            for place, (_, some) in enumerate(links):
                derived[place][name] = int(self._given(name, some).sum())
        return tuple(Leak(kind, **parts) for kind, parts in by_split.items()), derived

    def _given(self, name: str, rules: Iterable[Rule]) -> NDArray[np.bool_]:
        """Return which facts of a split one of some rules derives from train."""
        split, rows = self.splits[name], self.rows[name]
        found = np.zeros(len(split), np.bool_)
        for rule in rules:
            if rule.head in rows:
                at = rows[rule.head]
                found[at] |= follows(rule, split[at], self.train)
        return found

    def _linked(self) -> dict[str, HeldFacts]:
        """Return the held-out facts whose two entities have a train fact, of any relation."""
        train = self.data.train
        alike = replace(train, relation=np.zeros_like(train.relation))
        linked = KnownAnswers.build([alike], self.size[0])
        rule = Rule(0, 0, False, 1.0), Rule(0, 0, True, 1.0)
        found = {}
        for name in HELD_OUT:
            facts = replace(self.splits[name], relation=np.zeros_like(self.splits[name].relation))
            given = follows(rule[0], facts, linked) | follows(rule[1], facts, linked)
            found[name] = _held(given, None)
        return found

    def _products(self, every: Triples) -> list[tuple[int, ProductRelation]]:
        """Return relations that are nearly all of their heads times their tails."""
        facts = np.bincount(every.relation, minlength=self.size[1])
        heads, tails = (
            np.bincount(column_counts(every, self.size[0], side)[0] // self.size[0],
                        minlength=self.size[1])
            for side in SIDES
        )  # fmt: skip
        share = facts / np.maximum(1, heads * tails)
        rows = np.flatnonzero((heads > 1) & (tails > 1) & (share >= self.threshold))
        order = sorted(rows.tolist(), key=lambda r: -int(facts[r]))
        return [
            (
                r,
                ProductRelation(
                    self.data.relations[r],
                    int(heads[r]),
                    int(tails[r]),
                    int(facts[r]),
                    float(share[r]),
                ),
            )
            for r in order
        ]

    def _product(self, relations: list[int]) -> dict[str, HeldFacts]:
        """Return what the heads and tails that such relations have in train give away."""
        chosen = self.data.train[np.isin(self.data.train.relation, relations)]
        columns = {}
        for side in SIDES:
            keys, counts = column_counts(chosen, self.size[0], side)
            columns[side] = keys, np.ones_like(counts)
        found = {}
        for name in HELD_OUT:
            split = self.splits[name]
            given = np.ones(len(split), np.bool_)
            for side in SIDES:
                keys = split.relation.astype(np.int64) * self.size[0] + getattr(split, side)
                given &= np.isin(keys, columns[side][0])
            found[name] = _held(given, column_ranks(columns, split, self.known))
        return found

    def _repeated(self) -> Repeated:
        def among(one: str, other: KnownAnswers) -> int:
            facts = self.splits[one]
            found = other.contains(facts.head, facts.relation, facts.tail[:, None], "tail")
            return int(found.sum())

        index = {"train": self.train}
        for name in HELD_OUT:
            index[name] = KnownAnswers.build([self.splits[name]], self.size[0])
        repeats = {n: len(self.splits[n]) - len(of.packed["tail"]) for n, of in index.items()}
        return Repeated(
            **repeats,
            valid_in_train=among("valid", self.train),
            test_in_train=among("test", self.train),
            test_in_valid=among("test", index["valid"]),
        )

    def _unseen(self, split: Triples) -> Unseen:
        entity, relation = (np.zeros(size, np.bool_) for size in self.size)
        entity[self.data.train.head] = entity[self.data.train.tail] = True
        relation[self.data.train.relation] = True
        new = ~entity[split.head] | ~entity[split.tail] | ~relation[split.relation]
        ends = np.unique(np.concatenate([split.head, split.tail]))
        return Unseen(
            entities=int((~entity[ends]).sum()),
            relations=int((~relation[np.unique(split.relation)]).sum()),
            facts=int(new.sum()),
            share=int(new.sum()) / max(1, len(split)),
        )

    def _skew(self) -> Skew:
        train, (entities, relations) = self.data.train, self.size
        degree = np.bincount(train.head, minlength=entities)
        degree += np.bincount(train.tail, minlength=entities)
        sizes = np.bincount(train.relation, minlength=relations)
        most = np.sort(degree)[::-1][: max(1, math.ceil(entities / 100))]
        largest = np.cumsum(np.sort(sizes)[::-1])
        columns = {side: column_counts(train, entities, side) for side in SIDES}
        codes = relation_categories(train, relations).tolist()
        categories: dict[str, int] = {}
        for code in sorted(set(codes), key=lambda code: (code < 0, code)):
            categories[category_name(code)] = codes.count(code)
        valid, test = (_mrr(column_ranks(columns, self.splits[n], self.known)) for n in HELD_OUT)
        return Skew(
            median_degree=float(np.median(degree)),
            mean_degree=float(degree.mean()),
            largest_degree=int(degree.max()),
            largest_entity=self.data.entities[int(degree.argmax())],
            top_share=float(most.sum() / max(1, 2 * len(train))),
            unused_entities=int((degree == 0).sum()),
            largest_relation=self.data.relations[int(sizes.argmax())],
            largest_relation_share=float(sizes.max() / max(1, len(train))),
            relations_of_half=int(np.searchsorted(largest, len(train) / 2)) + 1,
            small_relations=int((sizes < 10).sum()),
            categories=categories,
            valid_mrr=valid,
            test_mrr=test,
        )


def _held(given: NDArray[np.bool_], ranks: Optional[Ranks]) -> HeldFacts:
    count = int(given.sum())
    return HeldFacts(count, count / max(1, len(given)), None if ranks is None else _mrr(ranks))


def _mrr(ranks: Ranks) -> Optional[float]:
    both = np.concatenate(list(ranks.values()))
    return Metrics.of(both).mrr if len(both) else None
