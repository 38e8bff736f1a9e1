"""The facts that a model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from dglke_distill.artifacts.checkpoint import LoadedModel
from dglke_distill.data.triples import Triples

__all__ = ["Trained"]


class Trained:
    """What makes a model find its train facts.

    Attributes:
        loaded: the model with all that was saved beside it.
    """

    loaded: LoadedModel
    _trained: Optional[tuple[Triples, list[str]]] = None
    """Of a model that was extended in memory: no dataset has all its facts."""

    def train_facts(
        self,
        data_root: Optional[Path] = None,
        *,
        dataset: Optional[str] = None,
        allow_other_data: bool = False,
    ) -> tuple[Triples, list[str]]:
        """Return the train facts, and what must be known of them; see ``LoadedModel.train_facts``.

        Args:
            data_root: folder of datasets already there.
            dataset: name or path of the dataset; None: found by its name.
            allow_other_data: whether the triples may be others than those trained on.

        Raises:
            UserError: there are none, or they are others than the model's.
        """
        if self._trained is not None and dataset is None:
            return self._trained
        return self.loaded.train_facts(
            data_root, dataset=dataset, allow_other_data=allow_other_data
        )
