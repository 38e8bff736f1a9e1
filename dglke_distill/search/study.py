"""A study: trials of settings, each a training that is judged on the validation split alone.

Akiba, Sano, Yanase, Ohta, Koyama 2019, "Optuna: a next-generation hyperparameter optimization
framework". Trials are proposed by a tree-structured Parzen estimator (Bergstra, Bardenet, Bengio,
Kegl 2011) and stopped early by Hyperband (Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar 2018).
"""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import atomic_write_text
from dglke_distill.config import Config, compose, merge, read_toml
from dglke_distill.distill.checks import check_settings
from dglke_distill.distill.methods import build_method
from dglke_distill.distill.plan import Role, Stage
from dglke_distill.distill.stages import run_stage
from dglke_distill.distill.watcher import Watcher
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search.agenda import TIMED, allowed, next_trial, rest_of, take_no_more, until
from dglke_distill.search.checks import check_trial
from dglke_distill.search.found import Ended, Found, StudyConfig
from dglke_distill.search.leave import (
    EPOCHS,
    ERROR,
    PACE,
    SECONDS,
    chosen,
    interrupted,
    leave,
    tidy,
)
from dglke_distill.search.lengths import Budget
from dglke_distill.search.owners import bury, interrupt, own, place_of, under_way
from dglke_distill.search.space import Space, read_space
from dglke_distill.training.loop import Interrupted

if TYPE_CHECKING:
    import optuna

STUDY_FILE = "study.toml"
VALIDATIONS = 9
"""Validations of a trial: Hyperband stops at the first, the third, or lets it end."""
_FEW_VALIDATIONS = 3
"""Of the shortest trainings."""

Tree = Mapping[str, Any]


class StudyWatch(NamedTuple):
    """What hears of a study.

    Attributes:
        began: called with a trial's number, its settings' names and values, and the best MRR.
        ended: called with its number, how it ended, its MRR or None, and what is found so far.
        trial: hears of its training.
    """

    began: Callable[[int, Mapping[str, Any]], None] = lambda number, chosen: None
    ended: Callable[[int, str, Optional[float], Found], None] = lambda n, how, mrr, found: None
    trial: Watcher = Watcher()


def saved_study(directory: Path, threads: Optional[int] = None) -> StudyConfig:
    """Return the settings that a study was begun with.

    Args:
        directory: of the study.
        threads: of the trainings to come; None: as before.

    Raises:
        UserError: there is none, or its settings are damaged.
    """
    path = directory / STUDY_FILE
    if not path.is_file():
        raise UserError(f"{directory}: there is no study to go on with ({STUDY_FILE} is missing)")
    saved = StudyConfig.from_mapping(read_toml(path), str(path))
    if threads is None:
        return saved
    settings = merge(saved.settings, {"training": {"threads": threads}})
    return saved.model_copy(update={"settings": settings})


def space_digest(space: Space) -> str:
    """Return a digest of a space's content."""
    return hashlib.sha256(space.model_dump_json().encode()).hexdigest()


