"""``dglke-distill run``: the chain from a teacher to a small student."""

# No `from __future__ import annotations`: typer on Python 3.9 would not see the options.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console

from dglke_distill import cli_settings as settings
from dglke_distill.cli_output import TrainingDisplay, chain_table, plan_table
from dglke_distill.config import parse_assignment, read_toml
from dglke_distill.errors import UserError

if TYPE_CHECKING:
    from dglke_distill.distill.plan import ChainConfig

__all__ = ["run"]

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
ChainRecipeFlag = Annotated[
    str,
    typer.Option(
        "--recipe", help="Shipped chain recipe (`recipes list`): best, paper or a whole name; none."
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
    assignments: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="PART.SECTION.KEY=VALUE",
            help="Any setting of the chain, e.g. student.training.epochs=20; may be repeated.",
        ),
    ] = None,
    teacher: Annotated[
        Optional[list[str]],
        typer.Option("--teacher", help="A trained checkpoint in place of the first stage."),
    ] = None,
    control: Annotated[
        Optional[str],
        typer.Option("--control", help="Also train the last size directly: none, recipe or both."),
    ] = None,
    epochs: settings.EpochsFlag = None,
    seed: settings.SeedFlag = None,
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
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
    from dglke_distill.distill.plan import compose_chain, divided

    if resume:
        if out is None:
            raise UserError("--resume: say which chain by --out RUN_DIR")
        chain, loaded = saved_chain(out)
    else:
        overrides: list[dict[str, Any]] = []
        if config is not None:
            overrides.append(read_toml(config))
        shared: dict[str, Any] = {}
        for key, value in (
            ("epochs", epochs), ("seed", seed), ("device", device), ("threads", threads),
        ):  # fmt: skip
            if value is not None:
                shared[key] = value
        if shared:
            overrides.append({"shared": {"training": shared}})
        if student_model is not None:
            overrides.append({"student": {"model": {"name": student_model}}})
        if method is not None:
            overrides.append({"method": method})
        if control is not None:
            overrides.append({"control": control})
        sizes = _sizes(dims)
        if first is not None or last is not None or ratio is not None:
            if sizes is not None:
                raise UserError("--dims: leave it out where --from, --to or --ratio is given")
            if first is None or last is None:
                raise UserError("--from, --to: give both")
            sizes = divided(first, last, 2.0 if ratio is None else ratio)
        if sizes is not None:
            overrides.append({"dims": sizes})
        for text in assignments or ():
            overrides.append(parse_assignment(text))
        chain = compose_chain(recipe, dataset or "cldr", model, overrides)
        loaded = [str(Path(path).resolve()) for path in teacher or ()]
    if dry_run:
        _show_plan(chain, loaded, data_root)
        return
    _run(chain, out or _new_directory(chain), resume, loaded, data_root)


def _sizes(text: Optional[str]) -> Optional[list[int]]:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--dims {text!r}: write whole numbers, e.g. 512,256,128") from None


def _new_directory(chain: "ChainConfig", parent: Path = Path("runs")) -> Path:
    from dglke_distill.distill.plan import plan

    last = plan(chain)[-1].config
    stem = f"{chain.method}-{last.model.name}-{Path(chain.data.dataset).name or 'data'}".lower()
    path, number = parent / stem, 1
    while path.exists():
        number += 1
        path = parent / f"{stem}-{number}"
    return path


def _show_plan(chain: "ChainConfig", loaded: list[str], data_root: Optional[Path]) -> None:
    from dglke_distill.distill.estimate import estimate
    from dglke_distill.distill.plan import plan

    console = Console()
    stages = plan(chain, loaded)
    with console.status("timing a few steps of every stage"):
        sizes = estimate(stages, loaded, data_root=data_root)
    console.print(plan_table(stages, sizes))


def _run(
    chain: "ChainConfig",
    directory: Path,
    resume: bool,
    loaded: list[str],
    data_root: Optional[Path],
) -> None:
    from dglke_distill.distill.chain import Watcher, run_chain
    from dglke_distill.report import write_report
    from dglke_distill.train import Interrupted

    console = Console()

    def begin(stage: Any, number: int, total: int) -> None:
        console.print(f"stage {number + 1} of {total}: {stage.name}", highlight=False)

    try:
        with TrainingDisplay(console) as display:
            results = run_chain(
                chain,
                directory,
                resume=resume,
                loaded=[Path(path) for path in loaded],
                data_root=data_root,
                watcher=Watcher(begin, display.report, display.announce),
            )
    except (Interrupted, KeyboardInterrupt):
        typer.echo("\ninterrupted", err=True)
        if (directory / "chain.toml").exists():
            typer.echo(f"go on with: dglke-distill run --resume --out {directory}", err=True)
        raise typer.Exit(130) from None
    console.print(chain_table(results))
    typer.echo(f"report: {write_report(directory)}")
