"""How much the soft label weighs as training goes on (soft-label weighting, SWDA in IterDE).

Liu, Wang, Shang, Wu 2023, "IterDE: an iterative knowledge distillation framework for knowledge
graph embeddings". A weight is a plain number: no gradient flows through it.
"""

from __future__ import annotations

import math
from decimal import Decimal

from dglke_distill.base.schema import Field
from dglke_distill.config import SoftWeightConfig, components
from dglke_distill.config.registry import Component, NoOptions, Registry
from dglke_distill.training.objective import Moment


class Schedule(Component):
    """Base of the schedules; a subclass writes ``weight``.

    Attributes:
        options: validated instance of the class's ``Options``.
        value: the setting ``distillation.weight.value``.
    """

    value: float

    def weight(self, moment: Moment, hard: float, soft: float) -> float:
        """Return the weight of the soft loss.

        Args:
            moment: where training stands.
            hard: hard loss of the batch.
            soft: its soft loss, not weighted.
        """
        raise NotImplementedError

    def over(self, moment: Moment) -> bool:
        """Return whether the weight is 0 from this epoch on: the teacher need not be asked."""
        return False


class Constant(Schedule):
    """The same weight throughout."""

    name = "constant"

    def weight(self, moment: Moment, hard: float, soft: float) -> float:
        """See ``Schedule.weight``."""
        return self.value


class Linear(Schedule):
    """From ``start`` times the value at the first step to ``end`` times at the last."""

    name = "linear"

    class Options(NoOptions):
        """Shares of the value at both ends."""

        start: float = Field(0.0, ge=0, description="share of the value at the first step")
        end: float = Field(1.0, ge=0, description="share of the value at the last step")

    def weight(self, moment: Moment, hard: float, soft: float) -> float:
        """See ``Schedule.weight``."""
        start, end = self.options.start, self.options.end
        return float(self.value * (start + (end - start) * moment.progress))


class Fading(Schedule):
    """From the value at the first step down to 0 after a share of the epochs, then the facts alone.

    A student learns sooner from a teacher what many epochs of facts would teach it, and is not
    held back afterwards by what the teacher does not know.
    """

    name = "fading"

    class Options(NoOptions):
        """``until``: the share of the epochs after which the weight is 0."""

        until: float = Field(
            0.5, gt=0, le=1, description="share of the epochs after which the weight is 0"
        )

    def weight(self, moment: Moment, hard: float, soft: float) -> float:
        """See ``Schedule.weight``."""
        return float(self.value * max(0.0, 1 - moment.progress / self.options.until))

    def over(self, moment: Moment) -> bool:
        """See ``Schedule.over``."""
        return bool(moment.epoch >= self.options.until * moment.epochs)


class Power(Schedule):
    """The paper's schedule: value * (epoch / epochs) ** power, epochs counted from 1."""

    name = "power"

    class Options(NoOptions):
        """The exponent p."""

        power: float = Field(1.0, ge=0, description="the exponent p")

    def weight(self, moment: Moment, hard: float, soft: float) -> float:
        """See ``Schedule.weight``."""
        return float(self.value * ((moment.epoch + 1) / moment.epochs) ** self.options.power)


class TwoPhase(Schedule):
    """The released code's schedule: value / norm(hard * soft) for half of the epochs, then value.

    norm scales by powers of ten into [1, 10). There the divisor was not detached, which cancelled
    the teacher's gradient; here it is a number, so the teacher counts from the first step on.
    """

    name = "two_phase"

    def weight(self, moment: Moment, hard: float, soft: float) -> float:
        """See ``Schedule.weight``."""
        if 2 * moment.epoch >= moment.epochs:
            return self.value
        return self.value / leading(hard * soft)


def leading(number: float) -> float:
    """Return |number| scaled by a power of ten into [1, 10); 1 for 0 and what is not finite."""
    size = abs(number)
    if size == 0 or not math.isfinite(size):
        return 1.0
    exact = Decimal(size)  # a power of ten may be no float where a size is
    return min(float(exact.scaleb(-exact.adjusted())), math.nextafter(10.0, 1.0))


SCHEDULES: Registry[type[Schedule]] = components.SCHEDULES


def build_schedule(config: SoftWeightConfig) -> Schedule:
    """Build the schedule that the configuration names.

    Raises:
        UserError: unknown name or option.
    """
    schedule: Schedule = SCHEDULES.build(config.name, config.options)
    schedule.value = config.value
    return schedule