def tune(
    study_config: StudyConfig,
    directory: Path,
    *,
    trials: Optional[int] = None,
    seconds: Optional[float] = None,
    workspaces: Optional[Workspaces] = None,
    watch: StudyWatch = StudyWatch(),  # noqa: B008 (immutable)
    control: bool = False,
    first: Optional[Sequence[Mapping[str, Any]]] = None,
) -> Found:
    """Try settings until the budget is spent, and leave the best as a recipe.

    The test split is never ranked. Any number of processes may work on one directory at once; a
    trial whose process died is tried once more, and nothing else is lost.

    Args:
        study_config: what is searched.
        directory: receives ``study.toml``, ``journal.log``, ``stages/`` with the histories of
            trials, ``recipe.toml``, ``trials.csv`` and ``plots/``.
        trials: how many more trials the study shall have; None: no such limit.
        seconds: how long this call may last; the trial under way ends first. None: no such limit.
            Without either it is what was asked for before and not reached.
        workspaces: the prepared data; None: found by the settings.
        watch: hears of progress.
        control: whether the caller trains what is found, in time kept for that: the search ends in
            the midst of a trial, without a last, longer one and without plots.
        first: what a new study's first trials choose, the rest by chance; None: as the space says.

    Returns:
        What all trials of the study found.

    Raises:
        UserError: bad settings or data, or a directory that holds something else.
        Interrupted: asked to stop; all that was found is kept.
    """
    space = read_space(study_config.space)
    if space_digest(space) != study_config.space_sha256:
        raise UserError(
            f"{study_config.space}: the space has changed since the study began; choose another "
            "--out, or restore the file"
        )
    stage = _stage("trial", _config(study_config, space, space.defaults()), study_config)
    workspaces = workspaces or Workspaces()
    if not control:
        check_trial(stage, workspaces, directory)
    _begin(directory, study_config.model_copy(update={"trials": trials, "seconds": seconds}))
    first = space.first() if first is None else first
    if study_config.lengths and trials is not None:
        first = first[: max(1, trials - 1)]  # the last one trains the best for longer
    bury(study := _open(directory, study_config, first), directory)
    seconds = allowed(study, saved_study(directory), trials, seconds)
    deadline = None if seconds is None else time.monotonic() + seconds
    if control and deadline is not None:
        watch = watch._replace(trial=until(watch.trial, deadline))
    counted = trials is not None or deadline is None or rest_of(study) > 0
    try:
        while True:
            if (rest := rest_of(study)) < 1:
                bury(study, directory)  # another process may have died since
                rest = rest_of(study)
            if deadline is not None and time.monotonic() >= deadline:
                break
            if rest < 1 and counted:
                break
            left = None if deadline is None else deadline - time.monotonic()
            budget = Budget(left, 0.0 if control else seconds or 0.0, last=rest == 1)
            trial = next_trial(study, study_config.lengths, budget)
            if deadline is not None:
                trial.set_user_attr(TIMED, True)
            _try(trial, study, study_config, space, directory, workspaces, watch)
        if deadline is not None:
            take_no_more(study)
    finally:
        found = _found(study, study_config, space)
        leave(study, found, study_config, directory, workspaces, plots=not control)
    if found.trials and found.failed == found.trials:
        errors = [t.user_attrs.get(ERROR) for t in study.get_trials(deepcopy=False)]
        if last := next(filter(None, reversed(errors)), None):
            raise UserError(f"no trial of {found.trials} reached its end; the last error: {last}")
    return found


def _begin(directory: Path, config: StudyConfig) -> None:
    """Write the settings, or compare them with those that are there."""
    path = directory / STUDY_FILE
    if path.is_file():
        if not saved_study(directory).alike(config):
            raise UserError(
                f"{path}: the study was begun with other settings; choose another --out, or go on "
                "with it by --resume"
            )
        return
    if directory.is_dir() and any(directory.iterdir()):
        raise UserError(f"{directory}: holds something that is no study; choose another --out")
    atomic_write_text(path, config.to_toml())


def _open(directory: Path, config: StudyConfig, first: Sequence[Mapping[str, Any]]) -> optuna.Study:
    import optuna

    from dglke_distill.search.journal import STUDY, storage_of

    optuna.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    storage = storage_of(directory)
    with suppress(optuna.exceptions.DuplicatedStudyError):
        fresh = optuna.create_study(
            storage=storage, study_name=STUDY, direction="maximize", load_if_exists=False
        )
        for chosen in first:
            fresh.enqueue_trial(dict(chosen))
    known = optuna.load_study(storage=storage, study_name=STUDY)
    sampler = optuna.samplers.TPESampler(
        # Processes that share a study begin at different numbers, so that they draw differently.
        seed=config.seed + len(known.get_trials(deepcopy=False)),
        n_startup_trials=8,
        multivariate=True,
        group=True,
        constant_liar=True,
    )
    pruner: Any = optuna.pruners.HyperbandPruner(1, VALIDATIONS, reduction_factor=3)
    if config.lengths:  # trainings of several lengths are not stopped early
        pruner = optuna.pruners.NopPruner()
    return optuna.load_study(storage=storage, study_name=STUDY, sampler=sampler, pruner=pruner)


