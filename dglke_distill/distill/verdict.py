"""Is a student better than the same size trained directly? Per size, with an interval.

The question is asked on the test split, of the control with the best validation MRR; ``gains`` says
how sure the answer is.
"""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Optional

from dglke_distill.artifacts.results import StageResults, Verdict
from dglke_distill.artifacts.results_verdict import ControlTime, SizeVerdict, VerdictTime
from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import percent_text
from dglke_distill.data.table_options import IN_MEMORY
from dglke_distill.distill.finished import chain_seconds, with_teachers
from dglke_distill.distill.gains import LEVEL, Gain, gain_of
from dglke_distill.distill.tuner import NOTHING, Tuned
from dglke_distill.runs import run_files
from dglke_distill.runs.ranks import RANKS_FILE

CONTROLS = ("direct", "direct_budget", "direct_tuned")
"""Roles of stages that were trained without a teacher, to compare students with."""

ONE_SEED = 0.01
"""By what share an MRR may differ between seeds; one seed alone does not show it."""

_SEEDS_VARY = "up to 1 % may be due to the one seed (--seeds 3 says more)"

FEW_QUESTIONS = 200
"""Below, an interval is so wide that it must be said."""


def control_of(student: StageResults, stages: Sequence[StageResults]) -> Optional[StageResults]:
    """Return the control of a student's size that validation prefers; None without any.

    Without a validation split it is the first one.

    Args:
        student: a stage.
        stages: all of its chain.
    """
    same = _controls(student, stages)
    known = [stage for stage in same if stage.valid_mrr is not None]
    return max(known, key=lambda stage: stage.valid_mrr or 0.0, default=same[0] if same else None)


def _controls(student: StageResults, stages: Sequence[StageResults]) -> list[StageResults]:
    """Return the controls of a student's size."""
    return [stage for stage in stages if stage.role in CONTROLS and stage.dim == student.dim]


def judge(
    directory: Path,
    stages: Sequence[StageResults],
    *,
    searched: Mapping[str, Tuned],
    repeats: Sequence[StageResults] = (),
    seed: int = 0,
    tuned: bool = False,
    limit: Optional[float] = None,
) -> Verdict:
    """Return what ``results.json`` says under ``verdict``.

    Args:
        directory: of the chain.
        stages: its finished stages.
        searched: what searches found: by the name of a stage, or under ``chain``.
        repeats: the same stages by other seeds; each says under ``repeats`` which.
        seed: of the resampling.
        tuned: whether settings of the controls were to be searched for; a student is then better
            only by more than a longer search may find.
        limit: most seconds that a control was tuned for; None: as long as its student took.

    Raises:
        UserError: a file of a stage is damaged.
    """
    sizes = [
        _judge_size(directory, stage, stages, searched, repeats, seed, tuned, limit)
        for stage in stages
        if stage.role == "student"
    ]
    return Verdict(
        level=LEVEL,
        sizes=sizes,
        sentence=sizes[-1].sentence if sizes else None,
        interval="paired bootstrap over the test triples, both questions of each together"
        + (", widened by how much seeds differ" if repeats else ""),
    )


