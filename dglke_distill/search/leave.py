"""What a study leaves: the best settings as a recipe, a table of trials, and plots."""

from __future__ import annotations

import csv
import io
import json
import shutil
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

import tomli_w

from dglke_distill.base import runtime
from dglke_distill.base.claims import LOCK_FILE
from dglke_distill.base.disk import writing
from dglke_distill.base.files import atomic_write_text
from dglke_distill.distill.finished import STAGES
from dglke_distill.models import canonical_name
from dglke_distill.runs.run_files import BEST_FILE, CHECKPOINT_DIRECTORY, RESUME_FILE
from dglke_distill.search.found import Found, StudyConfig

if TYPE_CHECKING:
    import optuna

    from dglke_distill.runs.workspace import Workspaces

RECIPE_FILE = "recipe.toml"
TRIALS_FILE = "trials.csv"
PLOTS = "plots"
SECONDS = "seconds"
"""The attribute of a trial that says how long it took."""
PACE = "seconds_an_epoch"
"""That says how long an epoch took, without what precedes the first one, such as compiling."""
ERROR = "error"
"""That says why it failed."""
EPOCHS = "training.epochs"
"""That says how long its training is, where lengths differ; named after the setting."""
ROOT = "settings_of"
"""That says by which trial the same settings were tried first."""
AGAIN = "killed_before"
"""Of settings whose process has been killed once."""


def leave(
    study: optuna.Study,
    found: Found,
    config: StudyConfig,
    directory: Path,
    workspaces: Workspaces,
    *,
    plots: bool = True,
) -> None:
    """Write the recipe, the table of trials and the plots of a study into its directory.

    Args:
        study: with its trials.
        found: what they found.
        config: what was searched.
        directory: where.
        workspaces: the prepared data.
        plots: whether to draw them.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    atomic_write_text(directory / TRIALS_FILE, _csv(trials))
    if found.config is not None:
        dataset = workspaces.of(found.config).dataset
        text = _recipe(found, config, dataset.name, dataset.fingerprint)
        atomic_write_text(directory / RECIPE_FILE, text)
    if plots and found.mrr is not None and found.trials > 1:
        _plots(study, directory / PLOTS)


def tidy(directory: Path, name: str) -> None:
    """Remove the weights of a trial; its settings and history stay.

    Args:
        directory: of the study.
        name: of the trial.
    """
    place = directory / STAGES / name
    for scratch in (RESUME_FILE, BEST_FILE, LOCK_FILE):
        with suppress(OSError):
            (place / scratch).unlink(missing_ok=True)
    shutil.rmtree(place / CHECKPOINT_DIRECTORY, ignore_errors=True)


def highest(trial: optuna.trial.FrozenTrial) -> Optional[float]:
    """Return the highest validation MRR of a trial, also of one that was stopped; None of none."""
    if trial.value is not None:
        return trial.value
    return max(trial.intermediate_values.values(), default=None)


def chosen(trial: Any) -> dict[str, Any]:
    """Return what a trial has chosen, by the names of settings, its epochs first if it has any."""
    own = trial.user_attrs
    return {**({EPOCHS: own[EPOCHS]} if EPOCHS in own else {}), **trial.params}


def state_of(trial: Any) -> str:
    """Return how a trial ended: complete, pruned, fail, or interrupted: its settings are queued."""
    state = str(trial.state.name).lower()
    unknown = state == "fail" and not {ERROR, AGAIN} & set(trial.user_attrs)
    return "interrupted" if unknown else state


def interrupted(trials: Sequence[Any]) -> int:
    """Return how many trials were interrupted."""
    return sum(state_of(trial) == "interrupted" for trial in trials)


def _csv(trials: Sequence[Any]) -> str:
    names = sorted({name for trial in trials for name in chosen(trial)})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "state", "valid_mrr", "validations", "seconds", *names])
    for trial in trials:
        row = [
            trial.number,
            state_of(trial),
            highest(trial),
            len(trial.intermediate_values),
        ]
        row += [round(trial.user_attrs.get(SECONDS, 0.0), 3)]
        writer.writerow(row + [chosen(trial).get(name) for name in names])
    return out.getvalue()


def _recipe(found: Found, config: StudyConfig, dataset: str, fingerprint: str) -> str:
    """Return the best settings as a recipe, with where they come from in its comments."""
    assert found.config is not None
    tree = found.config.model_dump(exclude_none=True, exclude_defaults=True, mode="json")
    for section, keys in (
        ("training", ("seed", "threads", "device", "memory_megabytes", "processes")),
        ("evaluation", ("split",)),
    ):
        for key in keys:
            tree.get(section, {}).pop(key, None)
        if not tree.get(section, True):
            del tree[section]
    for key in ("data", "recipe"):
        tree.pop(key, None)
    model, provenance = found.config.model, runtime.provenance()
    taught = "trained directly"
    if config.method is not None:
        taught = f"taught by {config.method} of {', '.join(Path(t).name for t in config.teachers)}"
    lines = [
        f"{canonical_name(model.name)}, dim {model.dim}, {taught}, on {dataset}.",
        f"Found by dglke-distill tune: trial {found.number} of {found.trials} "
        f"({found.pruned} stopped early, {found.failed} failed), {found.seconds:.0f} seconds.",
        f"Validation MRR {found.mrr:.4f}; the test split was not ranked.",
        f"Space {Path(config.space).name}, sha256 {config.space_sha256}.",
        f"Dataset fingerprint {fingerprint}.",
        f"dglke_distill {provenance['version']}, revision "
        f"{(provenance['git'] or {}).get('revision', 'unknown')}, seed {config.seed}.",
    ]
    return "".join(f"# {line}\n" for line in lines) + tomli_w.dumps(json.loads(json.dumps(tree)))


def _plots(study: optuna.Study, folder: Path) -> None:
    """Draw the history, the curves, the importance of settings and the slices."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from optuna.visualization import matplotlib as drawn

    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, Callable[[Any], Any]] = {
        "history": drawn.plot_optimization_history,
        "curves": drawn.plot_intermediate_values,
        "importance": drawn.plot_param_importances,
        "slices": drawn.plot_slice,
    }
    for name, draw in kinds.items():
        # Some need more trials, or settings that differ, than there are.
        with warnings.catch_warnings(), suppress(ValueError, RuntimeError, IndexError):
            warnings.simplefilter("ignore")
            axes = draw(study)
            first = axes if not hasattr(axes, "flat") else axes.flat[0]
            with writing(folder):
                first.figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close("all")
