"""``kd.train`` and ``kd.tune``: one run, and a search for its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional, Union

from dglke_distill.api.datasets import AnyDataset, data_begun, data_settings
from dglke_distill.api.given import AnyPath, AnyTeacher, path_of, places_of
from dglke_distill.api.outcomes import Study, TrainingRun, warn_underfitted
from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.arguments import checked
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config, merge
from dglke_distill.config.flags import stated_flags
from dglke_distill.runs.settings import (
    flag_trees,
    nested,
    new_run_directory,
    saved_settings,
)
from dglke_distill.runs.start import Start, check_given, model_tree, start_of
from dglke_distill.runs.train_run import train_run
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search.beforehand import (
    Search,
    before_study,
    before_training,
    raced,
    stated_tree,
)
from dglke_distill.search.settings import check_taught, new_study_directory, study_settings
from dglke_distill.search.study import StudyWatch, saved_study
from dglke_distill.search.study import tune as search
from dglke_distill.training.loop import Progress
from dglke_distill.zoo.fetch import load_checkpoint

Settings = Mapping[str, Any]


@checked
def train(
    dataset: Optional[AnyDataset] = None,
    *,
    model: Optional[str] = None,
    dim: Optional[int] = None,
    recipe: str = "auto",
    config: Optional[AnyPath] = None,
    settings: Optional[Settings] = None,
    search: Search = None,
    epochs: Optional[int] = None,
    batch_size: Optional[int] = None,
    learning_rate: Optional[float] = None,
    negatives: Optional[int] = None,
    loss: Optional[str] = None,
    seed: Optional[int] = None,
    device: Optional[str] = None,
    threads: Optional[int] = None,
    dtype: Optional[str] = None,
    processes: Optional[int] = None,
    memory: Optional[int] = None,
    columns: Optional[str] = None,
    delimiter: Optional[str] = None,
    ignore_extra: Optional[bool] = None,
    weight_column: Optional[str] = None,
    data_root: Optional[AnyPath] = None,
    out: Optional[AnyPath] = None,
    init: Union[AnyPath, LoadedModel, None] = None,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    announce: Callable[[str], None] = lambda line: None,
) -> TrainingRun:
    """Train a model, rank it, and leave a checkpoint: ``dglke-distill train``.

    Settings are composed of the defaults, a recipe, the file, the keywords and ``settings``, the
    later ones winning. On data of your own, where nothing is set, the defaults fit the size of the
    data, and a race of settings on the validation split precedes the training.

    Args:
        dataset: name, folder, file, loaded dataset, or tables in memory as ``load_dataset`` takes
            them; ``cldr`` if None.
        model: score function, in any letter case.
        dim: floats of an entity's vector; complex parts counted, a bias not.
        recipe: shipped recipe to start from; ``auto``: the best fit; ``none``.
        config: TOML file of settings, merged over the recipe.
        settings: any others, nested or by dotted names: ``{"training.mode": "k_vs_all"}``.
        search: how long to search for settings first, in seconds or as ``"5m"``; ``"none"`` for no
            search. If None: 60 s where no recipe names the dataset and nothing is set.
        epochs: ``training.epochs``.
        batch_size: ``training.batch_size``.
        learning_rate: ``optimizer.learning_rate``.
        negatives: ``negatives.count``, per positive.
        loss: ``loss.name``.
        seed: ``training.seed``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: ``training.threads``; all cores if None.
        dtype: ``float32`` or ``float64``.
        processes: how many train one table at once.
        memory: what the run may take, in MiB.
        columns: ``data.columns``: which columns of your own tables to read.
        delimiter: ``data.delimiter``: what separates them.
        ignore_extra: ``data.ignore_extra``: whether further columns are left out.
        weight_column: ``data.weight_column``: the column of how much each fact counts.
        data_root: folder that holds datasets already.
        out: run directory; if None, a new one below ``runs/``.
        init: model to go on from, on grown data: entities and relations of the same names begin
            with its vectors, and its model settings are taken.
        resume: whether to go on with the run in ``out``, by its own settings.
        report: hears of progress.
        announce: hears of what a user should know, in lines.

    Raises:
        UserError: bad settings or data, or a directory in use.
    """
    flags = stated_flags({**locals(), "dataset": None})
    changes = nested(settings)
    Config.from_mapping(changes, "settings=")  # so that no option is blamed
    begun: dict[str, Any] = {}
    if resume:
        if out is None:
            raise UserError("resume=True: say which run by out=")
        begun = data_begun(saved_settings(Path(out), []).model_dump(exclude_none=True))
    data, loaded = data_settings(dataset, begun, *flag_trees(flags), changes)
    workspaces = Workspaces(path_of(data_root), dataset=loaded)
    start = Start()
    if init is not None and not resume:
        before = init if isinstance(init, LoadedModel) else load_checkpoint(init)
        check_given(before, model, dim)
        flags["model"] = model or before.config.model.name
        changes = merge(model_tree(before), changes)
        start = start_of(before, "a model" if isinstance(init, LoadedModel) else str(init))
    if resume and out is not None:
        resolved = saved_settings(Path(out), [*flag_trees(flags), data, changes])
    else:
        resolved, seconds = before_training(
            flags, [changes], data=data, file=path_of(config), recipe=recipe, search=search,
            workspaces=workspaces, announce=announce,
        )  # fmt: skip
        if seconds is not None and init is None:
            said = stated_tree(flags, [changes], path_of(config))
            resolved = raced(resolved, seconds, workspaces, announce, said)
    directory = Path(out) if out is not None else new_run_directory(resolved)
    results = train_run(
        resolved,
        directory,
        resume=resume,
        data_root=path_of(data_root),
        workspace=workspaces.made(resolved),
        start=start,
        report=report,
        announce=announce,
    )
    warn_underfitted(results)
    data_at = resolved.data.dataset if loaded is None else loaded
    return TrainingRun(directory, results, data_at)


@checked
def tune(
    dataset: Optional[AnyDataset] = None,
    *,
    model: Optional[str] = None,
    dim: Optional[int] = None,
    space: Optional[AnyPath] = None,
    trials: Optional[int] = None,
    seconds: Optional[float] = None,
    method: Optional[str] = None,
    teacher: Union[AnyTeacher, Sequence[AnyTeacher]] = (),
    settings: Optional[Settings] = None,
    epochs: Optional[int] = None,
    seed: Optional[int] = None,
    device: Optional[str] = None,
    threads: Optional[int] = None,
    columns: Optional[str] = None,
    delimiter: Optional[str] = None,
    ignore_extra: Optional[bool] = None,
    weight_column: Optional[str] = None,
    data_root: Optional[AnyPath] = None,
    out: Optional[AnyPath] = None,
    resume: bool = False,
    watch: StudyWatch = StudyWatch(),  # noqa: B008 (immutable)
) -> Study:
    """Search for settings on the validation split: ``dglke-distill tune``.

    The first trial has the settings that ``train`` would take, as near as the space has them.

    Args:
        dataset: name, folder, file, loaded dataset, or tables in memory as ``load_dataset`` takes
            them; ``cldr`` if None.
        model: score function; if None, the one that ``train`` takes for this data.
        dim: floats per entity.
        space: a TOML file, or a space that ships; the model's own if None.
        trials: how many to add, also to a study that is gone on with; 30 if ``seconds`` is not
            given either.
        seconds: how long to search; the last trial ends.
        method: tune a student, by this distillation method, under ``teacher``.
        teacher: trained models: folders, or what ``train`` returned.
        settings: any others, nested or by dotted names.
        epochs: of every trial; if None, short trainings first, and longer ones of the best.
        seed: of the search and the trainings.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of torch and the kernels; all cores if None.
        columns: ``data.columns``: which columns of your own tables to read.
        delimiter: ``data.delimiter``: what separates them.
        ignore_extra: ``data.ignore_extra``: whether further columns are left out.
        weight_column: ``data.weight_column``: the column of how much each fact counts.
        data_root: folder that holds datasets already.
        out: directory of the study; if None, a new one below ``runs/``.
        resume: whether to go on with the study in ``out``: until it has what was asked for, or for
            ``trials`` or ``seconds`` more.
        watch: hears of trials and their progress.

    Raises:
        UserError: bad settings or data, or a directory in use.
    """
    flags = stated_flags({**locals(), "dataset": None})
    if resume:
        if out is None:
            raise UserError("resume=True: say which study by out=")
        study = saved_study(Path(out), threads)
        data, loaded = data_settings(dataset, data_begun(study.settings))
        workspaces, first = Workspaces(path_of(data_root), saved=True, dataset=loaded), None
    else:
        data, loaded = data_settings(dataset, *flag_trees(flags), nested(settings))
        workspaces = Workspaces(path_of(data_root), dataset=loaded)
        changes, teachers = [data, nested(settings)], places_of(teacher)
        named = None if space is None else str(space)
        check_taught(method, teachers)
        flags, first, usual = before_study(
            flags, changes, space=named, taught=bool(teachers), workspaces=workspaces
        )
        study = study_settings(
            flags, changes, space=named, method=method, teachers=teachers, epochs=usual
        )
        if trials is None and seconds is None:
            trials = 30
    directory = Path(out) if out is not None else new_study_directory(study)
    found = search(
        study,
        directory,
        trials=trials,
        seconds=seconds,
        workspaces=workspaces,
        watch=watch,
        first=first,
    )
    return Study(directory, found)