def _judge_size(
    directory: Path,
    student: StageResults,
    stages: Sequence[StageResults],
    searched: Mapping[str, Tuned],
    repeats: Sequence[StageResults],
    seed: int,
    tuned: bool,
    limit: Optional[float],
) -> SizeVerdict:
    """Return the verdict on one student."""
    control = control_of(student, stages)
    none = SizeVerdict(
        student=student.name,
        control=None if control is None else control.name,
        dim=student.dim,
        student_mrr=student.mrr("test"),
        control_mrr=None if control is None else control.mrr("test"),
        gain=None,
        low=None,
        high=None,
        questions=None,
        seeds=1,
        outcome="none",
        claim=None,
        sentence="no verdict: nothing of the same size was trained directly; leave out "
        "--control none",
        command=None,
        time=None,
        controls=[
            _control_time(stage, searched.get(stage.name, NOTHING))
            for stage in _controls(student, stages)
        ],
    )
    if control is None:
        return none
    settings = (directory / control.directory / run_files.CONFIG_FILE).resolve()
    train = f"dglke-distill train --recipe none --config {shlex.quote(str(settings))}"
    data = control.results.dataset
    in_memory = data is not None and data.format == IN_MEMORY  # no command has the table
    command = None if in_memory else train
    time = _time(directory, student, control, stages, searched)
    none = none.model_copy(update={"command": command, "time": time})
    pairs = [(student, control), *_pairs(student, control, repeats)]
    files = [[directory / stage.directory / RANKS_FILE for stage in pair] for pair in pairs]
    if not all(path.is_file() for pair in files for path in pair):
        sentence = (
            "no verdict: the test split was not ranked"
            if student.mrr("test") is None
            else "no verdict: the ranks of single test questions are missing"
        )
        return none.model_copy(update={"sentence": sentence})
    gain = gain_of(tuple(pair[0] for pair in files), tuple(pair[1] for pair in files), seed)
    needed, doubts = _needed(none.controls, gain, tuned)
    if student.valid_mrr is not None and student.valid_mrr <= (control.valid_mrr or 0.0):
        needed, doubts = math.inf, ["validation does not agree"]
    one = ONE_SEED if gain.seeds == 1 else 0.0
    outcome = "better" if gain.low > needed else "direct" if gain.high < -one else "unclaimed"
    outcome = "alike" if gain.low <= 0 <= gain.high else outcome
    doubts = [_SEEDS_VARY] if gain.high < 0 else doubts
    notes: list[str] = []
    if limit is not None:
        notes += _short_of_time(none.controls, time)
    elif outcome == "better" and not tuned:
        notes.append("the control's settings are its recipe's, not searched for")
    finite = math.isfinite(gain.low)
    models = [_model(stage) for stage in (control, student)]
    claim = _claim(gain, outcome, notes, "" if models[0] == models[1] else models[0], doubts)
    found = {
        "student_mrr": fmean(pair[0].mrr("test") or 0.0 for pair in pairs),
        "control_mrr": fmean(pair[1].mrr("test") or 0.0 for pair in pairs),
        "gain": gain.value,
        "low": gain.low if finite else None,
        "high": gain.high if finite else None,
        "questions": gain.questions,
        "seeds": gain.seeds,
        "outcome": outcome,
        "claim": claim,
        "sentence": f"{claim}: {command}" if outcome == "direct" and command else claim,
    }
    return none.model_copy(update=found)


def _control_time(stage: StageResults, found: Tuned) -> ControlTime:
    """Return what a control took, its search included."""
    room, reached = found.headroom, stage.valid_mrr
    if room is not None and found.mrr and reached:
        # A longer search may train for longer too: by as much as the last training has gained. It
        # may also keep what the search had found, where the last training is no better.
        share = found.mrr / reached
        room = 1 - (1 - room) * share if share <= 1 else share * (1 + room) - 1
    return ControlTime(
        name=stage.name,
        role=stage.role,
        valid_mrr=stage.valid_mrr,
        seconds=stage.seconds,
        searched_seconds=found.seconds,
        trials=found.trials,
        headroom=room,
    )


def _needed(controls: Sequence[ControlTime], gain: Gain, tuned: bool) -> tuple[float, list[str]]:
    """Return the share that a gain must surpass with all of its interval, and why.

    A search whose settings do not reach those of the recipe was too short to say what direct
    training can: no gain is claimed over it.
    """
    one = ONE_SEED if gain.seeds == 1 else 0.0
    if not tuned:
        return one, [_SEEDS_VARY]
    trials = sum(each.trials for each in controls)
    rooms = [each.headroom for each in controls if each.headroom is not None]
    if not rooms:
        tried = f"only {trials} settings of direct training were tried"
        none = "no settings of direct training were searched for"
        return math.inf, [tried if trials else none]
    best = {each.role: each.valid_mrr or 0.0 for each in controls}  # one of each
    if best.get("direct_tuned", 0.0) <= best.get("direct", 0.0):
        return math.inf, ["the search found nothing better for direct training than its recipe"]
    room, doubts = max(rooms), []
    if room >= 0.001 or not one:
        text = percent_text(room)
        doubts = [f"a longer search of settings for direct training may find {text} % more"]
    if one and (gain.low > room or not doubts):  # a longer search is not reason enough
        doubts.append(_SEEDS_VARY)
    return one + room, doubts


def _model(stage: StageResults) -> str:
    return "" if stage.results.model is None else stage.results.model.name


