"""What every export format is, and how one is written: whole or not at all."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar, Optional

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import BaseModel
from dglke_distill.config.registry import NoOptions
from dglke_distill.data.triples import Vocabulary
from dglke_distill.interop.dglke_folder import INVERSE

Array = NDArray[Any]


class ExportFormat:
    """A way to write a model for other programs.

    A subclass sets the class variables and writes ``write``; ``export`` lists it.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    """One line: what is written, and who reads it."""
    directory: ClassVar[bool] = False
    """Whether the export is a directory of files rather than one file."""
    begins: ClassVar[bytes] = b""
    """Regular expression of how a file of it begins; a file that does not is never replaced."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Modules that ``write`` imports, of the extra ``extra``."""
    extra: ClassVar[str] = "export"
    Options: ClassVar[type[BaseModel]] = NoOptions
    said: str = ""
    """What ``write`` has to say of what it wrote, one line; nothing by default."""
    decodes: bool = True
    """Whether ``write`` decodes the entities of a model that keeps them in fewer bytes."""

    def write(self, loaded: LoadedModel, options: Any, place: Path) -> None:
        """Write a model.

        Args:
            loaded: the model with its names.
            options: validated instance of ``Options``.
            place: an empty directory, or the path of a file that is not there yet.

        Raises:
            UserError: the format cannot express this model.
        """
        raise NotImplementedError

    def check_requirements(self) -> None:
        """Look whether the modules it needs are installed.

        Raises:
            UserError: one is not.
        """
        for module in self.requires:
            if importlib.util.find_spec(module) is None:
                raise UserError(
                    f"--format {self.name}: needs the package {module!r}; "
                    f"run `pip install 'dglke-distill[{self.extra}]'`"
                )


def entity_table(loaded: LoadedModel) -> Array:
    """Return the entity vectors as scoring sees them, (entities, dim), in the model's dtype."""
    loaded.model.require_vectors("an export")
    table: Array = loaded.model.entity_embeddings.cpu().numpy()
    return table


def entity_bias(loaded: LoadedModel) -> Optional[Array]:
    """Return what is added to the scores of each candidate, (entities,); None where nothing is."""
    if not loaded.config.model.entity_bias:
        return None
    with torch.no_grad():
        bias = loaded.model.encode(None).bias
    return None if bias is None else bias.detach()[:, 0].cpu().numpy()


def entity_labels(loaded: LoadedModel) -> Optional[list[str]]:
    """Return the label of each entity in id order, empty where it has none.

    Returns:
        None where no entity has a label.

    Raises:
        UserError: a file of labels is malformed.
    """
    known = loaded.find_labels()
    found = [known.of(name) for name in loaded.entities]
    return found if any(found) else None


def relation_table(loaded: LoadedModel) -> Array:
    """Return the relation table as the model keeps it, (rows, floats); see ``relation_names``."""
    table: Array = loaded.model.relation_embeddings.cpu().numpy()
    return table


def shared_weights(loaded: LoadedModel) -> dict[str, Array]:
    """Return the weights that all entities and relations share, by ``shared.`` and their name.

    They are what a score function learns beside the two tables; most learn nothing else. MEIM and
    TuckER: ``shared.core`` (cores, floats of a relation's part, part, part) and, with
    ``batch_norm``, ``shared.known_norm.NAME`` and ``shared.query_norm.NAME``, each (dim,), where
    NAME is weight, bias, running_mean or running_var. With ``hidden``: ``shared.inner`` and
    ``shared.outer``, both (hidden, dim).
    """
    state = loaded.model.score_function.state_dict()
    return {
        f"shared.{name}": weight.detach().cpu().numpy()
        for name, weight in state.items()
        if weight.is_floating_point()  # a count of batches is no part of a score
    }


def relation_names(loaded: LoadedModel) -> list[str]:
    """Return the name of each row of the relation table.

    The second rows of a model with reciprocal relations, which answer (?, relation, tail), are
    called ``<name>_inverse``.

    Raises:
        UserError: a relation of the data has such a name already.
    """
    names = list(loaded.relations)
    if not loaded.model.reciprocal:
        return names
    inverse = [f"{name}{INVERSE}" for name in names]
    taken = set(names).intersection(inverse)
    if taken:
        raise UserError(
            f"relation {min(taken)!r} has the name that an inverse relation would get; rename it"
        )
    return names + inverse


def plain_names(names: Vocabulary, forbidden: str, format: str) -> list[str]:
    """Return names as a list after a look for characters that a format cannot hold.

    Raises:
        UserError: a name has one of the ``forbidden`` characters.
    """
    found = list(names)
    for name in found:
        if any(character in name for character in forbidden):
            raise UserError(
                f"--format {format}: the {names.kind} name {name!r} has a character that the "
                "format cannot hold; rename it"
            )
    return found


def as_float32(table: Array) -> Array:
    """Return a table as contiguous little-endian float32."""
    return np.ascontiguousarray(table, dtype="<f4")
