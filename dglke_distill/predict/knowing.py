"""The facts that a model's answers are compared with, and left out where they are known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from torch import Tensor

from dglke_distill.base.arguments import checked, plain, refused
from dglke_distill.data.identity import Lookup
from dglke_distill.data.triples import Triples
from dglke_distill.predict.names import Name, triples_of
from dglke_distill.predict.part import Part

if TYPE_CHECKING:
    from dglke_distill.data.known_answers import KnownAnswers

NamedTriples = Union[Triples, Tensor, Iterable[tuple[Name, Name, Name]]]

Facts = Union[bool, "KnownAnswers", NamedTriples]
"""Facts that are no news: True for those of the model's own dataset, all splits; or facts given.
An index of facts (``known_answers.KnownAnswers``) is built once; triples are indexed per call."""


class Knowing(Part):
    """What makes a model leave out what is known.

    Attributes:
        known_warnings: what must be known of the facts that ``load_known`` loaded.
    """

    known_warnings: tuple[str, ...] = ()

    @checked
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
            lookup = Lookup(dataset, data_root, allow_other_data=allow_other_data)
            self._known, told = self.loaded.known_facts(lookup)
            self.known_warnings = tuple(told)
        return self._known

    def _index(self, facts: Facts) -> Optional[KnownAnswers]:
        facts = plain(facts)
        if isinstance(facts, bool):
            return self.load_known() if facts else None
        from dglke_distill.data.known_answers import KnownAnswers

        if isinstance(facts, KnownAnswers):
            return facts
        if facts is None or isinstance(facts, (str, int, float)):
            raise refused(facts, "exclude_known", "True, False, or triples")
        return KnownAnswers.build([self._triples(facts)], len(self.entities))

    def _triples(self, triples: NamedTriples) -> Triples:
        if isinstance(triples, Triples):
            return triples
        return triples_of(self.entities, self.relations, triples, lambda: self.labels)
