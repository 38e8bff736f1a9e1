"""The settings of a run: one validated tree, TOML in and TOML out.

A configuration is composed from four layers, the later ones winning: the defaults below, a recipe
that ships with the package (``dglke_distill/recipes/*.toml``), the user's ``--config`` file, and
the command line's flags. Unknown keys are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Optional, Union, get_args

from dglke_distill.base import parsing
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import BaseModel, Field
from dglke_distill.base.spelling import known_names
from dglke_distill.config.names import current_names, fold, published
from dglke_distill.config.registry import Registry, nearest
from dglke_distill.config.sections import (
    DataConfig,
    DistillationConfig,
    EvaluationConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimizerConfig,
    RegularizerConfig,
    Section,
    SoftLabelConfig,
    SoftWeightConfig,
    TrainingConfig,
)
from dglke_distill.config.validation import validate_options, validate_tree

__all__ = [
    "PLUGIN_RECIPES",
    "RECIPES",
    "Config",
    "DataConfig",
    "DistillationConfig",
    "EvaluationConfig",
    "LossConfig",
    "ModelConfig",
    "NegativesConfig",
    "OptimizerConfig",
    "RegularizerConfig",
    "Section",
    "SoftLabelConfig",
    "SoftWeightConfig",
    "TrainingConfig",
    "compose",
    "find_recipe",
    "meant_in_a_chain",
    "merge",
    "parse_assignment",
    "read_recipe",
    "read_shipped",
    "read_toml",
    "recipe_names",
    "told_recipe",
    "validate_options",
    "validate_tree",
]

RECIPES = Path(__file__).with_name("recipes")
_ASIDE = frozenset(
    "recipe data evaluation seed device threads memory_megabytes checkpoint_minutes storage fit "
    "direct control control_seconds search_seconds rivals seeds allow_other_data".split()
)
"""No part of a recipe for a model: where and on what it runs, and what it is held against."""


def _no_recipe(found: Any) -> str:
    """Return what is wrong with what a plug-in offers as a recipe; nothing if it is one."""
    if isinstance(found, (Mapping, Path)):
        return ""
    return "it must be a mapping of settings, or the Path of a TOML file of them"


PLUGIN_RECIPES: Registry[Union[Mapping[str, Any], Path]] = Registry(
    "recipe",
    "--recipe",
    {},
    group="dglke_distill.recipes",
    reserved=lambda: ["auto", "none", *_shipped_names()],
    takes=_no_recipe,
)
"""Recipes that plug-ins bring; those that ship are files in ``RECIPES``."""
_MAX_KEY_PARTS = 16


class Config(Section):
    """All settings of a run."""

    recipe: Optional[str] = Field(None, description="the shipped recipe it was built from")
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    negatives: NegativesConfig = Field(default_factory=NegativesConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    regularizer: RegularizerConfig = Field(default_factory=RegularizerConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    distillation: Optional[DistillationConfig] = Field(None, description="None: no teacher")

    @classmethod
    def meant_by(cls, keys: Sequence[str]) -> list[list[str]]:
        """Return the settings that keys may mean which are none where they were written.

        ``epochs`` stands for ``training.epochs``, and so does ``shared.training.epochs``: a single
        training has no parts.

        Args:
            keys: from the top down to the value.
        """
        if keys[1:] and keys[1] in cls.model_fields:
            return [list(keys[1:])]
        sections = {
            name: next((kind for kind in (field.annotation, *get_args(field.annotation))
                        if isinstance(kind, type) and issubclass(kind, Section)), None)
            for name, field in cls.model_fields.items()
        }  # fmt: skip
        return [
            [name, *keys]
            for name, section in sections.items()
            if section is not None and keys[0] in section.model_fields
        ]


def meant_in_a_chain(keys: Sequence[str]) -> list[list[str]]:
    """Return the settings of a chain that keys may mean: those of a training stand in a part.

    Args:
        keys: from the top down to the value.
    """
    if keys[0] in Config.model_fields:
        return [[part, *keys] for part in ("shared", "teacher", "student")]
    return [["shared", *found] for found in Config.meant_by(keys)]


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UserError: the file is missing or malformed; the message names it and the line.
    """
    return parsing.read_toml(path, missing="no such file; check --config")


