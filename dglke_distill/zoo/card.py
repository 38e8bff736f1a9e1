"""The model card: what a published model is, for whoever finds it."""

from __future__ import annotations

import json
import shlex

from dglke_distill.base.shown import fenced, markdown_text, plural, visible
from dglke_distill.data.sources import is_named
from dglke_distill.zoo.schema import Entry, TimeToQuality
from dglke_distill.zoo.store import LocalStore, Store


def render_card(entry: Entry, store: Store, *, published: bool = False, address: str = "") -> str:
    """Return a model card as Markdown.

    Args:
        entry: what the registry says.
        store: the store it comes from.
        published: whether the card is for others: what it says to run is then run in the store's
            folder, and a folder of this machine is not named.
        address: the model's own address, if it is loaded by that and not from the store.
    """
    inside = store.place != "shipped" and published
    inside = inside and (isinstance(store, LocalStore) or store.place.startswith("file:"))
    place = "." if inside else store.place
    source = "" if store.place == "shipped" else f", store={_quoted(place)}"
    shared = "; all entities together share" if entry.shared_bytes else ""
    shared += f" {entry.shared_bytes:,} bytes more" if entry.shared_bytes else ""
    count, weights = entry.vocab, entry.file("model.safetensors")
    lines = [
        f"# {_plain(entry.name)}",
        "",
        f"{_plain(entry.model)}{_options(entry)} of {plural(count.entities.count, 'entity')} and "
        f"{plural(count.relations.count, 'relation')} of {_plain(entry.dataset)}: {entry.dim} "
        f"floats per entity, stored as "
        f"{_plain(entry.dtype)}, {entry.bytes_per_entity} bytes each{shared}. "
        f"In all {entry.params:,} parameters, those of relations and what they share counted, "
        f"in {weights.bytes:,} bytes of weights. Version {entry.version}.",
        "",
        *(["In the folder of this store, where zoo.toml lies:", ""] if inside else []),
        *fenced(
            "from dglke_distill import zoo\n\n"
            f"model = zoo.load({_quoted(address or entry.pinned)}{source})",
            "python",
        ),
        "",
        *(f"**Warning: {line}**\n" for line in entry.warnings or ()),
        *_measured(entry, _ranking(entry, address, "" if store.place == "shipped" else place)),
        "## Origin",
        "",
        f"- method: {_plain(entry.method or 'not stated')}",
        f"- teachers, the nearest first: {_plain(', '.join(entry.teacher) or 'none')}",
        f"- recipe: {_plain(entry.recipe or 'none')}; seed {entry.seed}",
        f"- code: {_plain(entry.commit or 'unknown revision')}"
        + (", with uncommitted changes" if entry.dirty else ""),
        f"- triples: sha256 {_plain(entry.dataset_fingerprint)}",
        "",
        "## Size",
        "",
        f"{entry.params:,} parameters in all; {entry.total_bytes:,} bytes in these files:",
        "",
        "| file | bytes | sha256 |",
        "|---|---|---|",
        *(
            f"| {_plain(file.name)} | {file.bytes:,} | {_plain(file.sha256)} |"
            for file in entry.files
        ),
        "",
        "## Licence",
        "",
        f"Of the dataset: {_plain(entry.licence or 'not stated')}",
        "",
    ]
    if entry.citation:
        lines += ["## Citation", "", *fenced(entry.citation.strip(), "bibtex"), ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a registry's text on one line, that begins no link, tag or cell."""
    return markdown_text(text, emphasis="")


def _options(entry: Entry) -> str:
    """Return what sets the model apart from others of its name, in brackets."""
    said = [f"{name}={value}" for name, value in (entry.options or {}).items()]
    return f" ({_plain(', '.join(said))})" if said else ""


def _quoted(text: str) -> str:
    """Return a text as Python writes it, in double quotes where it can be."""
    quoted = json.dumps(text, ensure_ascii=False)
    return visible(quoted) if "\\" not in text else repr(text)


def _ranking(entry: Entry, address: str, place: str) -> list[str]:
    """Return the lines on how the figures are found again.

    Args:
        entry: what the registry says.
        address: see ``render_card``.
        place: of the store, as a command names it; empty where it is searched anyway.
    """
    words = ["zoo", "verify", entry.pinned, "--metrics"]
    if address and entry.metrics is not None:
        words = ["evaluate", address, "--split", entry.metrics.split]
    words += ["--store", place] if place else []
    words += [] if is_named(entry.dataset) else ["--dataset", "DATA"]
    data = f", with the folder or file of {entry.dataset} as DATA" if "DATA" in words else ""
    command = shlex.join(["dglke-distill", *words])
    return [_plain(f"This command ranks it again{data}:"), "", *fenced(command, "bash"), ""]


def _measured(entry: Entry, ranking: list[str]) -> list[str]:
    metrics = entry.metrics
    if metrics is None:
        return ["Its ranking figures were not recorded.", ""]
    figures = (metrics.mrr, metrics.hits_at_1, metrics.hits_at_3, metrics.hits_at_10)
    return [
        "## Measured",
        "",
        _plain(f"On the {metrics.split} split; {metrics.protocol}; {metrics.ties} ties."),
        "",
        "| MRR | Hits@1 | Hits@3 | Hits@10 |",
        "|---|---|---|---|",
        f"| {' | '.join(f'{figure:.4f}' for figure in figures)} |",
        "",
        *([_plain(f"Verdict: {entry.verdict}."), ""] if entry.verdict else []),
        *([_time(entry.time), ""] if entry.time else []),
        *ranking,
    ]


def _time(time: TimeToQuality) -> str:
    """Return the sentence on the seconds to the quality of direct training."""
    student, direct = (
        "not reached" if seconds is None else f"reached after {seconds:,.1f} s"
        for seconds in (time.student_seconds, time.direct_seconds)
    )
    counted = "teachers that were loaded are not counted" if time.teachers_loaded else ""
    counted = counted or "its teachers are counted"
    return (
        f"The final validation MRR of direct training, {time.goal_valid_mrr:.4f}, was "
        f"{student} by this model ({counted}), and {direct} directly; searches for settings are "
        "counted on both sides."
    )
