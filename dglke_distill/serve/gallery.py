"""The models that a page shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, TypeVar

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base import runtime
from dglke_distill.base.errors import UserError
from dglke_distill.data.entity_types import types_beside
from dglke_distill.data.identity import Lookup
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.labels import Labels
from dglke_distill.kernels import set_num_threads
from dglke_distill.models import canonical_name
from dglke_distill.predict import NamedModel
from dglke_distill.serve.entity_map import EntityMap
from dglke_distill.serve.facts import FactShelf, prominence
from dglke_distill.serve.introduction import examples, sentences
from dglke_distill.serve.projections import DEFAULT_PROJECTION, projection
from dglke_distill.serve.search import NameSearch
from dglke_distill.zoo import load_checkpoint
from dglke_distill.zoo.fetch import folder_of
from dglke_distill.zoo.index import Place, list_models

Made = TypeVar("Made")

MOST_PICKED = 4
"""Models picked on the page that stay in memory; those named at the start always do."""


class Shown:
    """A model on the page, with what is needed to ask it.

    Args:
        name: what it is called on the page.
        loaded: the model.
        shelf: where its facts may be had.
        types: file of the entities' types, if there is one.

    Attributes:
        named: the model with its names.
        facts: all facts of its dataset, or None.
        no_facts: why there are none; empty if there are.
        fact_notes: what must be known of them: other triples than those trained on.
        labels: names that people know for the entities.
        entities: finds names of entities.
        labelled: finds entities by their labels; None without labels.
        relations: finds names of relations.
        drawn: what is told of its maps, once it has been, by their projections.
        laid_out: its maps as ``Gallery.lay_out`` has them made, by their projections.
    """

    def __init__(
        self, name: str, loaded: LoadedModel, shelf: FactShelf, types: Optional[Path] = None
    ) -> None:
        """Look for facts and fold the names."""
        self.name = name
        self.named = NamedModel(loaded).eval()
        if types is not None:
            self.named.load_types(types)
        self.facts: Optional[KnownAnswers] = None
        self.no_facts = ""
        self.fact_notes: list[str] = []
        try:
            self.facts, self.fact_notes = shelf.of(loaded)
        except UserError as error:
            self.no_facts = str(error)
        self._dataset, self._shelf = loaded.dataset_name, shelf
        weight = None if self.facts is None else prominence(self.facts)
        self.labels = Labels()
        try:
            self.labels = shelf.labels(loaded)
        except UserError as error:
            self.fact_notes = [*self.fact_notes, f"entities have no labels: {error}"]
        self.entities = NameSearch(self.named.entities, weight)
        self.labelled: Optional[NameSearch] = None
        if self.labels.labels:
            said = [self.labels.of(name) for name in self.named.entities]
            self.labelled = NameSearch(said, weight)
        self.relations = NameSearch(self.named.relations)
        self.drawn: dict[str, dict[str, Any]] = {}
        self.laid_out: dict[str, Future[EntityMap]] = {}
        self._maps: dict[str, EntityMap] = {}

    @cached_property
    def explains(self) -> bool:
        """Whether train facts are read, which explanations are taken from: at the first of them.

        Raises:
            UserError: there are none.
        """
        self.named.use_support(*self._shelf.trained(self.named.loaded))
        self.named.labels = self.labels
        return True

    def map(self, by: str = DEFAULT_PROJECTION) -> EntityMap:
        """Return a map of its entities, worked out when first asked for.

        Args:
            by: name of a projection.

        Raises:
            UserError: it needs a package that is not installed.
        """
        if by not in self._maps:
            self._maps[by] = EntityMap(self.named.model, by=projection(by))
        return self._maps[by]

    def find_entities(self, text: str, limit: int) -> list[int]:
        """Return the ids of the entities whose label or name fits best, best first.

        Args:
            text: what has been typed of it.
            limit: most ids to return.
        """
        found = self.entities.find(text, limit)
        if self.labelled is not None and text.strip():
            found = [*self.labelled.find(text, limit), *found]
        return list(dict.fromkeys(found))[:limit]

    @cached_property
    def examples(self) -> list[dict[str, Any]]:
        """Questions to begin with; see ``introduction.examples``."""
        return examples(self.named, self.facts, self.labels)

    @property
    def dataset(self) -> str:
        """The name of its dataset."""
        return self._dataset

    def about(self) -> dict[str, Any]:
        """Return what a reader wants to know of it, for JSON."""
        named, config = self.named, self.named.config
        results = named.loaded.figures
        return {
            "name": self.name,
            "model": canonical_name(config.model.name),
            "dataset": self.dataset,
            "dim": named.model.floats_per_entity,
            "bytes_per_entity": named.model.bytes_per_entity,
            "entities": len(named.entities),
            "relations": len(named.relations),
            "split": results.ranked,
            "mrr": None if results.ranked is None else results.metrics[results.ranked].mrr,
            "facts": None if self.facts is None else len(self.facts.packed["tail"]),
            "no_facts": self.no_facts,
            "fact_notes": self.fact_notes,
            "labels": len(self.labels.labels),
            "sentences": sentences(named),
            "examples": self.examples,
        }


class Gallery:
    """The models named at the start, and those of the zoo that may be picked to compare.

    One thread loads models and has them score, whoever asks: compiled kernels do not run side by
    side, and how many threads they use is a setting of the thread that calls them. Another one lays
    out maps that take long.

    Args:
        names: names of the zoo, or checkpoint directories; the first is the one that is shown.
        device: where models live.
        store: as for ``zoo.load``.
        offline: as for ``zoo.load``.
        data_root: folder of datasets already there.
        threads: for torch and the kernels; 0 for all cores.
        dataset: as in ``Lookup``.
        allow_other_data: as in ``Lookup``.
        types: file of lines ``entity<TAB>type``; without it, ``types.tsv`` in the folder
            ``dataset``, if there is one.

    Attributes:
        given: the names at the start.
        offered: the names of the zoo's models of the first one's dataset, others than ``given``.
        notes: what the user should know, of things that go wrong without doing harm.

    Raises:
        UserError: a model cannot be loaded, or is named twice.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        device: str = "cpu",
        store: Place = None,
        offline: bool = False,
        data_root: Optional[Path] = None,
        threads: int = 0,
        dataset: Optional[str] = None,
        allow_other_data: bool = False,
        types: Optional[Path] = None,
    ) -> None:
        """Load the models named."""
        self._types = types_beside(dataset) if types is None else types
        if not 0 <= threads <= 1024:
            raise UserError(f"--threads {threads}: give a number from 1 to 1024")
        if len(set(names)) < len(names):
            raise UserError(f"serve: {names[-1]} is named twice; name another one to compare with")
        count = threads or runtime.available_cores()
        self._worker = ThreadPoolExecutor(1, "models", set_num_threads, (count,))
        self._mapper = ThreadPoolExecutor(1, "maps")
        self._laying_out = threading.Lock()
        self.given = list(names)
        self.notes: list[str] = []
        self._device, self._store = device, store
        self._shelf = FactShelf(Lookup(dataset, data_root, allow_other_data=allow_other_data))
        self._kept = self.in_turn(lambda: {name: self._load(name, offline) for name in names})
        self.offered = self._offers()
        for name in names:  # lest whoever asks first waits for it
            self.lay_out(self._kept[name])

    def get(self, name: str) -> Shown:
        """Return a model that is given or offered.

        Raises:
            KeyError: it is neither.
            UserError: it cannot be loaded; what is not on this machine is not downloaded.
        """
        found = self._kept.get(name)
        if found is None:
            if name not in self.offered:
                raise KeyError(name)
            found = self.in_turn(lambda: self._pick(name))
        return found

    def in_turn(self, work: Callable[[], Made]) -> Made:
        """Return what ``work`` does, done when all that was asked for before is done.

        What it raises is raised here. It must not call ``get`` or ``in_turn`` itself.
        """
        return self.submit(work).result()

    def submit(self, work: Callable[[], Made]) -> Future[Made]:
        """Have ``work`` done in its turn, as ``in_turn`` does, without waiting."""
        return self._worker.submit(work)

    def lay_out(self, shown: Shown, by: str = DEFAULT_PROJECTION) -> Future[EntityMap]:
        """Have a map laid out, once for all who ask; questions are answered meanwhile.

        Args:
            shown: whose entities.
            by: name of a projection; only the default one does not hold up the thread that scores.
        """
        worker = self._worker if by == DEFAULT_PROJECTION else self._mapper
        with self._laying_out:
            made = shown.laid_out.get(by)
            if made is None or (made.done() and made.exception() is not None):
                made = shown.laid_out[by] = worker.submit(shown.map, by)
            return made

    def at_hand(self, name: str) -> bool:
        """Return whether a model is loaded."""
        return name in self._kept

    def close(self) -> None:
        """Take on no more work; what has begun is done."""
        self._worker.shutdown(wait=False)
        self._mapper.shutdown(wait=False)

    def _pick(self, name: str) -> Shown:
        if name not in self._kept:
            found = self._load(name, offline=True)
            picked = [kept for kept in self._kept if kept not in self.given]
            if len(picked) >= MOST_PICKED:
                del self._kept[picked[0]]
            self._kept[name] = found
        return self._kept[name]

    def _load(self, name: str, offline: bool) -> Shown:
        place = folder_of(name) or name
        loaded = load_checkpoint(place, device=self._device, store=self._store, offline=offline)
        return Shown(name, loaded, self._shelf, self._types)

    def _offers(self) -> list[str]:
        dataset = self._kept[self.given[0]].dataset
        try:
            found = list_models(dataset=dataset, store=self._store, offline=True)
        except UserError as error:
            self.notes.append(f"no other models are offered to compare with: {error}")
            return []
        return [entry.name for entry in found if entry.name not in self.given]
