"""What can be known to be wrong with a stage before the first one is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
from dglke_distill.distill.initialization import INITIALIZATIONS
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.schedules import build_schedule
from dglke_distill.distill.soft import build_soft_loss
from dglke_distill.models import build_score_function
from dglke_distill.runs.workspace import build_optimizer
from dglke_distill.training.losses import build_loss
from dglke_distill.training.regularizers import build_regularizer

_PARTS = {"teacher": "teacher", "student": "student"}


def check_settings(config: Config) -> None:
    """Build what a stage's settings name, which takes no data, and throw it away.

    A teacher may take hours; a misspelt option of its student should not wait for it.

    Raises:
        UserError: unknown names or options, a size that the model cannot have, or settings that do
            not go together.
    """
    build_score_function(config.model)
    build_loss(config.loss).check_mode(config.training.mode)
    build_regularizer(config.regularizer)
    build_optimizer(config.optimizer, nn.Linear(1, 1))
    settings = config.distillation
    if settings is None:
        return
    build_soft_loss(settings.soft)
    build_schedule(settings.weight)
    INITIALIZATIONS.spell(settings.initialization)
    build_method(settings.method, settings.options).check(config)


@contextmanager
def named_stage(name: str, role: str) -> Iterator[None]:
    """Within it an error names the stage, and the part of a chain's settings that is its own.

    Args:
        name: of the stage.
        role: what it is for.
    """
    try:
        yield
    except UserError as error:
        if name in str(error):
            raise
        raise UserError(f"stage {name} ({_PARTS.get(role, 'direct')}.*): {error}") from None
