"""Which checkpoint was meant, where a folder is none itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from dglke_distill.artifacts.results_files import RESULTS_FILE, read_results_tree
from dglke_distill.base.errors import UserError
from dglke_distill.base.spelling import near_words

MODEL_FILE = "model.safetensors"
_BELOW = ("checkpoint", "stages/*/checkpoint", "*/checkpoint", "*/stages/*/checkpoint")
"""Where the checkpoints lie of a run, a chain, a folder of runs, a comparison of chains."""
_FOREIGN = ("*_entity.npy", "import.toml", "trained_model.pkl", "*.ckpt")
_LISTED = 6
_LOOKED_AT = 2000


def checkpoints_below(place: Path) -> list[Path]:
    """Return the checkpoints of the run, chain or folder of runs that a folder is; students first.

    Nothing is read of them.
    """
    for pattern in _BELOW:
        found = []
        try:
            for number, path in enumerate(place.glob(pattern)):
                if number >= _LOOKED_AT:
                    break
                if (path / MODEL_FILE).is_file():
                    found.append(path)
        except OSError:
            continue
        if found:
            return sorted(found, key=lambda path: ("teacher" in path.parent.name, path))
    return []


def meant_checkpoint(place: Path) -> Path:
    """Return the checkpoint that a run folder is about, or the place itself.

    That of a training is its only one. That of a finished chain is its last student, and its last
    stage where it has no student. A folder of runs, a comparison and a chain under way are about
    none.

    Args:
        place: a checkpoint, or the folder of a run.

    Raises:
        UserError: the results of a chain cannot be read.
    """
    if (place / MODEL_FILE).is_file() or not place.is_dir():
        return place
    only = place / "checkpoint"
    if (only / MODEL_FILE).is_file():
        return only
    if not (place / "stages").is_dir() or not (place / RESULTS_FILE).exists():
        return place
    found = read_results_tree(place / RESULTS_FILE).get("stages")
    stages = (
        [stage for stage in found if isinstance(stage, dict)] if isinstance(found, list) else []
    )
    stages = [stage for stage in stages if stage.get("role") == "student"] or stages
    # A name from the file leads nowhere else: it is looked up among the folders that are there.
    there = {path.parent.name: path for path in checkpoints_below(place)}
    return there.get(str(stages[-1].get("name")), place) if stages else place


def no_checkpoint(place: Path) -> Optional[UserError]:
    """Return the error for a place that is no checkpoint, with what may be meant; None if it is.

    Args:
        place: what was given as a checkpoint's directory.
    """
    if (place / MODEL_FILE).is_file():
        return None
    if not place.exists():
        return UserError(f"{place}: no such checkpoint directory{_near(place)}")
    if not place.is_dir():
        inside = (place.parent / MODEL_FILE).is_file()
        meant = f"; did you mean {place.parent}?" if inside else "; give the folder of a checkpoint"
        return UserError(f"{place}: no such checkpoint directory, it is a file{meant}")
    below = checkpoints_below(place)
    if below:
        return UserError(f"{place}: is no checkpoint; {did_you_mean(below)}")
    quoted = shlex.quote(str(place))
    if (place / "resume.safetensors").is_file():
        return UserError(
            f"{place}: has no checkpoint yet, since its training has not ended; go on with "
            f"`dglke-distill train --resume --out {quoted}`"
        )
    if any(next(place.glob(pattern), None) is not None for pattern in _FOREIGN):
        return UserError(
            f"{place}: holds a model of another library; make a checkpoint of it by "
            f"`dglke-distill import {quoted} --out NEW_FOLDER`"
        )
    if (place / "zoo.toml").is_file() and (place / "entries").is_dir():
        return UserError(f"{place}: is a store; name one of its models, with --store {quoted}")
    return UserError(
        f"{place / MODEL_FILE}: no such file; "
        + ("the checkpoint is incomplete" if any(place.iterdir()) else "the folder is empty")
    )


def did_you_mean(places: Iterable[Path]) -> str:
    """Return the question which of some checkpoints was meant."""
    names = [str(place) for place in places]
    if len(names) == 1:
        return f"did you mean {names[0]}?"
    more = f" or {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"did you mean one of {', '.join(names[:_LISTED])}{more}?"


def _near(place: Path) -> str:
    """Return what of the nearest folder that exists is spelled alike, as the end of a sentence."""
    parent = place.parent
    stage = parent / "stages" / place.name  # as the table of a chain's stages has it
    if stage.is_dir():
        return f"; did you mean {stage}?"
    try:
        names = [entry.name for entry in parent.iterdir() if entry.is_dir()][:_LOOKED_AT]
    except (OSError, ValueError):  # the latter: no name of a folder
        return ""
    close = near_words(place.name, names, 1)
    return f"; did you mean {parent / close[0]}?" if close else ""
