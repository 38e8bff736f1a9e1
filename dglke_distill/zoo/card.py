"""The model card: what a published model is, for whoever finds it."""

from __future__ import annotations

from dglke_distill.zoo.schema import Entry
from dglke_distill.zoo.store import Store

__all__ = ["render_card"]


def render_card(entry: Entry, store: Store) -> str:
    """Return a model card as Markdown.

    Args:
        entry: what the registry says. store: the store it comes from.
    """
    source = "" if store.place == "shipped" else f', store="{store.place}"'
    shared = f", and {entry.shared_bytes:,} for all together" if entry.shared_bytes else ""
    count = entry.vocab
    lines = [
        f"# {entry.name}",
        "",
        f"{entry.model} of {count.entities.count:,} entities and {count.relations.count:,} "
        f"relations of {entry.dataset}: {entry.dim} floats per entity, stored as {entry.dtype}, "
        f"{entry.bytes_per_entity} bytes each{shared}. Version {entry.version}.",
        "",
        "```python",
        "from dglke_distill import zoo",
        "",
        f'model = zoo.load("{entry.pinned}"{source})',
        "```",
        "",
        *_measured(entry),
        "## Origin",
        "",
        f"- method: {entry.method or 'not stated'}",
        f"- teachers, the nearest first: {', '.join(entry.teacher) or 'none'}",
        f"- recipe: {entry.recipe or 'none'}; seed {entry.seed}",
        f"- code: {entry.commit or 'unknown revision'}"
        + (", with uncommitted changes" if entry.dirty else ""),
        f"- triples: sha256 {entry.dataset_fingerprint}",
        "",
        "## Size",
        "",
        f"{entry.params:,} parameters in all; {entry.total_bytes:,} bytes in these files:",
        "",
        "| file | bytes | sha256 |",
        "|---|---|---|",
        *(f"| {file.name} | {file.bytes:,} | {file.sha256} |" for file in entry.files),
        "",
        "## Licence",
        "",
        f"Of the dataset: {entry.licence or 'not stated'}",
        "",
    ]
    if entry.citation:
        lines += ["## Citation", "", "```bibtex", entry.citation.strip(), "```", ""]
    return "\n".join(lines)


def _measured(entry: Entry) -> list[str]:
    metrics = entry.metrics
    if metrics is None:
        return ["Its ranking figures were not recorded.", ""]
    figures = (metrics.mrr, metrics.hits_at_1, metrics.hits_at_3, metrics.hits_at_10)
    return [
        "## Measured",
        "",
        f"On the {metrics.split} split; {metrics.protocol}; {metrics.ties} ties.",
        "",
        "| MRR | Hits@1 | Hits@3 | Hits@10 |",
        "|---|---|---|---|",
        f"| {' | '.join(f'{figure:.4f}' for figure in figures)} |",
        "",
        f"`dglke-distill zoo verify {entry.pinned} --metrics` ranks it again.",
        "",
    ]
