"""Models for other programs: formats by name, and the one way to write them.

A format is a class in a file of its own and a line in ``config.components``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional, Protocol, Union

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.arguments import checked, refused
from dglke_distill.base.files import directory_aside, file_aside
from dglke_distill.base.places import (
    begins,
    check_file_place,
    check_free,
    check_replaceable,
    nothing_foreign,
)
from dglke_distill.config import components, validate_options
from dglke_distill.config.registry import Registry
from dglke_distill.interop.base import ExportFormat

__all__ = ["FORMATS", "ExportFormat", "export_model"]

FORMATS: Registry[type[ExportFormat]] = components.FORMATS


class Named(Protocol):
    """A ``NamedModel``, which stands above this room."""

    loaded: LoadedModel


@checked
def export_model(
    loaded: Union[LoadedModel, Named],
    format: str,
    out: Path,
    options: Optional[Mapping[str, Any]] = None,
    tell: Callable[[str], None] = lambda line: None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a model in a format; ``out`` appears whole or not at all.

    Args:
        loaded: the model with its names: a ``LoadedModel``, or what ``kd.load`` returns.
        format: a name in ``FORMATS``.
        out: the file or directory to be written.
        options: the format's own options.
        tell: hears what the format has to say of what it wrote.
        overwrite: whether a file at ``out`` is replaced, or a directory with no other files than
            are written.

    Returns:
        ``out``.

    Raises:
        UserError: unknown format or option, something at ``out``, a missing package, or a model
            that the format cannot express.
    """
    loaded = getattr(loaded, "loaded", loaded)
    if not isinstance(loaded, LoadedModel):
        raise refused(loaded, "loaded", "a model, such as kd.load returns")
    writer = FORMATS.find(format)()
    chosen = validate_options(writer.Options, options or {}, f"options of the format {format}")
    check_free(out, overwrite, begins(writer.begins))
    if writer.directory:
        check_replaceable(out, nothing_foreign)
    else:
        check_file_place(out)
    writer.check_requirements()
    aside = directory_aside if writer.directory else file_aside
    with aside(out, overwrite=overwrite) as place:
        writer.write(loaded, chosen, place)
    model = loaded.model
    if writer.decodes and model.bytes_per_entity < 4 * model.floats_per_entity:
        size = model.bytes_per_entity
        tell(f"decoded: the model keeps an entity in {size:,} bytes, this export does not")
    if loaded.calibration is not None:
        tell("not calibrated: this export gives scores, without the model's probabilities")
    if writer.said:
        tell(writer.said)
    return out
