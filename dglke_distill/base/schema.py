"""Typed trees: pydantic's, or where it is not installed a small reader of the same classes.

Loading a published model and asking it needs torch and numpy alone. Its settings are classes of
pydantic; without that, ``plain_schema`` reads and checks them. Nothing else differs: import here
what a class of settings or of results is made of.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING or find_spec("pydantic") is not None:
    from pydantic import (
        AfterValidator,
        BeforeValidator,
        ConfigDict,
        Field,
        ValidationError,
        field_validator,
        model_validator,
    )
    from pydantic import BaseModel as _BaseModel

    class BaseModel(_BaseModel):
        """A typed tree, whose reader is built when a first one is read: importing stays quick."""

        model_config = ConfigDict(defer_build=True)
else:
    from dglke_distill.base.plain_schema import (
        BaseModel,
        ConfigDict,
        Field,
        field_validator,
        model_validator,
    )
    from dglke_distill.base.plain_values import AfterValidator, BeforeValidator, ValidationError


class StrictModel(BaseModel):
    """A typed tree whose unknown keys are errors and whose values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


__all__ = [
    "AfterValidator",
    "BaseModel",
    "BeforeValidator",
    "ConfigDict",
    "Field",
    "StrictModel",
    "ValidationError",
    "field_validator",
    "model_validator",
]
