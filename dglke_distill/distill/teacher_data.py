"""What teachers may know: their triples, compared with those their student learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional

from dglke_distill.artifacts import checkpoint
from dglke_distill.artifacts.results_files import read_results_tree
from dglke_distill.base.errors import UserError
from dglke_distill.base.parsing import read_object
from dglke_distill.config import DataConfig
from dglke_distill.data.identity import Identity, OtherData, compare_data, short, shown
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.saved import check_teacher, foreign, results_file, teacher_name
from dglke_distill.runs.workspace import Workspace


def check_teachers(
    places: Sequence[Path], workspace: Callable[[], Workspace], allow_other_data: bool
) -> None:
    """Look whether teachers are there, and were trained on the triples that there are.

    Args:
        places: as for ``load_teacher``.
        workspace: gives the data, if there is a teacher.
        allow_other_data: whether they may have been trained on other triples.

    Raises:
        UserError: one is not there, not whole, or of other triples and that is not allowed.
    """
    for place in places:
        check_teacher(place)
    for place in places:
        teacher_data(place, workspace().dataset, allow_other_data=allow_other_data)


def teacher_data(
    place: Path, dataset: Dataset, *, allow_other_data: bool = False, name: Optional[str] = None
) -> list[OtherData]:
    """Compare the triples that a teacher was trained on with those its student learns from.

    Args:
        place: as for ``load_teacher``.
        dataset: what its student learns from.
        allow_other_data: whether a teacher of other triples may teach.
        name: what to call it in the student's results; None: ``teacher_name``.

    Returns:
        What it may know besides the dataset's train split: its own triples, if they are others or
        are not recorded, and those of its teachers.

    Raises:
        UserError: its triples, or those of its teachers, are others, and that is not allowed.
    """
    name = teacher_name(place) if name is None else name
    if foreign(place) is not None:
        return [OtherData(name, "", None)]
    identity = Identity.of(read_results_tree(results_file(place)), DataConfig(dataset=""))
    _check_counts(place, identity, dataset)
    compare_data(
        identity,
        dataset,
        who=f"teacher {place}",
        allow_other_data=allow_other_data,
        fix="train the teacher on this very split, or the student on the teacher's data",
    )
    found = [OtherData(name, identity.name, identity.fingerprint), *identity.others]
    others = [
        other
        for other in found
        if other.fingerprint is None or not dataset.has_fingerprint(other.fingerprint)
    ]
    strangers = [other for other in others if other.fingerprint is not None]
    if strangers and not allow_other_data:
        raise UserError(
            f"teacher {place}: {strangers[0].line(dataset.name, dataset.fingerprint)}; train it "
            "with teachers of this very split, or go on with --allow-other-data"
        )
    return others


def _check_counts(place: Path, identity: Identity, dataset: Dataset) -> None:
    """Tell other entities or relations by their number, before all names are read."""
    about = read_object(place / checkpoint.CONFIG_FILE)
    for kind in ("entities", "relations"):
        described = about.get(kind)
        stated = described.get("count") if isinstance(described, dict) else None
        here = len(getattr(dataset, kind))
        if stated not in (None, here):
            raise UserError(
                f"{place}: the teacher's {kind} are not those of {dataset.name}: {stated} of "
                f"{shown(identity.name)} ({short(identity.fingerprint or 'not recorded')}), "
                f"where it has {here} ({short(dataset.fingerprint)}); train the student on the "
                "teacher's own data"
            )
