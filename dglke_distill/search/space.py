"""What a search may choose: a file of fixed settings and of ranges for others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TypeGuard, Union

from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field, model_validator
from dglke_distill.config import Config, Section, merge, read_toml, validate_tree
from dglke_distill.config.registry import nearest
from dglke_distill.models import canonical_name

if TYPE_CHECKING:
    import optuna

SPACES = Path(__file__).with_name("spaces")

Value = Union[bool, int, float, str]
Tree = dict[str, Any]


class Range(Section):
    """The values of one setting.

    Either ``choices``, or ``low`` and ``high``, both included: whole numbers if both are.
    """

    choices: Optional[list[Value]] = Field(
        None, min_length=1, max_length=1000, description="the values, in place of low and high"
    )
    low: Optional[Union[int, float]] = Field(
        None, allow_inf_nan=False, description="the least value"
    )
    high: Optional[Union[int, float]] = Field(
        None, allow_inf_nan=False, description="the greatest value"
    )
    log: bool = Field(False, description="try magnitudes alike: 0.01 to 0.1 as often as 0.1 to 1")
    default: Optional[Value] = Field(None, description="of the first trial; None: left to chance")
    when: dict[str, Value] = Field(
        default_factory=dict,
        description="other settings of the space that must have these values, or else this one is "
        "not chosen and keeps its fixed value",
    )

    @model_validator(mode="after")
    def _whole(self) -> Range:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("give either choices, or low and high")
        if self.low is not None and self.high is not None:
            if self.low > self.high:
                raise ValueError("low must not be above high")
            if self.log and self.low <= 0:
                raise ValueError("with log, low must be above 0")
        if self.default is not None and not self.holds(self.default):
            raise ValueError("the default is none of the values")
        return self

    def holds(self, value: Optional[Value]) -> bool:
        """Return whether a value is one of the range's."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None and self.high is not None
        if value is None or isinstance(value, (str, bool)):  # None: the setting's own default
            return False
        return self.low <= value <= self.high

    def nearest(self, value: Optional[Value]) -> Optional[Value]:
        """Return the value of the range that is nearest to one; None where none is."""
        if self.holds(value):
            return value
        if not _is_number(value):
            return None
        if self.choices is not None:
            numbers = [choice for choice in self.choices if _is_number(choice)]
            return min(numbers, key=lambda choice: abs(choice - value), default=None)
        assert self.low is not None and self.high is not None
        return min(max(value, self.low), self.high)

    def suggest(self, name: str, trial: optuna.trial.BaseTrial) -> Value:
        """Let a trial choose a value; ``name`` is the setting's."""
        if self.choices is not None:
            chosen: Any = trial.suggest_categorical(name, self.choices)
            return chosen  # type: ignore[no-any-return]
        assert self.low is not None and self.high is not None
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Space(Section):
    """A search space.

    Attributes:
        fixed: settings of every trial, a partial ``Config`` tree.
        search: ranges by the names of settings, e.g. ``optimizer.learning_rate``.
        starts: choices that are tried behind the defaults, each merged over them.
    """

    fixed: Tree = Field(default_factory=dict, description="settings of every trial")
    search: dict[str, Range] = Field(
        min_length=1, max_length=200, description="settings to their ranges"
    )
    starts: list[dict[str, Value]] = Field(
        default_factory=list,
        max_length=100,
        description="choices that are tried behind the defaults, each merged over them",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Space:
        before: set[str] = set()
        for name, span in self.search.items():
            unknown = set(span.when) - before
            if unknown:
                raise ValueError(
                    f"{name}: when names {sorted(unknown)[0]!r}, which must stand before it"
                )
            before.add(name)
        for start in self.starts:
            for name, value in start.items():
                if name not in self.search or not self.search[name].holds(value):
                    raise ValueError(f"starts: {name} = {value!r}: not a choice of the space")
        return self

    def first(self) -> list[dict[str, Value]]:
        """Return the choices to begin with: the defaults, then ``starts``."""
        return [self._completed(start) for start in ({}, *self.starts)]

    def suggest(self, trial: optuna.trial.BaseTrial) -> Tree:
        """Let a trial choose, and return the settings: the fixed ones and the chosen."""
        chosen: dict[str, Value] = {}
        for name, span in self.search.items():
            if all(chosen.get(other) == value for other, value in span.when.items()):
                chosen[name] = span.suggest(name, trial)
        return self.settings(chosen)

    def settings(self, chosen: Mapping[str, Value]) -> Tree:
        """Return the fixed settings with chosen ones, by their names, merged over them."""
        tree = self.fixed
        for name, value in chosen.items():
            part: Any = value
            for key in reversed(name.split(".")):
                part = {key: part}
            tree = merge(tree, part)
        return tree

    def known(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return those values that are the space's, by the names of settings."""
        return {
            name: values[name]
            for name, span in self.search.items()
            if name in values and span.holds(values[name])
        }

    def near(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return values by the names of settings as near as the space has them, else its defaults.

        Args:
            values: of all settings; those that the space does not choose are left out.
        """
        start: dict[str, Value] = {}
        for name, span in self.search.items():
            if (value := span.nearest(values.get(name))) is not None:
                start[name] = value
        return self._completed(start)

    def defaults(self) -> dict[str, Value]:
        """Return the default choices, those whose conditions hold among them."""
        return self._completed({})

    def _completed(self, start: Mapping[str, Value]) -> dict[str, Value]:
        chosen: dict[str, Value] = {}
        for name, span in self.search.items():
            value = start.get(name, span.default)
            holds = all(chosen.get(other) == wanted for other, wanted in span.when.items())
            if holds and value is not None:
                chosen[name] = value
        return chosen


def _is_number(value: Optional[Value]) -> TypeGuard[Union[int, float]]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def space_names() -> list[str]:
    """Return the names of the spaces that ship, sorted."""
    return sorted(path.stem for path in SPACES.glob("*.toml"))


def find_space(model: str, taught: bool) -> str:
    """Return the name of the space that ships for a score function.

    Args:
        model: its name, in any letter case.
        taught: for a student, not a model trained directly.
    """
    name = canonical_name(model).lower()
    if taught:
        return f"{name}-student" if f"{name}-student" in space_names() else "student"
    return name if name in space_names() else "default"


def read_space(name: str) -> Space:
    """Read a space that ships, by its name, or a file.

    Raises:
        UserError: there is none, or it is malformed; the message says where.
    """
    path = SPACES / f"{name}.toml"
    if name not in space_names():
        path = Path(name)
        if not path.is_file():
            hint = nearest(name, space_names(), 1)
            raise UserError(f"--space {name!r}: no such space or file; {hint}")
    space = validate_tree(Space, read_toml(path), str(path))
    Config.from_mapping(space.settings(space.defaults()), f"{path}: fixed and default settings")
    return space
