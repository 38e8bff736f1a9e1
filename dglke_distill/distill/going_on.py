"""A chain whose first stage goes on from a trained model, on grown data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.plan import ChainConfig, Stage, plan
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY
from dglke_distill.runs.start import check_given, check_start, model_tree, start_of
from dglke_distill.zoo.fetch import folder_of, load_checkpoint

__all__ = ["begins", "check_init", "init_tree", "placed", "start"]

_FIRST = "0-teacher-"


def placed(init: Union[str, Path]) -> str:
    """Return what a chain keeps of the model that it goes on from.

    Args:
        init: a folder of a checkpoint or a run, which is kept as its absolute path, or a name.
    """
    folder = folder_of(init)
    return str(init) if folder is None else str(resolved(folder))


def init_tree(init: str, model: Optional[str]) -> tuple[str, Mapping[str, Any]]:
    """Return the score function and the partial tree of a chain that goes on from a model.

    Args:
        init: the model, see ``placed``.
        model: the score function that was asked for, if any.

    Raises:
        UserError: there is no such model, or it is of another score function.
    """
    before = load_checkpoint(init)
    check_given(before, model, None)
    return model or before.config.model.name, {"init": init, "teacher": model_tree(before)}


def check_init(chain: ChainConfig, dataset: Optional[Dataset] = None) -> None:
    """Look whether the first stage of a chain can go on from its model, if it has one.

    Args:
        chain: its settings.
        dataset: its data; None: not looked at yet.

    Raises:
        UserError: it trains no teacher, is of another size or kind, or knows no entity.
    """
    if chain.init is None:
        return
    first = plan(chain)[0]
    if first.role != "teacher":
        raise UserError(
            f"--init: a {chain.method} chain trains no teacher that could go on from a model; "
            "leave --init out, or use `train --init`"
        )
    before = load_checkpoint(chain.init)
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


def start(chain: ChainConfig) -> dict[str, Any]:
    """Return what ``train_run`` is given for the stage that ``begins``."""
    assert chain.init is not None
    before: LoadedModel = load_checkpoint(chain.init)
    return start_of(before, chain.init.removesuffix(f"/{CHECKPOINT_DIRECTORY}"))
