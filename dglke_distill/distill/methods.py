"""Ways to make a small model out of a large one, over one training loop.

A method says which sizes lie on its way, which settings are its own, and what a student minimises.
A new one is a class here, or in a file of its own, and a line in ``config.components``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dglke_distill.base.schema import Field
from dglke_distill.config import components
from dglke_distill.config.registry import NoOptions, Registry
from dglke_distill.distill.method import Method, OneShot

__all__ = ["METHODS", "Method", "build_method"]


class SteadyMethod(Method):
    """Base of the methods under which the weight of distillation stays."""

    def settings(self) -> dict[str, Any]:
        """Keep the weight constant."""
        return {"distillation": {"weight": {"name": "constant"}}}


class IterDE(Method):
    """Every size in turn, each student the next one's teacher (Liu et al. 2023, "IterDE")."""

    name = "iterde"


class FanOut(Method):
    """Every size in one shot from the first teacher, by default with a weight that stays."""

    name = "fan_out"

    def next_teachers(self, teachers: tuple[str, ...], student: str) -> tuple[str, ...]:
        """Return the first teacher again."""
        return teachers

    def defaults(self) -> dict[str, Any]:
        """Keep the weight constant."""
        return {"distillation": {"weight": {"name": "constant"}}}


class DenselyGuided(Method):
    """Every size in turn, taught by all models before it: the mean of their distributions.

    Son, Na, Choi, Hwang 2021, "Densely guided knowledge distillation using multiple teacher
    assistants".
    """

    name = "dgkd"

    def next_teachers(self, teachers: tuple[str, ...], student: str) -> tuple[str, ...]:
        """Return all models so far, the largest first."""
        return (*teachers, student)

    def defaults(self) -> dict[str, Any]:
        """Keep the weight constant."""
        return {"distillation": {"weight": {"name": "constant"}}}


class BasicDistillation(SteadyMethod, OneShot):
    """Soft labels in one shot, with a weight that stays (Hinton, Vinyals, Dean 2015)."""

    name = "bkd"


class TeacherAssistant(SteadyMethod):
    """One assistant of a size between teacher and student.

    Mirzadeh, Farajtabar, Li, Levine, Matsukawa, Ghasemzadeh 2020, "Improved knowledge distillation
    via teacher assistant".
    """

    name = "ta"

    def dims(self, dims: Sequence[int]) -> list[int]:
        """Return the first size, the given one nearest their geometric mean, and the last."""
        first, last = dims[0], dims[-1]
        middle = (first * last) ** 0.5
        between = list(dims[1:-1]) or [max(2, 2 * round(middle / 2))]
        assistant = min(between, key=lambda dim: max(dim / middle, middle / dim))
        return [first, assistant, last] if last < assistant < first else [first, last]


class RelationalDistillation(SteadyMethod, OneShot):
    """Distances and angles among entities in place of scores (Park et al. 2019)."""

    name = "rkd"
    structure = "relational"
    scores = False

    class Options(NoOptions):
        """Weights of distances and angles, and entities compared in a batch."""

        distance: float = Field(1.0, ge=0, description="weight of distances")
        angle: float = Field(2.0, ge=0, description="weight of angles")
        entities: int = Field(128, ge=3, le=1 << 20, description="compared in a batch")


class HintDistillation(SteadyMethod, OneShot):
    """The teacher's vectors as a target of a learned map of the student's (FitNets)."""

    name = "fitnet"
    structure = "fitnet"
    scores = False


class Direct(Method):
    """No teacher: the control."""

    name = "direct"
    taught = False

    def dims(self, dims: Sequence[int]) -> list[int]:
        """Return the last size alone."""
        return [dims[-1]]


METHODS: Registry[type[Method]] = components.METHODS


def build_method(name: str, options: Mapping[str, Any]) -> Method:
    """Build the method registered under a name.

    Raises:
        UserError: unknown name or option.
    """
    made: Method = METHODS.build(name, options)
    return made
