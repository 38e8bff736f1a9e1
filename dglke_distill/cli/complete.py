"""Names that the shell completes; looked up when the tab key is pressed, torch never imported."""

from __future__ import annotations

from collections.abc import Iterable

from dglke_distill.config.components import CALIBRATIONS, FORMATS, METHODS, SCORE_FUNCTIONS

__all__ = ["calibrations", "datasets", "formats", "methods", "models", "published"]


def _fitting(names: Iterable[str], begun: str) -> list[str]:
    return [name for name in names if name.lower().startswith(begun.lower())]


def models(incomplete: str) -> list[str]:
    """Return the score functions that a word begins."""
    return _fitting((name.lower() for name in SCORE_FUNCTIONS), incomplete)


def methods(incomplete: str) -> list[str]:
    """Return the distillation methods that a word begins."""
    return _fitting(METHODS, incomplete)


def calibrations(incomplete: str) -> list[str]:
    """Return the methods of calibration that a word begins."""
    return _fitting(CALIBRATIONS, incomplete)


def formats(incomplete: str) -> list[str]:
    """Return the export formats that a word begins."""
    return _fitting(FORMATS, incomplete)


def datasets(incomplete: str) -> list[str]:
    """Return the datasets of the catalog that a word begins."""
    from dglke_distill.data.manifest import manifest_names

    return _fitting(manifest_names(), incomplete)


def published(incomplete: str) -> list[str]:
    """Return the models that ship, or are the user's own, that a word begins."""
    from dglke_distill.base.errors import UserError
    from dglke_distill.zoo.index import default_store, read_store, shipped_store

    found: set[str] = set()
    for store in (shipped_store(), default_store()):
        try:
            found.update(entry.name for entry in read_store(store))
        except (UserError, OSError):  # a tab key is no place to hear of it
            continue
    return _fitting(sorted(found), incomplete)
