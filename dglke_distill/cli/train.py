"""``dglke-distill train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.cli import settings
from dglke_distill.cli.exits import resumable
from dglke_distill.cli.idle import refuse_idle
from dglke_distill.cli.models import check_run_folder, load_given
from dglke_distill.cli.output import TrainingDisplay, metrics_table
from dglke_distill.cli.say import say, warn
from dglke_distill.cli.tracked import check_tracker, tracked
from dglke_distill.config import Config
from dglke_distill.config.flags import stated_flags
from dglke_distill.runs.settings import new_run_directory, saved_settings

if TYPE_CHECKING:
    from dglke_distill.runs.start import Start
    from dglke_distill.runs.workspace import Workspace, Workspaces


def train(
    context: typer.Context,
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
    columns: settings.ColumnsFlag = None,
    delimiter: settings.DelimiterFlag = None,
    ignore_extra: settings.IgnoreExtraFlag = None,
    weight_column: settings.WeightColumnFlag = None,
    data_root: settings.DataRootFlag = None,
    out: settings.RunOutFlag = None,
    init: Annotated[
        Optional[str],
        typer.Option(
            "--init",
            metavar="NAME_OR_CHECKPOINT",
            help="Model to go on from, on grown data: entities and relations of the same names "
            "begin with its vectors, and its model settings are taken. Without it: at random.",
        ),
    ] = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, by its own settings.")
    ] = False,
    track: settings.TrackFlag = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what memory and disk it needs, and stop.")
    ] = False,
) -> None:
    """Train a model, rank its test split and leave a checkpoint.

    Settings are composed of the defaults, a recipe, the --config file, the flags and --set, the
    later ones winning; `dglke-distill config show` prints the outcome for the same flags.
    """
    flags = stated_flags({**locals(), "store": None, "offline": None})
    check_idle(context, resume=resume, init=init)
    check_tracker(track)
    from dglke_distill.runs.start import check_given, model_tree, start_of
    from dglke_distill.runs.workspace import Workspaces
    from dglke_distill.search.beforehand import before_training, raced, stated_tree

    workspaces, seconds = Workspaces(data_root), None
    before = None
    if init is not None:
        if resume:
            raise UserError("--init: a run that goes on has begun with it already; leave it out")
        before = load_given(init, store=store, offline=offline)
        check_given(before, model, dim)
        flags.setdefault("model", before.config.model.name)
    if resume:
        if out is None:
            raise UserError("--resume: say which run by --out RUN_DIR")
        resolved = saved_settings(out, settings.overrides(flags, assignments))
    else:
        check_run_folder(out)
        changes = settings.assigned(assignments)
        if before is not None:
            changes = [model_tree(before), *changes]
        resolved, seconds = before_training(
            flags, changes, data={}, file=config, recipe=recipe, search=search,
            workspaces=workspaces, announce=warn,
        )  # fmt: skip
    if dry_run:
        _show_need(resolved, data_root, workspaces)
        return
    if seconds is not None and before is None:
        resolved = raced(resolved, seconds, workspaces, say, stated_tree(flags, changes, config))
    place = out or new_run_directory(resolved)
    run(
        resolved,
        place,
        resume=resume,
        data_root=data_root,
        workspace=workspaces.made(resolved),
        track=track,
        start=None if before is None else start_of(before, str(init)),
    )


def check_idle(context: typer.Context, *, resume: bool, init: Optional[str]) -> None:
    """Refuse options of a call that would do nothing.

    Args:
        context: of the call.
        resume: whether a run goes on.
        init: the model to go on from, if any.

    Raises:
        UserError: one was given.
    """
    if resume:
        why = "the run in --out goes on by its own settings; leave it out"
        refuse_idle(context, why, "recipe", "config", "search", "store", "offline")
    elif init is None:
        refuse_idle(context, "is of the model that --init names; give that too", "store", "offline")


def _show_need(config: Config, data_root: Optional[Path], workspaces: "Workspaces") -> None:
    from dglke_distill.runs.memory import check_memory, memory_need
    from dglke_distill.runs.memory_parts import DataSize
    from dglke_distill.runs.workspace import load_data

    size = DataSize.published(config.data.dataset)
    if size is None:
        made = workspaces.made(config)
        size = DataSize.of(made.dataset if made else load_data(config.data, data_root=data_root))
    need = memory_need(config, size)
    say(f"needs about {need}")
    check_memory(config, need, Path())


def run(
    config: Config,
    run_directory: Path,
    *,
    resume: bool,
    data_root: Optional[Path],
    workspace: "Optional[Workspace]" = None,
    track: Optional[str] = None,
    start: "Optional[Start]" = None,
) -> None:
    """Train and show the figures; Ctrl-C ends with exit code 130 and says how to go on."""
    from dglke_distill.runs import train_run as pipeline
    from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY, RESUME_FILE
    from dglke_distill.runs.start import Start

    console = SafeConsole()
    console.print(
        f"{config.model.name}, {config.model.size}, on {config.data.dataset}"
        + (f", recipe {config.recipe}" if config.recipe else ""),
    )
    begun = run_directory / RESUME_FILE
    with (
        resumable("dglke-distill train", begun),
        TrainingDisplay(console) as display,
        tracked(track, run_directory, config.model_dump(mode="json"), display) as heard,
    ):
        heard.begin("", run_directory)
        results = pipeline.train_run(
            config,
            run_directory,
            resume=resume,
            data_root=data_root,
            workspace=workspace,
            start=start or Start(),
            report=heard.report,
            validated=heard.validated,
            announce=display.announce,
        )
    if results.metrics:
        console.print(metrics_table(results.metrics))
    checkpoint = run_directory / CHECKPOINT_DIRECTORY
    seconds = 0.0 if results.training is None else results.training.seconds
    say(f"trained in {seconds:.1f} s; checkpoint: {checkpoint}")
