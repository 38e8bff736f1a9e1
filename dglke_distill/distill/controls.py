"""Controls that have the time of their students, and trainings by further seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from dglke_distill.artifacts.results import StageResults, Verdict
from dglke_distill.config import Config, merge, read_toml
from dglke_distill.config.sections import MOST_SEED
from dglke_distill.distill.chain_config import ChainConfig, Tree
from dglke_distill.distill.chain_recipes import shipped_chain
from dglke_distill.distill.finished import STAGES, chain_seconds, with_teachers
from dglke_distill.distill.going_on import begins
from dglke_distill.distill.plan import Role, Stage, rivals_of, stage_label
from dglke_distill.distill.stages import ChainRun, checkpoint_of
from dglke_distill.distill.tuner import NOTHING, Tuned, save_tuned, saved_tuned
from dglke_distill.distill.verdict import control_of
from dglke_distill.runs.run_files import CONFIG_FILE

SEARCHES = "searches"
"""The folder of the searches for settings in a chain's directory."""

SEEDS = 3
"""Trainings on own data that a verdict rests on, where the test split is small."""

_FEW_QUESTIONS = 5000

LONGER = {"both": "budget", "tuned": "tuned"}
"""The controls of a chain that have further ones, and how the names of these end."""


def extra_control(
    run: ChainRun, direct: Stage, done: Sequence[StageResults], searched: dict[str, Tuned]
) -> Optional[Stage]:
    """Return the control of a size that has the time of its student; None if nothing is found.

    Once it has begun its settings stay, whatever the clock says after a resume.

    Args:
        run: the chain.
        direct: the control by its recipe.
        done: the stages so far.
        searched: receives what the search took, by the name of its stage.
    """
    (control,) = (s for s in done if s.name == direct.name)
    student = next(s for s in done if s.role == "student" and s.dim == control.dim)
    allowed = chain_seconds(with_teachers(student, done))
    allowed += searched.get("chain", NOTHING).seconds
    assert control.results.training is not None
    epochs = control.results.training.epochs
    if run.chain.control == "both":
        name = extra_name(run.directory, direct, run.chain.control)
        if (run.directory / STAGES / name / CONFIG_FILE).is_file():
            return _saved(run.directory, name, "direct_budget")
        affordable = max(1, int(allowed / control.seconds * epochs))
        training = direct.config.training.model_copy(update={"epochs": affordable})
        config = direct.config.model_copy(update={"training": training})
        return Stage(name, "direct_budget", config, ())
    place = run.directory / SEARCHES / direct.name
    tuned = saved_tuned(place)
    if tuned is None:
        assert run.searches is not None
        left = allowed - control.seconds
        left = min(left, run.chain.control_seconds or left)
        tuned = NOTHING
        if left > 0 and len(run.workspaces.of(direct.config).dataset.valid):
            known = [each.chosen for each in searched.values() if each.chosen]
            epoch = control.seconds / epochs
            tuned = run.searches.control(
                direct.config, place, left, epoch, run.workspaces, run.watcher, known,
                rivals_of(run.chain, direct.config.model.dim),
            )  # fmt: skip
        save_tuned(place, tuned)
    name = extra_name(run.directory, direct, run.chain.control)
    searched[name] = tuned
    return None if tuned.config is None else Stage(name, "direct_tuned", tuned.config, ())


def extra_name(directory: Path, direct: Stage, control: str) -> str:
    """Return the name of a size's further control; that of a search is named after what it found.

    Args:
        directory: of the chain.
        direct: the control by its recipe.
        control: of the chain's settings, a key of ``LONGER``.
    """
    found = saved_tuned(directory / SEARCHES / direct.name) if control == "tuned" else None
    config = direct.config if found is None or found.config is None else found.config
    return f"direct-{stage_label(config)}-{LONGER[control]}"


def raced(
    run: ChainRun, stages: Sequence[Stage], number: int, searched: dict[str, Tuned]
) -> list[Stage]:
    """Return a chain's stages, those from a number on with the settings that a race has chosen.

    The first teacher and the students race, each for a quarter of the chain's time for searches;
    the other half is the controls'. Students race at the last size, and all take the winner's
    settings; so do controls, when they are tuned, in the time that the chain has taken. A model
    that is trained directly, without students, races as a student does.

    Args:
        run: the chain.
        stages: all of them.
        number: of the one that is next.
        searched: receives what the race took.
    """
    stage, all_seconds = stages[number], run.chain.search_seconds
    if begins(run.chain, stage):  # its settings are the model's that it goes on from
        return list(stages)
    first = next((s for s in stages if s.role == stage.role), None)
    controls = any(s.role == "student" for s in stages)
    asked = stage.role in ("teacher", "student") or not controls
    if all_seconds is None or not asked or stage is not first:
        return list(stages)
    alike = [s for s in stages if s.role == stage.role]
    if stage.role == "teacher":
        alike = alike[:1]
    last, place = alike[-1], run.directory / SEARCHES / stage.role
    tuned = saved_tuned(place)
    if tuned is None:
        assert run.searches is not None
        tuned = NOTHING
        if len(run.workspaces.of(last.config).dataset.valid):
            teachers = [str(checkpoint_of(t, run.directory).resolve()) for t in stage.teachers]
            seconds = race_seconds(all_seconds, stages)
            stated = stated_of(run.chain, stage.role, last.config.model.dim)
            tuned = run.searches.race(
                last.config, place, seconds, run.workspaces, run.watcher, teachers, stated
            )
        else:
            run.watcher.announce("no validation split: no settings are searched for")
        save_tuned(place, tuned)
    before = searched.get("chain", NOTHING)
    searched["chain"] = NOTHING._replace(
        seconds=before.seconds + tuned.seconds, trials=before.trials + tuned.trials
    )
    if tuned.config is None:
        return list(stages)
    chosen = {s.name: s._replace(config=_sized(tuned.config, s.config)) for s in alike}
    return [chosen.get(s.name, s) for s in stages]


