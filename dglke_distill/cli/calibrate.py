"""``dglke-distill calibrate``, and what commands say of probabilities."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.table import Table

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import resolved
from dglke_distill.base.shown import plural
from dglke_distill.cli import complete, settings
from dglke_distill.cli.idle import refuse_idle
from dglke_distill.cli.models import check_apart, check_new_checkpoint, check_outside, load_given
from dglke_distill.cli.output import show_warnings
from dglke_distill.cli.say import say, say_json

if TYPE_CHECKING:
    from dglke_distill.calibration import Calibration
    from dglke_distill.data.triples import Side
    from dglke_distill.predict import NamedModel

_SHOWN = 8


def calibrate(
    context: typer.Context,
    model: settings.CheckpointArgument,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="platt, a logistic curve of the score, or isotonic, any curve that does not fall "
            "(for many validation facts).",
            autocompletion=complete.calibrations,
        ),
    ] = "platt",
    negatives: Annotated[
        str,
        typer.Option(
            "--negatives",
            metavar="WHICH",
            help="What facts are told from: a sampler (uniform, bernoulli, degree, typed) that "
            "replaces either side, known facts left out; dataset, the known-false triples that "
            "ship with the data; or @FILE, lines head<TAB>relation<TAB>tail.",
        ),
    ] = "uniform",
    per_positive: Annotated[
        Optional[float],
        typer.Option(
            "--negatives-per-positive",
            metavar="N",
            help="How many wrong triples there are for each fact where the probabilities will be "
            "used: the base rate is 1 / (1 + N), and every probability hangs on it. If not given: "
            "1 of sampled negatives, as many as there are of others.",
        ),
    ] = None,
    drawn: Annotated[
        int,
        typer.Option(
            "--drawn",
            min=1,
            max=10_000,
            help="Negatives drawn per fact and side; they are weighted to make N.",
        ),
    ] = 10,
    fewest: Annotated[
        Optional[int],
        typer.Option(
            "--fewest",
            min=2,
            help="Validation facts, and negatives, that a relation needs for a curve of its own; "
            "others share one. If not given: 20 for platt, 100 for isotonic.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=(1 << 31) - 1, help="Of what is drawn.")
    ] = 0,
    out: Annotated[
        Optional[Path],
        typer.Option(
            "--out",
            help="Directory of a new checkpoint, to be written. If not given: the calibration is "
            "put into the checkpoint itself, in place of an earlier one; its other files stay as "
            "they are.",
        ),
    ] = None,
    overwrite: settings.OverwriteFlag = False,
    plot: Annotated[
        Optional[Path],
        typer.Option(
            "--plot",
            help="New file of the reliability plot: .svg, .png or .pdf. Without it, no plot.",
        ),
    ] = None,
    dataset: settings.OwnDatasetFlag = None,
    allow_other_data: settings.OtherDataFlag = False,
    data_root: settings.DataRootFlag = None,
    store: settings.StoreFlag = None,
    offline: settings.OfflineFlag = False,
    as_json: settings.FiguresAsJsonFlag = False,
) -> None:
    """Fit probabilities to a model's scores, a curve per relation, and measure them.

    Curves are fitted on the validation facts. The figures are of facts that no curve has seen:
    those of the test split, or without one a fifth of the validation facts.
    """
    from dglke_distill.calibration.file import CALIBRATION_FILE, write_calibration
    from dglke_distill.calibration.settings import CalibrationSettings
    from dglke_distill.predict import NamedModel
    from dglke_distill.zoo.fetch import folder_of

    kind = "given" if negatives.startswith("@") else negatives
    CalibrationSettings(method, kind, per_positive, drawn, fewest, seed).checked()
    if kind in ("given", "dataset"):
        refuse_idle(context, "is of negatives that are drawn; leave it out", "drawn")
    if out is None and plot is None:
        refuse_idle(context, "goes with --out or --plot; give one of them", "overwrite")
    if plot is not None:
        _check_plot(plot, out, overwrite)
        check_outside(plot, model, "--plot")
    place = folder_of(model)
    if out is not None:
        check_apart(out, model)
        check_new_checkpoint(out, overwrite)
    named = NamedModel(load_given(model, store=store, offline=offline))
    if out is None and place is None:
        raise UserError(
            f"{model}: is a published model, which never changes; name the directory of the "
            "calibrated one by --out"
        )
    made = named.calibrate(
        dataset,
        method=method,
        negatives=negatives,
        negatives_per_positive=per_positive,
        drawn=drawn,
        fewest=fewest,
        seed=seed,
        data_root=data_root,
        allow_other_data=allow_other_data,
        offline=offline,
    )
    show_warnings(made.about.get("warnings", ()), err=True)
    written = out if out is not None else (place or Path()) / CALIBRATION_FILE
    with _drawn(made, plot, overwrite):
        if out is not None:
            named.save_pretrained(out, overwrite=overwrite)
        else:
            write_calibration(written, made)
    if as_json:
        say_json({"method": made.method, **made.about, "pooled": _pooled(named, made)})
        return
    show_calibration(made)
    pooled = _pooled(named, made)
    if pooled:
        shown = ", ".join(pooled[:_SHOWN]) + (" ..." if len(pooled) > _SHOWN else "")
        say(
            "for want of facts or negatives, the curve of all relations together serves "
            f"{len(pooled)} of {plural(len(named.relations), 'relation')}: {shown}"
        )
    say(str(written))
    if plot is not None:
        say(str(plot))


def show_calibration(made: "Calibration") -> None:
    """Print the figures of a calibration, before and after, and those of the base rate alone."""
    held, fitted = made.about["held_out"], made.about["fitted_on"]
    table = Table()
    for heading in ("", "expected calibration error", "Brier score"):
        table.add_column(heading, justify="right" if heading else "left")
    for row, when in (("before",) * 2, ("after",) * 2, ("base rate alone", "base_rate")):
        figures = held[when]
        table.add_row(
            row, *(_figure(figures[key]) for key in ("expected_calibration_error", "brier_score"))
        )
    SafeConsole().print(table)
    per_positive = made.about["negatives_per_positive"]
    say(
        f"{made.method}, fitted on {plural(fitted['facts'], 'validation fact')} and "
        f"{plural(fitted['negatives'], 'negative')} ({made.about['negatives']}); figures of "
        f"{plural(held['facts'], held['split'] + ' fact')} and "
        f"{plural(held['negatives'], 'negative')} that no curve has seen"
    )
    say(
        f"probabilities hold with {plural(per_positive, 'negative')} per fact, a base rate of "
        f"{1 / (1 + per_positive):.3g}; say otherwise by --negatives-per-positive"
    )
    if held["after"]["brier_score"] >= held["base_rate"]["brier_score"]:
        say(
            "by the Brier score, these probabilities are no better than always saying the base "
            "rate: use the order of the answers, or give fewer --negatives-per-positive"
        )


def _figure(value: float) -> str:
    """Return a figure with four digits after the point; a small one with three that count."""
    return f"{value:.4f}" if value == 0 or value >= 0.01 else f"{value:.3g}"


def told_of_calibration(
    named: "NamedModel", relation: Optional[str], asked: Optional[str]
) -> dict[str, Any]:
    """Return what JSON says of probabilities; nothing where there are none.

    Args:
        named: the model that was asked.
        relation: name of the relation; None where relations are asked for.
        asked: the part that was asked for; None where a triple was scored.
    """
    made = named.calibration
    if made is None:
        return {}
    told = {
        "method": made.method,
        "negatives_per_positive": made.about.get("negatives_per_positive"),
    }
    if relation is not None:
        side: Side = "head" if asked == "head" else "tail"
        told["pooled"] = made.is_pooled(named.relations.id(relation), side)
    return {"calibration": told}


def probability_note(told: dict[str, Any], relation: Optional[str]) -> Optional[str]:
    """Return the line below answers that says what their probabilities are.

    Args:
        told: as ``told_of_calibration`` returned it.
        relation: name of the relation, if it was given.
    """
    of = told.get("calibration")
    if of is None:
        return None
    rate = of["negatives_per_positive"]
    where = f" with {plural(rate, 'negative')} per fact" if isinstance(rate, (int, float)) else ""
    pooled = f"; {relation} has too few facts for a curve of its own" if of.get("pooled") else ""
    return f"probability: {of['method']}{where}{pooled}"


def _pooled(named: "NamedModel", made: "Calibration") -> list[str]:
    return [name for i, name in enumerate(named.relations) if made.pooled[:, i].any()]


def _check_plot(plot: Path, out: Optional[Path], overwrite: bool) -> None:
    from dglke_distill.base.places import begins, check_file_place, check_free

    if plot.suffix.lower() not in (".svg", ".png", ".pdf"):
        raise UserError(f"--plot {plot}: give a file that ends in .svg, .png or .pdf")
    if out is not None and (
        resolved(plot).is_relative_to(resolved(out)) or resolved(out).is_relative_to(resolved(plot))
    ):
        raise UserError(f"--plot {plot}: lies in --out, or holds it; choose another place")
    check_file_place(plot)
    signed = begins(rb"(<\?xml|\x89PNG|%PDF).*[Mm]atplotlib", 1 << 22)  # as it signs what it draws
    check_free(plot, overwrite, signed)


def _drawn(
    made: "Calibration", plot: Optional[Path], overwrite: bool
) -> "AbstractContextManager[None]":
    """Return what draws the plot, which appears if nothing goes wrong within it."""
    if plot is None:
        return nullcontext()
    from dglke_distill.report.reliability import plot_aside

    return plot_aside(made.about, plot, overwrite)
