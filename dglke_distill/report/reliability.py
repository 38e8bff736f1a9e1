"""The reliability plot: how often what is said to be probable is true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from matplotlib.figure import Figure

from dglke_distill.base.errors import UserError
from dglke_distill.base.files import file_aside
from dglke_distill.base.shown import plural
from dglke_distill.base.tensor_files import load_state
from dglke_distill.calibration.file import CALIBRATION_FILE
from dglke_distill.report.run_results import RunResults, stage_labels
from dglke_distill.report.theme import LIGHT, Theme, drawing, png, svg


def draw_reliability(
    held_out: Sequence[tuple[str, str, Mapping[str, Any]]], theme: Theme
) -> Figure:
    """Draw the share that is true against the probability, before and after calibration.

    Args:
        held_out: name, colour and held-out figures of each model, as ``Calibration.about`` has
            them.
        theme: the colours of everything else.
    """
    with drawing(theme):
        figure = Figure(figsize=(5.2, 4.8), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=":")
        for name, colour, held in held_out:
            for when, style, mark in (("before", "--", "o"), ("after", "-", "s")):
                points = held[when]["reliability"]
                error = held[when]["expected_calibration_error"]
                axes.plot(
                    [one["predicted"] for one in points],
                    [one["observed"] for one in points],
                    linestyle=style,
                    marker=mark,
                    markersize=5,
                    color=colour,
                    alpha=0.5 if when == "before" else 1.0,
                    label=f"{name}{when}, ECE {error:.4f}",
                )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("probability")
        axes.set_ylabel("share that is true, held out")
        figure.legend(loc="outside upper left", ncols=1 if len(held_out) > 1 else 2)
    return figure


@contextmanager
def plot_aside(about: Mapping[str, Any], path: Path, overwrite: bool) -> Iterator[None]:
    """Write the plot of one model, SVG, PNG or PDF by the ending, if nothing goes wrong within.

    Args:
        about: of its ``Calibration``.
        path: the file, which appears at the end, whole, or not at all.
        overwrite: whether a file that is there by then is replaced.

    Raises:
        NotWritten: it cannot be written.
    """
    figure = draw_reliability([("", LIGHT.chain[0], about["held_out"])], LIGHT)
    with file_aside(path, overwrite=overwrite) as aside:
        kind = path.suffix.lower()
        if kind == ".svg":
            aside.write_bytes(svg(figure, LIGHT).encode("utf-8"))
        elif kind == ".png":
            aside.write_bytes(png(figure, LIGHT))
        else:
            figure.savefig(aside, format="pdf", metadata={"CreationDate": None})
        yield


def reliability_of_run(run: RunResults, theme: Theme) -> Optional[Figure]:
    """Draw the plots of a run's calibrated stages; None where no stage is calibrated.

    Raises:
        UserError: a calibration cannot be read.
    """
    found = _held_out(run)
    if not found:
        return None
    colours, labels = theme.stage_colours(run.stages), stage_labels(run.stages)
    held = [(f"{labels[name]}, ", colours[name], figures) for name, figures in found.items()]
    return draw_reliability(held, theme)


def describe_run(run: RunResults) -> str:
    """Return the expected calibration errors of a run's calibrated stages, in words."""
    labels = stage_labels(run.stages)
    return "; ".join(
        f"{labels[name]}: expected calibration error "
        f"{held['before']['expected_calibration_error']:.4f} before, "
        f"{held['after']['expected_calibration_error']:.4f} after, on "
        f"{plural(held['facts'], 'held-out ' + held['split'] + ' fact')} and "
        f"{plural(held['negatives'], 'negative')}"
        for name, held in _held_out(run).items()
    )


def _held_out(run: RunResults) -> dict[str, dict[str, Any]]:
    """Return the held-out figures of each calibrated stage by its name."""
    found = {}
    for stage in run.stages:
        path = run.directory / "stages" / stage.name / "checkpoint" / CALIBRATION_FILE
        if not path.is_file():
            continue
        about = load_state(path)[1].get("about")
        try:
            held = about["held_out"]  # type: ignore[index]
            for when in ("before", "after"):
                float(held[when]["expected_calibration_error"])
                for one in held[when]["reliability"]:
                    float(one["predicted"]), float(one["observed"])
            int(held["facts"]), int(held["negatives"]), str(held["split"])
        except (KeyError, TypeError, ValueError, IndexError):
            raise UserError(
                f"{path}: has no figures of held-out facts; calibrate the model anew"
            ) from None
        found[stage.name] = held
    return found
