"""The chain recipes that ship, and which one is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.config import RECIPES, read_shipped, recipe_names
from dglke_distill.config.registry import nearest
from dglke_distill.models import canonical_name

CHAINS = RECIPES / "chains"


def chain_recipe_names() -> list[str]:
    """Return the names of the shipped chain recipes, sorted."""
    return recipe_names(CHAINS.name)


def find_chain_recipe(recipe: str, dataset: str, model: Optional[str]) -> Optional[str]:
    """Return the whole name of a shipped chain recipe, None for ``none`` and for no ``auto``.

    Args:
        recipe: as for ``plan.compose_chain``.
        dataset: as for ``plan.compose_chain``.
        model: as for ``plan.compose_chain``.

    Raises:
        UserError: there is none of that name.
    """
    recipe = recipe.lower()
    if recipe == "none":
        return None
    names, stem = chain_recipe_names(), Path(dataset).name.lower().replace("_", "-")
    family = "best" if recipe == "auto" else recipe
    tried = [recipe]
    if model is None or _student_model(f"{family}-{stem}", names) == canonical_name(model):
        tried += [f"{family}-{stem}"]
    if model is not None:
        tried += [f"{family}-{model}-{stem}".lower(), f"{family}-{model}".lower()]
    for name in tried:
        if name in names:
            return name
    if recipe == "auto":
        return None
    asked = " ".join(filter(None, (recipe, model, stem)))
    hint = nearest(tried[-1], names)
    if recipe in recipe_names():
        hint = f"{recipe} is one of `train`, and chains have others (`recipes list`); {hint}"
    raise UserError(f"--recipe: no chain recipe for {asked!r}; {hint}")


def _student_model(name: str, names: Sequence[str]) -> Optional[str]:
    """Return the score function of the students of a chain recipe, None if it does not say."""
    if name not in names:
        return None
    model: Optional[str] = (
        read_shipped(CHAINS / f"{name}.toml").get("student", {}).get("model", {}).get("name")
    )
    return model


def shipped_chain(recipe: Optional[str]) -> dict[str, Any]:
    """Return a shipped chain recipe by its whole name; of any other name an empty tree."""
    return read_shipped(CHAINS / f"{recipe}.toml") if recipe in chain_recipe_names() else {}
