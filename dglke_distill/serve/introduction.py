"""How a model is introduced on the page: in sentences, and by questions to begin with."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from dglke_distill.base.errors import UserError
from dglke_distill.base.shown import plural
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.labels import Labels
from dglke_distill.data.sources import credits
from dglke_distill.models import canonical_name
from dglke_distill.predict import NamedModel
from dglke_distill.serve.facts import prominence, relation_counts

MOST_EXAMPLES = 6
_LOOKED_AT = 200
"""Entities, the most prominent ones, among which examples are looked for."""
_FEW = 3
"""Known answers that can be looked over."""


def sentences(named: NamedModel) -> list[str]:
    """Return what a model is and how good, in sentences for people.

    Args:
        named: the model.
    """
    results, model = named.loaded.figures, named.model
    dataset = named.loaded.dataset_name
    kind = canonical_name(named.config.model.name)
    said = [
        f"{kind} model of {dataset}: {plural(len(named.entities), 'entity')} of "
        f"{model.bytes_per_entity:,} bytes each ({model.floats_per_entity} floats), and "
        f"{plural(len(named.relations), 'relation')}."
    ]
    figures = None if results.ranked is None else results.metrics[results.ranked]
    if figures is None:
        said.append("How good it is has not been measured.")
    else:
        said.append(
            f"Of {plural(figures.count, 'question')} of the {results.ranked} split it answers "
            f"{figures.hits_at_1:.0%} right at the first place, and {figures.hits_at_10:.0%} "
            f"within the first ten (MRR {figures.mrr:.4f})."
        )
    if results.distillation is not None and results.distillation.teachers:
        method = results.distillation.method
        said.append(f"It learnt from a larger model (method {method}).")
    try:
        licence, _ = credits(dataset)
    except UserError:
        licence = ""
    if licence:
        said.append(f"Licence of the facts: {licence}.")
    return said


def examples(
    named: NamedModel, facts: Optional[KnownAnswers], labels: Labels
) -> list[dict[str, Any]]:
    """Return questions that are worth asking: prominent entities, each with another relation.

    A relation with few known answers is preferred, since they can be looked over; among those, the
    one with most facts, of which a model has learnt most.

    Args:
        named: the model.
        facts: all facts of its dataset; without them no question is known to make sense.
        labels: of the entities.
    """
    if facts is None:
        return []
    weight = prominence(facts)
    frequent = np.bincount(facts.packed["tail"] >> 32, minlength=len(named.relations))
    found: list[tuple[int, dict[str, Any]]] = []
    taken: set[int] = set()
    for entity in np.argsort(-weight, kind="stable")[:_LOOKED_AT].tolist():
        counts = relation_counts(facts, entity, "tail", len(named.relations))
        asked = [r for r in np.flatnonzero(counts).tolist() if r not in taken]
        if not asked:
            continue
        relation = min(asked, key=lambda r: (int(counts[r]) > _FEW, -int(frequent[r]), r))
        taken.add(relation)
        name = named.entities[entity]
        question = {
            "entity": name,
            "label": labels.labels.get(name),
            "relation": named.relations[relation],
            "side": "tail",
        }
        found.append((int(frequent[relation]), question))
        if len(found) == MOST_EXAMPLES:
            break
    return [question for _, question in sorted(found, key=lambda each: -each[0])]
