"""What can be known to be wrong with a study before it is begun."""

from __future__ import annotations

from pathlib import Path

from dglke_distill.base.errors import UserError
from dglke_distill.distill.plan import Stage
from dglke_distill.distill.rehearsal import check_stages
from dglke_distill.runs.workspace import Workspaces


def check_trial(trial: Stage, workspaces: Workspaces, directory: Path) -> None:
    """Look whether a trial can be trained, and judged.

    Args:
        trial: one by the space's defaults.
        workspaces: the prepared data.
        directory: of the study.

    Raises:
        UserError: there are no validation triples; or see ``check_stages``.
    """
    dataset = workspaces.of(trial.config).dataset
    if not len(dataset.valid):
        raise UserError(
            f"{dataset.name}: valid has no triples, and settings are judged by them; put held-out "
            "triples there, or give the file of train alone to have it split"
        )
    check_stages([trial], workspaces, directory)
