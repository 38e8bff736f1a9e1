"""How long a prediction takes: ours, ours compressed, and PyKEEN's ``predict_target``.

    python benchmarks/serving.py --csv benchmarks/results/serving.csv
    python benchmarks/serving.py --large                     # 2.5 million entities too

Random embeddings of 32 floats; the ten best tails of (head, relation, ?). ``single`` is one
question; ``each of 256`` is the share of one in a batch. The fastest of the rounds counts, since
other programs can only slow a round down; the median stands beside it. PyKEEN 1.11 answers the same
questions with the same embeddings in the same process, and must give the same ids; it has no call
for a batch. ``floor`` is the time to read the table once, by torch's own product with a vector.
``load`` is `checkpoint.load_model` of a checkpoint with names, its files in the page cache.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from dglke_distill.artifacts.checkpoint import load_model, save_model
from dglke_distill.base import runtime
from dglke_distill.compression import Storage, compress
from dglke_distill.config import Config
from dglke_distill.data.triples import Vocabulary
from dglke_distill.models import build_model
from dglke_distill.models.base import KGEModel
from dglke_distill.predict.batches import best_entities

FLOATS, ANSWERS, BATCH = 32, 10, 256
STORAGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("float32", {}),
    ("float16", {}),
    ("int8", {}),
    ("pq", {"pieces": 32, "iterations": 3}),
)


def milliseconds(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the fastest and the median round, in milliseconds; one more warms up."""
    work()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - started))
    taken.sort()
    return taken[0], taken[len(taken) // 2]


def pykeen_model(name: str, model: KGEModel, relations: int) -> Any:
    """Return PyKEEN's model with the weights of ours."""
    from pykeen.models import ComplEx, TransE
    from pykeen.triples import CoreTriplesFactory

    entity, relation = model.entity_embeddings, model.relation_embeddings
    some = torch.zeros(1, 3, dtype=torch.int64)
    factory = CoreTriplesFactory(some, num_entities=len(entity), num_relations=relations)
    if name == "TransE":
        peer: Any = TransE(triples_factory=factory, embedding_dim=FLOATS, scoring_fct_norm=1)
    else:
        peer = ComplEx(triples_factory=factory, embedding_dim=FLOATS // 2)
        # PyKEEN keeps each complex number's two floats together; ours are in two halves.
        entity, relation = (
            torch.stack(table.chunk(2, dim=1), dim=2).flatten(1) for table in (entity, relation)
        )
    pairs = ((peer.entity_representations, entity), (peer.relation_representations, relation))
    with torch.no_grad():
        for representations, table in pairs:
            weight = representations[0]._embeddings.weight
            weight.copy_(table.reshape(weight.shape))
    return peer


def measure(name: str, entities: int, relations: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row per storage, then PyKEEN's."""
    config = Config.from_mapping({"model": {"name": name, "dim": FLOATS}}, "benchmark")
    plain = build_model(config.model, entities, relations)
    plain.reset(0)
    with torch.no_grad():
        plain.encoder.weight.normal_(generator=torch.Generator().manual_seed(1))
        plain.relation_weight.normal_(generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(3)
    head = torch.randint(0, entities, (BATCH,), generator=generator)
    relation = torch.randint(0, relations, (BATCH,), generator=generator)
    table, vector = plain.entity_embeddings, plain.entity_embeddings[0].clone()
    floor = milliseconds(lambda: table @ vector, rounds)[0]
    about = {"model": name, "entities": entities, "floats": FLOATS}
    for kind, options in STORAGES if entities < 10**6 else STORAGES[:3]:
        model = (
            plain if kind == "float32" else compress(plain, config.model, Storage.of(kind, options))
        )
        single = milliseconds(
            lambda m=model: best_entities(m, head[:1], relation[:1], "tail", ANSWERS),  # type: ignore[misc]
            rounds,
        )
        batch = milliseconds(
            lambda m=model: best_entities(m, head, relation, "tail", ANSWERS),  # type: ignore[misc]
            max(3, rounds // 10),
        )
        yield {
            **about,
            "who": f"ours, {kind}",
            "bytes_per_entity": model.bytes_per_entity,
            "single_ms": round(single[0], 3),
            "single_median_ms": round(single[1], 3),
            "each_of_256_us": round(1e3 * batch[0] / BATCH, 2),
            "each_of_256_median_us": round(1e3 * batch[1] / BATCH, 2),
            "floor_ms": round(floor, 3),
            "load_ms": round(load_time(model, config, relations), 1),
        }
    yield {**about, "who": "PyKEEN", **peer_times(name, plain, relations, head, relation, rounds)}


def load_time(model: KGEModel, config: Config, relations: int) -> float:
    """Return the fastest load of the model as a checkpoint with names, in milliseconds."""
    names = Vocabulary([f"entity number {i}" for i in range(model.num_entities)])
    links = Vocabulary([f"relation number {i}" for i in range(relations)], kind="relation")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "checkpoint")
        save_model(place, model, config, names, links, {})
        return milliseconds(lambda: load_model(place), 5)[0]


def peer_times(
    name: str,
    plain: KGEModel,
    relations: int,
    head: torch.Tensor,
    relation: torch.Tensor,
    rounds: int,
) -> dict[str, Any]:
    """Return PyKEEN's time for a single question, after comparing its answers with ours."""
    from pykeen.predict import predict_target

    peer = pykeen_model(name, plain, relations)

    def ask(row: int) -> Any:
        answers = predict_target(peer, head=int(head[row]), relation=int(relation[row]))
        return answers.df.head(ANSWERS)

    ours = best_entities(plain, head, relation, "tail", ANSWERS)
    for row in range(5):
        theirs = ask(row)
        near = torch.tensor(theirs["score"].to_numpy()) - ours.scores[row]
        assert near.abs().max() < 1e-3, "the scores differ"
        assert set(theirs["tail_id"]) == set(ours.ids[row].tolist()), "the answers differ"
    single = milliseconds(lambda: ask(0), max(3, rounds // 5))
    return {
        "bytes_per_entity": plain.bytes_per_entity,
        "single_ms": round(single[0], 3),
        "single_median_ms": round(single[1], 3),
    }


def main() -> None:
    """Measure, print, and write the CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="2,500,604 entities too")
    parser.add_argument("--threads", type=int, default=runtime.available_cores())
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    provenance = runtime.provenance()
    sizes = [(14_541, 237, arguments.rounds)]
    if arguments.large:
        sizes.append((2_500_604, 535, max(5, arguments.rounds // 10)))
    rows = []
    for size in sizes:
        for name in ("ComplEx", "TransE"):
            for row in measure(name, *size):
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                rows.append(row)
    if arguments.csv:
        git = provenance["git"] or {"revision": ""}
        tail = {
            "threads": arguments.threads,
            "cpu": provenance["hardware"]["cpu"],
            "torch": torch.__version__,
            "revision": git["revision"],
            "date": provenance["date"],
        }
        fields = [*rows[0], *tail]
        with open(arguments.csv, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fields, lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, **tail} for row in rows)


if __name__ == "__main__":
    sys.exit(main())
