"""The stages that follow from the settings of a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.config import (
    Config,
    compose,
    merge,
    read_shipped,
    read_toml,
)
from dglke_distill.config.fit import fitted
from dglke_distill.distill.chain_config import ChainConfig, Tree
from dglke_distill.distill.chain_recipes import CHAINS, find_chain_recipe, shipped_chain
from dglke_distill.distill.checks import check_settings, named_stage
from dglke_distill.distill.methods import METHODS, Method, build_method
from dglke_distill.models import canonical_name

Role = Literal["teacher", "student", "direct", "direct_budget", "direct_tuned"]


class Stage(NamedTuple):
    """One training run of a chain.

    Attributes:
        name: unique in its chain; also that of its directory.
        role: what it is for.
        config: its settings.
        teachers: names of the stages it learns from, or paths of loaded checkpoints.
    """

    name: str
    role: Role
    config: Config
    teachers: tuple[str, ...]


def read_chain(path: Path) -> Tree:
    """Read a file of a chain's settings, some or all, and return the partial tree.

    It may be the ``chain.toml`` of a run; the teachers that were loaded there are ``loaded_in``.

    Raises:
        UserError: the file is missing or malformed, or a setting in it is.
    """
    tree = read_toml(path)
    tree.pop("loaded", None)
    ChainConfig.from_mapping(tree, str(path))
    return tree


def loaded_in(path: Optional[Path]) -> list[str]:
    """Return the loaded teachers that a chain's own ``chain.toml`` names."""
    named = [] if path is None else read_toml(path).get("loaded", [])
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise UserError(f"{path}: 'loaded' must be a list of paths of trained models")
    return named


def compose_chain(
    recipe: str,
    dataset: Optional[str],
    model: Optional[str],
    overrides: Sequence[Mapping[str, Any]],
) -> ChainConfig:
    """Compose a chain's settings: defaults, a shipped chain recipe, then overrides in order.

    The last word wins, also where it is about more stages than the one before: the epochs of all
    stages outdo those that a recipe gives to students.

    Args:
        recipe: a recipe's whole name; or a family (``best``, ``paper``), which is completed by
            model and dataset; ``auto`` for ``best`` where there is one; ``none`` for the defaults.
        dataset: name or path; None: that of the overrides, else the embedded one.
        model: score function; None: the recipe's own, else that of the bare defaults.
        overrides: partial ``ChainConfig`` trees, the last one winning.

    Raises:
        UserError: unknown recipe, unknown key or bad value.
    """
    asked: Tree = reduce(merge, overrides, {})
    if dataset is None:
        dataset = ChainConfig.from_mapping(asked, "command line").data.dataset
    name = find_chain_recipe(recipe, dataset, model)
    tree: Tree = {}
    if name is not None:
        tree = {**_recipe_under(name, asked.get("method")), "recipe": name}
    if model is not None:
        for part in ("teacher", "student"):
            tree = merge({part: {"model": {"name": model}}}, tree)
    for override in overrides:
        tree = merge(_outdone(tree, override), override)
    return ChainConfig.from_mapping(merge(tree, {"data": {"dataset": dataset}}), "chain")


def under_recipe(chain: ChainConfig, recipe: str) -> ChainConfig:
    """Return a chain of no recipe with what a shipped one says below all that it says itself.

    Args:
        chain: the settings.
        recipe: the whole name of a chain recipe.
    """
    said = chain.model_dump(exclude_unset=True)
    said.pop("recipe", None)
    tree = _outdone(_recipe_under(recipe, said.get("method")), said)
    return ChainConfig.from_mapping({**merge(tree, said), "recipe": recipe}, "chain")


def taken_over(student: Mapping[str, Any], method: str, recipe: Optional[str]) -> Tree:
    """Return the settings of students as another method than the one they are for takes them over.

    Options are a method's own. One that brings its own soft loss does without the weights that a
    recipe found for another: students that copy a distribution alone may leave out the facts.

    Args:
        student: a partial ``Config`` tree.
        method: the name of the other method; one that is not known changes nothing here.
        recipe: the shipped chain recipe that it rests on; what else it says stays.
    """
    distillation = student.get("distillation", {})
    lost = {"options"}
    own = build_method(method, {}).settings() if METHODS.knows(method) else {}
    if "soft" in own.get("distillation", {}):
        advice = shipped_chain(recipe).get("student", {}).get("distillation", {})
        about = ("soft", "weight", "hard_weight")
        lost |= {key for key in about if key in advice and distillation.get(key) == advice[key]}
    kept = {key: value for key, value in distillation.items() if key not in lost}
    return {**student, "distillation": kept} if distillation else dict(student)


def _recipe_under(recipe: str, method: Optional[str]) -> Tree:
    """Return a shipped chain recipe for its own method, or as another one takes it over."""
    tree: Tree = read_shipped(CHAINS / f"{recipe}.toml")
    if method is not None and method != tree.get("method") and "student" in tree:
        tree = {**tree, "student": taken_over(tree["student"], method, recipe)}
    return tree


def stage_label(config: Config) -> str:
    """Return what names of stages say of a model: its score function and its size."""
    return f"{canonical_name(config.model.name).lower()}-dim{config.model.dim}"


def rivals_of(chain: ChainConfig, dim: int) -> list[Config]:
    """Return settings by which the rivals of a size's control are trained.

    Args:
        chain: the settings.
        dim: floats per entity.
    """
    return [_stage(chain, {"model": {"name": name}}, dim) for name in chain.rivals]