def _claim(
    gain: Gain, outcome: str, notes: Sequence[str], other: str = "", doubts: Sequence[str] = ()
) -> str:
    """Return the verdict in words, on one line, without paths of this machine.

    ``doubts`` say why nothing is claimed, where the interval leaves 0 out.
    """
    direct = "the same size trained directly" + (f" as {other}" if other else "")
    if not math.isfinite(gain.low):
        return (
            "no verdict: one test triple gives no interval, so nothing can be said of the "
            f"difference of {percent_text(gain.value)} % to {direct}"
        )
    lower = outcome == "direct" or gain.high < 0
    ends = sorted(-end if lower else end for end in (gain.low, gain.high))
    share = f"{percent_text(-gain.value if lower else gain.value)} % "
    share += f"[{percent_text(ends[0])}, {percent_text(ends[1])}]"
    text = {
        "better": f"the student is better by {share} than {direct}",
        "direct": f"train directly here{f', as {other}' if other else ''}: the student is worse by "
        f"{share} than the same size trained directly",
        "unclaimed": f"no {'loss' if lower else 'gain'} is claimed over {direct}: the student's "
        f"test MRR is {share} {'lower' if lower else 'higher'}, but {', and '.join(doubts)}",
        "alike": f"the student is not distinguishable from {direct}: {share}",
    }[outcome]
    notes = list(notes)
    if gain.seeds > 1:
        notes.append(f"over {gain.seeds} seeds and the test questions")
    if gain.questions < FEW_QUESTIONS:
        notes.append(f"only {gain.questions} test questions: the interval is wide")
    return f"{text} ({'; '.join(notes)})" if notes else text


def _short_of_time(controls: Sequence[ControlTime], time: VerdictTime) -> list[str]:
    """Return what must be said where the controls together had less time than the student."""
    spent = sum(each.seconds + each.searched_seconds for each in controls)
    took = time.chain_seconds or 0.0
    said = f"direct training had {spent:.0f} s, the student and its teachers {took:.0f} s"
    return [said] if spent < took else []


def _pairs(
    student: StageResults, control: StageResults, repeats: Sequence[StageResults]
) -> list[tuple[StageResults, StageResults]]:
    """Return student and control of each further seed that has both."""
    by_seed: dict[Optional[int], dict[Optional[str], StageResults]] = {}
    for stage in repeats:
        by_seed.setdefault(stage.seed, {})[stage.repeats] = stage
    names = student.name, control.name
    return [
        (found[names[0]], found[names[1]])
        for found in by_seed.values()
        if all(name in found for name in names)
    ]


def _time(
    directory: Path,
    student: StageResults,
    control: StageResults,
    stages: Sequence[StageResults],
    searched: Mapping[str, Tuned],
) -> VerdictTime:
    """Return how long both ways took to the control's final validation MRR.

    The student's seconds count its teachers and the searches of the chain, the control's those of
    its own search.
    """
    training = control.results.training
    goal = None if training is None else training.best_validation_mrr
    names = {stage.name for stage in stages}
    before = searched.get("chain", NOTHING).seconds
    before += chain_seconds(with_teachers(student, stages)) - student.seconds
    reached = seconds_to_reach(directory, student, goal)
    direct = seconds_to_reach(directory, control, goal)
    own = searched.get(control.name, NOTHING).seconds
    return VerdictTime(
        goal_valid_mrr=goal,
        student_seconds=None if reached is None else before + reached,
        control_seconds=None if direct is None else own + direct,
        teachers_loaded=any(name not in names for name in student.taught_by),
        chain_seconds=before + student.seconds,
        control_total_seconds=own + control.seconds,
    )


def seconds_to_reach(
    directory: Path, stage: StageResults, goal: Optional[float]
) -> Optional[float]:
    """Return the seconds of a training until a validation reached an MRR; None if none did.

    Preparation counts, and so do validations, each alike.

    Args:
        directory: of the chain.
        stage: one of its stages.
        goal: the MRR; None is never reached.
    """
    path, training = directory / stage.directory / run_files.HISTORY_FILE, stage.results.training
    if goal is None or training is None or not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    checked = [row for row in rows if row.get("validation_mrr")]
    try:
        for number, row in enumerate(checked, start=1):
            if float(row["validation_mrr"]) >= goal - 1e-9:
                share = number / len(checked)
                spent = float(row["seconds"]) + share * training.validation_seconds
                return spent + training.setup_seconds
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: is no table of epochs; restore the file") from None
    return None
