"""A trained model that knows the names of its entities and relations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn

from dglke_distill.artifacts.checkpoint import LoadedModel
from dglke_distill.data.triples import Triples, Vocabulary
from dglke_distill.predict.batches import (
    best_entities,
    best_relations,
    check_scores,
    nearest_entities,
)
from dglke_distill.predict.graphs import ScoresGraphs
from dglke_distill.predict.names import (
    Name,
    Question,
    by_asked,
    checked_ids,
    ids_of,
    rows_of,
    triples_of,
)
from dglke_distill.predict.pretrained import Pretrained
from dglke_distill.predict.top_k import TopK

if TYPE_CHECKING:
    import pandas

    from dglke_distill.data.known_answers import KnownAnswers

__all__ = ["Facts", "NamedModel", "Prediction", "Question"]

NamedTriples = Union[Triples, Tensor, Iterable[tuple[Name, Name, Name]]]

Facts = Union[bool, "KnownAnswers", NamedTriples]
"""Facts that are no news: True for those of the model's own dataset, all splits; or facts given.
An index of facts (``known_answers.KnownAnswers``) is built once; triples are indexed per call."""


class Prediction(NamedTuple):
    """An answer: its name, its score (higher is more plausible) and its id."""

    name: str
    score: float
    id: int


class NamedModel(ScoresGraphs, Pretrained, nn.Module):
    """A trained model that knows the names of its entities and relations.

    It is a module like any other: ``named(graph)`` scores the edges of a DGLGraph, differentiably,
    and ``parameters()`` are the model's, to be fine-tuned. Predictions are made without gradients,
    from the weights as they are.

    Args:
        loaded: what ``checkpoint.load_model`` returns.
        card: the model card, Markdown.

    Attributes:
        model: the model over ids, a ``models.base.KGEModel``.
        config: the settings that it was trained with.
        entities: names of the entities; position is id. relations: the same of the relations.
        results: what was measured when it was trained.
        card: the model card, Markdown; empty if there is none.
        known_warnings: what must be known of the facts that ``load_known`` loaded.
    """

    def __init__(self, loaded: LoadedModel, *, card: str = "") -> None:
        """Keep the model and its names."""
        super().__init__()
        self.model = loaded.model
        self.config = loaded.config
        self.entities: Vocabulary = loaded.entities
        self.relations: Vocabulary = loaded.relations
        self.results: dict[str, Any] = loaded.results
        self.card = card
        self.loaded = loaded
        self._known: Optional[KnownAnswers] = None
        self.known_warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        model, config = self.model, self.config
        return (
            f"NamedModel({config.model.name} of {self.loaded.dataset_name}: {model.num_entities} "
            f"entities of {model.bytes_per_entity} bytes, {len(self.relations)} relations)"
        )

    # --- names and ids --------------------------------------------------------------------------

    def entity_ids(self, names: Iterable[Name]) -> Tensor:
        """Return the ids (n,) int64 of entity names.

        Ids pass through: those of a tensor always, other whole numbers unless names are numbers,
        so that a number could be either.

        Raises:
            UserError: an entity is unknown; near spellings are suggested.
        """
        return torch.from_numpy(ids_of(self.entities, names))

    def relation_ids(self, names: Iterable[Name]) -> Tensor:
        """Return the ids (n,) int64 of relation names; as ``entity_ids``."""
        return torch.from_numpy(ids_of(self.relations, names))

    def entity_names(self, ids: Union[Tensor, Iterable[int]]) -> list[str]:
        """Return the names of entity ids (n,)."""
        return [self.entities[int(i)] for i in ids]

    def relation_names(self, ids: Union[Tensor, Iterable[int]]) -> list[str]:
        """Return the names of relation ids (n,)."""
        return [self.relations[int(i)] for i in ids]

    # --- answers with names ---------------------------------------------------------------------

    def predict_tails(
        self, head: Name, relation: Name, k: int = 10, *, exclude_known: Facts = False
    ) -> list[Prediction]:
        """Answer (head, relation, ?).

        Args:
            head: the known entity. relation: the relation.
            k: how many answers; there may be fewer where known ones are left out.
            exclude_known: facts to leave out; see ``Facts``.

        Returns:
            The best answers, best first.

        Raises:
            UserError: an unknown name, k below 1, or facts that are not there to be excluded.
            NonFiniteScores: a score is NaN or infinite: the model has diverged.
        """
        found = self.top_tails(
            self.entity_ids([head]), self.relation_ids([relation]), k, exclude_known=exclude_known
        )
        return _predictions(found, self.entities)

    def predict_heads(
        self, relation: Name, tail: Name, k: int = 10, *, exclude_known: Facts = False
    ) -> list[Prediction]:
        """Answer (?, relation, tail); see ``predict_tails``.

        A model with reciprocal relations has rows of their own for this question: its scores are
        not those of the same triples as answers to (head, relation, ?), which ``score`` gives.
        """
        found = self.top_heads(
            self.relation_ids([relation]), self.entity_ids([tail]), k, exclude_known=exclude_known
        )
        return _predictions(found, self.entities)

    def predict_relations(
        self, head: Name, tail: Name, k: int = 10, *, exclude_known: Facts = False
    ) -> list[Prediction]:
        """Answer (head, ?, tail); see ``top_relations``."""
        found = self.top_relations(
            self.entity_ids([head]), self.entity_ids([tail]), k, exclude_known=exclude_known
        )
        return _predictions(found, self.relations)

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

    def nearest_entities(self, entity: Name, k: int = 10) -> list[Prediction]:
        """Return the other entities whose vectors have the greatest cosine with that of ``entity``.

        Vectors are as the model compares them (``entity_embeddings``), complex numbers as pairs of
        floats.
        """
        found = nearest_entities(self.model, self.entity_ids([entity]), k)
        return _predictions(found, self.entities)

    # --- answers as tensors ---------------------------------------------------------------------

    def top_tails(
        self, head: Tensor, relation: Tensor, k: int, *, exclude_known: Facts = False
    ) -> TopK:
        """Answer many questions (head, relation, ?).

        Args:
            head: (b,) int64 entity ids. relation: (b,) int64 relation ids.
            k: how many answers per question; at most all entities.
            exclude_known: facts to leave out; see ``Facts``.

        Returns:
            ``ids`` (b, k) int64 and ``scores`` (b, k), best first; where known answers leave fewer
            than k, ids are -1 and scores minus infinity.
        """
        self._check(head, relation)
        return best_entities(self.model, head, relation, "tail", k, self._index(exclude_known))

    def top_heads(
        self, relation: Tensor, tail: Tensor, k: int, *, exclude_known: Facts = False
    ) -> TopK:
        """Answer many questions (?, relation, tail); see ``top_tails``."""
        self._check(tail, relation)
        return best_entities(self.model, tail, relation, "head", k, self._index(exclude_known))

    def top_relations(
        self, head: Tensor, tail: Tensor, k: int, *, exclude_known: Facts = False
    ) -> TopK:
        """Answer many questions (head, ?, tail) by scoring every relation; see ``top_tails``.

        Scores are those of the triples as answers to (head, relation, ?). A model learns to
        compare entities, and relations among themselves only as far as its loss says so.
        """
        checked_ids(self.entities, head)
        checked_ids(self.entities, tail)
        return best_relations(self.model, head, tail, k, self._index(exclude_known))

    def _check(self, entity: Tensor, relation: Tensor) -> None:
        """Refuse ids that are none: a negative one would answer for another row."""
        checked_ids(self.entities, entity)
        checked_ids(self.relations, relation)

    # --- answers as a table ---------------------------------------------------------------------

    def predict_frame(
        self, questions: Sequence[Question], k: int = 10, *, exclude_known: Facts = False
    ) -> pandas.DataFrame:
        """Answer many questions into a pandas frame.

        Args:
            questions: (head, relation, tail) with None for what is asked, once in each; a list
                or a frame of three columns.
            k: how many answers per question. exclude_known: facts to leave out; see ``Facts``.

        Returns:
            A row per answer, questions in their order: ``question`` (its number), ``rank`` (from
            1), ``head``, ``relation``, ``tail`` (names) and ``score``.
        """
        import pandas

        names = (self.entities, self.relations, self.entities)
        questions = rows_of(questions)
        rows: list[list[Any]] = [[] for _ in questions]
        for place, numbers in enumerate(by_asked(questions)):
            if not numbers:
                continue
            given = [
                torch.from_numpy(ids_of(names[i], [questions[number][i] for number in numbers]))  # type: ignore[misc]
                for i in range(3)
                if i != place
            ]
            ask = (self.top_heads, self.top_relations, self.top_tails)[place]
            found = ask(given[0], given[1], k, exclude_known=exclude_known)
            for row, number in enumerate(numbers):
                ids = [int(column[row]) for column in given]
                for rank, answer in enumerate(_predictions(found, names[place], row), 1):
                    h, r, t = (
                        names[i][j] for i, j in enumerate([*ids[:place], answer.id, *ids[place:]])
                    )
                    rows[number].append((number, rank, h, r, t, answer.score))
        columns = ["question", "rank", "head", "relation", "tail", "score"]
        return pandas.DataFrame([row for each in rows for row in each], columns=columns)

    # --- known facts ----------------------------------------------------------------------------

    def load_known(
        self,
        data_root: Optional[Path] = None,
        *,
        dataset: Optional[str] = None,
        allow_other_data: bool = False,
    ) -> KnownAnswers:
        """Return the index of all facts of the model's dataset; it is loaded once.

        Args:
            data_root: folder of datasets already there; see ``data.catalog.load``.
            dataset: name or path of the dataset; None: the facts published with the model, else
                the dataset found by its name, see ``data.own_dataset``.
            allow_other_data: whether the triples may be others than those trained on;
                ``known_warnings`` then says so.

        Raises:
            UserError: the dataset is not there, or has other triples, entities or relations.
        """
        if self._known is None:
            self._known, told = self.loaded.known_facts(
                data_root, dataset=dataset, allow_other_data=allow_other_data
            )
            self.known_warnings = tuple(told)
        return self._known

    def _index(self, facts: Facts) -> Optional[KnownAnswers]:
        if isinstance(facts, bool):
            return self.load_known() if facts else None
        from dglke_distill.data.known_answers import KnownAnswers

        if isinstance(facts, KnownAnswers):
            return facts
        return KnownAnswers.build([self._triples(facts)], self.model.num_entities)

    def _triples(self, triples: NamedTriples) -> Triples:
        if isinstance(triples, Triples):
            return triples
        return triples_of(self.entities, self.relations, triples)

    # --- vectors --------------------------------------------------------------------------------

    @property
    def entity_embeddings(self) -> Tensor:
        """All entity vectors as the model compares them, (entities, dim), detached."""
        return self.model.entity_embeddings

    @property
    def relation_embeddings(self) -> Tensor:
        """The relation table, detached; reciprocal relations in its second half."""
        return self.model.relation_embeddings


def _predictions(found: TopK, names: Vocabulary, row: int = 0) -> list[Prediction]:
    answers = zip(found.ids[row].tolist(), found.scores[row].tolist())
    return [Prediction(names[i], score, i) for i, score in answers if i >= 0]
