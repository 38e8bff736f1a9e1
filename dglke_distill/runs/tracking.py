"""Trainings told to an experiment tracker while they run, and in full when they are done.

Per stage: ``live_loss`` and ``triples_per_second`` a few times a second, by batches;
``validation_mrr`` as it is measured, by epochs; when the stage is done, each column of its
``history.csv`` by epochs, and the figures of its test split. A tracker that fails is told about
once and left out: training goes on.
"""

from __future__ import annotations

import csv
import importlib
import io
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Optional

from dglke_distill.artifacts.results import TrainingResults
from dglke_distill.artifacts.results_files import RESULTS_FILE, read_results_tree
from dglke_distill.base.errors import UserError
from dglke_distill.base.regular_files import read_text
from dglke_distill.config import components
from dglke_distill.config.registry import Registry
from dglke_distill.runs.run_files import CHECKPOINT_DIRECTORY, HISTORY_FILE
from dglke_distill.runs.settings import flattened
from dglke_distill.training.loop import Progress

TRACKERS: Registry[type[Tracker]] = components.TRACKERS
_MOST_HISTORY_BYTES = 1 << 28
_FIGURES = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10")


class Tracker:
    """Tells one tracker about the stages of a run; a subclass writes.

    Nothing is opened before there is something to write, so that a run that is refused leaves
    nothing. Use as a context manager.

    Args:
        folder: the run directory; trackers that keep files keep them there.
        announce: hears of a tracker that fails.
    """

    name: ClassVar[str] = ""
    package: ClassVar[str] = ""
    """The package that it needs, and the extra that installs it."""

    def __init__(self, folder: Path, announce: Callable[[str], None]) -> None:
        """Look whether the package is there.

        Raises:
            UserError: it is not.
        """
        if find_spec(self.package) is None:
            raise UserError(
                f"--track {self.name} needs the package {self.package}, which is not installed: "
                f"pip install 'dglke-distill[{self.name}]'"
            )
        self.folder, self._announce = folder, announce
        self._settings: Mapping[str, Any] = {}
        self._stage = ""
        self._place: Optional[Path] = None
        self._open = self._failed = False

    def start(self, settings: Mapping[str, Any]) -> None:
        """Open the tracker.

        Args:
            settings: of the run, nested.
        """
        raise NotImplementedError

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Write values by name.

        Args:
            values: names such as ``dim32/loss``, and numbers.
            step: epochs, or for live values batches, done.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Close the tracker."""
        raise NotImplementedError

    def describe(self, settings: Mapping[str, Any]) -> None:
        """Keep the run's settings, to be written when the tracker is opened."""
        self._settings = settings

    def begin(self, stage: str, place: Path) -> None:
        """Begin a stage; what is known of the one before is written.

        Args:
            stage: its name, empty for a training of its own.
            place: its run directory.
        """
        self._end_stage()
        self._stage, self._place = stage, place

    def report(self, now: Progress) -> None:
        """Write where a training stands; searches between the stages are left out."""
        if self._place is not None and not (self._place / HISTORY_FILE).exists():
            values = {"live_loss": now.loss, "triples_per_second": now.triples_per_second}
            self._put(values, now.epoch * now.batches + now.batch)

    def validated(self, epoch: int, mrr: float) -> None:
        """Write the MRR of a validation after so many epochs."""
        if self._place is not None and not (self._place / HISTORY_FILE).exists():
            self._put({"validation_mrr": mrr}, epoch)

    def __enter__(self) -> Tracker:
        """Return the tracker; it is opened later."""
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is known of the last stage, and close."""
        self._end_stage()
        if self._open:
            self._safely(self.stop)

    def _put(self, values: Mapping[str, float], step: int) -> None:
        def put() -> None:
            if not self._open:
                self.start(self._settings)
                self._open = True
            prefix = f"{self._stage}/" if self._stage else ""
            self.write({prefix + name: value for name, value in values.items()}, step)

        self._safely(put)

    def _safely(self, call: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            call()
        except Exception as error:  # a library's own kinds, or of the network it writes to
            self._failed = True
            said = " ".join(str(error).split())[:300]
            self._announce(
                f"warning: --track {self.name} failed ({type(error).__name__}: {said}); training "
                "goes on without it"
            )

    def _end_stage(self) -> None:
        """Write the history of the stage and the figures of its test split, if it is done."""
        place, self._place = self._place, None
        if place is None or not (place / HISTORY_FILE).is_file():
            return
        try:
            text = read_text(place / HISTORY_FILE, _MOST_HISTORY_BYTES)
            path = place / CHECKPOINT_DIRECTORY / RESULTS_FILE
            results = TrainingResults.of(read_results_tree(path), path)
        except UserError as error:
            self._announce(f"warning: --track {self.name}: {error}")
            return
        epoch = 0
        for row in csv.DictReader(io.StringIO(text)):
            epoch = int(float(row.pop("epoch")))
            row.pop("validation_mrr", None)
            self._put({name: float(value) for name, value in row.items() if value}, epoch)
        test = results.metrics.get("test")
        if test is not None:
            self._put({f"test_{name}": getattr(test, name) for name in _FIGURES}, epoch)


class TensorBoard(Tracker):
    """Event files in ``RUN_DIR/tensorboard``; ``tensorboard --logdir RUN_DIR`` shows them."""

    name = package = "tensorboard"

    def start(self, settings: Mapping[str, Any]) -> None:
        """Open a file of events, and write the settings as text."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(self.folder / "tensorboard"))
        lines = [f"    {name} = {value!r}" for name, value in flattened(settings).items()]
        self._writer.add_text("settings", "\n".join(lines))

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Write scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def stop(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandB(Tracker):
    """A run of Weights & Biases; with ``WANDB_MODE=offline`` files in ``RUN_DIR/wandb``."""

    name = package = "wandb"

    def start(self, settings: Mapping[str, Any]) -> None:
        """Begin a run; project, name and mode can be set by wandb's own variables."""
        wandb = importlib.import_module("wandb")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "dglke-distill"),
            name=os.environ.get("WANDB_NAME", self.folder.name),
            dir=str(self.folder),
            config=dict(settings),
        )
        self._run.define_metric("*", step_metric="step")

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Log values with their step as one more value: wandb's own may not go back."""
        self._run.log({**values, "step": step})

    def stop(self) -> None:
        """End the run."""
        self._run.finish()


