"""A student distilled by many machines; its teacher lies in parts on DGL's servers, as it does.

    python -m dglke_distill.distill.across TASK ROLE NUMBER

is a server or a trainer of such a launch. The first trainer alone reads the teacher's checkpoint.
What the student minimises is the method's own objective.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import torch
import torch.distributed as together

from dglke_distill.artifacts.results import DistillationDescription
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, merge
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.initialization import INITIALIZATIONS, at_random, initialize
from dglke_distill.distill.loading import load_teacher
from dglke_distill.distill.method import Method, prepared
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.saved import describe_teacher, foreign, teacher_name
from dglke_distill.distill.soft import build_soft_loss
from dglke_distill.distill.teacher import Teacher, TeacherScores
from dglke_distill.distill.teacher_data import teacher_data
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.distributed_state import DistributedRun, spread_model
from dglke_distill.runs.launching import role
from dglke_distill.runs.workspace import build_objective
from dglke_distill.sampling.batch import Batch
from dglke_distill.training.distributed.tables import (
    DistributedModel,
    new_relations,
    new_table,
)
from dglke_distill.training.objective import Objective


def student_settings(config: Config) -> Config:
    """Return a training's settings as those of a student.

    Args:
        config: the settings; what they say of ``distillation`` is kept.

    Raises:
        UserError: no such method, or one of its options is wrong.
    """
    tree = config.model_dump(exclude_unset=True)
    stated = tree.get("distillation") or {}
    default = Config.from_mapping({"distillation": {}}, "student").distillation
    assert default is not None
    method = build_method(stated.get("method", default.method), stated.get("options", {}))
    tree["distillation"] = stated
    tree = merge(merge(method.defaults(), tree), method.settings())
    return Config.from_mapping(tree, "student")


def check_student(config: Config, part: str = "") -> None:
    """Refuse settings of a student that cannot be distilled by many machines.

    Args:
        config: see ``student_settings``.
        part: what stands before the name of a setting of a chain, such as ``student.``.

    Raises:
        UserError: there are some.
    """
    settings = config.distillation
    assert settings is not None
    method = build_method(settings.method, settings.options)
    if type(method).combine is not Method.combine or not method.taught:
        raise UserError(
            f"dist launch: distillation.method {method.name} is for one machine; choose iterde, "
            "bkd, fan_out, dgkd, ta, rkd or fitnet"
        )
    method.check(config)
    for name, value, wanted in (
        ("candidates", settings.soft.candidates, "batch"),
        ("extra", settings.soft.extra, 0),
    ):
        if value != wanted:
            raise UserError(
                f"dist launch: distillation.soft.{name} {value} is for one machine; give --set "
                f"{part}distillation.soft.{name}={wanted}"
            )
    build_soft_loss(settings.soft)


def check_taught(config: Config, place: Path, dataset: Dataset) -> dict[str, Any]:
    """Refuse what no student can learn by many machines, before any process is started.

    Args:
        config: see ``student_settings``.
        place: the teacher's checkpoint.
        dataset: what the student learns from.

    Returns:
        What ``describe_teacher`` does.

    Raises:
        UserError: such settings, or a teacher that is not there, not whole, or of other triples.
    """
    check_student(config)
    settings = config.distillation
    assert settings is not None
    if foreign(place) is not None:
        raise UserError(
            f"--teacher {place}: is of another library; make a checkpoint of it first with "
            "`dglke-distill import`"
        )
    found = describe_teacher(place)
    teacher_data(place, dataset)
    dim = (found["model"] or {}).get("dim")
    random = INITIALIZATIONS.find(settings.initialization) is at_random
    if not random and isinstance(dim, int) and config.model.dim > dim:
        raise UserError(
            f"distillation.initialization {settings.initialization!r}: a student of "
            f"{config.model.dim} floats cannot start from a teacher of {dim}; set it to random"
        )
    return found


class SharedTeacher:
    """A teacher whose table of entities lies on the servers; see ``Teacher``.

    Args:
        model: it, which is frozen.
        factor: multiplies its scores.
    """

    def __init__(self, model: DistributedModel, factor: float) -> None:
        """Freeze the model."""
        self.model, self.factor = model, factor
        model.requires_grad_(False).eval()

    @torch.no_grad()
    def ask(self, batch: Batch) -> TeacherScores:
        """Answer a batch; the rows that it meets are pulled."""
        return TeacherScores(self.model, batch, self.factor)


def taught(config: Config, run: DistributedRun, place: Path, name: str = "") -> Objective:
    """Give the student its start and return what it minimises; all trainers call it.

    Args:
        config: the settings, with ``distillation``.
        run: the trainer's.
        place: the teacher's checkpoint, on the first trainer's host.
        name: what results call it; nothing: by its own results.

    Raises:
        UserError: the teacher cannot be read, or does not fit; on all trainers.
    """
    settings = config.distillation
    assert settings is not None
    method = build_method(settings.method, settings.options)
    hard = build_objective(config, run.model)
    loss = build_soft_loss(settings.soft) if method.scores else None
    run.collect()
    read: Optional[Teacher] = None
    told: list[Any] = [None, None]
    student = run.ordinary
    if student is not None:
        try:
            models = [load_teacher(place, run.dataset).to(torch.float32)]
            initialize(settings.initialization, student, models[0])
            read, scale = prepared(config, student, models, run.workspace, loss, hard)
            told[1] = (*_kind(read.model), read.factor, scale)
            others = teacher_data(place, run.dataset)
        except UserError as error:
            told[0] = str(error)
    together.broadcast_object_list(told, 0)
    if told[0] is not None:
        raise UserError(told[0])
    run.spread(None if student is None else student.state_dict())
    function, reciprocal, biased, factor, scale = told[1]
    entities, relations = run.dataset.num_entities, run.dataset.num_relations
    table = new_table(run.member, "teacher", entities, function.dim)
    bias = new_table(run.member, "teacher_bias", entities, 1) if biased else None
    rows = new_relations(run.member, "teacher_relation", function, relations * (1 + reciprocal))
    model = DistributedModel(
        function, relations, table, bias, reciprocal=reciprocal, relations=rows
    )
    spread_model(model, run.own, None if read is None else read.model.state_dict())
    if student is not None:
        described = [{"name": name or teacher_name(place), **describe_teacher(place)}]
        tree = {"method": method.name, "teachers": described}
        run.about = {"distillation": DistillationDescription.of(tree, place)}
        run.others = tuple(dict.fromkeys(others))
    teacher = SharedTeacher(model, factor)
    return method.taught_by(config, run.model, teacher, hard, loss, scale, run.workspace)


def _kind(model: KGEModel) -> tuple[Any, bool, bool]:
    """Return what a trainer needs to know of a teacher beside its numbers."""
    return model.score_function, model.reciprocal, model.bias_weight is not None


def main() -> None:
    """Be a server or a trainer."""
    role.main(lambda config, run, task: taught(config, run, Path(task.teacher), task.teacher_name))


if __name__ == "__main__":
    main()
