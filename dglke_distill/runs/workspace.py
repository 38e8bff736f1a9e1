"""What a run works on and with: the data, and what the settings build upon it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from torch import nn

from dglke_distill.base import runtime
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, DataConfig, OptimizerConfig
from dglke_distill.data import catalog
from dglke_distill.data.graph import KnownAnswers, build_graph
from dglke_distill.data.labels import Labels, find_labels
from dglke_distill.data.sources import is_named
from dglke_distill.data.table_options import IN_MEMORY, reading
from dglke_distill.data.triples import Dataset
from dglke_distill.kernels import set_num_threads
from dglke_distill.models import ENCODERS, canonical_name
from dglke_distill.models.base import KGEModel
from dglke_distill.models.score_function import ScoreFunction
from dglke_distill.sampling.batch import BatchLoader
from dglke_distill.sampling.negatives import configured_sampler
from dglke_distill.training.losses import build_loss
from dglke_distill.training.objective import HardObjective, Objective
from dglke_distill.training.optim import OPTIMIZERS
from dglke_distill.training.regularizers import build_regularizer


@dataclass
class Workspace:
    """What a run works on: the data, its graph, the device, and labels of the entities."""

    dataset: Dataset
    graph: Any
    device: torch.device
    labels: Optional[Labels] = None

    @cached_property
    def known(self) -> KnownAnswers:
        """The filter of a ranking among all entities, built when it is first asked for.

        A run that ranks among given candidates, or nothing, never pays for it.
        """
        splits = [self.dataset.train, self.dataset.valid, self.dataset.test]
        return KnownAnswers.build(splits, self.dataset.num_entities)


Setup = Callable[[Config, KGEModel, Workspace], Objective]


def load_data(
    data: DataConfig, *, data_root: Optional[Path] = None, saved: bool = False
) -> Dataset:
    """Load the dataset that settings name.

    Args:
        data: the settings.
        data_root: folder of pre-placed datasets.
        saved: as for ``prepare``.

    Raises:
        UserError: the data cannot be found or read.
    """
    if data.format == IN_MEMORY:
        raise UserError(
            f"{data.dataset}: its triples were a table in memory, and lie in no file; go on from "
            "Python, with the same table: kd.train(table, resume=True, out=...), or kd.distill"
        )
    if saved and Path(data.dataset).name == data.dataset and is_named(data.dataset):
        return catalog.load_named(data.dataset, data_root=data_root, format=data.format)
    return catalog.load(data.dataset, data_root=data_root, **reading(data))


def prepare(
    config: Config,
    *,
    data_root: Optional[Path] = None,
    dataset: Optional[Dataset] = None,
    saved: bool = False,
) -> Workspace:
    """Load the dataset, build the train graph, set the threads.

    Args:
        config: the settings.
        data_root: folder of pre-placed datasets.
        dataset: the data, when the caller has loaded it already.
        saved: whether the settings are those of a run that was begun: its dataset's name is then
            the catalog's, whatever the working folder holds.

    Raises:
        UserError: the data cannot be found or read, or the device is absent.
    """
    runtime.tune_allocator()
    runtime.speed_up_products()
    device = _set_up(config)
    if dataset is None:
        dataset = load_data(config.data, data_root=data_root, saved=saved)
    graph = build_graph(
        dataset.train,
        dataset.num_entities,
        inverse=ENCODERS.find(config.model.encoder).needs_graph,
        num_relations=dataset.num_relations,
    )
    labels = dataset_labels(dataset, config.data, data_root)
    return Workspace(dataset, graph, device, labels)


def _set_up(config: Config) -> torch.device:
    """Set the threads that settings ask for, and return their device."""
    set_num_threads(config.training.threads or runtime.available_cores())
    return runtime.resolve_device(config.training.device)


def dataset_labels(
    dataset: Dataset, data: DataConfig, data_root: Optional[Path] = None
) -> Optional[Labels]:
    """Find the labels of a dataset that was loaded; None where there are none.

    Args:
        dataset: the data.
        data: its settings, located.
        data_root: folder of pre-placed datasets.

    Raises:
        UserError: a file of labels is malformed.
    """
    return find_labels(
        dataset.name,
        place=data.dataset if Path(data.dataset).is_absolute() else None,
        data_root=data_root,
        entities=dataset.entities,
    )


def keep_threads(config: Config, before: Optional[int], announce: Callable[[str], None]) -> None:
    """Go on with as many threads as a run was begun with, or say that it cannot be.

    Products over many entities are summed in another order by another number of threads, so that
    their last bits differ. Where settings name no number, the machine has chosen it.

    Args:
        config: its settings.
        before: the number it was begun with, None where that is unknown.
        announce: hears what differs.
    """
    now = torch.get_num_threads()
    if before is None or before == now:
        return
    if config.training.threads is None and before <= runtime.available_cores():
        set_num_threads(before)
        announce(f"going on with the {before} thread(s) that it was begun with")
        return
    announce(
        f"warning: begun with {before} threads, going on with {now}: the outcome can differ in its "
        "last digits from that of a run that was not interrupted"
    )


class Workspaces:
    """Prepared data that several runs share; each kind of graph is built once, when asked for.

    Args:
        data_root: folder of pre-placed datasets.
        saved: as for ``prepare``.
        dataset: as for ``prepare``.
    """

    def __init__(
        self,
        data_root: Optional[Path] = None,
        *,
        saved: bool = False,
        dataset: Optional[Dataset] = None,
    ) -> None:
        """Prepare nothing yet."""
        self._data_root = data_root
        self._saved = saved
        self._dataset = dataset
        self._made: dict[tuple[str, bool], Workspace] = {}

    def of(self, config: Config) -> Workspace:
        """Return what a run of these settings works on, with its threads set; see ``prepare``."""
        key = (config.data.model_dump_json(), ENCODERS.find(config.model.encoder).needs_graph)
        if key not in self._made:
            self._made[key] = prepare(
                config, data_root=self._data_root, saved=self._saved, dataset=self._dataset
            )
            return self._made[key]
        # Threads and device are of these settings, not of those that the data were prepared for.
        device = _set_up(config)
        if self._made[key].device != device:
            self._made[key] = replace(self._made[key], device=device)
        return self._made[key]

    def made(self, config: Config) -> Optional[Workspace]:
        """Return what ``of`` does where no data must be loaded for it, else None."""
        key = (config.data.model_dump_json(), ENCODERS.find(config.model.encoder).needs_graph)
        return self.of(config) if key in self._made or self._dataset is not None else None


class DataAlone(Workspaces):
    """Data without their graph, for a process that has others train; see ``Workspaces``."""

    def of(self, config: Config) -> Workspace:
        """Return the data, which must be given."""
        assert self._dataset is not None
        return Workspace(self._dataset, None, torch.device("cpu"))


def build_loader(config: Config, workspace: Workspace, model: KGEModel) -> BatchLoader:
    """Build the loader that the configuration describes, with its sampler and neighbour blocks."""
    training = config.training
    sampler = None
    neighbors: Any = None
    if model.encoder.whole_graph:
        from dglke_distill.sampling.whole_graph import WholeGraph

        neighbors = WholeGraph(workspace.graph)
    elif model.encoder.needs_blocks:
        from dglke_distill.sampling.neighbors import NeighborBlocks

        neighbors = NeighborBlocks(workspace.graph, model.encoder.fanouts, training.seed)
    if training.mode == "negatives":
        sampler = configured_sampler(
            config.negatives,
            workspace.graph,
            workspace.dataset.num_relations,
            entity_type=workspace.dataset.entity_type,
            seed=training.seed,
        )
    return BatchLoader(
        workspace.graph,
        workspace.dataset.num_relations,
        batch_size=training.batch_size,
        mode=training.mode,
        sampler=sampler,
        neighbors=neighbors,
        seed=training.seed,
        subsampling=training.subsampling,
        weights=workspace.dataset.train_weight,
        weighting=training.weighting or "loss",
        device=workspace.device,
    )


def build_objective(
    config: Config, model: KGEModel, workspace: Optional[Workspace] = None
) -> HardObjective:
    """Build the hard objective that the configuration describes; it needs no workspace.

    Raises:
        UserError: the loss does not work in the mode of training, or the relation is to be
            predicted by a model that cannot.
    """
    loss, regularizer = build_loss(config.loss), build_regularizer(config.regularizer)
    loss.check_mode(config.training.mode)
    if regularizer is not None and not model.has_vectors:
        raise UserError(
            f"regularizer.name {config.regularizer.name}: there is no vector of an entity to "
            f"penalise with model.encoder {config.model.encoder}; set regularizer.name to none"
        )
    if config.loss.relation_weight:
        model.require_vectors("loss.relation_weight: predicting relations")
    if config.loss.relation_weight:
        function = type(model.score_function)
        if function.relation_query is ScoreFunction.relation_query:
            raise UserError(
                f"loss.relation_weight: {canonical_name(config.model.name)} cannot predict "
                "relations; set it to 0, or choose ComplEx, DistMult or AutoSF"
            )
    return HardObjective(loss, regularizer, config.loss.relation_weight)


def build_optimizer(config: OptimizerConfig, learned: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser that the configuration names, over all parameters of a module.

    A parameter with an attribute ``rate`` learns at that share of the learning rate.

    Raises:
        UserError: unknown name or option.
    """
    make = OPTIMIZERS.find(config.name)
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in learned.parameters():
        groups.setdefault(getattr(parameter, "rate", 1.0), []).append(parameter)
    rate = config.learning_rate
    rated = [{"params": found, "lr": rate * share} for share, found in groups.items()]
    try:
        return make(rated, lr=rate, **config.options)
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer.options of {config.name}: {error}") from None
