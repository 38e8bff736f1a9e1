"""How long does a split of ogbl-wikikg2 take, ranked among its given candidates?

    python benchmarks/ogb_evaluation.py --share 0.02
    python benchmarks/ogb_evaluation.py --share 1 --csv ogb_evaluation.csv

Random tables of 2,500,604 entities and random triples, as many as the test split has, each with 500
negatives a side drawn uniformly, so that no cache helps. ``--share`` takes a part of the split and
multiplies the seconds. Every question reads 501 rows of the table, which must come from memory:
the floor is that reading alone, one number of each cache line, measured before and after on rows
drawn in the same way. The aim is the whole split in under five minutes on two cores. Where other
programs want the cores too, the seconds for which ours had them tell more than the clock.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from dglke_distill.base import runtime
from dglke_distill.config import ModelConfig
from dglke_distill.data.ogb import GivenCandidates, OgbDataset
from dglke_distill.data.triples import Triples, Vocabulary
from dglke_distill.evaluate import evaluate_given, popularity_control
from dglke_distill.kernels import set_num_threads
from dglke_distill.models import build_model
from dglke_distill.models.base import KGEModel

ENTITIES, RELATIONS, TRAIN, TRIPLES, NEGATIVES = 2_500_604, 535, 16_109_182, 598_543, 500
AIM_SECONDS = 300
_LINE = 16  # floats in a cache line


@numba.njit(parallel=True)
def _read(table, rows, out):  # type: ignore[no-untyped-def]
    """Read a number of each cache line of some rows."""
    for i in numba.prange(len(rows)):
        total = np.float32(0)
        row = table[rows[i]]
        for k in range(0, len(row), _LINE):
            total += row[k]
        out[i] = total


def reading_rate(table: torch.Tensor, seed: int, count: int = 1 << 18) -> float:
    """Return the GB/s at which rows of a table, drawn at random, come from memory."""
    rows = np.random.default_rng(seed).integers(0, len(table), count)
    out = np.empty(count, np.float32)
    _read(table.numpy(), rows[:1024], out)
    best = 0.0
    for _ in range(3):
        begun = time.perf_counter()
        _read(table.numpy(), rows, out)
        seconds = time.perf_counter() - begun
        best = max(best, 1e-9 * count * table.shape[1] * table.element_size() / seconds)
    return best


def synthetic(number: int, train: int) -> OgbDataset:
    """Return a dataset of random triples with as many entities as ogbl-wikikg2 has."""
    rng = np.random.default_rng(0)

    def triples(count: int) -> Triples:
        columns = [
            rng.integers(0, limit, count, dtype=np.int32)
            for limit in (ENTITIES, RELATIONS, ENTITIES)
        ]
        return Triples(*columns)

    def negatives() -> Any:
        return rng.integers(0, ENTITIES, (number, NEGATIVES), dtype=np.int32)

    given = GivenCandidates(negatives(), negatives())
    split = triples(number)
    return OgbDataset(
        "ogbl-wikikg2",
        Vocabulary(size=ENTITIES),
        Vocabulary(size=RELATIONS, kind="relation"),
        triples(train),
        split,
        split,
        valid_candidates=given,
        test_candidates=given,
    )


def model_of(name: str, dim: int) -> KGEModel:
    """Return a model with random tables."""
    model = build_model(ModelConfig(name=name, dim=dim), ENTITIES, RELATIONS)
    model.reset(0)
    return model


def measure(name: str, dataset: OgbDataset, options: argparse.Namespace) -> dict[str, Any]:
    """Rank the split by one model and print how long it took."""
    model, number = model_of(name, options.dim), len(dataset.test)
    evaluate_given(model, dataset, "test", limit=256)  # compiles the kernels
    table = model.entity_embeddings
    before = reading_rate(table, 1)
    used = time.process_time()
    seconds = evaluate_given(model, dataset, "test").seconds
    used = (time.process_time() - used) / torch.get_num_threads()
    rate = max(before, reading_rate(table, 2))
    whole = seconds * TRIPLES / number
    read = 2e-9 * TRIPLES * (NEGATIVES + 1) * options.dim * table.element_size()
    floor = read / rate
    peak = runtime.peak_memory_bytes() / 2**30
    how = "measured" if number == TRIPLES else f"extrapolated from {number:,} triples"
    print(
        f"{name:<10} dim {options.dim}: {whole:6.1f} s for {TRIPLES:,} triples ({how}); reading "
        f"the rows alone {floor:.1f} s at {rate:.1f} GB/s, {floor / whole:.0%} of it; cores busy "
        f"with it {used * TRIPLES / number:.1f} s; peak {peak:.1f} GiB; aim {AIM_SECONDS} s",
        flush=True,
    )
    return {
        "model": name, "dim": options.dim, "triples": number, "seconds": round(seconds, 2),
        "whole_split_seconds": round(whole, 1),
        "whole_split_core_seconds": round(used * TRIPLES / number, 1),
        "reading_gb_per_second": round(rate, 2),
        "floor_seconds": round(floor, 1), "share_of_floor": round(floor / whole, 3),
        "peak_gib": round(peak, 2),
    }  # fmt: skip


def measure_control(dataset: OgbDataset) -> dict[str, Any]:
    """Rank the split by the control that ignores the known entity."""
    number = len(dataset.test)
    begun = time.perf_counter()
    popularity_control(dataset, "test")
    seconds = time.perf_counter() - begun
    how = "measured" if number == TRIPLES else "its counts of train do not shrink with the share"
    print(f"relation popularity: {seconds:.1f} s for {number:,} triples ({how})", flush=True)
    return {"model": "relation popularity", "triples": number, "seconds": round(seconds, 2)}


def main() -> None:
    """Read the command line, measure, and write the records if a file is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--share", type=float, default=0.02, help="of the test split to rank")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--models", default="ComplEx,TransE,RotatE")
    parser.add_argument("--control", action="store_true", help="time the popularity control too")
    parser.add_argument("--threads", type=int, default=runtime.available_cores())
    parser.add_argument("--csv", type=Path, help="file that receives the records")
    options = parser.parse_args()
    if not 0 < options.share <= 1:
        parser.error("--share must be above 0 and at most 1")
    runtime.tune_allocator()
    set_num_threads(options.threads)
    number = max(256, round(options.share * TRIPLES))
    dataset = synthetic(number, TRAIN if options.control else 1000)
    records = [measure(name, dataset, options) for name in options.models.split(",")]
    if options.control:
        records.append(measure_control(dataset))
    if options.csv is not None:
        about = runtime.provenance()
        shared = {
            "threads": torch.get_num_threads(), "cpu": about["hardware"]["cpu"],
            "torch": about["torch"], "numba": about["numba"],
            "revision": (about["git"] or {}).get("revision", ""), "date": about["date"],
        }  # fmt: skip
        with open(options.csv, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [*records[0], *shared], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**record, **shared} for record in records)


if __name__ == "__main__":
    main()
