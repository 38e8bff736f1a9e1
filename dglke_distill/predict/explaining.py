"""Why an answer: the train facts that support it, analogous ones and paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from dglke_distill.base.arguments import checked, whole
from dglke_distill.base.errors import UserError
from dglke_distill.data.identity import Lookup
from dglke_distill.data.triples import Triples
from dglke_distill.models.base import KGEModel
from dglke_distill.predict.batches import check_scores
from dglke_distill.predict.names import Name, id_of
from dglke_distill.predict.part import Part
from dglke_distill.predict.support import Analogy, Explanation, NamedFact, PathKinds, PathSupport

if TYPE_CHECKING:
    from dglke_distill.predict import paths

FACTS_AT_ONCE = 1 << 14
"""Facts whose vectors are compared at once."""

LONGEST = 3


def nearest_facts(
    model: KGEModel, facts: Triples, head: int, tail: int, k: int
) -> list[tuple[int, float, float]]:
    """Return the facts between the most similar entities, by cosines of vectors.

    Args:
        model: the model, whose ``entity_embeddings`` are compared.
        facts: n facts.
        head: id that heads are compared with.
        tail: id that tails are compared with.
        k: how many.

    Returns:
        Row, cosine of the heads and cosine of the tails, by the greatest sum of both; of equal
        sums the first row first.

    Raises:
        NonFiniteScores: a vector is not finite.
    """
    model.require_vectors("an explanation by facts about similar entities")
    given = _unit(model, torch.tensor([head, tail]))
    best: list[tuple[float, int, float, float]] = []
    for start in range(0, len(facts), FACTS_AT_ONCE):
        part = facts[slice(start, start + FACTS_AT_ONCE)]
        cosines = [
            _cosines(model, torch.from_numpy(column.astype(np.int64)), given[place])
            for place, column in enumerate((part.head, part.tail))
        ]
        order = torch.argsort(cosines[0] + cosines[1], descending=True, stable=True)[:k].tolist()
        ahead, behind = (column.tolist() for column in cosines)
        best += [(ahead[i] + behind[i], start + i, ahead[i], behind[i]) for i in order]
        best = sorted(best, key=lambda one: (-one[0], one[1]))[:k]
    return [(row, one, other) for _, row, one, other in best]


def _unit(model: KGEModel, nodes: Tensor) -> Tensor:
    distinct, rows = torch.unique(nodes.to(model.device), return_inverse=True)
    return normalize(model.encode(distinct).vectors.double(), dim=1)[rows]


def _cosines(model: KGEModel, nodes: Tensor, to: Tensor) -> Tensor:
    cosines = _unit(model, nodes) @ to
    check_scores(cosines[:, None], nodes, None, "tail", nodes)
    return cosines.cpu()


class Explaining(Part):
    """What makes a model explain its answers.

    Attributes:
        support_warnings: what must be known of the facts that ``load_support`` loaded.
    """

    support_warnings: tuple[str, ...] = ()
    _support: Optional[paths.TrainGraph] = None

    @checked
    def load_support(
        self,
        data_root: Optional[Path] = None,
        *,
        dataset: Optional[str] = None,
        allow_other_data: bool = False,
    ) -> paths.TrainGraph:
        """Return the graph of the train facts, which explanations are taken from; read once.

        Nothing is downloaded. Where the dataset is not on this machine, facts are those published
        with the model, of all splits; ``support_warnings`` then says so.

        Args:
            data_root: folder of datasets already there.
            dataset: name or path of the dataset; None: found by its name.
            allow_other_data: whether the triples may be others than those trained on.

        Raises:
            UserError: there are no facts, or they are others than the model's.
        """
        if self._support is None:
            try:
                facts, told = self.train_facts(
                    Lookup(dataset, data_root, allow_other_data=allow_other_data)
                )
            except UserError as error:
                if dataset is not None:
                    raise
                raise UserError(
                    f"{error} (explanations need the train facts: `data prepare` gets a published "
                    "dataset, --dataset names a folder)"
                ) from None
            self.use_support(facts, told)
        assert self._support is not None
        return self._support

    def use_support(self, facts: Triples, warnings: Any = ()) -> None:
        """Take explanations from facts at hand.

        Args:
            facts: train facts, in the model's ids.
            warnings: what must be known of them.
        """
        from dglke_distill.predict.paths import TrainGraph

        self._support = TrainGraph(facts, len(self.entities), len(self.relations))
        self.support_warnings = tuple(warnings)

    def explain(
        self, head: Name, relation: Name, tail: Name, k: int = 5, *, longest: int = LONGEST
    ) -> Explanation:
        """Return the train facts that support a triple.

        Args:
            head: an entity, by name, label or id.
            relation: a relation, by name or id.
            tail: an entity.
            k: how many analogous facts, and how many kinds of paths, at most.
            longest: most steps of a path, 1 to 3.

        Returns:
            Analogous facts and paths, none where there are none. The triple itself, should train
            have it, is not among them.

        Raises:
            UserError: an unknown name, k below 1, another length, or no facts; ``load_support``
                says where they are.
        """
        k, longest = whole(k, "k"), whole(longest, "longest")
        if k < 1:
            raise UserError(f"k is {k}: ask for at least 1 supporting fact")
        if longest not in range(1, LONGEST + 1):
            raise UserError(f"longest is {longest}: paths have 1 to {LONGEST} steps")
        h, t = (id_of(self.entities, name, lambda: self.labels) for name in (head, tail))
        r = id_of(self.relations, relation)
        score = float(self.score(torch.tensor([[h, r, t]]))[0])
        graph = self.load_support()
        found = graph.paths(h, r, t, longest)
        paths, kinds = self._supports(graph, (h, r, t), found.paths, k)
        return Explanation(
            self.entities[h],
            self.relations[r],
            self.entities[t],
            score,
            bool(graph.known.contains(np.array([h]), np.array([r]), np.array([[t]]), "tail")[0, 0]),
            tuple(self._analogies(graph, (h, r, t), k)),
            tuple(paths),
            kinds,
            found.whole,
            self.support_warnings,
        )

    def _analogies(
        self, graph: paths.TrainGraph, triple: tuple[int, int, int], k: int
    ) -> Iterator[Analogy]:
        if not self.model.has_vectors:  # nothing says which entities are similar
            return
        h, r, t = triple
        facts = graph.facts[graph.facts.relation == r]
        facts = facts[(facts.head != h) | (facts.tail != t)]
        with torch.no_grad():
            nearest = nearest_facts(self.model, facts, h, t, k)
        for row, one, other in nearest:
            fact = self._fact(int(facts.head[row]), r, int(facts.tail[row]))
            yield Analogy(fact, (one + other) / 2, one, other)

    def _supports(
        self,
        graph: paths.TrainGraph,
        triple: tuple[int, int, int],
        found: list[paths.Path],
        k: int,
    ) -> tuple[list[PathSupport], PathKinds]:
        """Return a path of each of the k best kinds, and how many kinds there were."""
        from dglke_distill.predict.paths import KINDS

        h, r, t = triple
        kinds: dict[tuple[int, ...], list[paths.Path]] = {}
        for path in found:
            kinds.setdefault(path.steps, []).append(path)
        of_length: dict[int, int] = {}
        ranked, judged = [], 0
        for steps, some in sorted(kinds.items(), key=lambda kind: (len(kind[1]), kind[0])):
            of_length[len(steps)] = of_length.get(len(steps), 0) + 1
            if of_length[len(steps)] <= KINDS:
                judged += 1
                worth = graph.confidence(steps, r, (h, t))
                if worth.hits:
                    ranked.append((-worth.weight, len(steps), steps, worth, some))
        ranked.sort(key=lambda one: one[:3])
        supports = []
        for _, _, steps, worth, some in ranked[:k]:
            # Of several, the one through entities of fewest facts: they say most.
            path = min(some, key=lambda p: (sum(map(graph.degree, p.nodes[1:-1])), p.nodes))
            supports.append(
                PathSupport(
                    tuple(self._steps(path)),
                    self._rule(steps),
                    worth.share,
                    worth.pairs,
                    worth.hits,
                    not worth.whole,
                    len(some),
                )
            )
        return supports, PathKinds(len(kinds), judged, len(ranked))

    def _fact(self, head: int, relation: int, tail: int) -> NamedFact:
        return NamedFact(self.entities[head], self.relations[relation], self.entities[tail])

    def _steps(self, path: paths.Path) -> Iterator[NamedFact]:
        number = len(self.relations)
        for step, one, other in zip(path.steps, path.nodes, path.nodes[1:]):
            back = step >= number
            yield self._fact(other, step - number, one) if back else self._fact(one, step, other)

    def _rule(self, steps: tuple[int, ...]) -> str:
        names = ["h", *"xy"[: len(steps) - 1], "t"]
        number = len(self.relations)
        parts = []
        for step, one, other in zip(steps, names, names[1:]):
            ends = (other, step - number, one) if step >= number else (one, step, other)
            parts.append(f"({ends[0]}, {self.relations[ends[1]]}, {ends[2]})")
        return " and ".join(parts)
