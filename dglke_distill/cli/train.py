"""``dglke-distill train``."""

# No `from __future__ import annotations`: typer on Python 3.9 would not see the options.

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.cli import settings
from dglke_distill.cli.exits import resumable
from dglke_distill.cli.output import TrainingDisplay, metrics_table
from dglke_distill.cli.say import say
from dglke_distill.config import Config, compose, read_toml
from dglke_distill.runs.settings import new_run_directory, resolve, saved_settings

__all__ = ["train"]


def train(
    dataset: settings.DatasetArgument = None,
    model: settings.ModelFlag = None,
    dim: settings.DimFlag = None,
    recipe: settings.RecipeFlag = "auto",
    config: settings.ConfigFlag = None,
    assignments: settings.SetFlag = None,
    search: settings.SearchFlag = None,
    epochs: settings.EpochsFlag = None,
    batch_size: settings.BatchSizeFlag = None,
    learning_rate: settings.LearningRateFlag = None,
    negatives: settings.NegativesFlag = None,
    loss: settings.LossFlag = None,
    seed: settings.SeedFlag = None,
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    dtype: settings.DtypeFlag = None,
    processes: settings.ProcessesFlag = None,
    memory: settings.MemoryFlag = None,
    data_root: settings.DataRootFlag = None,
    out: Annotated[
        Optional[Path],
        typer.Option("--out", help="Run directory; if not given, a new one below runs/."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, by its own settings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what memory and disk it needs, and stop.")
    ] = False,
) -> None:
    """Train a model, rank its test split and leave a checkpoint.

    Settings are composed of the defaults, a recipe, the --config file, the flags and --set, the
    later ones winning; `dglke-distill config show` prints the outcome for the same flags.
    """
    flags = settings.given(locals())
    if resume:
        if out is None:
            raise UserError("--resume: say which run by --out RUN_DIR")
        resolved = saved_settings(out, settings.overrides(flags, assignments))
    else:
        resolved = resolve(flags, settings.assigned(assignments), file=config, recipe=recipe)
    if not resume:
        asked = bool(config or assignments or recipe.lower() != "auto" or tuned_by_hand(flags))
        seconds = settings.search_seconds(search, default=None if asked else 60.0)
        if recipe.lower() == "auto" and settings.for_any_data(resolved):
            trees = settings.overrides(flags, assignments)
            resolved = _fitting(resolved, trees, config, data_root)
        elif search is None:
            seconds = None
        if seconds is not None and not dry_run:
            resolved = _raced(resolved, seconds, data_root)
    if dry_run:
        _show_need(resolved, data_root)
        return
    run(resolved, out or new_run_directory(resolved), resume=resume, data_root=data_root)


def tuned_by_hand(flags: Mapping[str, Any]) -> bool:
    """Return whether flags choose something that a race would choose."""
    return any(name in flags for name in ("batch_size", "learning_rate", "negatives", "loss"))


def _fitting(
    config: Config, trees: Sequence[settings.Tree], file: Optional[Path], data_root: Optional[Path]
) -> Config:
    """Return settings whose defaults fit the size of the data; what the user says stays."""
    from dglke_distill.config.fit import fitted
    from dglke_distill.data import catalog

    data = config.data
    dataset = catalog.load(
        data.dataset, data_root=data_root, format=data.format, header=data.header
    )
    if not len(dataset.train):
        return config
    fit = fitted(config, dataset.num_entities, len(dataset.train))
    own = [] if file is None else [read_toml(file)]
    made = compose([fit, *own, *trees])
    return made.model_copy(update={"data": data})


def _raced(config: Config, seconds: float, data_root: Optional[Path]) -> Config:
    """Return the settings that win a race on the validation split."""
    from dglke_distill.distill.watcher import Watcher
    from dglke_distill.runs.workspace import Workspaces
    from dglke_distill.search.race import race

    workspaces = Workspaces(data_root)
    if not len(workspaces.of(config).dataset.valid):
        say("no validation split: no settings are searched for")
        return config
    say(f"searching settings on the validation split for {seconds:g} s (--search none leaves it)")
    with tempfile.TemporaryDirectory(prefix="dglke-race-") as place:
        found = race(config, Path(place), seconds, workspaces, Watcher(announce=say))
    return found.config or config


def _show_need(config: Config, data_root: Optional[Path]) -> None:
    from dglke_distill.data import catalog
    from dglke_distill.runs.memory import DataSize, check_memory, memory_need

    data = config.data
    size = DataSize.published(data.dataset) or DataSize.of(
        catalog.load(data.dataset, data_root=data_root, format=data.format, header=data.header)
    )
    need = memory_need(config, size)
    say(f"needs about {need}")
    check_memory(config, need, Path())


def run(config: Config, run_directory: Path, *, resume: bool, data_root: Optional[Path]) -> None:
    """Train and show the figures; Ctrl-C ends with exit code 130 and says how to go on."""
    from dglke_distill.artifacts.results import TrainingResults
    from dglke_distill.runs import train_run as pipeline

    console = SafeConsole()
    console.print(
        f"{config.model.name}, {config.model.dim} floats per entity, on {config.data.dataset}"
        + (f", recipe {config.recipe}" if config.recipe else ""),
    )
    command = f"dglke-distill train --resume --out {shlex.quote(str(run_directory))}"
    begun = run_directory / pipeline.RESUME_FILE
    with resumable(command, begun), TrainingDisplay(console) as display:
        tree = pipeline.train_run(
            config,
            run_directory,
            resume=resume,
            data_root=data_root,
            report=display.report,
            announce=display.announce,
        )
    results = TrainingResults.of(tree, run_directory)
    if results.metrics:
        console.print(metrics_table(results.metrics))
    checkpoint = run_directory / pipeline.CHECKPOINT_DIRECTORY
    seconds = 0.0 if results.training is None else results.training.seconds
    say(f"trained in {seconds:.1f} s; checkpoint: {checkpoint}")