def race_seconds(all_seconds: float, stages: Sequence[Stage]) -> float:
    """Return how long one race lasts: with a teacher to train there are two, and controls' half.

    Args:
        all_seconds: of the chain's searches.
        stages: its plan.
    """
    return all_seconds / (4 if any(stage.role == "teacher" for stage in stages) else 2)


def stated_of(chain: ChainConfig, role: str, dim: int) -> Tree:
    """Return what a chain's settings say of a stage beyond its shipped recipe, as a partial tree.

    Args:
        chain: the settings.
        role: teacher, student or direct.
        dim: the stage's floats per entity.
    """
    if role == "direct" and chain.direct is None:
        return {k: v for k, v in stated_of(chain, "student", dim).items() if k != "distillation"}
    part = {"teacher": chain.teacher, "student": chain.student, "direct": chain.direct or {}}[role]
    sizes = chain.sizes.get(str(dim), {}) if role == "student" else {}
    shipped = shipped_chain(chain.recipe)
    advice = merge(shipped.get("shared", {}), shipped.get(role, {}))
    said = _beyond(merge(merge(chain.shared, part), sizes), advice)
    return {k: v for k, v in said.items() if k not in ("data", "recipe")}


def _beyond(tree: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    """Return the part of a tree that another does not have."""
    found: Tree = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            there = other.get(key, {})
            if deeper := _beyond(value, there if isinstance(there, Mapping) else {}):
                found[key] = deeper
        elif key not in other or other[key] != value:
            found[key] = value
    return found


def _sized(found: Config, config: Config) -> Config:
    """Return settings that were found, with the size, seed and length of others."""
    model = found.model.model_copy(update={"dim": config.model.dim})
    kept = {key: getattr(config.training, key) for key in ("seed", "epochs", "evaluate_every")}
    training = found.training.model_copy(update=kept)
    return found.model_copy(
        update={"model": model, "training": training, "evaluation": config.evaluation}
    )


def doubtful(verdict: Verdict) -> list[str]:
    """Return students that a verdict of one seed tells apart from controls, on few questions.

    Args:
        verdict: see ``verdict.judge``.
    """
    return [
        size.student
        for size in verdict.sizes
        if size.outcome in ("better", "direct") and (size.questions or 0) <= _FEW_QUESTIONS
    ]


def extra_seeds(
    run: ChainRun,
    stages: Sequence[Stage],
    done: Sequence[StageResults],
    count: int,
    students: Optional[Sequence[str]] = None,
) -> list[StageResults]:
    """Train students, their teachers and the controls they are judged by by further seeds.

    Settings stay what they are: a search is not repeated.

    Args:
        run: the chain.
        stages: of its plan.
        done: its finished stages.
        count: trainings of each, the first ones included.
        students: names of the students; None: all of them.

    Returns:
        Entries like those of stages, each with its ``seed`` and the stage it ``repeats``.
    """
    kept: list[StageResults] = []
    asked = [
        entry
        for entry in done
        if entry.role == "student" and (students is None or entry.name in students)
    ]
    for student in asked:
        needed = [control_of(student, done), *with_teachers(student, done)]
        kept += [entry for entry in done if entry in needed and entry not in kept]
    kept.sort(key=done.index)
    planned = {stage.name: stage for stage in stages}
    repeated: list[StageResults] = []
    for further in range(1, count):
        for number, entry in enumerate(kept):
            name = entry.name
            stage = planned.get(name) or _saved(run.directory, name, entry.role)
            seed = _seed(stage, further)
            training = stage.config.training.model_copy(update={"seed": seed})
            again = Stage(
                f"{name}-seed{seed}",
                stage.role,
                stage.config.model_copy(update={"training": training}),
                tuple(_again(planned, teacher, further) for teacher in stage.teachers),
            )
            done_now = number + (further - 1) * len(kept)
            ended = run.stage(again, done_now, (count - 1) * len(kept))
            repeated.append(ended.model_copy(update={"repeats": name, "seed": seed}))
    return repeated


def _again(planned: dict[str, Stage], teacher: str, further: int) -> str:
    """Return the name that a teacher has when it is trained by a further seed."""
    stage = planned.get(teacher)  # a loaded teacher stays the same
    return teacher if stage is None else f"{teacher}-seed{_seed(stage, further)}"


def _saved(directory: Path, name: str, role: Role) -> Stage:
    saved = directory / STAGES / name / CONFIG_FILE
    return Stage(name, role, Config.from_mapping(read_toml(saved), str(saved)), ())


def _seed(stage: Stage, further: int) -> int:
    """Return a stage's further seed; behind the largest one comes 0."""
    return (stage.config.training.seed + further) % (MOST_SEED + 1)
