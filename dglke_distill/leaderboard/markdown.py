"""The submission sheet as Markdown, for people."""

from __future__ import annotations

from collections.abc import Sequence

from dglke_distill.base.shown import fenced, markdown_text, visible
from dglke_distill.leaderboard.sheet_parts import Form, SeedRow, Sheet, StageRow
from dglke_distill.report.numbers import NONE, bytes_text, duration, quality
from dglke_distill.report.tables import Table, TableRow

_EMPTY = "(missing)"


def markdown(sheet: Sheet) -> str:
    """Return a sheet as Markdown.

    Args:
        sheet: what ``build_sheet`` returns.
    """
    form = sheet.form
    parts = [
        f"# {markdown_text(form.method)} on {markdown_text(form.dataset)}\n",
        _list("Not ready to be submitted; still missing:", sheet.missing)
        or "Ready to be submitted.\n",
        _list("To be known:", sheet.notes),
        "## The form\n",
        _table(("field", "value"), _form(form), words=2),
        "## Figures\n",
        f"{sheet.metric} ({sheet.evaluator}); mean and unbiased standard deviation over the "
        "seeds. Relation popularity ignores the known entity: it scores a candidate by how often "
        "train has it on that side of the relation.\n",
        _figures(sheet),
        "## Seeds\n",
        _seeds(sheet.seeds),
        "## Parameters\n",
        _parameters(sheet),
        "## How to run it again\n",
        "\n".join(
            fenced(
                "\n".join(f"{command}  # {what}" for what, command in sheet.commands.items()),
                "bash",
            )
        )
        + "\n",
        "## Machine\n",
        _machine(sheet),
    ]
    return visible("\n".join(part for part in parts if part), keep="\n")


def _form(form: Form) -> list[tuple[str, str]]:
    contact = " ".join(
        text
        for text in (
            form.contact.name,
            f"({form.contact.email})" if form.contact.email else "",
        )
        if text
    )
    official = {None: "", True: "yes", False: "no"}[form.official]
    rows = [
        ("OGB version", form.ogb_version),
        ("Method", form.method),
        ("External data", "yes" if form.external_data else "no"),
        ("Dataset", form.dataset),
        ("Test performance (MRR)", form.test_performance.text),
        ("Validation performance (MRR)", form.validation_performance.text),
        ("Contact", contact),
        ("Code", form.code),
        ("Paper", form.paper),
        ("#Params", f"{form.parameters:,}"),
        ("Hardware", form.hardware),
        ("Official implementation", official),
        ("Tuned hyper-parameters", form.hyperparameters),
    ]
    return [(name, text or _EMPTY) for name, text in rows]


def _figures(sheet: Sheet) -> str:
    columns = ("mrr", "head mrr", "tail mrr", "hits@1", "hits@3", "hits@10")
    rows = []
    for split, figures in sheet.performance.items():
        rows.append((split, "model", *(figures[column].text for column in columns)))
        control = sheet.popularity_control[split]
        cells = (quality(control.get(column)) for column in columns)
        rows.append((split, "relation popularity", *cells))
    headings = ("split", "", "MRR", "head", "tail", "Hits@1", "Hits@3", "Hits@10")
    return _table(headings, rows, words=2)


def _seeds(seeds: Sequence[SeedRow]) -> str:
    rows = [
        (
            str(seed.seed),
            quality(seed.test["mrr"]),
            quality(seed.valid["mrr"]),
            duration(seed.seconds),
            bytes_text(seed.peak_memory_bytes),
            seed.date or "",
        )
        for seed in seeds
    ]
    headings = ("seed", "test MRR", "valid MRR", "training", "peak memory", "done")
    return _table(headings, rows, words=0)


def _parameters(sheet: Sheet) -> str:
    of = sheet.parameters
    rows = [
        (*_size(stage), NONE if stage.test_mrr is None else stage.test_mrr.text)
        for stage in (*of.stages, *sheet.controls)
    ]
    headings = ("stage", "role", "floats/entity", "parameters", "test MRR")
    return (
        f"{of.all_stages:,} over all stages, which is what the form asks for; "
        f"{of.deployed:,} in the model that is deployed.\n\n" + _table(headings, rows, words=2)
    )


def _size(stage: StageRow) -> tuple[str, str, str, str]:
    parameters = f"{stage.parameters:,}"
    if stage.extra_parameters:
        parameters += f" + {stage.extra_parameters:,}"
    return stage.name, stage.role, str(stage.floats_per_entity), parameters


def _machine(sheet: Sheet) -> str:
    lines = [f"- {sheet.form.hardware}"]
    lines.append(f"- peak memory of the process: {bytes_text(sheet.memory.peak_bytes)}")
    lines.append(f"- training of all seeds: {duration(sheet.seconds)}")
    for versions in sheet.versions:
        lines.append("- " + ", ".join(f"{name} {value}" for name, value in versions.items()))
    lines.append(f"- triples: sha256 {sheet.dataset.fingerprint}")
    return "\n".join(lines) + "\n"


def _list(heading: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"{heading}\n\n" + "".join(f"- {visible(item)}\n" for item in items)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    return Table(tuple(headings), tuple(TableRow(tuple(row)) for row in rows), words).markdown()
