"""A model in memory, with its settings, its names and its results; and its own dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.base.arguments import in_command
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
from dglke_distill.data.identity import Identity, Lookup, compare_data, short, shown
from dglke_distill.data.labels import Labels, find_labels, read_labels
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.models.base import KGEModel

if TYPE_CHECKING:
    from dglke_distill.calibration import Calibration
    from dglke_distill.data.known_answers import KnownAnswers


@dataclass(frozen=True)
class LoadedModel:
    """A model with its settings, its names and the results it was saved with.

    The model is a ``compression.CompressedModel`` where its tables are stored in fewer bytes.
    ``results`` is ``results.json`` as it stands, so that any file loads, whatever it lacks,
    and is written again as it was; ``figures`` is the typed tree.
    ``known_file`` holds the facts of its dataset, if they were published with it, ``labels_file``
    the labels of its entities, if they were saved with it. ``calibration`` makes probabilities of
    its scores, if it was calibrated.
    """

    model: KGEModel
    config: Config
    entities: Vocabulary
    relations: Vocabulary
    results: dict[str, Any]
    known_file: Optional[Path] = None
    labels_file: Optional[Path] = None
    calibration: Optional[Calibration] = None

    @cached_property
    def figures(self) -> TrainingResults:
        """The results as a typed tree.

        Raises:
            UserError: they are malformed, or of another schema.
        """
        return TrainingResults.of(self.results, f"results.json of {self.dataset_name}")

    @property
    def identity(self) -> Identity:
        """What the model says of the triples it was trained on."""
        return Identity.of(self.results, self.config.data)

    @property
    def dataset_name(self) -> str:
        """The name of its dataset, never a path."""
        return self.identity.name

    def find_labels(
        self, *, dataset: Optional[str] = None, data_root: Optional[Path] = None
    ) -> Labels:
        """Return the labels of its entities: saved with it, or those of its dataset; maybe none.

        Args:
            dataset: where the user says that the dataset lies.
            data_root: folder of datasets already there.

        Raises:
            UserError: a file of labels is malformed.
        """
        found = self.saved_labels()
        if found is None:
            found = find_labels(
                self.dataset_name, place=dataset, data_root=data_root, entities=self.entities
            )
        return Labels() if found is None else found

    def saved_labels(self) -> Optional[Labels]:
        """Return the labels that were saved with it; None without any.

        Raises:
            UserError: their file is malformed.
        """
        return None if self.labels_file is None else read_labels(self.labels_file)

    def saved_facts(self) -> Optional[KnownAnswers]:
        """Return the index of the facts that were published with it; None without any.

        Raises:
            UserError: their file is damaged.
        """
        from dglke_distill.artifacts.known_facts_file import read_known

        if self.known_file is None:
            return None
        return read_known(self.known_file, self.entities, self.relations)

    @property
    def data_warnings(self) -> list[str]:
        """What belongs beside every figure of the model: data of others that it may know."""
        identity = self.identity
        return [
            other.line(identity.name, identity.fingerprint or "not recorded")
            for other in identity.others
        ]

    def find_dataset(
        self,
        name: str,
        lookup: Lookup = Lookup(),  # noqa: B008 (immutable)
    ) -> tuple[Dataset, list[str]]:
        """Find the dataset that the model was trained on; see ``data.identity.own_dataset``.

        Args:
            name: what to call the model in messages.
            lookup: where it is looked for.

        Returns:
            The dataset with the model's ids, and warnings that belong beside every figure.

        Raises:
            UserError: it is not found, cannot be read, or holds other triples or names.
        """
        from dglke_distill.data.own_dataset import fix, own_dataset

        try:
            found = own_dataset(self.identity, name, lookup)
            return self.check_dataset(
                found,
                name,
                fix=fix(self.identity, lookup.dataset),
                allow_other_data=lookup.allow_other_data,
            )
        except UserError as error:
            if "extended_from" not in self.results or self.identity.path is not None:
                raise
            writes = "`extend --data-out FOLDER` writes"
            if not in_command():
                writes = "`add_entities(..., data_out=FOLDER)` writes, for dataset=FOLDER"
            raise UserError(
                f"{error}. The model was extended: its data are the folder that {writes}, with "
                "the added facts in the train split"
            ) from None

    def check_dataset(
        self, found: Dataset, name: str, *, fix: str, allow_other_data: Optional[bool] = False
    ) -> tuple[Dataset, list[str]]:
        """Look whether a dataset at hand is the one that the model was trained on.

        Args:
            found: the dataset.
            name: what to call the model in messages.
            fix: how to get the right one, for the message.
            allow_other_data: whether to go on with other triples; None: never.

        Returns:
            As ``find_dataset``.

        Raises:
            UserError: it holds other triples or names.
        """
        found = self.with_own_ids(found, name)
        warnings = compare_data(
            self.identity, found, who=name, allow_other_data=allow_other_data, fix=fix
        )
        return found, [*warnings, *self.data_warnings]

    def known_facts(self, lookup: Lookup) -> tuple[KnownAnswers, list[str]]:
        """Return the index of all facts of its dataset, and what must be known of them.

        Args:
            lookup: where the dataset is looked for; where it names none, the facts published with
                the model come first.

        Raises:
            UserError: neither is there, or the dataset is another one.
        """
        from dglke_distill.data.known_answers import KnownAnswers

        saved = self.saved_facts() if lookup.dataset is None else None
        if saved is not None:
            return saved, []
        found, warnings = self.find_dataset("the model", lookup)
        splits = [found.train, found.valid, found.test]
        return KnownAnswers.build(splits, len(self.entities)), warnings

    def train_facts(self, lookup: Lookup) -> tuple[Triples, list[str]]:
        """Return the facts that it was trained on, and what must be known of them.

        Nothing is downloaded: where the dataset is not on this machine, they are the facts of all
        splits that were published with the model.

        Args:
            lookup: where the dataset is looked for.

        Raises:
            UserError: neither is there, or the dataset is another one.
        """
        try:
            found, warnings = self.find_dataset("the model", lookup._replace(offline=True))
        except UserError:
            known = self.saved_facts() if lookup.dataset is None else None
            if known is None:
                raise
            told = "facts are those published with the model, of all its splits"
            return known.triples(), [told]
        return found.train, warnings

    def with_own_ids(self, dataset: Dataset, name: str) -> Dataset:
        """Return a dataset with the model's ids; what counts is names.

        Args:
            dataset: the dataset.
            name: what to call the model in the message.

        Raises:
            UserError: it has other entities or relations.
        """
        from dglke_distill.data.own_dataset import renumbered

        found = renumbered(dataset, self.entities, self.relations)
        if found is not None:
            return found
        same = set(self.entities) == set(dataset.entities)
        other = set(self.relations) != set(dataset.relations)
        kind = "relations" if same and other else "entities"
        raise UserError(
            f"{name}: trained on {len(getattr(self, kind))} {kind} that are not the "
            f"{len(getattr(dataset, kind))} of {dataset.name} ({short(dataset.fingerprint)}), or "
            f"in another order; name its own dataset, {shown(self.dataset_name)} "
            f"({short(self.identity.fingerprint or 'not recorded')}), by --dataset"
        )
