"""What precedes a training or a chain: defaults that fit the size of the data, and a race.

Both are for data that no recipe names. ``dglke-distill train``, ``run``, ``tune`` and ``compare``,
``kd.train``, ``kd.distill`` and ``kd.tune`` all take their settings from here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, Callable, Optional, Union

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, DistillationConfig, compose, merge, read_toml
from dglke_distill.config.fit import fitted
from dglke_distill.config.idle import idle_settings
from dglke_distill.distill.chain_config import ChainConfig, FitSize
from dglke_distill.distill.idle import idle_parts
from dglke_distill.distill.plan import own_dims, plan, under_recipe
from dglke_distill.distill.saved import table_floats
from dglke_distill.distill.watcher import Watcher
from dglke_distill.runs.settings import flag_trees, flattened, resolve
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search.durations import SECONDS, seconds_of
from dglke_distill.search.race import race
from dglke_distill.search.space import Value, find_space, read_space

Search = Union[str, float, None]
"""How long to search first: a text such as ``60s``, seconds, ``none``; None: where it is needed."""

SMALL_DATA_MODEL = "ComplEx"
"""The model of data that no recipe names, where none is asked for and they are small: over all
entities it is better than TransE on nearly all such graphs (`experiments/defaults.py`)."""

RIVALS = ("TransE",)
"""What the search for a control's settings tries too, where no model is asked for."""

_SMALL = 4e9
"""Entities times triples up to which data are small: FB15k-237; its 512 floats took 23 minutes."""

_TUNED = frozenset({"batch_size", "learning_rate", "negatives", "loss"})
"""Flags that choose what a race would choose."""


def before_training(
    flags: Mapping[str, Any],
    changes: Sequence[Mapping[str, Any]],
    *,
    data: Mapping[str, Any],
    file: Optional[Path],
    recipe: str,
    search: Search,
    workspaces: Workspaces,
    taught: bool = False,
    announce: Callable[[str], None] = lambda line: None,
    over_all: bool = True,
) -> tuple[Config, Optional[float]]:
    """Return the settings of a training, and how long a race shall look for better ones.

    Args:
        flags: see ``runs.settings.flag_trees``.
        changes: partial trees, the last one winning.
        data: a partial tree that says where the data lie; ``changes`` win.
        file: the user's TOML file, if any.
        recipe: see ``runs.settings.resolve``.
        search: what was asked for; if None, a minute where no recipe names the dataset and nothing
            that a race chooses is stated.
        workspaces: receives the data, where the defaults must fit them.
        taught: whether a teacher is given, without which nothing reads ``distillation``.
        announce: hears of settings that nothing reads.
        over_all: whether ComplEx over all entities may be the default of small data; False where
            only sampled negatives can be trained on.

    Returns:
        The settings, and the seconds of the race, None for none.

    Raises:
        UserError: unknown recipe, unreadable file, unknown setting, bad value or bad data.
    """
    changes = [change for change in changes if change]
    config = resolve(flags, [data, *changes], file=file, recipe=recipe)
    chosen = any(flags.get(name) is not None for name in _TUNED)
    seconds = _wanted(search, bool(file or changes or chosen), recipe)
    if recipe.lower() != "auto" or not _for_any_data(config):
        seconds = None if search is None else seconds
    elif (size := _size(config, workspaces)) is not None:
        own = [] if file is None else [read_toml(file)]
        if over_all and _is_small(size) and _leave_open([*own, *flag_trees(flags), *changes]):
            flags = {**flags, "model": SMALL_DATA_MODEL}
            config = resolve(flags, [data, *changes], file=file, recipe=recipe)
        fit = fitted(config, size.entities, size.triples)
        made = compose([fit, *own, *flag_trees(flags), data, *changes])
        config = made.model_copy(update={"data": config.data})
    said = {
        name: of for tree in (*flag_trees(flags), *changes) for name, of in flattened(tree).items()
    }
    teaching = (config.distillation or DistillationConfig()) if taught else None
    for line in idle_settings(config.model_copy(update={"distillation": teaching}), said):
        announce(line)
    return config, seconds


