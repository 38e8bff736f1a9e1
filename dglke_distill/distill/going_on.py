"""A chain whose first stage goes on from a trained model, on grown data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import in_home, resolved
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.plan import Stage, plan
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY
from dglke_distill.runs.start import Start, check_given, check_start, model_tree, start_of
from dglke_distill.zoo.fetch import folder_of, load_checkpoint
from dglke_distill.zoo.index import SHIPPED

_FIRST = "0-teacher-"


class InitModel:
    """The model that a chain goes on from: read once, and let go when its training begins.

    Args:
        name: a folder of a checkpoint or a run, or a name of the zoo.
        store: the only store that a name is looked up in; None: all of them.
        offline: whether to refuse to download.

    Attributes:
        name: what the chain keeps: a name, or the absolute path of a folder.
        store: the store of a name, a folder by its absolute path.
    """

    def __init__(
        self, name: Union[str, Path], *, store: Optional[str] = None, offline: bool = False
    ) -> None:
        folder = folder_of(name)
        self.name = str(name) if folder is None else str(resolved(folder))
        here = store is not None and store != SHIPPED and "://" not in store
        self.store = str(resolved(in_home(store or ""))) if here else store
        if folder is not None:
            self.store = None
        self.offline = offline
        self._loaded: Optional[LoadedModel] = None

    @classmethod
    def of(cls, chain: ChainConfig, *, offline: bool = False) -> Optional[InitModel]:
        """Return the one of a chain, None where it begins at random.

        Args:
            chain: its settings.
            offline: whether to refuse to download.
        """
        if chain.init is None:
            return None
        return cls(chain.init, store=chain.init_store, offline=offline)

    def model(self) -> LoadedModel:
        """Return the model, which is kept for the next call.

        Raises:
            UserError: there is no such model, or it is damaged.
        """
        if self._loaded is None:
            self._loaded = load_checkpoint(self.name, store=self.store, offline=self.offline)
        return self._loaded

    def let_go(self) -> None:
        """Keep the model no longer."""
        self._loaded = None


def init_tree(init: InitModel, model: Optional[str]) -> tuple[str, Mapping[str, Any]]:
    """Return the score function and the partial tree of a chain that goes on from a model.

    Args:
        init: the model.
        model: the score function that was asked for, if any.

    Raises:
        UserError: there is no such model, or it is of another score function.
    """
    before = init.model()
    check_given(before, model, None)
    tree = {"init": init.name, "teacher": model_tree(before)}
    if init.store is not None:
        tree["init_store"] = init.store
    return model or before.config.model.name, tree


def check_init(
    chain: ChainConfig, init: Optional[InitModel], dataset: Optional[Dataset] = None
) -> None:
    """Look whether the first stage of a chain can go on from its model, if it has one.

    Args:
        chain: its settings.
        init: the model; None: the chain's own settings say it.
        dataset: its data; None: not looked at yet.

    Raises:
        UserError: it trains no teacher, is of another size or kind, or knows no entity.
    """
    init = init or InitModel.of(chain)
    if chain.init is None or init is None:
        return
    first = plan(chain)[0]
    if first.role != "teacher":
        raise UserError(
            f"--init: a {chain.method} chain trains no teacher that could go on from a model; "
            "leave --init out, or use `train --init`"
        )
    before = init.model()
    dim = before.config.model.dim
    if first.config.model.dim != dim:
        raise UserError(
            f"--init: a model of {dim} floats cannot go on as a first stage of "
            f"{first.config.model.dim}; give --dims {dim},..., smaller sizes after it"
        )
    check_start(before, first.config, dataset)


def begins(chain: ChainConfig, stage: Stage) -> bool:
    """Return whether a stage of a chain, or its repetition, goes on from the chain's model."""
    return chain.init is not None and stage.role == "teacher" and stage.name.startswith(_FIRST)


def start(init: InitModel) -> Start:
    """Return what ``train_run`` is given for the stage that ``begins``; it keeps the model then.

    Args:
        init: the model.
    """
    begun = start_of(init.model(), init.name.removesuffix(f"/{CHECKPOINT_DIRECTORY}"))
    init.let_go()
    return begun
