"""A trained model that knows the names of its entities and relations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.arguments import checked
from dglke_distill.data.labels import Labels
from dglke_distill.data.triples import Side, Vocabulary
from dglke_distill.predict.answers import Prediction, Predictions, frame_of, predictions
from dglke_distill.predict.batches import (
    best_entities,
    best_relations,
    by_relation,
    nearest_entities,
)
from dglke_distill.predict.calibrated import Calibrated
from dglke_distill.predict.choosing import Candidates, per_relation
from dglke_distill.predict.discovering import Discovering
from dglke_distill.predict.explaining import Explaining
from dglke_distill.predict.graphs import ScoresGraphs
from dglke_distill.predict.growing import Growing
from dglke_distill.predict.judging import Judging
from dglke_distill.predict.knowing import Facts
from dglke_distill.predict.names import Name, Question, checked_ids, ids_of, names_of
from dglke_distill.predict.pretrained import Pretrained
from dglke_distill.predict.top_k import TopK

if TYPE_CHECKING:
    from dglke_distill.base.table_frames import TableFrame

__all__ = ["Candidates", "Facts", "NamedModel", "Prediction", "Predictions", "Question"]


class NamedModel(
    ScoresGraphs, Pretrained, Judging, Discovering, Explaining, Calibrated, Growing, nn.Module
):
    """A trained model that knows the names of its entities and relations.

    It is a module like any other: ``named(graph)`` scores the edges of a DGLGraph, differentiably,
    and ``parameters()`` are the model's, to be fine-tuned. Predictions are made without gradients,
    from the weights as they are.

    Args:
        loaded: what ``checkpoint.load_model`` returns.
        card: the model card, Markdown.
        name: what to call it: its name in the zoo, or its folder.

    Attributes:
        model: the model over ids, a ``models.base.KGEModel``.
        config: the settings that it was trained with.
        entities: names of the entities; position is id.
        relations: the same of the relations.
        results: what was measured when it was trained.
        card: the model card, Markdown; empty if there is none.
        name: its name in the zoo, or its folder; empty if it has none.
        known_warnings: what must be known of the facts that ``load_known`` loaded.
    """

    def __init__(self, loaded: LoadedModel, *, card: str = "", name: str = "") -> None:
        """Keep the model and its names."""
        super().__init__()
        self.model = loaded.model
        self.config = loaded.config
        self.entities: Vocabulary = loaded.entities
        self.relations: Vocabulary = loaded.relations
        self.results: dict[str, Any] = loaded.results
        self.card = card
        self.name = name
        self.loaded = loaded

    @cached_property
    def labels(self) -> Labels:
        """Names that people know for the entities; ``load_labels`` says where to look."""
        return self.loaded.find_labels()

    @checked
    def load_labels(
        self, data_root: Optional[Path] = None, *, dataset: Optional[str] = None
    ) -> Labels:
        """Find the labels of the entities and keep them as ``labels``.

        Args:
            data_root: folder of datasets already there.
            dataset: folder or file of the dataset, if it is not found by its name.

        Raises:
            UserError: a file of labels is malformed.
        """
        self.labels = self.loaded.find_labels(dataset=dataset, data_root=data_root)
        return self.labels

    def __repr__(self) -> str:
        model, config = self.model, self.config
        return (
            f"NamedModel({config.model.name} of {self.loaded.dataset_name}: {model.num_entities} "
            f"entities of {model.bytes_per_entity} bytes, {len(self.relations)} relations)"
        )

    # --- names and ids --------------------------------------------------------------------------

    def entity_ids(self, names: Iterable[Name]) -> Tensor:
        """Return the ids (n,) int64 of entity names, or of labels that one entity has alone.

        Ids pass through: those of a tensor always, other whole numbers unless names are numbers,
        so that a number could be either.

        Raises:
            UserError: an entity is unknown (near spellings are suggested), or several have the
                label.
        """
        return torch.from_numpy(ids_of(self.entities, names, lambda: self.labels))

    def relation_ids(self, names: Iterable[Name]) -> Tensor:
        """Return the ids (n,) int64 of relation names; as ``entity_ids``."""
        return torch.from_numpy(ids_of(self.relations, names))

    def entity_names(self, ids: Union[Tensor, Iterable[int]]) -> list[str]:
        """Return the names of entity ids (n,); the -1 of an answer that is not there is none."""
        return names_of(self.entities, ids)

    def relation_names(self, ids: Union[Tensor, Iterable[int]]) -> list[str]:
        """Return the names of relation ids (n,); as ``entity_names``."""
        return names_of(self.relations, ids)

    # --- answers with names ---------------------------------------------------------------------

    def predict_tails(
        self,
        head: Name,
        relation: Name,
        k: int = 10,
        *,
        exclude_known: Facts = False,
        candidates: Candidates = None,
        min_probability: Optional[float] = None,
    ) -> Predictions:
        """Answer (head, relation, ?).

        Args:
            head: the known entity, by name, label or id.
            relation: the relation, by name or id.
            k: how many answers; there may be fewer where known ones are left out.
            exclude_known: facts to leave out; see ``Facts``.
            candidates: the entities that may answer; see ``Candidates``.
            min_probability: the probability below which answers are left out, of a calibrated
                model.

        Returns:
            The best answers, best first, with probabilities where the model is calibrated: a list
            of ``Prediction``, with ``to_pandas()`` and ``to_arrow()``.

        Raises:
            UserError: an unknown name, k below 1, facts that are not there to be excluded, or a
                probability asked of a model that is not calibrated.
            NonFiniteScores: a score is NaN or infinite: the model has diverged.
        """
        self.checked_probability(min_probability)
        asked = self.entity_ids([head]), self.relation_ids([relation])
        found = self.top_tails(*asked, k, exclude_known=exclude_known, candidates=candidates)
        chances = self.answer_probabilities(found, "tail", asked[1])
        return self._entities_found(found, chances, min_probability)

    def predict_heads(
        self,
        relation: Name,
        tail: Name,
        k: int = 10,
        *,
        exclude_known: Facts = False,
        candidates: Candidates = None,
        min_probability: Optional[float] = None,
    ) -> Predictions:
        """Answer (?, relation, tail); see ``predict_tails``.

        A model with reciprocal relations has rows of their own for this question: its scores are
        not those of the same triples as answers to (head, relation, ?), which ``score`` gives.
        """
        self.checked_probability(min_probability)
        asked = self.relation_ids([relation]), self.entity_ids([tail])
        found = self.top_heads(*asked, k, exclude_known=exclude_known, candidates=candidates)
        chances = self.answer_probabilities(found, "head", asked[0])
        return self._entities_found(found, chances, min_probability)

    def predict_relations(
        self,
        head: Name,
        tail: Name,
        k: int = 10,
        *,
        exclude_known: Facts = False,
        min_probability: Optional[float] = None,
    ) -> Predictions:
        """Answer (head, ?, tail); see ``top_relations`` and ``predict_tails``."""
        self.checked_probability(min_probability)
        found = self.top_relations(
            self.entity_ids([head]), self.entity_ids([tail]), k, exclude_known=exclude_known
        )
        chances = self.answer_probabilities(found, "relation")
        return predictions(found, self.relations, probability=chances, at_least=min_probability)

    def nearest_entities(self, entity: Name, k: int = 10) -> Predictions:
        """Return the other entities whose vectors have the greatest cosine with that of ``entity``.

        Vectors are as the model compares them (``entity_embeddings``), complex numbers as pairs of
        floats.
        """
        found = nearest_entities(self.model, self.entity_ids([entity]), k)
        return self._entities_found(found)

    def _entities_found(
        self,
        found: TopK,
        probability: Optional[Tensor] = None,
        at_least: Optional[float] = None,
    ) -> Predictions:
        return predictions(
            found,
            self.entities,
            probability=probability,
            at_least=at_least,
            labels=lambda: self.labels.labels,
        )

    # --- answers as tensors ---------------------------------------------------------------------

    def top_tails(
        self,
        head: Tensor,
        relation: Tensor,
        k: int,
        *,
        exclude_known: Facts = False,
        candidates: Candidates = None,
    ) -> TopK:
        """Answer many questions (head, relation, ?).

        Args:
            head: (b,) int64 entity ids.
            relation: (b,) int64 relation ids.
            k: how many answers per question; at most all entities.
            exclude_known: facts to leave out; see ``Facts``.
            candidates: the entities that may answer; see ``Candidates``.

        Returns:
            ``ids`` (b, k) int64 and ``scores`` (b, k), best first; where known answers leave fewer
            than k, ids are -1 and scores minus infinity.
        """
        return self._best(head, relation, "tail", k, exclude_known, candidates)

    def top_heads(
        self,
        relation: Tensor,
        tail: Tensor,
        k: int,
        *,
        exclude_known: Facts = False,
        candidates: Candidates = None,
    ) -> TopK:
        """Answer many questions (?, relation, tail); see ``top_tails``."""
        return self._best(tail, relation, "head", k, exclude_known, candidates)

    def top_relations(
        self, head: Tensor, tail: Tensor, k: int, *, exclude_known: Facts = False
    ) -> TopK:
        """Answer many questions (head, ?, tail) by scoring every relation; see ``top_tails``.

        Scores are those of the triples as answers to (head, relation, ?). A model learns to
        compare entities, and relations among themselves only as far as its loss says so.
        """
        first, last = (torch.from_numpy(checked_ids(self.entities, ids)) for ids in (head, tail))
        return best_relations(self.model, first, last, k, self._index(exclude_known))

    def _best(
        self,
        entity: Tensor,
        relation: Tensor,
        side: Side,
        k: int,
        exclude_known: Facts,
        candidates: Candidates,
    ) -> TopK:
        entity = torch.from_numpy(checked_ids(self.entities, entity))  # -1 would be another row
        relation = torch.from_numpy(checked_ids(self.relations, relation))
        known = self._index(exclude_known)

        def best(entity: Tensor, relation: Tensor, among: Optional[NDArray[np.int64]]) -> TopK:
            ids = None if among is None else torch.from_numpy(among)
            return best_entities(self.model, entity, relation, side, k, known, ids)

        if not per_relation(candidates):
            return best(entity, relation, self.candidate_ids(candidates))

        def of_one(entity: Tensor, relation: Tensor) -> TopK:
            among = self.candidate_ids(candidates, int(relation[0]), side)
            return best(entity, relation, among)

        return by_relation(entity, relation, of_one)

    # --- answers as a table ---------------------------------------------------------------------

    def predict_frame(
        self,
        questions: Sequence[Question],
        k: int = 10,
        *,
        exclude_known: Facts = False,
        candidates: Candidates = None,
        min_probability: Optional[float] = None,
    ) -> TableFrame:
        """Answer many questions into a pandas frame, which has ``to_arrow`` too.

        Args:
            questions: (head, relation, tail) with None for what is asked, once in each, or in
                none of a triple that is itself to be judged; a list or a frame of three columns.
                A missing value of pandas (NaN, NA) is None, and so is ``?`` unless it is a name.
            k: how many answers per question.
            exclude_known: facts to leave out; see ``Facts``.
            candidates: the entities that may answer; see ``Candidates``.
            min_probability: as for ``predict_tails``.

        Returns:
            A row per answer, questions in their order: ``question`` (its number), ``rank`` (from
            1), ``head``, ``relation``, ``tail`` (names), ``score`` and, where the model is
            calibrated, ``probability``; with labels, ``head_label`` and ``tail_label`` last. Of a
            whole triple there is one row, with its tail's ``rank``, the mean of equal scores.
        """
        options = {"exclude_known": exclude_known, "candidates": candidates}
        return frame_of(self, questions, k, min_probability=min_probability, **options)

    # --- vectors --------------------------------------------------------------------------------

    @property
    def entity_embeddings(self) -> Tensor:
        """All entity vectors as the model compares them, (entities, dim), detached."""
        return self.model.entity_embeddings

    @property
    def relation_embeddings(self) -> Tensor:
        """The relation table, detached; reciprocal relations in its second half."""
        return self.model.relation_embeddings
