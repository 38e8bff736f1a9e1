"""Models that take in new entities and facts; the mathematics is ``models.fold_in``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional, TypeVar

from dglke_distill.artifacts.checkpoint import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.data.triples import Triples
from dglke_distill.predict.names import triples_of

__all__ = ["Growing"]

Kind = TypeVar("Kind", bound="Growing")


class Growing:
    """What makes a model grow.

    Attributes:
        loaded: the model with all that was saved beside it.
    """

    loaded: LoadedModel

    def add_entities(
        self: Kind,
        triples: Iterable[tuple[str, str, str]],
        *,
        refresh: bool = False,
        dataset: Optional[str] = None,
        data_root: Optional[Path] = None,
        allow_other_data: bool = False,
        seed: int = 0,
    ) -> Kind:
        """Return a model that knows new entities too, folded in from their facts.

        Everything else is frozen: the vectors, and so the answers, of what was known before stay
        as they are to the last bit, but for new entities among the answers. This model itself is
        not changed. Nothing is downloaded: without the facts that it was trained on, it only knows
        less of what the new entities are not.

        Args:
            triples: names of head, relation and tail; entities may be new, relations not.
            refresh: whether the known entities that the facts touch move too, each by all its
                facts.
            dataset: name or path of the dataset it was trained on; None: found by its name.
            data_root: folder of datasets already there.
            allow_other_data: whether the triples may be others than those trained on.
            seed: of the questions that are drawn.

        Raises:
            UserError: an unknown relation, nothing new, a model whose entities have no vectors of
                their own, or a dataset that is another one.
        """
        from dglke_distill.data.known_answers import KnownAnswers
        from dglke_distill.predict.extending import describe_grown, extended

        facts: Any = [tuple(fact) for fact in triples]
        splits = self._at_hand(data_root, dataset, allow_other_data)
        trained = splits[0] if splits else None
        made = extended(self.loaded, facts, trained, refresh=refresh, seed=seed)
        given = triples_of(made.entities, made.relations, facts)
        made.results["dataset"] = describe_grown(made, splits, given)
        found: Any = type(self)(made)  # type: ignore[call-arg]
        found._known = KnownAnswers.build([given, *splits], len(made.entities))
        found._trained = KnownAnswers.build([given, *splits[:1]], len(made.entities)).triples(), []
        found.known_warnings = () if splits else ("only the facts given are known",)
        return found  # type: ignore[no-any-return]

    def _at_hand(
        self, data_root: Optional[Path], dataset: Optional[str], allow_other_data: bool
    ) -> tuple[Triples, ...]:
        """Return the facts that are here: of each split, train first; or all known; or none."""
        try:
            found, _ = self.loaded.find_dataset(
                "the model",
                dataset=dataset,
                data_root=data_root,
                offline=True,
                allow_other_data=allow_other_data,
            )
        except UserError:
            if dataset is not None:
                raise
            known = getattr(self, "_known", None)
            known = self.loaded.saved_facts() if known is None else known
            return () if known is None else (known.triples(),)
        return found.train, found.valid, found.test
