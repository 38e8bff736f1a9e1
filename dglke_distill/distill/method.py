"""What every way of distilling has in common; ``methods`` has the ways themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, DistillationConfig, validate_options
from dglke_distill.config.registry import Component
from dglke_distill.distill.candidates import ExtraCandidates, GraphNeighbors, TopCandidates
from dglke_distill.distill.extra_queries import ExtraQueries
from dglke_distill.distill.initialization import initialize
from dglke_distill.distill.query_rows import QueryRows
from dglke_distill.distill.remembered import Remembered
from dglke_distill.distill.schedules import build_schedule
from dglke_distill.distill.soft import SoftLoss, build_soft_loss
from dglke_distill.distill.structure import STRUCTURES, Structure
from dglke_distill.distill.student_objective import DistillationObjective, Scale, SoftLabels
from dglke_distill.distill.teacher import Ensemble, Teacher, score_factor
from dglke_distill.models import ENCODERS
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.workspace import Workspace, build_objective
from dglke_distill.training.losses import MODES
from dglke_distill.training.objective import HardObjective, Objective


class Method(Component):
    """Base of the methods: one soft-label stage per size, as ``distillation`` describes it."""

    taught: ClassVar[bool] = True
    """Whether there is a teacher at all."""
    least_teachers: ClassVar[int] = 1
    """How many teachers the first student needs."""
    most_teachers: ClassVar[Optional[int]] = None
    """How many it can have; None: any number."""
    structure: ClassVar[Optional[str]] = None
    """Name of a structure term that is part of the method."""
    scores: ClassVar[bool] = True
    """Whether scores are copied."""
    modes: ClassVar[tuple[str, ...]] = MODES
    """The modes of training that a student can be in."""

    def check(self, config: Config) -> None:
        """Refuse a student's settings that cannot go together, before anything is trained.

        Raises:
            UserError: there are some.
        """
        settings, mode = config.distillation, config.training.mode
        assert settings is not None
        if mode not in self.modes:
            raise UserError(
                f"distillation.method {self.name!r} cannot train with training.mode {mode}: set "
                f"student.training.mode to {' or '.join(self.modes)}"
            )
        if settings.soft.candidates == "all" and mode == "negatives":
            raise UserError(
                'distillation.soft.candidates "all" needs training.mode k_vs_all or one_vs_all; '
                "set one of them, or choose batch, top or neighbors"
            )
        if settings.soft.extra and ENCODERS.find(config.model.encoder).needs_blocks:
            raise UserError(
                "distillation.soft.extra: queries beyond train's have no neighbour blocks; set "
                "model.encoder to lookup, or extra to 0"
            )

    def dims(self, dims: Sequence[int]) -> list[int]:
        """Return the sizes to train, the teacher's first, out of those asked for."""
        return list(dims)

    def next_teachers(self, teachers: tuple[str, ...], student: str) -> tuple[str, ...]:
        """Return who teaches the next size: here the student that was just made.

        Args:
            teachers: names of the stages that taught it.
            student: its own.
        """
        return (student,)

    def defaults(self) -> dict[str, Any]:
        """Return settings that the method prefers; those of the chain win over them."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return the partial tree of settings that makes a student's stage this method's."""
        return {}

    def objective(
        self, config: Config, student: KGEModel, teachers: Sequence[KGEModel], workspace: Workspace
    ) -> Objective:
        """Give the student its start and return what it minimises.

        Args:
            config: the stage's settings, with ``distillation``.
            student: initialised at random.
            teachers: trained models, of any dtype and on any device, where they do not stay.
            workspace: the data.

        Raises:
            UserError: settings that do not go together.
        """
        settings = config.distillation
        assert settings is not None
        self.check(config)
        dtype = student.relation_weight.dtype
        teachers = [model.to(workspace.device, dtype) for model in teachers]
        initialize(settings.initialization, student, teachers[0])
        hard = build_objective(config, student)
        loss = build_soft_loss(settings.soft) if self.scores else None
        teacher, scale = prepared(config, student, teachers, workspace, loss, hard)
        return self.taught_by(config, student, teacher, hard, loss, scale, workspace)

    def taught_by(
        self,
        config: Config,
        student: KGEModel,
        teacher: Any,
        hard: HardObjective,
        loss: Optional[SoftLoss],
        scale: Scale,
        workspace: Workspace,
    ) -> Objective:
        """Return what a student minimises that has its start, and a teacher that is ready.

        Args:
            config: the stage's settings, with ``distillation``.
            student: has its start.
            teacher: a ``Teacher``, an ``Ensemble``, or what answers as they do.
            hard: the hard objective.
            loss: what compares scores; None to compare none.
            scale: how the teacher's scores are laid beside the student's.
            workspace: the data.
        """
        settings = config.distillation
        assert settings is not None
        first = teacher.teachers[0] if isinstance(teacher, Ensemble) else teacher
        structure = self.build_structure(student, first.model)
        extra = _extra_queries(config, workspace) if self.scores else None
        labels = SoftLabels(
            loss,
            build_schedule(settings.weight),
            self.build_candidates(config, first, workspace, extra) if self.scores else None,
            scale,
            structure,
            float(getattr(self.options, "structure_weight", 1.0)),
            extra,
            settings.soft.extra,
            config.negatives.count if config.training.mode == "negatives" else None,
        )
        return self.combine(config, hard, settings, teacher, labels, workspace)

    def combine(
        self,
        config: Config,
        hard: Any,
        settings: DistillationConfig,
        teacher: Any,
        labels: SoftLabels,
        workspace: Workspace,
    ) -> Objective:
        """Put the pieces together; methods with an objective of their own override this."""
        if settings.soft.candidates == "all":
            cached = cached_queries(config, workspace, labels.extra, labels.loss)
            if cached is not None:
                teacher = Remembered(teacher, cached, workspace.dataset.num_entities)
        return DistillationObjective(hard, settings.hard_weight, teacher, labels)

    def build_candidates(
        self,
        config: Config,
        teacher: Teacher,
        workspace: Workspace,
        extra: Optional[ExtraQueries] = None,
    ) -> Optional[ExtraCandidates]:
        """Return the source of extra candidates that the settings name."""
        assert config.distillation is not None
        soft = config.distillation.soft
        if soft.candidates == "top":
            cached = cached_queries(config, workspace, extra)
            return TopCandidates(teacher, cached, count=soft.count)
        if soft.candidates == "neighbors":
            return GraphNeighbors(workspace.graph, count=soft.count, seed=config.training.seed)
        return None

    def build_structure(self, student: KGEModel, teacher: KGEModel) -> Optional[Structure]:
        """Return the term on entity vectors that belongs to the method, if one does."""
        if self.structure is None:
            return None
        teacher.require_vectors(f"distillation.method {self.name!r}")
        kind = STRUCTURES[self.structure]
        given = {
            k: v for k, v in self.options.model_dump().items() if k in kind.Options.model_fields
        }
        options = validate_options(kind.Options, given, f"distillation.options of {self.name}")
        return kind(options, student.score_function.dim, teacher.score_function.dim)


