"""The environment variables that the package reads, as one class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Optional

from dglke_distill.base.schema import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Environment"]

_PREFIX = "DGLKE_DISTILL_"


def _listed(value: Any) -> Any:
    """Take a text apart at its commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


_Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Environment(BaseModel):
    """What ``DGLKE_DISTILL_<NAME>`` says, read anew by each ``Environment()``; empty is not set.

    Flags of the command line and arguments of functions win over it.
    """

    model_config = ConfigDict(frozen=True)

    data: Optional[Path] = Field(None, description="folder of published datasets, one folder each")
    cache: Optional[Path] = Field(None, description="folder for what is downloaded")
    stores: _Listed = Field((), description="stores of models, separated by commas")
    plugins: _Listed = Field((), description="plug-ins to import, separated by commas")

    def __init__(self) -> None:
        """Read the variables."""
        kind = type(self)
        named = {name: os.environ.get(_PREFIX + name.upper()) for name in kind.model_fields}
        super().__init__(**{name: value for name, value in named.items() if value})