def before_study(
    flags: Mapping[str, Any],
    changes: Sequence[Mapping[str, Any]],
    *,
    space: Optional[str],
    taught: bool,
    workspaces: Workspaces,
) -> tuple[dict[str, Any], list[dict[str, Value]], Optional[int]]:
    """Return the flags of a study, which name a model then, what it tries first, and its epochs.

    The model is the one that ``train`` takes, and so are the usual epochs and the settings of the
    first trial, as near as the space has them; those that the space itself begins with follow.

    Args:
        flags: see ``runs.settings.flag_trees``; the dataset among them, or in ``changes``.
        changes: partial trees of all trials' settings, the last one winning.
        space: see ``settings.study_settings``; one that is named says which model it is for.
        taught: whether a student is tuned, whose settings ``train`` does not know.
        workspaces: receives the data.

    Raises:
        UserError: unknown setting, bad value, bad data, or no such space.
    """
    if space is not None:
        return dict(flags), read_space(space).first(), None
    config, _ = before_training(
        flags, changes, data={}, file=None, recipe="auto", search="none", workspaces=workspaces
    )
    found = read_space(find_space(config.model.name, taught))
    first = found.first()
    if not taught:
        known = found.near(flattened(config.model_dump()))
        first = [known, *(chosen for chosen in first if chosen != known)]
    return {**flags, "model": config.model.name}, first, config.training.epochs


def before_chain(
    chain: ChainConfig,
    changes: Sequence[Mapping[str, Any]],
    *,
    file: Optional[Path],
    recipe: str,
    search: Search,
    workspaces: Workspaces,
    loaded: Sequence[str] = (),
    announce: Callable[[str], None] = lambda line: None,
    over_all: bool = True,
    own: Sequence[Mapping[str, Any]] = (),
) -> ChainConfig:
    """Return a chain whose defaults fit its data, and that searches for settings first.

    Args:
        chain: its settings.
        changes: the partial trees among what it was composed of.
        file: the user's TOML file, if any.
        recipe: what the caller has named.
        search: see ``before_training``.
        workspaces: receives the data, where the defaults must fit them.
        loaded: teachers that are not trained.
        announce: hears of changes that no stage reads.
        over_all: see ``before_training``.
        own: what single methods of a comparison have of their own, as partial ``Config`` trees.

    Raises:
        UserError: no time, or bad data.
    """
    seconds = _wanted(search, bool(file or any(changes)), recipe)
    # Options of a distillation method say nothing of the model.
    free = over_all and _leave_open([{**tree, "distillation": {}} for tree in own])
    chain = _chain_for_data(chain, seconds, recipe, search, workspaces, free)
    chain = _below_teachers(chain, loaded, announce)
    for line in idle_parts(chain, changes, loaded):
        announce(line)
    return chain


def _below_teachers(
    chain: ChainConfig, loaded: Sequence[str], announce: Callable[[str], None]
) -> ChainConfig:
    """Return a chain whose sizes begin with that of the loaded teachers.

    Sizes that nobody has asked for begin there; those that were asked for must.
    """
    sizes = [floats for place in loaded if (floats := table_floats(Path(place))) is not None]
    if not sizes or len(sizes) < len(loaded) or chain.dims[0] in sizes:
        return chain
    first = max(sizes)
    dims = [first, *(dim for dim in chain.dims if dim < first)]
    given, better = (",".join(map(str, some)) for some in (chain.dims, dims))
    where = f"the teacher in {loaded[sizes.index(first)]} has {first} floats"
    if len(dims) < 2:
        better = f"{first},{max(1, first // 2)}"
    if chain.dims != own_dims(chain.recipe):
        raise UserError(f"--dims {given}: {where}; begin with its size, e.g. --dims {better}")
    if len(dims) < 2:
        raise UserError(
            f"{where}, and none of the usual sizes, {given}, is smaller; give others, "
            f"e.g. --dims {better}"
        )
    announce(f"the teacher has {first} floats: its students are those of --dims {better}")
    return chain.model_copy(update={"dims": dims})


