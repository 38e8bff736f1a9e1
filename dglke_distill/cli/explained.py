"""An explanation of an answer, as text."""

from __future__ import annotations

from typing import Any

from dglke_distill.base.console import SafeConsole
from dglke_distill.cli.output import figures_table
from dglke_distill.cli.say import say
from dglke_distill.data.labels import Labels


def show_explanation(why: Any, labels: Labels, vectors: bool = True) -> None:
    """Print what supports a triple, entities by their labels where they have one.

    Args:
        why: a ``predict.support.Explanation``.
        labels: of the entities.
        vectors: whether the model has vectors of entities, by which facts are analogous.
    """

    def told(fact: Any) -> str:
        return f"({labels.shown(fact.head)}, {fact.relation}, {labels.shown(fact.tail)})"

    if why.facts or why.paths:
        say(f"train facts that support {told(why)}:")
    else:
        say(f"no train fact supports {told(why)}")
    for warning in why.warnings:
        say(f"warning: {warning}")
    if why.in_train:
        say("it is a train fact itself, which is not counted")
    if why.facts:
        table = figures_table("Analogous facts", ("fact",), ("cosine", "of heads", "of tails"))
        for one in why.facts:
            cosines = (one.similarity, one.head_similarity, one.tail_similarity)
            table.add_row(told(one.fact), *(f"{cosine:.3f}" for cosine in cosines))
        SafeConsole().print(table)
    elif vectors:
        say(f"no analogous fact: train has no other of {why.relation}")
    else:
        say("no analogous facts: the model scores by paths, with no vectors of entities to compare")
    if why.paths:
        table = figures_table("Paths", ("path",), ("confidence", "pairs", "paths"))
        for path in why.paths:
            about = "about " if path.sampled else ""
            pairs = f"{path.hits:,} of {path.pairs:,}"
            table.add_row(
                " ".join(told(fact) for fact in path.facts),
                f"{about}{path.confidence:.3f}",
                pairs,
                f"{path.count:,}",
            )
        SafeConsole().print(table)
    else:
        say("no path of up to three facts from head to tail whose kind tells of the relation")
    for note in why.kinds.notes(len(why.paths)):
        say(f"note: {note}")
    if not why.whole:
        say("note: some edges of hubs were left out")
