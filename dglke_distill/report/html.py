"""The page that reports a run."""

from __future__ import annotations

from collections.abc import Sequence

from dglke_distill.artifacts.results import ChainResults
from dglke_distill.base.shown import capitalised
from dglke_distill.data.table_options import IN_MEMORY
from dglke_distill.report.numbers import bytes_text, duration, gain_text, percent, quality
from dglke_distill.report.page import (
    Drawing,
    KeyFigure,
    PageSection,
    dataset_text,
    figures,
    page,
    provenance,
    warnings_section,
)
from dglke_distill.report.plots import shown_anchors
from dglke_distill.report.run_results import RunResults, candidates_text, stage_labels
from dglke_distill.report.tables import run_table, verdict_table

_BY_FILE = "dglke-distill run --config chain.toml"
_IN_PYTHON = 'kd.distill(TABLE, recipe="none", config="chain.toml")'
"""Runs a chain again whose data were a table in memory."""


def run_page(run: RunResults, drawings: Sequence[Drawing]) -> str:
    """Return the page.

    Args:
        run: what to report.
        drawings: its figures.
    """
    chain, shown = run.chain, [stage.sizes for stage in run.stages if stage.in_chain]
    models = list(dict.fromkeys(sizes.name for sizes in shown))
    floats = " → ".join(str(sizes.floats_per_entity) for sizes in shown)
    title = f"{' and '.join(models)} on {chain.dataset.name}, distilled"
    subtitle = f"{chain.method} · {floats} floats per entity · seed {chain.seed}"
    among = candidates_text(chain.dataset)
    caption = f"Filtered ranking of {among} on the {run.split} split, realistic ties."
    if run.chain.repeats:
        caption += f" Figures are those of seed {run.chain.seed}, gains over all seeds."
    if run.students:
        caption += " Highlighted: the student with the highest MRR."
    more = {
        "Dataset": dataset_text(chain.dataset),
        "Method": chain.method,
        "Seed": str(chain.seed),
    }
    sections = [
        *warnings_section(chain.data_warnings),
        *_verdict(run),
        PageSection("Summary", cards=_key_figures(run)),
        PageSection("Stages", table=run_table(run), caption=caption),
        *figures(drawings, run.stages),
        *_references(run),
        PageSection("Settings", block=run.settings),
        provenance(chain.provenance.to_tree(), more),
        PageSection(
            "Reproduce",
            block=_command(chain),
            text="With the settings above as chain.toml, if the run's own is no longer there. The "
            "same figures take the same versions and the same hardware:",
        ),
    ]
    return page(title, subtitle, sections, run.stages)


def _key_figures(run: RunResults) -> list[KeyFigure]:
    labels = stage_labels(run.stages)
    teacher = run.teacher
    last = run.students[-1] if run.students else run.stages[0]
    found = [
        KeyFigure(f"{run.split.capitalize()} MRR", quality(last.quality.mrr), labels[last.name])
    ]
    share = run.share_of_teacher(last)
    if teacher is not last and share is not None:
        among = (
            f"at {teacher.sizes.floats_per_entity} floats" if teacher is not None else "as loaded"
        )
        note = f"{quality(run.teacher_mrr)} {among}"
        found.append(KeyFigure("Share of teacher", percent(share), note))
    verdict = run.verdicts.get(last.name)
    if verdict is not None and verdict.low is not None and verdict.control in labels:
        text = gain_text(verdict.gain, verdict.low, verdict.high)
        found.append(KeyFigure("Over direct, 95 %", text, f"than {labels[verdict.control]}"))
    smaller, size = "", last.sizes.bytes_per_entity
    if teacher is not None and teacher is not last:
        smaller = f"{teacher.sizes.bytes_per_entity / size:.3g} times smaller"
    found.append(KeyFigure("Size per entity", bytes_text(size), smaller))
    note = "with all teachers" if last.entry.role == "student" else ""
    found.append(KeyFigure("Time", duration(run.chain_seconds), note))
    return found


def _verdict(run: RunResults) -> list[PageSection]:
    if not run.verdicts:
        return []
    last = list(run.verdicts.values())[-1]
    caption = (
        "The student against the model of its size, trained directly, that validation prefers; "
        "intervals by a paired bootstrap over the test questions. Seconds are those to the direct "
        "model's final validation MRR: the student's with its teachers, both with their searches."
    )
    if any(each.time is not None and each.time.teachers_loaded for each in run.verdicts.values()):
        caption += " Teachers that were loaded are not counted: their time is not known."
    sentence = f"{capitalised(last.sentence)}."
    return [PageSection("Verdict", text=sentence, table=verdict_table(run), caption=caption)]


def _references(run: RunResults) -> list[PageSection]:
    items = [
        f"{a.name}, {a.floats_per_entity} floats, MRR {a.mrr:g}: {a.citation} ({a.source})"
        for a in shown_anchors(run)
    ]
    return [PageSection("Published figures", items=items, items_kind="references")] if items else []


def _command(chain: ChainResults) -> str:
    older = chain.provenance.to_tree().get("command")  # where older versions wrote it
    if isinstance(older, str):
        return older
    return chain.command or (_IN_PYTHON if chain.dataset.format == IN_MEMORY else _BY_FILE)