def _chain_for_data(
    chain: ChainConfig,
    seconds: Optional[float],
    recipe: str,
    search: Search,
    workspaces: Workspaces,
    over_all: bool,
) -> ChainConfig:
    """Return a chain as ``before_chain`` does, of ``seconds`` of search."""
    if recipe.lower() != "auto" or not _unnamed(chain):
        asked = search is not None and seconds is not None
        return chain.model_copy(update={"search_seconds": seconds}) if asked else chain
    config = Config(data=chain.data)
    size = _size(config, workspaces)
    if size is None:
        return chain
    said = [chain.shared, chain.teacher, chain.student, chain.direct or {}, *chain.sizes.values()]
    closed = chain.recipe is not None or chain.more_teachers or chain.init is not None
    if over_all and not closed and _is_small(size) and _leave_open(said):
        chain = under_recipe(chain, f"best-{SMALL_DATA_MODEL}".lower())
        chain = chain.model_copy(update={"rivals": chain.rivals or list(RIVALS)})
    if not len(workspaces.of(config).dataset.valid):
        seconds = None
    return chain.model_copy(update={"fit": size, "search_seconds": seconds})


def stated_tree(
    flags: Mapping[str, Any], changes: Sequence[Mapping[str, Any]], file: Optional[Path]
) -> dict[str, Any]:
    """Return the partial tree of what a user has set of a training, where the data lie apart.

    Args:
        flags: see ``runs.settings.flag_trees``.
        changes: partial trees, the last one winning.
        file: the user's TOML file, if any.
    """
    own = [] if file is None else [read_toml(file)]
    stated: dict[str, Any] = reduce(merge, [*own, *flag_trees(flags), *changes], {})
    return {key: value for key, value in stated.items() if key not in ("data", "recipe")}


def raced(
    config: Config,
    seconds: float,
    workspaces: Workspaces,
    announce: Callable[[str], None],
    stated: Mapping[str, Any],
) -> Config:
    """Return the settings that win a race on the validation split.

    Args:
        config: the settings that the data ask for.
        seconds: how long it may last.
        workspaces: the prepared data.
        announce: hears of its outcome, in lines.
        stated: see ``stated_tree``; the race keeps what it says.
    """
    if not len(workspaces.of(config).dataset.valid):
        announce("no validation split: no settings are searched for")
        return config
    announce(
        f"searching settings on the validation split for {seconds:g} s (--search none leaves it)"
    )
    with tempfile.TemporaryDirectory(prefix="dglke-race-") as place:
        watcher = Watcher(announce=announce)
        found = race(config, Path(place), seconds, workspaces, watcher, stated=stated)
    return found.config or config


def _wanted(search: Search, stated: bool, recipe: str) -> Optional[float]:
    """Return the seconds of a search; where settings are stated, it must be asked for."""
    if search is None:
        return None if stated or recipe.lower() != "auto" else SECONDS
    return seconds_of(search, "--search", none=True)


def _size(config: Config, workspaces: Workspaces) -> Optional[FitSize]:
    """Return the size of the data that settings name; None where there is no triple to train on."""
    dataset = workspaces.of(config).dataset
    if not len(dataset.train):
        return None
    return FitSize(entities=dataset.num_entities, triples=len(dataset.train))


def _is_small(size: FitSize) -> bool:
    """Return whether every question of a training can be answered over all entities."""
    return size.entities * size.triples <= _SMALL


def _leave_open(trees: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether settings name neither a model nor what belongs to one."""
    for tree in trees:
        training = tree.get("training", {})
        if set(tree.get("model", {})) - {"dim"} or {"mode", "processes"} & set(training):
            return False
        closing = ("recipe", "loss", "negatives", "regularizer", "distillation")
        if any(tree.get(section) for section in closing):
            return False
    return True


def _for_any_data(config: Config) -> bool:
    """Return whether settings come of a recipe for any dataset, or of none."""
    return config.recipe is None or config.recipe == config.model.name.lower()


def _unnamed(chain: ChainConfig) -> bool:
    """Return whether no recipe, of chains or of models, names the dataset of a chain."""
    stages = plan(chain)
    for_any = chain.recipe is None or chain.recipe == f"best-{stages[0].config.model.name}".lower()
    return for_any and all(_for_any_data(stage.config) for stage in stages)
