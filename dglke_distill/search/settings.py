"""From what a command line or a call states to the settings of a study, and to its directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.config import Config, merge
from dglke_distill.data.identity import label_of
from dglke_distill.distill.saved import check_teacher, teacher_place
from dglke_distill.runs.settings import flag_trees, unused
from dglke_distill.search.found import StudyConfig
from dglke_distill.search.leave import EPOCHS
from dglke_distill.search.lengths import lengths_of
from dglke_distill.search.space import find_space, read_space
from dglke_distill.search.study import space_digest


def study_settings(
    flags: Mapping[str, Any],
    changes: Sequence[Mapping[str, Any]],
    *,
    space: Optional[str],
    method: Optional[str],
    teachers: Sequence[str],
    epochs: Optional[int] = None,
) -> StudyConfig:
    """Compose the settings of a study.

    Where nothing says how long trainings are, they are of several lengths.

    Args:
        flags: see ``runs.settings.flag_trees``; ``seed`` is also the study's.
        changes: partial trees of all trials' settings, the last one winning.
        space: a TOML file, or the name of a space that ships; None: the model's own.
        method: distillation method, to tune a student.
        teachers: checkpoints that it learns from.
        epochs: that such a model is usually trained for; None: those of the settings.

    Raises:
        UserError: a method without a teacher, no such space, or a bad value.
    """
    places = check_taught(method, teachers)
    seed = flags.get("seed") or 0
    if not 0 <= seed < 1 << 32:
        raise UserError("--seed: a study's seed goes from 0 to 4294967295")
    tree: dict[str, Any] = reduce(merge, (*flag_trees(flags), *changes), {})
    name = space
    if name is None:
        name = find_space(tree.get("model", {}).get("name", "TransE"), bool(teachers))
    elif Path(name).is_file():
        name = str(resolved(name))
    found = read_space(name)
    lengths: list[int] = []
    said = [tree.get("training", {}), found.fixed.get("training", {})]
    if EPOCHS not in found.search and not any("epochs" in each for each in said):
        usual = Config.from_mapping(merge(found.settings(found.defaults()), tree), "settings")
        lengths = lengths_of(epochs or usual.training.epochs)
    return StudyConfig(
        space=name,
        space_sha256=space_digest(found),
        settings=tree,
        lengths=lengths,
        method=method,
        teachers=[str(place) for place in places],
        seed=seed,
    )


def check_taught(method: Optional[str], teachers: Sequence[str]) -> list[Path]:
    """Return where the teachers of a student to be tuned lie; none without a student.

    Args:
        method: see ``study_settings``.
        teachers: see ``study_settings``.

    Raises:
        UserError: one was given without the other, or a folder is no trained model.
    """
    if (method is None) != (not teachers):
        raise UserError("--method and --teacher: give both to tune a student, or neither")
    places = [teacher_place(path) for path in teachers]
    for place in places:
        check_teacher(place)  # before anything is written
    return places


def new_study_directory(study: StudyConfig, parent: Path = Path("runs")) -> Path:
    """Return a directory below ``parent``, named after the settings, that does not exist yet."""
    model = study.settings.get("model", {}).get("name", "transe")
    dataset = study.settings.get("data", {}).get("dataset", "cldr")
    stem = "-".join(["tune", str(model), label_of(dataset)]).lower()
    return unused(parent / stem)