def own_dims(recipe: Optional[str]) -> list[int]:
    """Return the sizes of a shipped chain recipe, by its whole name; of none, the defaults."""
    dims: list[int] = shipped_chain(recipe).get("dims", ChainConfig().dims)
    return dims


def overlaid(chain: ChainConfig, override: Mapping[str, Any]) -> ChainConfig:
    """Return a chain with a partial tree merged over it; its word is the last one.

    Raises:
        UserError: unknown key or bad value.
    """
    tree = chain.model_dump()
    return ChainConfig.from_mapping(merge(_outdone(tree, override), override), "chain")


def _outdone(tree: Tree, override: Mapping[str, Any]) -> Tree:
    """Return a chain's tree without what an override says of more stages at once."""
    shared, student = override.get("shared", {}), override.get("student", {})
    result = dict(tree)
    for part in ("teacher", "student", "direct"):
        if result.get(part):
            result[part] = _without(result[part], shared)
    if "sizes" in result:
        result["sizes"] = {
            size: _without(_without(own, shared), student) for size, own in result["sizes"].items()
        }
    if "more_teachers" in result:
        result["more_teachers"] = [_without(more, shared) for more in result["more_teachers"]]
    return result


def _without(tree: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    """Return a tree without the settings that another makes, and without options they end."""
    named = {key: value for key, value in other.items() if not isinstance(value, Mapping)}
    left = merge(tree, named)  # without the options of components that are named anew
    result: Tree = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and key in left:
            result[key] = _without(value, other.get(key, {}))
        elif key in left and key not in other:
            result[key] = value
    return result


def plan(chain: ChainConfig, loaded: Sequence[str] = ()) -> list[Stage]:
    """Return the stages of a chain in the order in which they are trained.

    Args:
        chain: the settings.
        loaded: paths of checkpoints that take the place of the teachers.

    Raises:
        UserError: settings of a stage that are not valid, or a chain without students.
    """
    method = build_method(chain.method, _method_options(chain))
    dims = method.dims(chain.dims)
    stages: list[Stage] = []
    teachers: tuple[str, ...] = tuple(loaded)
    if method.taught:
        if len(chain.dims) < 2:
            raise UserError(f"--dims: {chain.method} needs two sizes or more, the teacher's first")
        if not loaded:
            further = [
                (_further(chain, more), _size(more, dims[0])) for more in chain.more_teachers
            ]
            for tree, dim in [(chain.teacher, dims[0]), *further]:
                config = _stage(chain, tree, dim)
                name = f"{len(stages)}-teacher-{stage_label(config)}"
                stages.append(Stage(name, "teacher", config, ()))
            teachers = tuple(stage.name for stage in stages)
        _check_teachers(method, len(teachers))
        for dim in dims[1:]:
            config = _student(chain, method, dim)
            stages.append(
                Stage(f"{len(stages)}-{stage_label(config)}", "student", config, teachers)
            )
            teachers = method.next_teachers(teachers, stages[-1].name)
    sizes = dims[-1:] if not method.taught else dims[1:] if chain.control != "none" else []
    for dim in sizes:
        config = _direct(chain, dim)
        stages.append(Stage(f"direct-{stage_label(config)}", "direct", config, ()))
    for stage in stages:
        with named_stage(stage.name, stage.role):
            check_settings(stage.config)
    return stages


def _further(chain: ChainConfig, tree: Tree) -> Mapping[str, Any]:
    """Return the settings of a further teacher: one of another kind has its own recipe's."""
    first = chain.teacher.get("model", {}).get("name", Config().model.name)
    other = tree.get("model", {}).get("name", first)
    alike = canonical_name(other) == canonical_name(first)
    return merge(chain.teacher, tree) if alike else tree


def _size(tree: Tree, usual: int) -> int:
    return int(tree.get("model", {}).get("dim", usual))


def _check_teachers(method: Method, count: int) -> None:
    most = method.most_teachers
    if count < method.least_teachers or (most is not None and count > most):
        wanted = f"{most} alone" if most is not None else f"{method.least_teachers} or more"
        raise UserError(
            f"--more-teachers: {method.name} learns from {wanted}, and {count} "
            f"{'is' if count == 1 else 'are'} given; add or remove some, also of --teacher"
        )


def _method_options(chain: ChainConfig) -> Mapping[str, Any]:
    options: Mapping[str, Any] = chain.student.get("distillation", {}).get("options", {})
    return options


def _stage(chain: ChainConfig, tree: Mapping[str, Any], dim: int) -> Config:
    data = {"data": chain.data.model_dump()}
    config = _fitted(chain, [data, chain.shared, tree, {"model": {"dim": dim}}])
    return config.model_copy(update={"distillation": None})


def _student(chain: ChainConfig, method: Method, dim: int) -> Config:
    overrides: list[Mapping[str, Any]] = [
        {"data": chain.data.model_dump()},
        method.defaults(),
        chain.shared,
        chain.student,
        chain.sizes.get(str(dim), {}),
        {"model": {"dim": dim}, "distillation": {"method": chain.method}},
        method.settings(),
    ]
    return _fitted(chain, overrides)


def _fitted(chain: ChainConfig, overrides: Sequence[Mapping[str, Any]]) -> Config:
    """Compose the settings of a stage; below all that is said lies what fits the data."""
    config = compose(overrides)
    if chain.fit is None:
        return config
    return compose([fitted(config, chain.fit.entities, chain.fit.triples), *overrides])


def _direct(chain: ChainConfig, dim: int) -> Config:
    if chain.direct is not None:
        return _stage(chain, chain.direct, dim)
    tree = merge(chain.student, chain.sizes.get(str(dim), {}))
    tree.pop("distillation", None)
    return _stage(chain, tree, dim)
