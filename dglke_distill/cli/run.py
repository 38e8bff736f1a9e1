"""``dglke-distill run``: the chain from a teacher to a small student."""

# No `from __future__ import annotations`: typer on Python 3.9 would not see the options.

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.cli import settings
from dglke_distill.cli.exits import resumable
from dglke_distill.cli.output import (
    TrainingDisplay,
    chain_table,
    plan_table,
    show_warnings,
    verdict_lines,
)
from dglke_distill.cli.say import say
from dglke_distill.config import parse_assignment
from dglke_distill.data.identity import located, located_data

if TYPE_CHECKING:
    from dglke_distill.distill.plan import ChainConfig

__all__ = [
    "ChainRecipeFlag",
    "ChainSettingsFlag",
    "DimsFlag",
    "MoreTeachersFlag",
    "StudentModelFlag",
    "TeacherFlag",
    "overrides",
    "run",
    "unused",
    "whole_numbers",
]

DimsFlag = Annotated[
    Optional[str],
    typer.Option("--dims", help="Floats per entity of every stage, e.g. 512,256,128,64,32."),
]
FromFlag = Annotated[
    Optional[int], typer.Option("--from", help="The teacher's floats per entity, with --to.")
]
ToFlag = Annotated[Optional[int], typer.Option("--to", help="The last student's, with --from.")]
RatioFlag = Annotated[
    Optional[float], typer.Option("--ratio", help="How much smaller each stage is; 2 if not given.")
]
MethodFlag = Annotated[
    Optional[str], typer.Option("--method", help="iterde, bkd, ta, dualde, rkd, fitnet, mulde ...")
]
StudentModelFlag = Annotated[
    Optional[str],
    typer.Option("--student-model", help="Score function of the students; the teacher's if not."),
]
TeacherFlag = Annotated[
    Optional[list[str]],
    typer.Option(
        "--teacher",
        help="A trained model in place of the first stage: a checkpoint, or a folder of DGL-KE, "
        "OpenKE or PyKEEN; may be repeated for methods with several teachers.",
    ),
]
MoreTeachersFlag = Annotated[
    Optional[str],
    typer.Option(
        "--more-teachers",
        help="Score functions of further teachers of the first student, e.g. rotate,complex.",
    ),
]
ChainRecipeFlag = Annotated[
    str,
    typer.Option(
        "--recipe", help="Shipped chain recipe (`recipes list`): best, paper or a whole name; none."
    ),
]
ChainSettingsFlag = Annotated[
    Optional[list[str]],
    typer.Option(
        "--set",
        metavar="PART.SECTION.KEY=VALUE",
        help="Any setting of the chain, e.g. student.training.epochs=20; may be repeated.",
    ),
]


def run(
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
        typer.Option("--seeds", help="Trainings of the chain and its controls, for the interval."),
    ] = None,
    epochs: settings.EpochsFlag = None,
    seed: settings.SeedFlag = None,
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    processes: settings.ProcessesFlag = None,
    memory: settings.MemoryFlag = None,
    data_root: settings.DataRootFlag = None,
    out: Annotated[
        Optional[Path],
        typer.Option("--out", help="Run directory; if not given, a new one below runs/."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the chain in --out, by its own settings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, with sizes and time, and stop.")
    ] = False,
) -> None:
    """Train a teacher, distil it down a chain of sizes, and report every step.

    Without arguments: the embedded dataset, in under three minutes on two cores.
    """
    from dglke_distill.distill.chain import saved_chain
    from dglke_distill.distill.plan import compose_chain, divided, loaded_in, read_chain

    if resume:
        if out is None:
            raise UserError("--resume: say which chain by --out RUN_DIR")
        chain, loaded = saved_chain(out)
    else:
        trees: list[dict[str, Any]] = [{"control": "tuned"}]  # whatever a recipe says
        trees += [] if config is None else [read_chain(config)]
        trees += overrides(
            {
                "epochs": epochs,
                "seed": seed,
                "device": device,
                "threads": threads,
                "processes": processes,
                "memory_megabytes": memory,
            },
            student_model=student_model,
            more_teachers=more_teachers,
        )
        if method is not None:
            trees.append({"method": method})
        if control is not None:
            trees.append({"control": control})
        if seeds is not None:
            trees.append({"seeds": seeds})
        if allow_other_data:
            trees.append({"allow_other_data": True})
        sizes = whole_numbers(dims, "--dims")
        if first is not None or last is not None or ratio is not None:
            if sizes is not None:
                raise UserError("--dims: leave it out where --from, --to or --ratio is given")
            if first is None or last is None:
                raise UserError("--from, --to: give both")
            sizes = divided(first, last, 2.0 if ratio is None else ratio)
        if sizes is not None:
            trees.append({"dims": sizes})
        trees += [parse_assignment(text) for text in assignments or ()]
        chain = compose_chain(recipe, dataset and located(dataset), model, trees)
        chain = chain.model_copy(update={"data": located_data(chain.data)})
        loaded = [str(Path(path).resolve()) for path in teacher or loaded_in(config)]
    if dry_run:
        _show_plan(chain, loaded, data_root)
        return
    _run(chain, out or _new_directory(chain), resume, loaded, data_root)


