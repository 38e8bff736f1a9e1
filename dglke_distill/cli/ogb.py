"""``dglke-distill ogb``: the leaderboard of the Open Graph Benchmark."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.base.parsing import MAX_TOML_BYTES
from dglke_distill.base.regular_files import read_text
from dglke_distill.base.shown import plural
from dglke_distill.cli import settings
from dglke_distill.cli.data import YesFlag, agree_to_download
from dglke_distill.cli.exits import resumable
from dglke_distill.cli.idle import refuse_with_resume
from dglke_distill.cli.models import load_given
from dglke_distill.cli.output import TrainingDisplay, metrics_table, show_warnings
from dglke_distill.cli.run import (
    ChainRecipeFlag,
    ChainSettingsFlag,
    DimsFlag,
    show_plan,
    whole_numbers,
)
from dglke_distill.cli.say import say, say_json
from dglke_distill.config.flags import stated_flags
from dglke_distill.data.identity import label_of
from dglke_distill.runs.settings import unused

if TYPE_CHECKING:
    from dglke_distill.leaderboard import SeedsConfig
    from dglke_distill.leaderboard.sheet_parts import Sheet

ogb_app = typer.Typer(
    help="Runs, figures and the submission sheet for the OGB leaderboard.", no_args_is_help=True
)

AboutFlag = Annotated[
    Optional[Path],
    typer.Option(
        "--about",
        help="TOML file of what only you can say: contact, code, paper ... If not given: the sheet "
        "lists what is missing.",
    ),
]


@ogb_app.command("run")
def ogb_run(
    context: typer.Context,
    dataset: Annotated[
        Optional[str],
        typer.Argument(help="ogbl-wikikg2, ogbl-biokg, or a folder in their official layout."),
    ] = None,
    model: settings.ModelFlag = None,
    dims: DimsFlag = None,
    seeds: Annotated[
        Optional[int],
        typer.Option("--seeds", min=1, help="How many seeds to run, from 0 on.", show_default="10"),
    ] = None,
    method: Annotated[
        Optional[str],
        typer.Option(
            "--method",
            help="Method of the chain; with one size there is none. If not given: the recipe's.",
        ),
    ] = None,
    recipe: ChainRecipeFlag = "auto",
    config: settings.ConfigFlag = None,
    assignments: ChainSettingsFlag = None,
    epochs: settings.EpochsFlag = None,
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    about: AboutFlag = None,
    data_root: settings.DataRootFlag = None,
    yes: YesFlag = False,
    out: settings.RunOutFlag = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, by its own settings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan of a seed, with sizes, and stop.")
    ] = False,
) -> None:
    """Run the seeds of a leaderboard entry, and write its submission sheet after each.

    A seed is a chain of distillations, or with a single size one training. Validation chooses the
    model; its test split is ranked once, among the official candidates.
    """
    from dglke_distill.distill.plan import read_chain
    from dglke_distill.distill.settings import chain_trees
    from dglke_distill.leaderboard import compose_seeds, saved_seeds

    if resume:
        refuse_with_resume(context, "run", ("data_root", "seeds", "about", "yes", "dry_run"))
        if out is None:
            raise UserError("--resume: say which run by --out RUN_DIR")
        asked = saved_seeds(out)
        if seeds is not None:
            asked = asked.model_copy(update={"seeds": seeds})
    else:
        if dataset is None:
            raise UserError("ogb run: name ogbl-wikikg2 or ogbl-biokg")
        trees: list[settings.Tree] = [] if config is None else [read_chain(config)]
        trees += chain_trees(
            {"epochs": epochs, "device": device, "threads": threads},
            student_model=None,
            more_teachers=None,
        )
        if method is not None:
            trees.append({"method": method})
        sizes = whole_numbers(dims, "--dims")
        if sizes is not None:
            trees.append({"dims": sizes})
        trees += settings.assigned_chain(assignments)
        command = _command(
            dataset,
            {
                "--model": model, "--dims": dims, "--seeds": seeds, "--method": method,
                "--recipe": None if recipe == "auto" else recipe, "--config": config,
                "--set": assignments, "--epochs": epochs, "--device": device,
                "--threads": threads, "--data-root": data_root, "--out": out,
            },
        )  # fmt: skip
        name = model or (None if config is not None else "ComplEx")
        asked = compose_seeds(dataset, name, recipe, seeds or 10, trees, command)
    agree_to_download(asked.chain.data.dataset, yes, data_root)
    if dry_run:
        _show_plan(asked, data_root)
        return
    _run(asked, out or _new_directory(asked), resume, about, data_root)


@ogb_app.command("evaluate")
def ogb_evaluate(
    model: settings.CheckpointArgument,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    split: Annotated[
        str, typer.Option("--split", help="Which triples to rank: valid, test or both.")
    ] = "both",
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    yes: YesFlag = False,
    as_json: settings.FiguresAsJsonFlag = False,
) -> None:
    """Rank a model among the official candidates by the official Evaluator.

    The control that ignores the known entity stands beside.
    """
    split = split.lower()
    if split not in ("valid", "test", "both"):
        raise UserError(f"--split {split}: choose valid, test or both")
    flags = stated_flags({**locals(), "model": None})
    from dglke_distill.leaderboard.settings import ogb_name
    from dglke_distill.runs.train_run import rank_loaded

    loaded = load_given(model, store=store, offline=offline)
    place = dataset or loaded.dataset_name
    ogb_name(place)
    agree_to_download(place, yes, data_root)
    figures = {
        one: rank_loaded(
            loaded,
            one,
            name=model,
            settings=settings.overrides(flags, None),
            data_root=data_root,
            allow_other_data=allow_other_data,
        )[0]
        for one in (("valid", "test") if split == "both" else (split,))
    }
    told = [line for one in figures.values() for line in one.warnings]
    show_warnings(dict.fromkeys(told), err=as_json)
    if as_json:
        say_json({one: of.to_tree() for one, of in figures.items()})
    else:
        SafeConsole().print(metrics_table(figures))


@ogb_app.command("sheet")
def ogb_sheet(
    directory: Annotated[Path, typer.Argument(help="Run directory of `ogb run`.")],
    about: AboutFlag = None,
) -> None:
    """Write the submission sheet anew from the seeds that are done."""
    from dglke_distill.base.files import atomic_write_text
    from dglke_distill.leaderboard import saved_seeds, write_sheet
    from dglke_distill.leaderboard.settings import ABOUT_FILE, read_about

    saved_seeds(directory)
    if about is not None:
        read_about(about)
        atomic_write_text(directory / ABOUT_FILE, read_text(about, MAX_TOML_BYTES))
    _show_sheet(write_sheet(directory), directory)


def _command(dataset: str, flags: dict[str, Any]) -> str:
    parts = ["dglke-distill", "ogb", "run", dataset]
    for flag, value in flags.items():
        for one in value if isinstance(value, list) else [value]:
            parts += [] if one is None else [flag, str(one)]
    return shlex.join(parts)


def _new_directory(asked: "SeedsConfig", parent: Path = Path("runs")) -> Path:
    from dglke_distill.distill.plan import plan

    last = plan(asked.chain)[-1].config.model
    name = label_of(asked.chain.data.dataset).replace("_", "-")
    return unused(parent / f"{name}-{asked.chain.method}-{last.name}-dim{last.dim}".lower())


def _show_plan(asked: "SeedsConfig", data_root: Optional[Path]) -> None:
    from dglke_distill.cli.output import clock_text
    from dglke_distill.runs.workspace import Workspaces

    sizes = show_plan(asked.chain, [], Workspaces(data_root))
    seconds = asked.seeds * sum(size.seconds for size in sizes)
    say(
        f"{plural(sum(size.parameters for size in sizes), 'parameter')} over all stages; "
        f"{plural(asked.seeds, 'seed')} take about {clock_text(seconds)}"
    )


def _run(
    asked: "SeedsConfig",
    directory: Path,
    resume: bool,
    about: Optional[Path],
    data_root: Optional[Path],
) -> None:
    from dglke_distill.distill.watcher import Watcher
    from dglke_distill.leaderboard.run import SeedWatcher, run_seeds
    from dglke_distill.leaderboard.settings import SEEDS_FILE

    console = SafeConsole()

    def begin_seed(seed: int, total: int) -> None:
        console.print(f"seed {seed} of {total}")

    begun = directory / SEEDS_FILE
    with resumable("dglke-distill ogb run", begun), TrainingDisplay(console) as display:
        chain = Watcher(display.begin, display.report, display.announce)
        sheet = run_seeds(
            asked,
            directory,
            resume=resume,
            about=about,
            data_root=data_root,
            watcher=SeedWatcher(begin_seed, chain),
        )
    _show_sheet(sheet, directory)


def _show_sheet(sheet: "Sheet", directory: Path) -> None:
    from dglke_distill.leaderboard.sheet import MARKDOWN_FILE

    form, parameters = sheet.form, sheet.parameters
    for split, of in (("test", form.test_performance), ("valid", form.validation_performance)):
        popularity = sheet.popularity_control[split]["mrr"]
        say(f"{split} MRR {of.text} over {of.seeds} seeds; relation popularity {popularity:.4f}")
    say(f"parameters: {form.parameters:,} over all stages, {parameters.deployed:,} deployed")
    for what in sheet.missing:
        say(f"missing: {what}")
    for what in sheet.notes:
        say(f"note: {what}")
    say(f"sheet: {directory / MARKDOWN_FILE}")
