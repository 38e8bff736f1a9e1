"""The settings of a run: one validated tree, TOML in and TOML out.

A configuration is composed from four layers, the later ones winning: the defaults below, a recipe
that ships with the package (``dglke_distill/recipes/*.toml``), the user's ``--config`` file, and
the command line's flags. Unknown keys are errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar, get_args

import tomli_w
from pydantic import BaseModel, Field, ValidationError

from dglke_distill.base import parsing
from dglke_distill.base.errors import UserError
from dglke_distill.config.names import fold, published, spell_choices
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

__all__ = [
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
    "merge",
    "parse_assignment",
    "read_recipe",
    "read_shipped",
    "read_toml",
    "recipe_names",
    "validate_options",
    "validate_tree",
]

RECIPES = Path(__file__).with_name("recipes")
_MAX_KEY_PARTS = 16
_MAX_DEPTH = 64
_LARGEST = 1e30
"""Larger numbers do not fit float32, or what is computed with them does not."""
_LARGEST_INTEGER = 1 << 63


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

    def to_toml(self) -> str:
        """Return the tree as TOML; keys whose value is None are left out."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))

    @classmethod
    def from_mapping(cls, tree: Mapping[str, Any], source: str) -> Config:
        """Validate a nested mapping.

        Raises:
            UserError: an unknown key or a value out of range; ``source`` says where it stands.
        """
        return validate_tree(cls, tree, source)


Tree = TypeVar("Tree", bound=BaseModel)


def validate_tree(kind: type[Tree], tree: Mapping[str, Any], source: str) -> Tree:
    """Validate a nested mapping against a settings class.

    Raises:
        UserError: an unknown key or a value out of range; ``source`` says where it stands.
    """
    _check_values(tree, source)
    try:
        return kind.model_validate(spell_choices(kind, tree))
    except ValidationError as error:
        raise UserError(_explain(error, kind, source)) from None


def _check_values(tree: Any, source: str) -> None:
    """Refuse what no setting of any component can be, wherever in a tree it stands."""
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(tree, ())]
    while waiting:
        node, path = waiting.pop()
        fault = ""
        if len(path) > _MAX_DEPTH:
            raise UserError(f"{source}: settings are nested more than {_MAX_DEPTH} deep")
        if isinstance(node, Mapping):
            waiting.extend((value, (*path, key)) for key, value in node.items())
            fault = "has a key with a NUL" * any("\0" in str(key) for key in node)
        elif isinstance(node, (list, tuple)):
            waiting.extend((value, (*path, i)) for i, value in enumerate(node))
        elif isinstance(node, str):
            fault = "has a NUL character; remove it" * ("\0" in node)
        elif isinstance(node, float) and not abs(node) <= _LARGEST:
            fault = f"is {node}: must be a finite number, at most {_LARGEST:g}"
        elif isinstance(node, int) and not -_LARGEST_INTEGER <= node < _LARGEST_INTEGER:
            fault = "has more than 64 bits; give a smaller number"
        if fault:
            raise UserError(f"{source}: setting {'.'.join(map(str, path))[:200]!r} {fault}")


def _explain(error: ValidationError, root: type[BaseModel], source: str) -> str:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        model: Any = root
        for part in first["loc"][:-1]:
            if isinstance(part, str):  # a number counts the items of a list
                model = model.model_fields[part].annotation
                model = next((kind for kind in get_args(model) if kind is not type(None)), model)
        near = difflib.get_close_matches(path[-1], list(model.model_fields), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(model.model_fields)}"
        return f"{source}: unknown setting {key!r}; {hint}"
    if not path:
        return f"{source}: {first['msg'].removeprefix('Value error, ')}"
    value = repr(first["input"])
    value = value if len(value) <= 200 else f"{value[:200]}..."
    return f"{source}: setting {key!r} is {value}: {first['msg'].lower()}"


def validate_options(schema: type[Tree], options: Mapping[str, Any], source: str) -> Tree:
    """Validate a component's own options against its pydantic schema.

    Raises:
        UserError: an unknown option or a bad value, named with ``source``.
    """
    return validate_tree(schema, dict(options), source)


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
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else value
    return result


def recipe_names(folder: str = "") -> list[str]:
    """Return the names of the shipped recipes, or of those in a folder of theirs, sorted."""
    return sorted(path.stem for path in (RECIPES / folder).glob("*.toml"))


def read_shipped(path: Path) -> dict[str, Any]:
    """Read a recipe's file, laid over the recipe beside it that it is ``based_on``, if it is.

    Raises:
        UserError: a file is missing or malformed.
    """
    tree = read_toml(path)
    base = tree.pop("based_on", None)
    return tree if base is None else merge(read_shipped(path.with_name(f"{base}.toml")), tree)


def read_recipe(name: str) -> dict[str, Any]:
    """Return a shipped recipe as a partial tree.

    Raises:
        UserError: there is no recipe of that name; near spellings are suggested.
    """
    name = published(name, recipe_names())
    if name not in recipe_names():
        near = difflib.get_close_matches(name, recipe_names(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see `dglke-distill recipes list`"
        raise UserError(f"--recipe: no recipe {name!r}; {hint}")
    return {**read_shipped(RECIPES / f"{name}.toml"), "recipe": name}


def find_recipe(model: str, dataset: str, dim: int) -> Optional[str]:
    """Return the most specific shipped recipe for a model, a dataset and a size.

    Tried in order: ``model-dataset-dimN``, ``model-dataset``, ``model``.
    """
    stem = Path(dataset).name.lower().replace("_", "-")  # ogb's folders have underscores
    names = set(recipe_names())
    for name in (f"{model}-{stem}-dim{dim}", f"{model}-{stem}", model):
        if name.lower() in names:
            return name.lower()
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
    for override in overrides:
        user = merge(user, override)
    asked = Config.from_mapping(user, "command line" if file is None else f"{file} and flags")
    if published(recipe, ("auto",)) == "auto":
        recipe = asked.recipe or find_recipe(asked.model.name, asked.data.dataset, asked.model.dim)
    recipe = None if published(recipe, ("none",)) == "none" else recipe
    tree = read_recipe(recipe) if recipe else {}
    recipe = tree.get("recipe")
    Config.from_mapping(tree, f"recipe {recipe}")
    return Config.from_mapping(merge(tree, {**user, "recipe": recipe}), "configuration")
