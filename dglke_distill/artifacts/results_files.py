"""``results.json`` on disk: whatever reads or writes such a file does so here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union

from dglke_distill.artifacts.results import (
    SCHEMA,
    ChainResults,
    ComparisonResults,
    ResultsNode,
    TrainingResults,
)
from dglke_distill.artifacts.results_node import strict_json
from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.base.parsing import read_object

RESULTS_FILE = "results.json"
"""What the file is called, in a checkpoint and in the folder of a chain or a comparison."""

_MISSING = "no such file; is that the directory of a finished run?"

Kind = TypeVar("Kind", bound=ResultsNode)


def read_training_results(path: Path, *, missing: str = _MISSING) -> TrainingResults:
    """Read the ``results.json`` of a checkpoint.

    Args:
        path: the file.
        missing: what to say where there is none.

    Raises:
        UserError: it is missing, malformed or of another schema.
    """
    return _read(path, TrainingResults, missing)


def read_chain_results(path: Path) -> ChainResults:
    """Read the ``results.json`` of a chain.

    Raises:
        UserError: it is missing, malformed, of another schema or no chain's.
    """
    return _read(path, ChainResults)


def read_comparison_results(path: Path) -> ComparisonResults:
    """Read the ``results.json`` of a comparison.

    Raises:
        UserError: it is missing, malformed, of another schema or no comparison's.
    """
    return _read(path, ComparisonResults)


def read_results_tree(path: Path, *, missing: str = "no such file") -> dict[str, Any]:
    """Read a ``results.json`` as the mapping that it is, to be carried on as it stands.

    Args:
        path: the file.
        missing: what to say where there is none.

    Raises:
        UserError: it is missing, no JSON or of another schema.
    """
    tree = read_object(path, missing=missing)
    _check_schema(tree, path)
    return tree


def results_kind(path: Path) -> str:
    """Return what a ``results.json`` is of: ``training``, ``chain`` or ``comparison``.

    Raises:
        UserError: it is missing, no JSON or of another schema.
    """
    return _kind(read_results_tree(path, missing=_MISSING))


def write_results(path: Path, tree: Union[Mapping[str, Any], ResultsNode]) -> None:
    """Write a ``results.json``, whole or not at all.

    Args:
        path: the file.
        tree: a typed tree, or a mapping with its keys.
    """
    atomic_write_text(path, results_text(tree))


def results_text(tree: Union[Mapping[str, Any], ResultsNode]) -> str:
    """Return what a ``results.json`` holds, of a typed tree or a mapping with its keys."""
    return strict_json(tree.to_tree() if isinstance(tree, ResultsNode) else tree)


def _check_schema(tree: Mapping[str, Any], source: Union[str, Path]) -> None:
    """Refuse results of another schema; those that state none are of the first."""
    stated = tree.get("schema", 1)
    if type(stated) is not int or stated != SCHEMA:
        raise UserError(
            f"{source}: schema {str(stated)[:40]} is unknown; a newer version wrote it, and this "
            f"one reads schema {SCHEMA}: upgrade dglke-distill"
        )


def _read(path: Path, of: type[Kind], missing: str = _MISSING) -> Kind:
    tree = read_results_tree(path, missing=missing)
    found, wanted = _kind(tree), getattr(of, "KIND", "training")
    if found != wanted:
        raise UserError(f"{path}: results of a {found}, where those of a {wanted} are wanted")
    return of.of(tree, path)


def _kind(tree: Mapping[str, Any]) -> str:
    return str(tree.get("kind", "training"))[:40]
