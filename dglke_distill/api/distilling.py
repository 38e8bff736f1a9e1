"""``kd.distill``: a chain from a teacher to small students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from dglke_distill.api.datasets import AnyDataset, data_begun, data_settings
from dglke_distill.api.given import AnyPath, AnyTeacher, path_of, places_of
from dglke_distill.api.outcomes import DistillationRun, warn_underfitted
from dglke_distill.base.arguments import checked
from dglke_distill.base.errors import UserError
from dglke_distill.distill.chain import run_chain, saved_chain
from dglke_distill.distill.going_on import InitModel
from dglke_distill.distill.plan import loaded_in
from dglke_distill.distill.settings import chain_settings, check_part, new_chain_directory
from dglke_distill.distill.watcher import Watcher
from dglke_distill.runs.settings import nested, stated_reading
from dglke_distill.runs.workspace import Workspaces
from dglke_distill.search.beforehand import Search, before_chain
from dglke_distill.search.control import SEARCHES

Settings = Mapping[str, Any]


@checked
def distill(
    dataset: Optional[AnyDataset] = None,
    *,
    model: Optional[str] = None,
    student_model: Optional[str] = None,
    dims: Optional[Sequence[int]] = None,
    method: Optional[str] = None,
    recipe: str = "auto",
    config: Optional[AnyPath] = None,
    settings: Optional[Settings] = None,
    teacher: Union[AnyTeacher, Sequence[AnyTeacher]] = (),
    more_teachers: Optional[Sequence[str]] = None,
    allow_other_data: bool = False,
    control: Optional[str] = None,
    seeds: Optional[int] = None,
    search: Search = None,
    epochs: Optional[int] = None,
    seed: Optional[int] = None,
    device: Optional[str] = None,
    threads: Optional[int] = None,
    processes: Optional[int] = None,
    memory: Optional[int] = None,
    columns: Optional[str] = None,
    delimiter: Optional[str] = None,
    ignore_extra: Optional[bool] = None,
    weight_column: Optional[str] = None,
    data_root: Optional[AnyPath] = None,
    out: Optional[AnyPath] = None,
    init: Optional[AnyPath] = None,
    resume: bool = False,
    watcher: Watcher = Watcher(),  # noqa: B008 (immutable)
) -> DistillationRun:
    """Train a teacher and distil it down a chain of sizes: ``dglke-distill run``.

    On data of your own, where nothing is set, the defaults fit the size of the data, and races of
    settings on the validation split precede teacher and students.

    Args:
        dataset: name, folder, file, loaded dataset, or tables in memory as ``load_dataset`` takes
            them; ``cldr`` if None.
        model: score function of all stages.
        student_model: score function of the students, if another.
        dims: floats per entity of every stage, falling; the recipe's if None.
        method: distillation method, ``iterde`` if neither this nor a recipe says another.
        recipe: shipped chain recipe: ``auto``, ``best``, ``paper``, a whole name, or ``none``.
        config: TOML file of a chain's settings.
        settings: any others, nested or by dotted names: ``{"student.training.epochs": 20}``.
        teacher: trained models in place of the first stage: folders, or what ``train`` returned.
        more_teachers: score functions of further teachers of the first student.
        allow_other_data: whether teachers may have been trained on other triples.
        control: which controls to train: ``tuned`` (searched for as long as the student took) if
            None, ``recipe``, ``both`` or ``none``.
        seeds: trainings of the chain and its controls, for the interval.
        search: how long to search for settings, in seconds or as ``"5m"``; ``"none"`` for no
            search. If None: 60 s where no recipe names the dataset and nothing is set.
        epochs: of every stage.
        seed: of every stage.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of torch and the kernels; all cores if None.
        processes: how many train one table at once.
        memory: what a stage may take, in MiB.
        columns: ``data.columns``: which columns of your own tables to read.
        delimiter: ``data.delimiter``: what separates them.
        ignore_extra: ``data.ignore_extra``: whether further columns are left out.
        weight_column: ``data.weight_column``: the column of how much each fact counts.
        data_root: folder that holds datasets already.
        out: the chain's directory; if None, a new one below ``runs/``.
        init: model that the first stage goes on from, on grown data, as in ``train``: a folder or a
            name of the zoo; ``dims`` begins with its size.
        resume: whether to go on with the chain in ``out``, by its own settings.
        watcher: hears of stages and their progress.

    Raises:
        UserError: bad settings or data, or a directory in use.
    """
    reading = stated_reading(locals())
    changes = nested(settings)
    check_part(changes, "settings=")  # so that no option is blamed
    if init is not None and (resume or places_of(teacher)):
        why = "a chain that goes on has it already" if resume else "teacher= is no stage to train"
        raise UserError(f"init: {why}; leave one out")
    begin = None if init is None else InitModel(init)
    if resume:
        if out is None:
            raise UserError("resume=True: say which chain by out=")
        chain, teachers = saved_chain(Path(out))
        _, loaded = data_settings(dataset, data_begun(chain.model_dump(exclude_none=True)))
        workspaces = Workspaces(path_of(data_root), saved=resume, dataset=loaded)
    else:
        data, loaded = data_settings(dataset, *reading, changes)
        workspaces = Workspaces(path_of(data_root), saved=resume, dataset=loaded)
        chain = chain_settings(
            data["data"]["dataset"] if data else None,
            model,
            student_model=student_model,
            dims=dims,
            method=method,
            recipe=recipe,
            file=path_of(config),
            more_teachers=more_teachers,
            control=control,
            seeds=seeds,
            allow_other_data=allow_other_data,
            init=begin,
            training={
                "epochs": epochs, "seed": seed, "device": device, "threads": threads,
                "processes": processes, "memory_megabytes": memory,
            },
            changes=[data, *reading, changes],
        )  # fmt: skip
        teachers = places_of(teacher) or loaded_in(path_of(config))
        chain = before_chain(
            chain, [changes], file=path_of(config), recipe=recipe, search=search,
            workspaces=workspaces, loaded=teachers, announce=watcher.announce,
        )  # fmt: skip
    directory = Path(out) if out is not None else new_chain_directory(chain)
    results = run_chain(
        chain,
        directory,
        resume=resume,
        loaded=[Path(place) for place in teachers],
        workspaces=workspaces,
        watcher=watcher,
        searches=SEARCHES,
        init=begin,
    )
    for stage in results.stages:
        warn_underfitted(stage.results, f"{stage.name}: ")
    data_at = chain.data.dataset if loaded is None else loaded
    return DistillationRun(directory, results, data_at)