class MLflow(Tracker):
    """A run of MLflow; where no server is set, in ``RUN_DIR/mlflow.db``."""

    name = package = "mlflow"

    def start(self, settings: Mapping[str, Any]) -> None:
        """Begin a run in the store that ``MLFLOW_TRACKING_URI`` names."""
        mlflow: Any = importlib.import_module("mlflow")
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri(f"sqlite:///{(self.folder / 'mlflow.db').resolve()}")
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "dglke-distill"))
        self._mlflow = mlflow
        mlflow.start_run(run_name=self.folder.name)
        mlflow.log_params({name: str(value)[:500] for name, value in flattened(settings).items()})

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics."""
        self._mlflow.log_metrics(dict(values), step=step)

    def stop(self) -> None:
        """End the run."""
        self._mlflow.end_run()


def open_tracker(
    name: Optional[str],
    folder: Path,
    settings: Mapping[str, Any],
    announce: Callable[[str], None],
) -> Optional[Tracker]:
    """Return the tracker of a name; None where none is asked for.

    Args:
        name: tensorboard, wandb or mlflow, in any letter case.
        folder: the run directory.
        settings: of the run, nested.
        announce: hears of a tracker that fails.

    Raises:
        UserError: there is no such tracker, or its package is not installed.
    """
    if name is None:
        return None
    tracker = TRACKERS.find(name)(folder, announce)
    tracker.describe(settings)
    return tracker
