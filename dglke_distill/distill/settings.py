"""From what a command line or a call states to the settings of a chain, and to its directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
from dglke_distill.config.sections import MOST_FLOATS
from dglke_distill.data.identity import label_of, located, located_data
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.going_on import InitModel, check_init, init_tree
from dglke_distill.distill.plan import compose_chain, plan, read_chain
from dglke_distill.runs.settings import unused

_LEAST_RATIO = 1.001


def chain_settings(
    dataset: Optional[str] = None,
    model: Optional[str] = None,
    *,
    student_model: Optional[str] = None,
    dims: Optional[Sequence[int]] = None,
    first: Optional[int] = None,
    last: Optional[int] = None,
    ratio: Optional[float] = None,
    method: Optional[str] = None,
    recipe: str = "auto",
    file: Optional[Path] = None,
    more_teachers: Optional[Sequence[str]] = None,
    control: Optional[str] = None,
    seeds: Optional[int] = None,
    allow_other_data: bool = False,
    init: Optional[InitModel] = None,
    training: Optional[Mapping[str, Any]] = None,
    changes: Sequence[Mapping[str, Any]] = (),
) -> ChainConfig:
    """Compose a chain's settings: defaults, recipe, file, flags, then changes in their order.

    Args:
        dataset: name or path; None: the recipe's.
        model: score function of all stages.
        student_model: score function of the students, if another.
        dims: floats per entity of every stage.
        first: the teacher's size, in place of ``dims``, with ``last``.
        last: the last student's size.
        ratio: how much smaller each stage is; 2 if None.
        method: name of the distillation method.
        recipe: see ``plan.compose_chain``.
        file: TOML file of a chain's settings.
        more_teachers: score functions of further teachers.
        control: which controls to train; ``tuned`` if neither this nor the file says.
        seeds: runs of the chain.
        allow_other_data: whether teachers may have been trained on other triples.
        init: the model that the first stage goes on from; it stays loaded.
        training: settings of this section, for every stage; None is not given.
        changes: partial trees, the last one winning.

    Raises:
        UserError: unknown recipe, unreadable file, unknown setting or bad value.
    """
    trees: list[Mapping[str, Any]] = [{"control": "tuned"}]  # whatever a recipe says
    trees += [] if file is None else [read_chain(file)]
    trees += chain_trees(training or {}, student_model=student_model, more_teachers=more_teachers)
    for key, value in (("method", method), ("control", control), ("seeds", seeds)):
        if value is not None:
            trees.append({key: value})
    if allow_other_data:
        trees.append({"allow_other_data": True})
    if init is not None:
        model, tree = init_tree(init, model)
        trees.append(tree)
    sizes = None if dims is None else list(dims)
    if first is not None or last is not None or ratio is not None:
        if sizes is not None:
            raise UserError("--dims: leave it out where --from, --to or --ratio is given")
        if first is None or last is None:
            raise UserError("--from, --to: give both")
        sizes = divided(first, last, 2.0 if ratio is None else ratio)
    if sizes is not None:
        trees.append({"dims": sizes})
    trees += changes
    chain = compose_chain(recipe, dataset and located(dataset), model, trees)
    check_init(chain, init)
    return chain.model_copy(update={"data": located_data(chain.data)})


def divided(first: int, last: int, ratio: float) -> list[int]:
    """Return the sizes from ``first`` down to ``last``, each about ``ratio`` smaller, even.

    Raises:
        UserError: the sizes do not fall, or the ratio is not clearly above 1.
    """
    if not ratio >= _LEAST_RATIO:
        raise UserError(f"--ratio: must be above 1, at least {_LEAST_RATIO}, is {ratio:g}")
    if not 1 <= last < first <= MOST_FLOATS:
        raise UserError(
            f"--to {last}: must be at least 1 and below --from {first}, which is at most "
            f"{MOST_FLOATS}"
        )
    dims, size = [first], first / ratio
    while size > last * 1.0001 and 2 * round(size / 2) > last:
        if 2 * round(size / 2) < dims[-1]:
            dims.append(2 * round(size / 2))
        size /= ratio
    return [*dims, last]


def check_part(tree: Mapping[str, Any], source: str) -> None:
    """Check some of a chain's settings by themselves, those of its stages too.

    Args:
        tree: partial, as ``ChainConfig`` takes it.
        source: where it stands; the part of the chain is put behind it.

    Raises:
        UserError: an unknown setting or a bad value.
    """
    chain = ChainConfig.from_mapping(tree, source)
    stages = {part: getattr(chain, part) for part in ("shared", "teacher", "student", "direct")}
    stages.update({f"sizes.{size}": own for size, own in chain.sizes.items()})
    for part, own in stages.items():
        Config.from_mapping(own or {}, f"{source} {part}")


def chain_trees(
    training: Mapping[str, Any],
    *,
    student_model: Optional[str],
    more_teachers: Optional[Sequence[str]],
) -> list[Mapping[str, Any]]:
    """Return the partial trees of a chain's settings that flags stand for; None is not given.

    Args:
        training: settings of every stage's section of this name.
        student_model: score function of the students.
        more_teachers: score functions of further teachers.
    """
    trees: list[Mapping[str, Any]] = []
    given = {key: value for key, value in training.items() if value is not None}
    if given:
        trees.append({"shared": {"training": given}})
    if student_model is not None:
        trees.append({"student": {"model": {"name": student_model}}})
    if more_teachers is not None:
        trees.append({"more_teachers": [{"model": {"name": name}} for name in more_teachers]})
    return trees


def new_chain_directory(chain: ChainConfig, parent: Path = Path("runs")) -> Path:
    """Return a directory below ``parent``, named after the settings, that does not exist yet."""
    final = plan(chain)[-1].config
    stem = f"{chain.method}-{final.model.name}-{label_of(chain.data.dataset)}".lower()
    return unused(parent / stem)
