"""``dglke-distill compare``: methods side by side under one teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.cli import run as shared
from dglke_distill.cli import settings
from dglke_distill.cli.exits import resumable
from dglke_distill.cli.idle import refuse_with_resume
from dglke_distill.cli.models import check_run_folder
from dglke_distill.cli.output import TrainingDisplay, clock_text, show_warnings
from dglke_distill.cli.report import show_table
from dglke_distill.cli.say import say
from dglke_distill.config import Config, merge, parse_assignment, validate_tree
from dglke_distill.config.names import published
from dglke_distill.data.identity import label_of, located, located_data
from dglke_distill.runs.settings import stated_reading, unused

if TYPE_CHECKING:
    from dglke_distill.distill.compare import ComparisonConfig
    from dglke_distill.runs.workspace import Workspaces

ALL = "iterde,bkd,ta,dualde,rkd,fitnet,direct"


def compare(
    context: typer.Context,
    dataset: settings.DatasetArgument = None,
    model: settings.ModelFlag = None,
    student_model: shared.StudentModelFlag = None,
    dims: shared.DimsFlag = None,
    methods: Annotated[
        str,
        typer.Option(
            "--methods", help="Methods to compare, separated by commas; direct is the control."
        ),
    ] = ALL,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Seeds of the students, separated by commas.")
    ] = "0",
    recipe: shared.ChainRecipeFlag = "auto",
    config: settings.ConfigFlag = None,
    assignments: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="PART.SECTION.KEY=VALUE",
            help="Any setting of the chains, e.g. student.training.epochs=20; with a method as "
            "the part, e.g. dualde.distillation.options.second_phase=0.3, one of its students "
            "alone; may be repeated.",
        ),
    ] = None,
    search: Annotated[
        Optional[str],
        typer.Option(
            "--search",
            help="How long to search for settings of each method on the validation split first, at "
            "most, direct training as one of them, each by its first seed: seconds, or e.g. 90s, "
            "5m, 1h. If not given: none.",
        ),
    ] = None,
    teacher: shared.TeacherFlag = None,
    more_teachers: shared.MoreTeachersFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    epochs: settings.EpochsFlag = None,
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    columns: settings.ColumnsFlag = None,
    delimiter: settings.DelimiterFlag = None,
    ignore_extra: settings.IgnoreExtraFlag = None,
    weight_column: settings.WeightColumnFlag = None,
    data_root: settings.DataRootFlag = None,
    out: Annotated[
        Optional[Path],
        typer.Option(
            "--out", help="Directory of the comparison. If not given: a new one below runs/."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the one in --out, by its own settings.")
    ] = False,
) -> None:
    """Compare methods: each a chain of its own, all with one teacher and the same seeds.

    Epochs are those of each method's own settings, unless --epochs sets them for all; the table
    counts what the last model took. Gains over direct come with an interval of 95 %; its settings
    are searched for as those of all others are, or none are (--search).
    """
    reading = stated_reading(locals())
    from dglke_distill.distill.compare import ComparisonConfig, saved_comparison
    from dglke_distill.distill.methods import METHODS
    from dglke_distill.distill.plan import compose_chain, loaded_in, read_chain
    from dglke_distill.distill.saved import teacher_place
    from dglke_distill.distill.settings import chain_trees, check_part
    from dglke_distill.runs.workspace import Workspaces
    from dglke_distill.search.beforehand import before_chain
    from dglke_distill.search.durations import seconds_of

    workspaces = Workspaces(data_root, saved=resume)
    if resume:
        refuse_with_resume(context, "comparison", ("data_root",))
        if out is None:
            raise UserError("--resume: say which comparison by --out DIRECTORY")
        comparison = saved_comparison(out)
    else:
        check_run_folder(out)
        overrides: list[settings.Tree] = [] if config is None else [read_chain(config)]
        overrides += chain_trees(
            {"epochs": epochs, "device": device, "threads": threads},
            student_model=student_model,
            more_teachers=shared.names(more_teachers),
        )
        overrides += reading
        if allow_other_data:
            overrides.append({"allow_other_data": True})
        sizes = shared.whole_numbers(dims, "--dims")
        if sizes is not None:
            overrides.append({"dims": sizes})
        own: dict[str, Any] = {}
        for text in assignments or ():
            tree = parse_assignment(text)
            method = published(next(iter(tree)), METHODS)
            if method in METHODS:
                alone = next(iter(tree.values()))
                if isinstance(alone, Mapping):
                    Config.from_mapping(alone, f"--set {method}")
                own = merge(own, {method: alone})
            else:
                check_part(tree, "--set")
                overrides.append(tree)
        chain = compose_chain(recipe, dataset and located(dataset), model, overrides)
        chain = chain.model_copy(update={"data": located_data(chain.data)})
        loaded = [str(teacher_place(path)) for path in teacher or loaded_in(config)]
        chain = before_chain(  # a setting that one method reads is not idle
            chain, (), file=config, recipe=recipe, search="none", workspaces=workspaces,
            loaded=loaded, announce=say, own=list(own.values()),
        )  # fmt: skip
        tree = {
            "methods": [name.strip() for name in methods.split(",")],
            "seeds": shared.whole_numbers(seeds, "--seeds"),
            "loaded": loaded,
            "chain": chain.model_dump(),
            "own": own,
            "search_seconds": None if search is None else seconds_of(search, "--search", none=True),
        }
        comparison = validate_tree(ComparisonConfig, tree, "compare")
        if len(comparison.seeds) == 1 and comparison.seeds != [0]:  # `run --seeds 3` is three
            one = comparison.seeds[0]
            say(f"--seeds: one seed, number {one}; for three seeds: --seeds 0,1,2", err=True)
    _run(comparison, out or _new_directory(comparison), resume, workspaces)


def _new_directory(comparison: "ComparisonConfig") -> Path:
    from dglke_distill.distill.compare import chain_of
    from dglke_distill.distill.plan import plan

    chain = chain_of(comparison, "direct", comparison.seeds[0])
    stem = f"compare-{plan(chain)[-1].config.model.name}-{label_of(chain.data.dataset)}"
    return unused(Path("runs") / stem.lower())


def _run(
    comparison: "ComparisonConfig", directory: Path, resume: bool, workspaces: "Workspaces"
) -> None:
    from dglke_distill.distill.compare import COMPARISON_FILE, run_comparison
    from dglke_distill.distill.watcher import Watcher
    from dglke_distill.report import about_gains, write_comparison
    from dglke_distill.search.control import SEARCHES

    console = SafeConsole()

    begun = directory / COMPARISON_FILE
    with resumable("dglke-distill compare", begun), TrainingDisplay(console) as display:
        results = run_comparison(
            comparison,
            directory,
            resume=resume,
            workspaces=workspaces,
            watcher=Watcher(display.begin, display.report, display.announce),
            searches=SEARCHES,
        )
        path = write_comparison(directory)
    show_table(directory, console)
    if told := about_gains(results):
        say(told)
    show_warnings(results.data_warnings)
    if results.teacher_seconds:
        say(f"the teacher, which no chain counts, took {clock_text(results.teacher_seconds)}")
    say(f"report: {path}")
