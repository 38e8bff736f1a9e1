"""``dglke-distill run``: the chain from a teacher to a small student."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.cli import complete, settings
from dglke_distill.cli.chain_shown import run_shown
from dglke_distill.cli.idle import refuse_idle, refuse_with_resume
from dglke_distill.cli.models import check_run_folder
from dglke_distill.cli.output import plan_table
from dglke_distill.cli.say import say
from dglke_distill.cli.tracked import check_tracker
from dglke_distill.runs.settings import stated_reading

if TYPE_CHECKING:
    from dglke_distill.distill.chain_config import ChainConfig
    from dglke_distill.distill.estimate import Estimate
    from dglke_distill.distill.going_on import InitModel
    from dglke_distill.runs.workspace import Workspaces

DimsFlag = Annotated[
    Optional[str],
    typer.Option(
        "--dims",
        help="Floats per entity of every stage, e.g. 512,128,32. If not given: the recipe's, else "
        "256,128,64,32.",
    ),
]
FromFlag = Annotated[
    Optional[int],
    typer.Option(
        "--from", help="The teacher's floats per entity, with --to. If not given: as --dims."
    ),
]
ToFlag = Annotated[
    Optional[int],
    typer.Option(
        "--to", help="The last student's floats per entity, with --from. If not given: as --dims."
    ),
]
RatioFlag = Annotated[
    Optional[float],
    typer.Option(
        "--ratio",
        help="How many times smaller each stage is, with --from and --to. If not given: 2.",
    ),
]
MethodFlag = Annotated[
    Optional[str],
    typer.Option(
        "--method",
        autocompletion=complete.methods,
        help="Who teaches whom: iterde, fan_out, dgkd, bkd, ta, dualde, rkd, fitnet, mulde, "
        "direct. If not given: the recipe's (of small data of your own: fan_out), else iterde.",
    ),
]
StudentModelFlag = Annotated[
    Optional[str],
    typer.Option(
        "--student-model", help="Score function of the students. If not given: the teacher's."
    ),
]
TeacherFlag = Annotated[
    Optional[list[str]],
    typer.Option(
        "--teacher",
        help="Trained model in place of the first stage: a checkpoint, a run directory (of a "
        "chain: its last student), or a folder of DGL-KE, OpenKE or PyKEEN; may be repeated for "
        "methods with several teachers. If not given: the first stage is trained.",
    ),
]
MoreTeachersFlag = Annotated[
    Optional[str],
    typer.Option(
        "--more-teachers",
        help="Score functions of further teachers of the first student, e.g. rotate,complex. If "
        "not given: the recipe's, else none.",
    ),
]
ChainRecipeFlag = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="Chain recipe to start from (`recipes list`): best, paper or a whole name; auto: best "
        "where there is one; none: bare defaults.",
    ),
]
ChainSettingsFlag = Annotated[
    Optional[list[str]],
    typer.Option(
        "--set",
        metavar="PART.SECTION.KEY=VALUE",
        help="Any setting of the chain, of all stages (shared), the teacher or the students, e.g. "
        "shared.training.epochs=20; may be repeated.",
    ),
]


def run(
    context: typer.Context,
    dataset: settings.DatasetArgument = None,
    model: settings.ModelFlag = None,
    student_model: StudentModelFlag = None,
    dims: DimsFlag = None,
    first: FromFlag = None,
    last: ToFlag = None,
    ratio: RatioFlag = None,
    method: MethodFlag = None,
    recipe: ChainRecipeFlag = "auto",
    config: settings.ConfigFlag = None,
    assignments: ChainSettingsFlag = None,
    teacher: TeacherFlag = None,
    more_teachers: MoreTeachersFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    control: Annotated[
        Optional[str],
        typer.Option(
            "--control",
            help="What every student is compared with, its size trained directly: by its recipe "
            "(recipe), also for as long as the student and its teachers took (both), or by "
            "settings searched for in that time (tuned); none. If not given: tuned.",
        ),
    ] = None,
    seeds: Annotated[
        Optional[int],
        typer.Option(
            "--seeds",
            help="How often students and controls are trained, for the interval of the gain. If "
            "not given: once.",
        ),
    ] = None,
    search: settings.SearchFlag = None,
    epochs: settings.EpochsFlag = None,
    seed: settings.SeedFlag = None,
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
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
            help="Model that the first stage goes on from, on grown data, as in `train --init`: a "
            "checkpoint, a run or a name of the zoo. --dims begins with its size. Without it: at "
            "random.",
        ),
    ] = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the chain in --out, by its own settings.")
    ] = False,
    track: settings.TrackFlag = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, with sizes and time, and stop.")
    ] = False,
) -> None:
    """Train a teacher, distil it down a chain of sizes, and report every step.

    Without arguments: the embedded dataset, in under three minutes on two cores.
    """
    given = dict(locals())
    reading = stated_reading(given)
    from dglke_distill.distill.chain import saved_chain
    from dglke_distill.distill.going_on import InitModel
    from dglke_distill.distill.plan import loaded_in
    from dglke_distill.distill.saved import teacher_place
    from dglke_distill.distill.settings import new_chain_directory
    from dglke_distill.runs.workspace import Workspaces
    from dglke_distill.search.beforehand import before_chain

    if resume and out is None:
        raise UserError("--resume: say which chain by --out RUN_DIR")
    going_on = out if resume else None
    if going_on is not None:
        kept = ("dataset", "data_root", "offline", "track", "dry_run", "init")
        refuse_with_resume(context, "chain", kept)
    elif init is None:
        refuse_idle(context, "is of the model that --init names; give that too", "store", "offline")
    check_tracker(track)
    if init is not None and (resume or teacher):
        why = "a chain that goes on has it already" if resume else "--teacher is no stage to train"
        raise UserError(f"--init: {why}; leave one out")
    begin = None if init is None else InitModel(init, store=store, offline=offline)
    if going_on is not None:
        chain, loaded = saved_chain(going_on)
        if dataset not in (None, chain.data.dataset):
            place = chain.data.dataset
            raise UserError(f"DATASET: the chain in {going_on} is of {place}; leave it out")
        begin = InitModel.of(chain, offline=offline)
    else:
        check_run_folder(out)
        chain = composed(given, reading, init=begin)
        loaded = [str(teacher_place(path)) for path in teacher or loaded_in(config)]
    workspaces = Workspaces(data_root, saved=resume)
    told: list[str] = []
    if not resume:
        chain = before_chain(
            chain,
            settings.assigned_chain(assignments),
            file=config,
            recipe=recipe,
            search=search,
            workspaces=workspaces,
            loaded=loaded,
            announce=told.append,
        )
    if dry_run:
        show_plan(chain, loaded, workspaces)
        return
    directory = out or new_chain_directory(chain)
    for line in told:
        say(line)
    run_shown(chain, directory, resume, loaded, workspaces, track, begin)


def composed(
    given: Mapping[str, Any],
    reading: Sequence[Mapping[str, Any]],
    *,
    control: Optional[str] = None,
    init: Optional["InitModel"] = None,
) -> "ChainConfig":
    """Compose the settings of a new chain.

    Args:
        given: the arguments of ``run`` by name.
        reading: partial trees that say where and how the data are read; ``--set`` wins.
        control: in place of the one that is given.
        init: the model that it goes on from.

    Raises:
        UserError: see ``chain_settings``.
    """
    from dglke_distill.distill.settings import chain_settings

    training = {key: given[key] for key in ("epochs", "seed", "device", "threads", "processes")}
    return chain_settings(
        given["dataset"],
        given["model"],
        student_model=given["student_model"],
        dims=whole_numbers(given["dims"], "--dims"),
        first=given["first"],
        last=given["last"],
        ratio=given["ratio"],
        method=given["method"],
        recipe=given["recipe"],
        file=given["config"],
        more_teachers=names(given["more_teachers"]),
        control=control or given["control"],
        seeds=given["seeds"],
        allow_other_data=given["allow_other_data"],
        init=init,
        training={**training, "memory_megabytes": given["memory"]},
        changes=[*reading, *settings.assigned_chain(given["assignments"])],
    )


def names(text: Optional[str]) -> Optional[list[str]]:
    """Return the names of a list separated by commas; None without one."""
    return None if text is None else [name.strip() for name in text.split(",")]


def whole_numbers(text: Optional[str], flag: str) -> Optional[list[int]]:
    """Return the numbers of a list separated by commas; None without one.

    Raises:
        UserError: something else stands there.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"{flag} {text[:100]!r}: write whole numbers separated by commas, e.g. 4,2,1"
        ) from None


def show_plan(
    chain: "ChainConfig", loaded: Sequence[str], workspaces: "Workspaces"
) -> "list[Estimate]":
    """Print what a chain will train and what this takes; return it."""
    from dglke_distill.distill.estimate import estimate
    from dglke_distill.distill.plan import plan
    from dglke_distill.search.allowance import allowances

    console = SafeConsole()
    stages = plan(chain, loaded)
    with console.status("timing a few steps of every stage"):
        sizes = estimate(
            stages,
            loaded,
            allow_other_data=bool(chain.allow_other_data),
            workspaces=workspaces,
        )
    more = allowances(chain, stages, [size.seconds for size in sizes])
    console.print(plan_table(stages, sizes, more))
    return sizes
