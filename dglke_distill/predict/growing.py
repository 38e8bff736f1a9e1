"""Models that take in new entities and facts; the mathematics is ``models.fold_in``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

from dglke_distill.base.arguments import checked
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import in_home, resolved
from dglke_distill.config import DataConfig
from dglke_distill.data.identity import Lookup
from dglke_distill.data.triples import Dataset, Triples
from dglke_distill.predict.knowing import Knowing
from dglke_distill.predict.names import facts_of, triples_of

Kind = TypeVar("Kind", bound="Growing")


@dataclass(frozen=True)
class Growth:
    """What a model takes in; each part is described at ``Growing.add_entities``.

    Attributes:
        triples: the new facts, in names.
        lookup: where the facts that the model was trained on are looked for.
        refresh: whether known entities move too.
        seed: of the questions that are drawn.
        data_out: where the caller will write the data; None: nowhere.
        overwrite: whether data that are there will be replaced.
    """

    triples: Iterable[tuple[str, str, str]]
    lookup: Lookup
    refresh: bool = False
    seed: int = 0
    data_out: Union[str, Path, None] = None
    overwrite: bool = False


class Growing(Knowing):
    """What makes a model grow."""

    @checked
    def add_entities(
        self: Kind,
        triples: Iterable[tuple[str, str, str]],
        *,
        refresh: bool = False,
        dataset: Optional[str] = None,
        data_root: Optional[Path] = None,
        allow_other_data: bool = False,
        seed: int = 0,
        data_out: Union[str, Path, None] = None,
        overwrite: bool = False,
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
            data_out: new folder for the data that the new model belongs to: its dataset with the
                facts added to the train split, so that the model can be evaluated; None: they are
                not written.
            overwrite: whether data that ``data_out`` holds are replaced.

        Raises:
            UserError: see ``grown``.
        """
        made, data = self.grown(
            Growth(
                triples,
                Lookup(dataset, data_root, True, allow_other_data),
                refresh=refresh,
                seed=seed,
                data_out=data_out,
                overwrite=overwrite,
            )
        )
        if data_out is not None:
            from dglke_distill.data.writers import write_dataset

            write_dataset(data, resolved(data_out), overwrite=overwrite)
        return made

    def grown(self: Kind, growth: Growth) -> tuple[Kind, Dataset]:
        """Do what ``add_entities`` does, but write nothing.

        Args:
            growth: what is wanted.

        Returns:
            The model, and the data that it belongs to.

        Raises:
            UserError: an unknown relation, nothing new, new entities that no fact links to known
                ones, a model whose entities have no vectors of their own, a dataset that is
                another one; or data are to be written, and the dataset is not at hand or the folder
                holds something.
        """
        from dglke_distill.data.known_answers import KnownAnswers
        from dglke_distill.data.writers import check_new
        from dglke_distill.predict.extending import describe, extended, grown_data

        facts: Any = facts_of(growth.triples)
        data_out, dataset = growth.data_out, growth.lookup.dataset
        place = None if data_out is None else resolved(data_out)
        if place is not None:
            check_new(place, growth.overwrite)
            if dataset is not None and resolved(in_home(dataset)).is_relative_to(place):
                raise UserError(f"{data_out}: holds the dataset itself; choose another folder")
        splits = self._at_hand(growth.lookup)
        if place is not None and len(splits) != 3:
            raise UserError(
                f"{data_out}: nothing can be written there, since the dataset that the model was "
                "trained on is not at hand; name it by --dataset"
            )
        trained = splits[0] if splits else None
        made = extended(self.loaded, facts, trained, refresh=growth.refresh, seed=growth.seed)
        given = triples_of(made.entities, made.relations, facts)
        data = grown_data(made, splits, given)
        made.results["dataset"] = describe(data, place)
        if place is not None:
            as_written = DataConfig(dataset=str(place), format="names_hrt")
            made = replace(made, config=made.config.model_copy(update={"data": as_written}))
        found = type(self)(made)  # type: ignore[call-arg]
        found._known = KnownAnswers.build([given, *splits], len(made.entities))
        found._trained = KnownAnswers.build([given, *splits[:1]], len(made.entities)).triples(), []
        found.known_warnings = () if splits else ("only the facts given are known",)
        return found, data

    def _at_hand(self, lookup: Lookup) -> tuple[Triples, ...]:
        """Return the facts that are here: of each split, train first; or all known; or none."""
        try:
            found, _ = self.loaded.find_dataset("the model", lookup)
        except UserError:
            if lookup.dataset is not None:
                raise
            known = self._known_or_saved()
            return () if known is None else (known.triples(),)
        return found.train, found.valid, found.test
