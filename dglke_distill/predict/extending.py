"""New entities and facts in a trained model without training it again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.compression import CompressedModel
from dglke_distill.config import Config
from dglke_distill.data.text import strip_blanks
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.models.base import KGEModel
from dglke_distill.models.coded import build_configured
from dglke_distill.models.fold_in import RIDGE, Facts, fold_in
from dglke_distill.predict.names import triples_of

NamedFact = tuple[str, str, str]
_MOST_ADDED = 1_000_000


def extended(
    loaded: LoadedModel,
    facts: list[NamedFact],
    trained: Optional[Triples],
    *,
    refresh: bool = False,
    seed: int = 0,
    ridge: float = RIDGE,
) -> LoadedModel:
    """Return a model that knows more entities; all that it knew stays as it was, bit for bit.

    Args:
        loaded: the model, which is not changed.
        facts: names of head, relation and tail; entities may be new, relations not.
        trained: the facts that it was trained on; None where they are not at hand.
        refresh: whether the entities that there are and that the facts touch move too.
        seed: of the questions that are drawn.
        ridge: how near new entities stay to the mean one; see ``models.fold_in.RIDGE``.

    Raises:
        UserError: an unknown relation, nothing new, new entities that no fact links to known ones,
            or a model whose entities have no vectors of their own.
    """
    begun = time.perf_counter()
    entities, added = _names(loaded, facts)
    _check_anchored(loaded, facts, added)
    count = len(loaded.entities)
    given = triples_of(entities, loaded.relations, facts).to_array().astype(np.int64)
    given = np.unique(given, axis=0)
    moving = np.arange(count, count + len(added))
    touched = np.unique(given[:, [0, 2]])
    touched = touched[touched < count]
    if refresh:
        if trained is None:
            raise UserError(
                "--refresh: the facts that the model was trained on are needed, so that entities "
                "keep to them; name its dataset by --dataset"
            )
        moving = np.union1d(touched, moving)
    elif not added:
        raise UserError(
            "the facts name no entity that the model does not know; add --refresh to move those "
            "that they touch"
        )
    _check_kind(loaded.model)
    pool = _columns(np.zeros((0, 3), np.int64) if trained is None else trained.to_array())
    used = given
    if refresh and trained is not None:
        rows = trained.to_array().astype(np.int64)
        own = np.isin(rows[:, 0], touched) | np.isin(rows[:, 2], touched)
        used = np.unique(np.concatenate([given, rows[own]]), axis=0)
    plain = loaded.model.to("cpu")
    vectors = fold_in(plain, _columns(used), torch.from_numpy(moving), pool, seed=seed, ridge=ridge)
    model = _with_rows(loaded, plain, torch.from_numpy(moving), vectors, len(added))
    about: dict[str, Any] = {
        "dataset": loaded.dataset_name,
        "fingerprint": loaded.identity.fingerprint,
        "facts": len(given),
        "entities": len(added),
        "refreshed": len(touched) if refresh else 0,
        "seconds": time.perf_counter() - begun,
        "metrics": loaded.results.get("metrics", {}),
    }
    results = {**loaded.results, "metrics": {}, "extended_from": about}
    if "extended_from" in loaded.results:
        about["extended_from"] = loaded.results["extended_from"]
    if isinstance(results.get("model"), dict):
        results["model"] = {
            **results["model"],
            "parameters": int(results["model"].get("parameters", 0))
            + len(added) * loaded.model.floats_per_entity,
        }
    if isinstance(results.get("dataset"), dict):  # its triples are others now: no fingerprint
        stated = {key: of for key, of in results["dataset"].items() if key != "fingerprint"}
        results["dataset"] = {**stated, "entities": len(entities)}
    # Scores of what was known before are the same, unless it moved.
    calibration = None if refresh else loaded.calibration
    return replace(
        loaded,
        model=model.eval(),
        entities=entities,
        results=results,
        known_file=None,
        calibration=calibration,
    )


def grown_data(made: LoadedModel, splits: Sequence[Triples], given: Triples) -> Dataset:
    """Return the data of an extended model: the given facts belong to the train split now.

    Args:
        made: the extended model.
        splits: train, valid and test facts by the ids of the model before, as far as known.
        given: the facts given, by the ids of the model now.
    """
    none = Triples.from_array(np.zeros((0, 3), np.int64))
    train, valid, test = [*splits, none, none, none][:3]
    have = {tuple(row) for row in train.to_array().tolist()}
    new = [row for row in np.unique(given.to_array(), axis=0).tolist() if tuple(row) not in have]
    whole = np.concatenate([train.to_array(), np.array(new, np.int64).reshape(-1, 3)])
    return Dataset(
        made.dataset_name, made.entities, made.relations, Triples.from_array(whole), valid, test
    )


def describe(data: Dataset, place: Optional[Path] = None) -> dict[str, Any]:
    """Return what results say of grown data.

    Args:
        data: see ``grown_data``.
        place: where they were written; None: nowhere.
    """
    found: dict[str, Any] = {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "entities": data.num_entities,
        "relations": data.num_relations,
        "triples": {split: len(data.split(split)) for split in ("train", "valid", "test")},
    }
    return found if place is None else {**found, "path": str(place)}


def _check_anchored(loaded: LoadedModel, facts: list[NamedFact], added: Sequence[str]) -> None:
    """Refuse new entities that no chain of facts leads to what the model knows."""
    beside: dict[str, list[str]] = {name: [] for name in added}
    for head, _, tail in facts:
        for one, other in ((head, tail), (tail, head)):
            if one in beside:
                beside[one].append(other)
    reached = [name for name, others in beside.items() if any(o not in beside for o in others)]
    seen = set(reached)
    while reached:
        for other in beside[reached.pop()]:
            if other in beside and other not in seen:
                seen.add(other)
                reached.append(other)
    lost = [name for name in added if name not in seen]
    if lost:
        more = f" and {len(lost) - 3:,} more" if len(lost) > 3 else ""
        raise UserError(
            f"{', '.join(repr(name)[:100] for name in lost[:3])}{more}: no fact links "
            f"{'it' if len(lost) == 1 else 'them'} to an entity that the model knows, so nothing "
            "says where to place new ones; add such a fact"
        )


def _names(loaded: LoadedModel, facts: list[NamedFact]) -> tuple[Vocabulary, list[str]]:
    """Return all entities and the new ones, after a look at each fact."""
    new: dict[str, None] = {}
    for number, fact in enumerate(facts, 1):
        if len(fact) != 3 or not all(isinstance(name, str) and name for name in fact):
            raise UserError(f"fact {number}, {fact!r:.100}: give head, relation and tail as text")
        head, relation, tail = fact
        if relation not in loaded.relations:
            try:
                loaded.relations.id(relation)
            except UserError as error:
                raise UserError(
                    f"fact {number}, {' '.join(fact)!r:.200}: {error}; only entities can be new, "
                    "so train anew for it"
                ) from None
        for name in (head, tail):
            if name not in loaded.entities:
                if "\n" in name or "\t" in name:
                    raise UserError(f"fact {number}: a name has a tab or line break: {name!r:.100}")
                if not strip_blanks(name):
                    raise UserError(f"fact {number}: the name {name!r} is empty but for blanks")
                new[name] = None
    if len(new) > _MOST_ADDED:
        raise UserError(f"{len(new):,} new entities are too many; train anew, with train --init")
    return Vocabulary([*loaded.entities, *new]), list(new)


def _columns(rows: NDArray[Any]) -> Facts:
    return Facts(*(torch.from_numpy(rows[:, i].astype(np.int64)) for i in range(3)))


def _check_kind(model: KGEModel) -> None:
    """Refuse models whose entities cannot be added one by one."""
    if isinstance(model, CompressedModel):
        table = model.encoder.table
        if table.shared_bytes or any(len(t) != len(table) for t in table.state_dict().values()):
            raise UserError(
                f"a model stored as {model.storage.entities.kind} shares codes among its entities; "
                "turn it back by `dglke-distill compress MODEL --to float32 --out DIR` and extend "
                "that"
            )
    elif not getattr(model.encoder, "is_table", False):
        raise UserError(
            "this model's encoder makes the vectors of entities from the train graph; train anew "
            "on the grown data"
        )


def _with_rows(
    loaded: LoadedModel, model: KGEModel, moving: Tensor, vectors: Tensor, added: int
) -> KGEModel:
    """Return a model with rows replaced and appended; the other rows keep their bits."""
    count = model.num_entities
    config: Config = loaded.config
    total, relations = count + added, len(loaded.relations)
    if isinstance(model, CompressedModel):
        table = type(model.encoder.table)(
            len(moving), model.score_function.dim, model.encoder.table.options
        )
        with torch.no_grad():
            table.fit(model.score_function.entity_view(vectors))
        made: KGEModel = CompressedModel.build(config.model, model.storage, total, relations)
        rows = {f"encoder.table.{key}": of for key, of in table.state_dict().items()}
    else:
        made = build_configured(config, total, relations)
        rows = {"encoder.weight": vectors}
    state = dict(model.state_dict())
    for key, new in rows.items():
        old = state[key]
        grown = torch.cat([old, old.new_zeros((added, *old.shape[1:]))])
        grown[moving] = new.to(old.dtype)
        state[key] = grown
    for key, old in made.state_dict().items():
        if state[key].shape != old.shape:  # biases: new entities have the mean one
            mean = state[key].float().mean(0, keepdim=True).expand(added, -1)
            state[key] = torch.cat([state[key], mean.to(state[key].dtype)])
    made.load_state_dict(state)
    return made
