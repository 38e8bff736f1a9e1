"""What the parts of a ``NamedModel`` have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.data.identity import Lookup
from dglke_distill.data.triples import Triples, Vocabulary
from dglke_distill.models.base import KGEModel

if TYPE_CHECKING:
    from torch import Tensor

    from dglke_distill.data.known_answers import KnownAnswers
    from dglke_distill.data.labels import Labels


class Part:
    """Base of the classes that ``NamedModel`` is put together of, each for one kind of question.

    Attributes:
        model: the model over ids.
        loaded: the model with all that was saved beside it.
        entities: names of the entities; position is id.
        relations: the same of the relations.
    """

    model: KGEModel
    loaded: LoadedModel
    entities: Vocabulary
    relations: Vocabulary
    _known: Optional[KnownAnswers] = None
    """The index of all facts, once they are loaded."""
    _trained: Optional[tuple[Triples, list[str]]] = None
    """Train facts of a model that was extended in memory: no dataset has them all."""
    if TYPE_CHECKING:

        @property
        def labels(self) -> Labels:
            """Names that people know for the entities."""

        def score(self, triples: Any) -> Tensor:
            """Score triples."""

    def train_facts(self, lookup: Lookup) -> tuple[Triples, list[str]]:
        """Return the train facts, and what must be known of them; see ``LoadedModel.train_facts``.

        Args:
            lookup: where the dataset is looked for.

        Raises:
            UserError: there are none, or they are others than the model's.
        """
        if self._trained is not None and lookup.dataset is None:
            return self._trained
        return self.loaded.train_facts(lookup)

    def _known_or_saved(self) -> Optional[KnownAnswers]:
        """Return the facts that are loaded, else those saved with the model; None without any."""
        return self.loaded.saved_facts() if self._known is None else self._known
