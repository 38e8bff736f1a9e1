"""The environment variables that the package reads, as one class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["Environment"]


def _listed(value: Any) -> Any:
    """Take a text apart at its commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


_Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


class Environment(BaseSettings):
    """What ``DGLKE_DISTILL_<NAME>`` says, read anew by each ``Environment()``; empty is not set.

    Flags of the command line and arguments of functions win over it.
    """

    model_config = SettingsConfigDict(
        env_prefix="DGLKE_DISTILL_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    data: Optional[Path] = Field(None, description="folder of published datasets, one folder each")
    cache: Optional[Path] = Field(None, description="folder for what is downloaded")
    stores: _Listed = Field((), description="stores of models, separated by commas")
    plugins: _Listed = Field((), description="plug-ins to import, separated by commas")