def overrides(
    training: Mapping[str, Any], *, student_model: Optional[str], more_teachers: Optional[str]
) -> list[dict[str, Any]]:
    """Return the partial trees of a chain's settings that flags stand for; None is not given.

    Args:
        training: settings of every stage's section of this name.
        student_model: score function of the students.
        more_teachers: score functions of further teachers, separated by commas.
    """
    trees: list[dict[str, Any]] = []
    given = {key: value for key, value in training.items() if value is not None}
    if given:
        trees.append({"shared": {"training": given}})
    if student_model is not None:
        trees.append({"student": {"model": {"name": student_model}}})
    if more_teachers is not None:
        names = [name.strip() for name in more_teachers.split(",")]
        trees.append({"more_teachers": [{"model": {"name": name}} for name in names]})
    return trees


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


def unused(path: Path) -> Path:
    """Return the path, or one with a number behind it that does not exist yet."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _new_directory(chain: "ChainConfig", parent: Path = Path("runs")) -> Path:
    from dglke_distill.distill.plan import plan

    last = plan(chain)[-1].config
    stem = f"{chain.method}-{last.model.name}-{Path(chain.data.dataset).name or 'data'}".lower()
    return unused(parent / stem)


def _show_plan(chain: "ChainConfig", loaded: list[str], data_root: Optional[Path]) -> None:
    from dglke_distill.distill.estimate import estimate
    from dglke_distill.distill.plan import plan

    console = SafeConsole()
    stages = plan(chain, loaded)
    with console.status("timing a few steps of every stage"):
        allowed = bool(chain.allow_other_data)
        sizes = estimate(stages, loaded, data_root=data_root, allow_other_data=allowed)
    console.print(plan_table(stages, sizes))


def _run(
    chain: "ChainConfig",
    directory: Path,
    resume: bool,
    loaded: list[str],
    data_root: Optional[Path],
) -> None:
    from dglke_distill.distill.chain import CHAIN_FILE, Watcher, run_chain
    from dglke_distill.report import write_report
    from dglke_distill.search.control import equal_time

    console = SafeConsole()

    command = f"dglke-distill run --resume --out {shlex.quote(str(directory))}"
    with resumable(command, directory / CHAIN_FILE), TrainingDisplay(console) as display:
        results = run_chain(
            chain,
            directory,
            resume=resume,
            loaded=[Path(path) for path in loaded],
            data_root=data_root,
            watcher=Watcher(display.begin, display.report, display.announce),
            tuner=equal_time,
        )
        page = write_report(directory)
    console.print(chain_table(results))
    for line in verdict_lines(results):
        say(line)
    show_warnings(results["data_warnings"])
    say(f"report: {page}")
    if results["verdict"]["sentence"] is not None:
        say(results["verdict"]["sentence"])
