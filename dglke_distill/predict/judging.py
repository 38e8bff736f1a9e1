"""Triples that are given whole: their scores, and their ranks among all answers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dglke_distill.models.base import KGEModel
from dglke_distill.predict.batches import check_scores, ranks_of
from dglke_distill.predict.choosing import Candidates, Choosing, per_relation
from dglke_distill.predict.knowing import Facts, Knowing, NamedTriples


class Judging(Choosing, Knowing):
    """What makes a model judge triples.

    Attributes:
        model: the model over ids.
    """

    model: KGEModel

    def score(self, triples: NamedTriples) -> Tensor:
        """Score triples: names or ids in the order head, relation, tail; higher is more plausible.

        Args:
            triples: (n, 3) ids in a tensor, ``Triples``, or an iterable of triples of names.

        Returns:
            (n,) scores, as answers to (head, relation, ?); without gradients (``model`` has them).
            A model with reciprocal relations has another score for each as an answer to
            (?, relation, tail): ``predict_heads`` gives those.

        Raises:
            UserError: an unknown name.
            NonFiniteScores: a score is NaN or infinite.
        """
        ids = torch.from_numpy(self._triples(triples).to_array().astype(np.int64))
        with torch.no_grad():
            head, relation, tail = ids.to(self.model.device).unbind(1)
            scores = self.model.score_triples(head, relation, tail)
            check_scores(scores[:, None], head, relation, "tail", tail)
        return scores

    def rank(
        self,
        triples: NamedTriples,
        *,
        exclude_known: Facts = False,
        candidates: Candidates = None,
    ) -> Tensor:
        """Return where the tails of triples stand among all answers to (head, relation, ?).

        Args:
            triples: as for ``score``.
            exclude_known: facts that are no rivals; see ``Facts``. A triple that is one itself is
                ranked all the same.
            candidates: the entities that may answer; see ``Candidates``. A tail that is none of
                them is ranked as if it were.

        Returns:
            (n,) float64 from 1, the best, on. Equal scores share the mean of their ranks: 1.5 of
            the two best.

        Raises:
            UserError: an unknown name, or facts that are not there to be excluded.
            NonFiniteScores: a score is NaN or infinite.
        """
        ids = torch.from_numpy(self._triples(triples).to_array().astype(np.int64))
        known = self._index(exclude_known)
        ranks = torch.zeros(len(ids), dtype=torch.float64)
        each = per_relation(candidates)
        for relation in torch.unique(ids[:, 1]).tolist() if each else [-1]:
            chosen = ids[:, 1] == relation if each else slice(None)
            among = self.candidate_ids(candidates, relation)
            some = None if among is None else torch.from_numpy(among)
            head, link, tail = ids[chosen].unbind(1)
            ranks[chosen] = ranks_of(self.model, head, link, tail, known, some)
        return ranks