def _config(config: StudyConfig, space: Space, chosen: Mapping[str, Any]) -> Config:
    """Return the settings of a trial."""
    method = None if config.method is None else build_method(config.method, {})
    trees: list[Tree] = [] if method is None else [method.defaults()]
    tree = merge(space.settings(chosen), config.settings)
    epochs = Config.from_mapping(tree, "settings").training.epochs
    count = _FEW_VALIDATIONS if epochs in config.lengths[:1] else VALIDATIONS
    every = {"training": {"evaluate_every": max(1, -(-epochs // count))}}
    trees += [tree, every, {"evaluation": {"split": "none"}}]
    if method is not None:
        trees += [{"distillation": {"method": config.method}}, method.settings()]
    made = compose(trees, recipe=None)
    if method is None:
        made = made.model_copy(update={"distillation": None})
    check_settings(made)
    return made


def _stage(name: str, settings: Config, config: StudyConfig) -> Stage:
    role: Role = "direct" if config.method is None else "student"
    return Stage(name, role, settings, tuple(config.teachers))


def _try(
    trial: optuna.Trial,
    study: optuna.Study,
    config: StudyConfig,
    space: Space,
    directory: Path,
    workspaces: Workspaces,
    watch: StudyWatch,
) -> None:
    """Train what a trial chooses, and tell the study how it ended."""
    import optuna

    state = optuna.trial.TrialState
    name, begun = place_of(trial), time.perf_counter()
    own(trial)
    reached: list[float] = []
    first = (0, begun)

    def validated(epoch: int, mrr: float) -> None:
        nonlocal first
        now = time.perf_counter()
        trial.set_user_attr(PACE, (now - first[1]) / (epoch - first[0]))
        first = first if reached else (epoch, now)
        reached.append(mrr)
        trial.report(mrr, len(reached))
        trial.set_user_attr(SECONDS, now - begun)
        if trial.should_prune():
            raise optuna.TrialPruned

    def end(how: str, to: Any, value: Optional[float] = None) -> None:
        trial.set_user_attr(SECONDS, time.perf_counter() - begun)
        study.tell(trial, value, state=to)
        tidy(directory, name)
        watch.ended(trial.number, how, value, _found(study, config, space))

    try:
        space.suggest(trial)  # which fills its params
        watch.began(trial.number, chosen(trial))
        settings = _config(config, space, chosen(trial))
        stage = _stage(name, settings, config)
        run_stage(stage, directory, workspaces, watch.trial._replace(validated=validated))
    except optuna.TrialPruned:
        end("stopped early", state.PRUNED)
    except (Interrupted, KeyboardInterrupt):
        trial.set_user_attr(SECONDS, time.perf_counter() - begun)
        for one in under_way(study):
            if one.number == trial.number:
                interrupt(study, one, directory)
        raise
    except (UserError, FloatingPointError) as error:
        trial.set_user_attr(ERROR, str(error)[:500])
        end("failed", state.FAIL)
        trials = study.get_trials(deepcopy=False)
        if not any(t.value is not None for t in trials):
            if sum(ERROR in t.user_attrs for t in trials) >= 3:
                raise  # whatever is chosen fails: the user must fix something
    else:
        end("ended", state.COMPLETE, max(reached))


def _found(study: optuna.Study, config: StudyConfig, space: Space) -> Found:
    import optuna

    state = optuna.trial.TrialState
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    complete = [t for t in ended if t.state == state.COMPLETE]
    best = max(complete, key=lambda t: t.value or 0.0, default=None)
    return Found(
        trials=len(ended) - interrupted(ended),
        pruned=sum(t.state == state.PRUNED for t in ended),
        failed=sum(t.state == state.FAIL for t in ended) - interrupted(ended),
        seconds=sum(t.user_attrs.get(SECONDS, 0.0) for t in ended),
        mrr=None if best is None else best.value,
        config=None if best is None else _config(config, space, chosen(best)),
        number=None if best is None else best.number,
        chosen={} if best is None else chosen(best),
        ended=tuple(
            Ended(t.user_attrs.get(EPOCHS, 0), t.value or 0.0, t.user_attrs.get(SECONDS, 0.0))
            for t in complete
        ),
        pace=0.0 if best is None else best.user_attrs.get(PACE, 0.0),
        interrupted=interrupted(ended),
    )