def prepared(
    config: Config,
    student: KGEModel,
    teachers: Sequence[KGEModel],
    workspace: Workspace,
    loss: Optional[SoftLoss],
    hard: HardObjective,
) -> tuple[Any, Scale]:
    """Return the teacher, or the ensemble of several, and how its scores are laid beside.

    Args:
        config: the stage's settings, with ``distillation``.
        student: its kind alone is looked at.
        teachers: trained models.
        workspace: the data.
        loss: what compares scores; None to compare none.
        hard: the hard objective.
    """
    assert config.distillation is not None
    wanted = config.distillation.soft.scale
    if wanted == "auto":
        function = teachers[0].score_function
        alike = len(teachers) == 1 and type(function) is type(student.score_function)
        wanted = "none" if loss is None or alike else loss.default_scale  # type: ignore[assignment]
    if len(teachers) > 1:
        made = [Teacher(model, score_factor(model, workspace.dataset)) for model in teachers]
        return Ensemble(made), "standardize" if wanted == "standardize" else "none"
    factor = 1.0
    if wanted == "calibrate":
        factor = score_factor(teachers[0], workspace.dataset)
    elif loss is not None and loss.of_distributions:  # both sides of a comparison alike
        factor = hard.loss.scale
    return Teacher(teachers[0], factor), "standardize" if wanted == "standardize" else "none"


def cached_queries(
    config: Config,
    workspace: Workspace,
    extra: Optional[ExtraQueries],
    loss: Optional[SoftLoss] = None,
) -> Optional[QueryRows]:
    """Return all queries of a training, if the teacher's answers to them are found once and kept.

    None where the settings want nothing that could be kept, or where it does not fit the memory
    that they give: then the teacher is asked at each step.

    Args:
        config: the settings.
        workspace: the data.
        extra: queries beyond those of train, or None.
        loss: what compares scores of all entities; they are kept if it allows it.
    """
    assert config.distillation is not None
    soft = config.distillation.soft
    best = soft.candidates == "top"
    everything = soft.candidates == "all" and loss is not None and loss.keepable
    if not best and not (everything and config.training.mode == "k_vs_all"):
        return None
    queries = None if extra is None else extra.queries
    rows = QueryRows(workspace.graph, workspace.dataset.num_relations, queries)
    if best:
        size = TopCandidates.size(rows, min(soft.count, workspace.dataset.num_entities))
    else:
        size = Remembered.size(rows, workspace.dataset.num_entities)
    return rows if size <= soft.cache_megabytes << 20 else None


def _extra_queries(config: Config, workspace: Workspace) -> Optional[ExtraQueries]:
    """Return the source of queries beyond train's, if the settings want any and there are any."""
    assert config.distillation is not None
    soft = config.distillation.soft
    if soft.extra == 0:
        return None
    extra = ExtraQueries(
        workspace.graph,
        workspace.dataset.num_relations,
        size=soft.extra_pool,
        seed=config.training.seed,
    )
    return extra if len(extra) else None


class OneShot(Method):
    """Base of the methods that go from the first size to the last at once."""

    def dims(self, dims: Sequence[int]) -> list[int]:
        """Return the first size and the last."""
        return [dims[0], dims[-1]]
