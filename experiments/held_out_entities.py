"""New entities folded into a trained model, against training anew with their facts.

    python experiments/held_out_entities.py cldr --model complex --dim 32
    python experiments/held_out_entities.py fb15k237 --data-root DIR --model complex --dim 32

Some entities with enough facts are held out, with all their facts. A model is trained without
them; of each entity's facts four fifths are given to ``extend``, and the rest are asked for, both
sides, among all entities, other known answers filtered. The same questions are asked of a model
trained anew with the given facts too. Facts between two held-out entities are left out. With
``--refresh``, entities are also folded in as ``extend --refresh`` does, known neighbours moving.

The CSV has a row per method: MRR of the asked facts of held-out entities (``asked_mrr``), MRR of
the test facts of the other entities (``others_mrr``, among the same candidates), and seconds:
of folding in, or of training.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import dglke_distill as kd
from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base import runtime
from dglke_distill.base.files import atomic_write_text
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.triples import Dataset, Triples
from dglke_distill.data.writers import write_dataset
from dglke_distill.evaluate import evaluate
from dglke_distill.kernels import set_num_threads
from dglke_distill.models.fold_in import RIDGE
from dglke_distill.predict.extending import extended

RESULTS = Path(__file__).parent / "results" / "held_out_entities.csv"


def held_out(dataset: Dataset, share: float, least: int, seed: int) -> np.ndarray:
    """Return which entities are held out, (entities,) bool: some with facts enough."""
    degree = np.bincount(
        np.concatenate([dataset.train.head, dataset.train.tail]), minlength=dataset.num_entities
    )
    able = np.flatnonzero(degree >= least)
    number = max(1, round(share * dataset.num_entities))
    chosen = np.random.default_rng(seed).choice(able, min(number, len(able)), replace=False)
    found = np.zeros(dataset.num_entities, np.bool_)
    found[chosen] = True
    return found


def parts(dataset: Dataset, held: np.ndarray, seed: int) -> tuple[Triples, Triples, Triples]:
    """Return train facts without held-out entities, facts given of them, and facts asked."""
    train = dataset.train
    touches = held[train.head].astype(int) + held[train.tail]
    rest, own = train[touches == 0], train[touches == 1]
    entity = np.where(held[own.head], own.head, own.tail)
    draw = np.random.default_rng(seed + 1).permutation(len(own))
    asked = np.zeros(len(own), np.bool_)
    for one in np.unique(entity):
        rows = draw[entity[draw] == one]
        asked[rows[: max(1, len(rows) // 5)]] = True
    seen = np.zeros(dataset.num_entities, np.bool_)
    seen[rest.head] = seen[rest.tail] = True
    seen |= held
    relations = np.zeros(dataset.num_relations, np.bool_)
    relations[rest.relation] = True
    known = seen[own.head] & seen[own.tail] & relations[own.relation]
    return rest, own[~asked & known], own[asked & known]


def named(dataset: Dataset, triples: Triples) -> list[tuple[str, str, str]]:
    """Return triples by names."""
    entities, relations = dataset.entities, dataset.relations
    rows = triples.to_array().tolist()
    return [(entities[h], relations[r], entities[t]) for h, r, t in rows]


def mrr(loaded: LoadedModel, dataset: Dataset, asked: Triples, known: list[Triples]) -> float:
    """Return the MRR of facts, by the ids that a model has for their names."""
    entity = np.array([loaded.entities.id(name) if name in loaded.entities else -1
                       for name in dataset.entities])  # fmt: skip
    relation = np.array([loaded.relations.id(name) if name in loaded.relations else -1
                         for name in dataset.relations])  # fmt: skip

    def ids(part: Triples) -> Triples:
        rows = np.stack([entity[part.head], relation[part.relation], entity[part.tail]], axis=1)
        return Triples.from_array(rows[(rows >= 0).all(1)])

    index = KnownAnswers.build([ids(part) for part in known], len(loaded.entities))
    return evaluate(loaded.model, ids(asked), index).mrr


def trained(dataset: Dataset, train: Triples, arguments: Any, place: Path) -> tuple[Any, float]:
    """Train on some facts; return the model and the seconds of training alone."""
    kept = replace(dataset, train=train)
    seen = np.zeros(dataset.num_entities, np.bool_)
    relations = np.zeros(dataset.num_relations, np.bool_)
    seen[train.head] = seen[train.tail] = True
    relations[train.relation] = True

    def of(part: Triples) -> Triples:
        return part[seen[part.head] & seen[part.tail] & relations[part.relation]]

    kept = replace(kept, valid=of(dataset.valid), test=of(dataset.test), name=dataset.name)
    folder = place / "data" / dataset.name
    folder.parent.mkdir(parents=True)
    write_dataset(kept, folder)
    run = kd.train(
        folder, model=arguments.model, dim=arguments.dim, recipe=arguments.recipe or "auto",
        search="none", epochs=arguments.epochs, threads=arguments.threads, out=place / "run",
        settings={"evaluation.split": "none"},
    )  # fmt: skip
    return run.model.loaded, run.results.training.seconds


def main() -> None:
    """Hold entities out, fold them in, train anew, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="cldr")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--model", default="complex")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--recipe", help="shipped recipe; by default the best fit")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--share", type=float, default=0.05, help="of all entities")
    parser.add_argument("--least", type=int, default=6, help="facts of a held-out entity")
    parser.add_argument("--ridge", type=float, nargs="+", default=[RIDGE])
    parser.add_argument("--refresh", action="store_true", help="also with neighbours that move")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=runtime.available_cores())
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    dataset = kd.load_dataset(arguments.dataset, data_root=arguments.data_root)
    held = held_out(dataset, arguments.share, arguments.least, arguments.seed)
    rest, given, asked = parts(dataset, held, arguments.seed)
    known = [dataset.train, dataset.valid, dataset.test]
    seen = np.zeros(dataset.num_entities, np.bool_)
    seen[rest.head] = seen[rest.tail] = True
    others = dataset.test[seen[dataset.test.head] & seen[dataset.test.tail]]
    common = {
        "dataset": dataset.name, "model": arguments.model, "floats": arguments.dim,
        "held_out": int(held.sum()), "given": len(given), "asked": len(asked),
    }  # fmt: skip
    rows = []

    def add(method: str, loaded: LoadedModel, seconds: float) -> None:
        row = {
            **common,
            "method": method,
            "asked_mrr": round(mrr(loaded, dataset, asked, known), 4),
            "others_mrr": round(mrr(loaded, dataset, others, known), 4),
            "seconds": round(seconds, 2),
        }
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)

    with tempfile.TemporaryDirectory() as place:
        set_num_threads(arguments.threads)
        before, _ = trained(dataset, rest, arguments, Path(place, "without"))
        pool = Triples.from_array(
            np.array([
                (before.entities.id(h), before.relations.id(r), before.entities.id(t))
                for h, r, t in named(dataset, rest)
            ])
        )  # fmt: skip
        for ridge in arguments.ridge:
            for refresh in (False, True)[: 1 + arguments.refresh]:
                begun = time.perf_counter()
                facts = named(dataset, given)
                made = extended(before, facts, pool, refresh=refresh, ridge=ridge)
                tag = "" if len(arguments.ridge) == 1 else f", ridge {ridge:g}"
                tag += ", neighbours refreshed" * refresh
                add(f"folded in{tag}", made, time.perf_counter() - begun)
        whole = Triples.from_array(np.concatenate([rest.to_array(), given.to_array()]))
        again, seconds = trained(dataset, whole, arguments, Path(place, "again"))
        add("trained anew", again, seconds)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    old = []
    if arguments.csv.exists():
        with open(arguments.csv, newline="", encoding="utf-8") as stream:
            old = [row for row in csv.DictReader(stream) if not same(row, common)]
    writer.writerows([*old, *rows])
    atomic_write_text(arguments.csv, out.getvalue())


def same(row: dict[str, str], common: dict[str, Any]) -> bool:
    """Return whether a row is of the same data, model, size and entities."""
    return all(row[key] == str(common[key]) for key in ("dataset", "model", "floats", "held_out"))


if __name__ == "__main__":
    main()
