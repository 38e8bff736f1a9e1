"""``dglke-distill data check``."""

from typing import Annotated, Any, Optional

import typer
from rich.table import Table

from dglke_distill.base.console import SafeConsole
from dglke_distill.base.shown import plural
from dglke_distill.cli.output import figures_table
from dglke_distill.cli.say import say, say_json

ThresholdFlag = Annotated[
    float,
    typer.Option(
        "--threshold",
        help="Share from which on two relations count as the same, or one as a product; above 0, "
        "at most 1.",
    ),
]
TopFlag = Annotated[
    int,
    typer.Option("--top", min=0, help="How many relations to list; --json has them all."),
]
FailOnFlag = Annotated[
    Optional[list[str]],
    typer.Option(
        "--fail-on",
        metavar="KIND[=SHARE]",
        help="End with exit code 1 if more than this share (none if not given) of valid or test is "
        "of a kind: copy, reverse, inverse, duplicate, implied, leak (any of them), linked, "
        "product, unseen, repeated; may be repeated for several. If not given: findings are no "
        "failure.",
    ),
]

_MEANS = {
    "copy": "(h, r, t) itself",
    "reverse": "(t, r, h)",
    "inverse": "(t, s, h), s inverse of r",
    "duplicate": "(h, s, t), s like r",
    "implied": "a fact that implies it",
    "any": "any of these",
}
_KIND = {"implied": "implies", "implied inverse": "implies inverse"}


def show_check(check: Any, *, as_json: bool, top: int, fail_on: Optional[list[str]]) -> None:
    """Print what a check found, and end with exit code 1 if a gate minds it.

    Args:
        check: a ``DataCheck``.
        as_json: whether to print JSON.
        top: how many relations to list at most, of each kind of list.
        fail_on: see ``DataCheck.failed``.
    """
    if as_json:
        say_json(check.to_dict())
    else:
        _show(check, top)
    failed = check.failed(fail_on or ())
    for line in failed:
        say(f"failed: {line}", err=True)
    if failed:
        raise typer.Exit(1)


def _show(check: Any, top: int) -> None:
    console = SafeConsole()
    facts = check.facts
    say(
        f"{check.dataset}: {plural(check.entities, 'entity')}, "
        f"{plural(check.relations, 'relation')}; "
        f"{facts['train']:,} train, {facts['valid']:,} valid, {facts['test']:,} test triples"
    )
    for warning in check.warnings:
        say(f"warning: {warning}")
    console.print(_held_table(check))
    if check.links and top:
        console.print(_link_table(check, top))
    if check.products and top:
        console.print(_product_table(check, top))
    for line in _lines(check):
        say(line)


def _held_table(check: Any) -> Table:
    table = figures_table(
        "Held-out (h, r, t), by what train has of it; MRR of a rule from that alone",
        ("kind", "train has"),
        ("valid", "", "MRR", "test", "", "MRR"),
    )

    def add(kind: str, means: str, *parts: Any) -> None:
        cells = []
        for held in parts:
            cells += [f"{held.facts:,}", f"{held.share:.1%}"]
            cells.append("-" if held.mrr is None else f"{held.mrr:.4f}")
        table.add_row(kind, means, *cells)

    for leak in check.leaks:
        kind = "leak" if leak.kind == "any" else leak.kind
        add(kind, _MEANS[leak.kind], leak.valid, leak.test)
    add("linked", "any fact of h and t", check.linked["valid"], check.linked["test"])
    add("product", "h and t of a product", check.product["valid"], check.product["test"])
    return table


def _link_table(check: Any, top: int) -> Table:
    shown = check.links[:top]
    count = f"{len(shown)} of {len(check.links)}"
    table = figures_table(
        f"Relations that tell each other's facts (share {check.threshold:g} or more): {count}",
        ("kind", "relation", "other"),
        ("shared", "share", "of other", "valid", "test"),
    )
    for link in shown:
        other = "" if link.kind == "symmetric" else link.other
        shares = [f"{link.share:.3f}", f"{link.other_share:.3f}"]
        counts = [f"{n:,}" for n in (link.valid, link.test)]
        kind = _KIND.get(link.kind, link.kind)
        table.add_row(kind, link.relation, other, f"{link.shared:,}", *shares, *counts)
    return table


def _product_table(check: Any, top: int) -> Table:
    shown = check.products[:top]
    count = f"{len(shown)} of {len(check.products)}"
    table = figures_table(
        f"Relations of all heads with all tails (share {check.threshold:g} or more): {count}",
        ("relation",),
        ("heads", "tails", "facts", "share"),
    )
    for one in shown:
        counts = [f"{n:,}" for n in (one.heads, one.tails, one.facts)]
        table.add_row(one.relation, *counts, f"{one.share:.3f}")
    return table


def _lines(check: Any) -> list[str]:
    lines = []
    for name, of in check.unseen.items():
        lines.append(
            f"unseen in train: {plural(of.entities, 'entity')} and "
            f"{plural(of.relations, 'relation')} of {name}, in {plural(of.facts, 'fact')} "
            f"({of.share:.1%}), whose ranks stay near chance"
        )
    of = check.repeated
    lines.append(
        f"repeated: {plural(of.train, 'line')} in train, {of.valid:,} in valid, {of.test:,} in "
        f"test; {plural(of.test_in_valid, 'fact')} of test also in valid"
    )
    of = check.skew
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in of.categories.items())
    lines.append(f"relations: {kinds}; {of.small_relations:,} with fewer than ten train facts")
    lines.append(
        f"skew: {of.relations_of_half:,} of {check.relations:,} relations have half of train, "
        f"{of.largest_relation} {of.largest_relation_share:.1%}"
    )
    lines.append(
        f"skew: 1% of the entities have {of.top_share:.1%} of all places; degree median "
        f"{of.median_degree:g}, mean {of.mean_degree:.1f}, most {of.largest_degree:,} "
        f"({of.largest_entity}); {plural(of.unused_entities, 'entity')} without a train fact"
    )
    scores = (
        f"{name} {'-' if mrr is None else format(mrr, '.4f')}"
        for name, mrr in (("valid", of.valid_mrr), ("test", of.test_mrr))
    )
    lines.append(f"skew: MRR of answering with what is most frequent: {', '.join(scores)}")
    return lines
