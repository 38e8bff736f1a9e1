"""The stages of a chain, each trained by many machines: a launch for each, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import sha256_file
from dglke_distill.config import Config
from dglke_distill.data.triples import Dataset
from dglke_distill.distill import across
from dglke_distill.distill.across import check_student, check_taught
from dglke_distill.distill.finished import STAGES
from dglke_distill.distill.plan import Stage
from dglke_distill.distill.stages import checkpoint_of, stage_name
from dglke_distill.distill.watcher import Watcher
from dglke_distill.runs.distributed_memory import DistributedNeed, distributed_need
from dglke_distill.runs.distributed_run import check_run, check_settings
from dglke_distill.runs.launching.cluster import Cluster
from dglke_distill.runs.launching.launcher import Ended, launch
from dglke_distill.runs.run_files import RESUME_FILE
from dglke_distill.training.loop import Interrupted, Progress

_PARTS = {"teacher": "teacher.", "student": "student."}
"""What a chain's settings of a stage stand under, by its role; those of controls: ``shared``."""


def check_stages(
    stages: Sequence[Stage], loaded: Sequence[Path], cluster: Cluster, dataset: Dataset
) -> DistributedNeed:
    """Refuse a chain that cannot be trained by many machines, before anything is written.

    Args:
        stages: of its plan.
        loaded: checkpoints of teachers that are not trained.
        cluster: where.
        dataset: what was cut.

    Returns:
        What the stage needs that needs most.

    Raises:
        UserError: a stage has several teachers, settings that are for one machine, or a loaded
            teacher that cannot teach it.
    """
    needs = []
    dims = {stage.name: stage.config.model.dim for stage in stages}
    for stage in stages:
        config, part = stage.config, _PARTS.get(stage.role, "shared.")
        if len(stage.teachers) > 1:
            raise UserError(
                f"dist launch: stage {stage.name} has {len(stage.teachers)} teachers, and a "
                "student by many machines learns from one; choose --method iterde, fan_out, bkd "
                "or ta, without --more-teachers"
            )
        try:
            check_settings(config, dataset, cluster.partition.parts, part)
            if stage.teachers:
                check_student(config, part)
        except UserError as error:
            raise UserError(f"stage {stage.name}: {error}") from None
        teacher = 0
        for name in stage.teachers:
            teacher = dims.get(name, 0)
            if Path(name) in loaded:
                taught = check_taught(config, Path(name), dataset)
                teacher = int((taught["model"] or {}).get("dim", 0))
        needs.append(distributed_need(config, cluster.partition, cluster.trainers, teacher))
    return max(needs, key=lambda need: need.of(0))


class StagesByMany:
    """Trains the stages of a chain by many machines; see ``StageTrainer``.

    Args:
        cluster: where.
        dataset: what was cut.
        command: see ``StageTrainer``.
        settings: the file of the chain's settings, which the first host must see too.
        launched: called with the name of each job.
        started: called with role, number and process id of each process.
    """

    def __init__(
        self,
        cluster: Cluster,
        dataset: Dataset,
        command: str,
        settings: Path,
        launched: Callable[[str], None] = lambda job: None,
        started: Callable[[str, int, int], None] = lambda role, number, pid: None,
    ) -> None:
        """Keep them."""
        self.cluster, self.dataset, self.command = cluster, dataset, command
        self.settings, self.launched, self.started = settings, launched, started

    def __call__(self, stage: Stage, directory: Path, watcher: Watcher) -> TrainingResults:
        """Train a stage, or go on with it."""
        place, config = directory / STAGES / stage.name, stage.config
        role, need = self._role(stage, directory, config)
        resume = (place / RESUME_FILE).exists()
        cluster = self.cluster
        if cluster.local:  # else the first host looks itself
            weights = role.get("teacher_weights", "")
            check_run(config, place, cluster.partition, cluster.world, resume, weights)
        task, how = cluster.started(config, place, need, resume=resume, **role)
        self.launched(task.job.token)
        try:
            return launch(
                task,
                how,
                report=lambda values: watcher.report(Progress(*values)),
                validated=watcher.validated,
                announce=watcher.announce,
                started=self.started,
            )
        except Ended:
            raise Interrupted from None

    def _role(
        self, stage: Stage, directory: Path, config: Config
    ) -> tuple[dict[str, Any], DistributedNeed]:
        """Return what a stage's task says beside its settings, and the memory that it needs."""
        file = self.settings.absolute()
        role: dict[str, Any] = {"shared": (str(file), sha256_file(file))}
        teacher = 0
        for name in stage.teachers:  # one, see ``check_stages``
            source = checkpoint_of(name, directory).absolute()
            taught = check_taught(config, source, self.dataset)
            teacher = int((taught["model"] or {}).get("dim", 0))
            role |= {"teacher": str(source), "teacher_weights": str(taught["weights"]),
                     "teacher_name": stage_name(name), "role": across.__name__}  # fmt: skip
        cluster = self.cluster
        return role, distributed_need(config, cluster.partition, cluster.trainers, teacher)
