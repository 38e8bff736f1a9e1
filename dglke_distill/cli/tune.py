"""``dglke-distill tune``: a search for settings on the validation split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.cli import run as shared
from dglke_distill.cli import settings
from dglke_distill.cli.exits import resumable
from dglke_distill.cli.idle import refuse_with_resume
from dglke_distill.cli.models import check_run_folder
from dglke_distill.cli.output import TrainingDisplay, clock_text
from dglke_distill.cli.say import say
from dglke_distill.config.flags import stated_flags

if TYPE_CHECKING:
    from dglke_distill.runs.workspace import Workspaces


def tune(
    context: typer.Context,
    dataset: settings.DatasetArgument = None,
    model: settings.ModelFlag = None,
    dim: settings.DimFlag = None,
    space: Annotated[
        Optional[str],
        typer.Option(
            "--space",
            help="Search space: a TOML file, or one that ships. If not given: the model's own.",
        ),
    ] = None,
    trials: Annotated[
        Optional[int],
        typer.Option(
            "--trials",
            min=1,
            max=1_000_000,
            help="How many trials to add, also with --resume, as optuna counts them. If not given: "
            "as many as --time allows, else 30.",
        ),
    ] = None,
    time: Annotated[
        Optional[str],
        typer.Option(
            "--time",
            help="How long to search: seconds, or e.g. 90s, 20m, 2h; a trial that has begun is "
            "ended. If not given: until --trials are done.",
        ),
    ] = None,
    method: Annotated[
        Optional[str],
        typer.Option(
            "--method",
            help="Method of a student under --teacher: iterde, bkd, dualde ... If not given: a "
            "model without a teacher is tuned.",
        ),
    ] = None,
    teacher: shared.TeacherFlag = None,
    assignments: settings.SetFlag = None,
    epochs: Annotated[
        Optional[int],
        typer.Option(
            "--epochs",
            help="Passes over the train triples of every trial (training.epochs). If not given: a "
            "ninth of the usual ones at first, then three times as many for every third best.",
        ),
    ] = None,
    seed: settings.SeedFlag = None,
    device: settings.DeviceFlag = None,
    threads: settings.ThreadsFlag = None,
    columns: settings.ColumnsFlag = None,
    delimiter: settings.DelimiterFlag = None,
    ignore_extra: settings.IgnoreExtraFlag = None,
    weight_column: settings.WeightColumnFlag = None,
    data_root: settings.DataRootFlag = None,
    out: Annotated[
        Optional[Path],
        typer.Option("--out", help="Directory of the study. If not given: a new one below runs/."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the study in --out until it has what was asked for; --trials and "
            "--time ask for more.",
        ),
    ] = False,
) -> None:
    """Search for the settings with the best validation MRR; the test split is never ranked.

    Leaves a recipe (use it by `train --recipe none --config OUT/recipe.toml`), a table of trials
    and plots. The same command in a second process, with the same --out, shares the search.
    """
    from dglke_distill.runs.workspace import Workspaces
    from dglke_distill.search.beforehand import before_study
    from dglke_distill.search.durations import seconds_of
    from dglke_distill.search.settings import check_taught, new_study_directory, study_settings
    from dglke_distill.search.study import saved_study

    budget = None if time is None else seconds_of(time, "--time")
    workspaces, first = Workspaces(data_root), None
    if resume:
        refuse_with_resume(context, "study", ("data_root", "trials", "time", "threads"))
        if out is None:
            raise UserError("--resume: say which study by --out DIRECTORY")
        study = saved_study(out, threads)
    else:
        given = stated_flags(locals())
        check_run_folder(out)
        changes = settings.assigned(assignments)
        check_taught(method, teacher or ())
        given, first, usual = before_study(
            given, changes, space=space, taught=bool(teacher), workspaces=workspaces
        )
        study = study_settings(
            given,
            changes,
            space=space,
            method=method,
            teachers=teacher or (),
            epochs=usual,
        )
        if trials is None and budget is None:
            trials = 30
    _search(study, out or new_study_directory(study), trials, budget, workspaces, first)


def _search(
    study: Any,
    directory: Path,
    trials: Optional[int],
    budget: Optional[float],
    workspaces: "Workspaces",
    first: Optional[Sequence[Mapping[str, Any]]],
) -> None:
    from dglke_distill.distill.watcher import Watcher
    from dglke_distill.search.agenda import unfinished
    from dglke_distill.search.found import Found
    from dglke_distill.search.leave import RECIPE_FILE
    from dglke_distill.search.study import STUDY_FILE, StudyWatch
    from dglke_distill.search.study import tune as search

    console = SafeConsole()
    model = study.settings.get("model", {}).get("name", "the model of the space")
    untold = [f"searching settings of {model}, space {study.space}"]

    def began(number: int, chosen: Mapping[str, Any]) -> None:
        while untold:  # where nothing is wrong
            console.print(untold.pop())
        text = ", ".join(f"{name.split('.')[-1]} {_short(value)}" for name, value in chosen.items())
        console.print(f"trial {number}: {text}")

    def ended(number: int, how: str, mrr: Optional[float], found: Found) -> None:
        value = "" if mrr is None else f", valid MRR {mrr:.4f}"
        best = "none yet" if found.mrr is None else f"{found.mrr:.4f} of trial {found.number}"
        console.print(
            f"trial {number} {how}{value}; best {best}; {clock_text(found.seconds)} searched"
        )

    begun = directory / STUDY_FILE
    going_on = resumable("dglke-distill tune", begun, unfinished)
    with going_on, TrainingDisplay(console) as display:
        found = search(
            study,
            directory,
            trials=trials,
            seconds=budget,
            workspaces=workspaces,
            first=first,
            watch=StudyWatch(
                began, ended, Watcher(report=display.report, announce=display.announce)
            ),
        )
    lost = f", {found.interrupted} interrupted" if found.interrupted else ""
    say(
        f"{plural(found.trials, 'trial')} ({found.pruned} stopped early, {found.failed} failed"
        f"{lost}) in {clock_text(found.seconds)}"
    )
    if untold:
        say("nothing is left of what was asked for; --trials or --time asks for more")
    if found.mrr is None:
        say("no trial has reached its end: give more --time, or fewer --epochs")
        return
    say(f"best valid MRR {found.mrr:.4f}, trial {found.number}:")
    for name, value in found.chosen.items():
        say(f"  {name} = {_short(value)}")
    say(f"recipe: {directory / RECIPE_FILE}")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