def parse_assignment(text: str) -> dict[str, Any]:
    """Turn ``section.key=value`` of ``--set`` into a nested mapping; the value is TOML.

    A bare word is taken as a string, so ``model.name=ComplEx`` needs no quotes.

    Raises:
        UserError: there is no ``=``, no key, or a key or value beyond all reason.
    """
    shown = repr(text if len(text) <= 200 else f"{text[:200]}...")
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".", _MAX_KEY_PARTS)]
    if not equals or not all(parts) or len(parts) > _MAX_KEY_PARTS or not key.isprintable():
        raise UserError(f"--set {shown}: write section.key=value, e.g. training.epochs=20")
    parsed = parsing.parse_toml_value(value, f"--set {shown}")
    for part in reversed(parts):
        parsed = {part: parsed}
    return dict(parsed)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on top, section by section.

    Options belong to what they configure: where ``over`` names another component, the options
    of the former one are dropped.
    """
    result = dict(base)
    for key, options in (
        ("name", "options"),
        ("sampler", "options"),
        ("encoder", "encoder_options"),
        ("method", "options"),
    ):
        if key in over and fold(str(over[key])) != fold(str(base.get(key, over[key]))):
            result.pop(options, None)
    for key, value in over.items():
        below, value = current_names(key, result.get(key)), current_names(key, value)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[key] = merge(below, value) if both else value
    return result


def told_recipe(
    run: Mapping[str, Any], known: Sequence[str], read: Callable[[str], BaseModel]
) -> str:
    """Return the name of a run's recipe, and that the run's settings differ from it if they do.

    Args:
        run: its settings, those of a model or of a chain.
        known: the recipes that there are; the run may be of none, or of one of another version.
        read: returns a recipe's settings by its name, as whole as the run's.
    """
    name = run.get("recipe") or ""
    changed = name in known and _differs(run, read(name).model_dump(mode="json"))
    return f"{name}, with changes" if changed else name


def _differs(tree: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(
        _differs(value, other.get(key) or {})
        if isinstance(value, Mapping)
        else other.get(key) != value
        for key, value in tree.items()
        if key not in _ASIDE
    )


def recipe_names(folder: str = "") -> list[str]:
    """Return the names of the recipes, or of the shipped ones in a folder of theirs, sorted."""
    return sorted({*_shipped_names(folder), *([] if folder else PLUGIN_RECIPES)})


def _shipped_names(folder: str = "") -> list[str]:
    return [path.stem for path in (RECIPES / folder).glob("*.toml")]


def read_shipped(path: Path) -> dict[str, Any]:
    """Read a recipe's file, merged over the recipe beside it that it is ``based_on``, if it is.

    Raises:
        UserError: a file is missing or malformed.
    """
    tree = read_toml(path)
    base = tree.pop("based_on", None)
    return tree if base is None else merge(read_shipped(path.with_name(f"{base}.toml")), tree)


def read_recipe(name: str) -> dict[str, Any]:
    """Return a recipe, shipped or of a plug-in, as a partial tree.

    Raises:
        UserError: there is no recipe of that name; near spellings are suggested.
    """
    name = published(name, recipe_names())
    if name not in recipe_names():
        near = nearest(name, recipe_names())
        hint = near if near.startswith("did") else known_names(recipe_names(), "`recipes list`")
        raise UserError(f"--recipe: no recipe {name!r:.200}; {hint}")
    if name in PLUGIN_RECIPES:
        found = PLUGIN_RECIPES.find(name)
        return {**(read_toml(found) if isinstance(found, Path) else found), "recipe": name}
    return {**read_shipped(RECIPES / f"{name}.toml"), "recipe": name}


def find_recipe(model: str, dataset: str, dim: int) -> Optional[str]:
    """Return the most specific shipped recipe for a model, a dataset and a size.

    Tried in order: ``model-dataset-dimN``, ``model-dataset``, ``model``.
    """
    stem = Path(dataset).name.lower().replace("_", "-")  # ogb's folders have underscores
    names = recipe_names()
    for name in (f"{model}-{stem}-dim{dim}", f"{model}-{stem}", model):
        found: str = published(name.lower(), names)
        if found in names:
            return found
    return None


def compose(
    overrides: Sequence[Mapping[str, Any]] = (),
    *,
    file: Optional[Path] = None,
    recipe: Optional[str] = "auto",
) -> Config:
    """Compose a configuration: defaults, recipe, file, then overrides in order.

    Args:
        overrides: partial trees from the command line, the last one winning.
        file: the user's TOML file, if any.
        recipe: a shipped recipe's name, ``"auto"`` for the one that the file or the overrides name
            (``none`` is a name too), else the most specific one that fits the model, dataset and
            dim asked for; None for the bare defaults.

    Raises:
        UserError: unknown recipe, unreadable file, unknown key or bad value.
    """
    user: dict[str, Any] = read_toml(file) if file is not None else {}
    if file is not None:
        Config.from_mapping(user, str(file))
    user = reduce(merge, overrides, user)
    asked = Config.from_mapping(user, "command line" if file is None else f"{file} and flags")
    if published(recipe, ("auto",)) == "auto":
        recipe = asked.recipe or find_recipe(asked.model.name, asked.data.dataset, asked.model.dim)
    recipe = None if published(recipe, ("none",)) == "none" else recipe
    tree = read_recipe(recipe) if recipe else {}
    recipe = tree.get("recipe")
    Config.from_mapping(tree, f"recipe {recipe}")
    return Config.from_mapping(merge(tree, {**user, "recipe": recipe}), "configuration")
