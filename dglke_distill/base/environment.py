"""The environment variables that the package reads, as one class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.faults import fault_words
from dglke_distill.base.regular_files import in_home
from dglke_distill.base.schema import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

_PREFIX = "DGLKE_DISTILL_"


def _listed(value: Any) -> Any:
    """Take a text apart at its commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _folder(value: Path) -> Path:
    """Return where a folder is, or will be."""
    place = in_home(value)
    if str(place).startswith("~"):
        raise ValueError(f"{value}: there is no such home directory; name another folder")
    if place.exists() and not place.is_dir():
        raise ValueError(f"{value} is no folder; name another")
    return place


_Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]
_Folder = Annotated[Path, AfterValidator(_folder)]


class Environment(BaseModel):
    """What ``DGLKE_DISTILL_<NAME>`` says, read anew by each ``Environment()``; empty is not set.

    Flags of the command line and arguments of functions win over it.

    Raises:
        UserError: a variable holds what it cannot.
    """

    model_config = ConfigDict(frozen=True)

    data: Optional[Path] = Field(None, description="folder of published datasets, one folder each")
    cache: Optional[_Folder] = Field(None, description="folder for what is downloaded")
    stores: _Listed = Field((), description="stores of models, separated by commas")
    plugins: _Listed = Field((), description="plug-ins to import, separated by commas")

    def __init__(self) -> None:
        """Read the variables."""
        kind = type(self)
        named = {name: os.environ.get(_PREFIX + name.upper()) for name in kind.model_fields}
        try:
            super().__init__(**{name: value for name, value in named.items() if value})
        except ValidationError as error:
            fault = error.errors()[0]
            variable = _PREFIX + str(fault["loc"][0]).upper()
            raise UserError(f"{variable}: {fault_words(fault)}") from None
