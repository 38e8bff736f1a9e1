"""Full filtered ranking of the FB15k-237 test split: this package against PyKEEN, in one run.

    DGLKE_DISTILL_DATA=<folder with fb15k237/> python benchmarks/evaluation.py
    python benchmarks/evaluation.py --data-root <folder> --full --csv evaluation.csv

Both rank the same triples with the same embeddings; the ranks must be identical, so the embeddings
are multiples of 1/4, whose sums are exact in any order. PyKEEN runs twice, in processes of their
own: as it comes, and with the C library's allocator told to keep its memory. It takes many minutes
for the whole split, so by default it ranks a sample of ``--pykeen-triples`` triples, and its time
is extrapolated along the line through that and a quarter of that; ``--full`` lets it rank all.
Rounds alternate between the contestants, and the fastest of each counts.

``of ceiling`` is the share reached of what the machine can do (see ``ceilings.py``): matrix product
for ComplEx, L1 distances for TransE, over the distinct queries that must be scored.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Optional

import ceilings
import numpy as np
import torch
from throughput_contestants import TUNED

from dglke_distill.base import runtime
from dglke_distill.config import ModelConfig
from dglke_distill.data import catalog
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.triples import Dataset
from dglke_distill.evaluate import RankingResult, evaluate
from dglke_distill.models import KGEModel, build_model

PEER = Path(__file__).with_name("peer_pykeen_ranking.py")


@dataclass(frozen=True)
class Workload:
    """A model to rank with, and the seconds that it may take."""

    model: str
    floats: int
    target: float


WORKLOADS = (Workload("TransE", 512, 18), Workload("ComplEx", 1024, 16), Workload("TransE", 32, 6))


@dataclass(frozen=True)
class Row:
    """One line of the table; PyKEEN's seconds are for the whole split, measured or extrapolated."""

    model: str
    floats: int
    triples: int
    seconds: float
    target: float
    scoring_seconds: float
    of_ceiling: float
    scoring_of_ceiling: float
    pykeen: float
    pykeen_tuned: float
    pykeen_triples: int
    ratio: float
    ratio_tuned: float
    same_ranks: bool


class Timed:
    """Passes a model's scores on and adds up the seconds spent on them."""

    def __init__(self, model: KGEModel) -> None:
        self.model = model
        self.frozen = model.frozen
        self.seconds = 0.0

    def score_all(self, entity: torch.Tensor, relation: torch.Tensor, side: Any) -> torch.Tensor:
        """As the model's."""
        started = time.perf_counter()
        scores = self.model.score_all(entity, relation, side)
        self.seconds += time.perf_counter() - started
        return scores


class Peer:
    """A PyKEEN process that waits for work."""

    def __init__(self, command: Sequence[str], ranks: Path, extra: dict[str, str]) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        self.ranks_file = ranks
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), *command, "--ranks", str(ranks)],
            env={**environment, **extra},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line(self.process.stdout)

    def _line(self, stream: Optional[IO[str]]) -> str:
        line = stream.readline() if stream is not None else ""
        if not line:
            raise RuntimeError(f"PyKEEN's process ended with code {self.process.wait()}")
        return line

    def rank(self, last: int) -> float:
        """Rank the first rows of the test split; returns seconds."""
        assert self.process.stdin is not None
        print(0, last, file=self.process.stdin, flush=True)
        return float(self._line(self.process.stdout))

    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return head and tail ranks of the last request."""
        with np.load(self.ranks_file) as saved:
            return saved["head"], saved["tail"]

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def whole_split(small: int, small_seconds: float, large: int, seconds: float, n: int) -> float:
    """Extrapolate linearly from two measured sizes, so that a fixed cost counts once."""
    if large >= n:
        return seconds
    return seconds + (n - large) * max(0.0, seconds - small_seconds) / (large - small)


def exact_model(workload: Workload, dataset: Dataset) -> KGEModel:
    """A model whose weights are random multiples of 1/4 between -1 and 1."""
    config = ModelConfig(name=workload.model, dim=workload.floats)
    model = build_model(config, dataset.num_entities, dataset.num_relations)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-4, 5, parameter.shape, generator=generator) / 4)
    return model


def run(
    workload: Workload, dataset: Dataset, known: KnownAnswers, limits: ceilings.Ceilings,
    arguments: argparse.Namespace, folder: Path,
) -> Row:  # fmt: skip
    """Measure one workload against both PyKEENs."""
    model = exact_model(workload, dataset)
    inputs, entity = folder / "inputs.npz", model.entity_embeddings.numpy()
    np.savez(
        inputs,
        **{name: dataset.split(name).to_array() for name in ("train", "valid", "test")},
        entity=entity,
        relation=model.relation_embeddings.numpy(),
    )
    command = ["--model", workload.model, "--inputs", str(inputs)]
    command += ["--threads", str(arguments.threads)]
    if arguments.pykeen_batch_size:
        command += ["--batch-size", str(arguments.pykeen_batch_size)]
    number = len(dataset.test)
    large = number if arguments.full else min(arguments.pykeen_triples, number)
    small = max(1, large // 4)

    peers = [Peer(command, folder / f"{i}.npz", extra) for i, extra in enumerate(({}, TUNED))]
    theirs: list[list[tuple[float, float]]] = [[], []]
    ours: list[tuple[float, float]] = []
    result: RankingResult
    try:
        for peer in peers:
            peer.rank(min(32, number))  # warm up
        evaluate(model, dataset.test[:64], known)
        for _ in range(arguments.rounds):
            timed = Timed(model)
            result = evaluate(timed, dataset.test, known, train=dataset.train)
            ours.append((result.seconds, timed.seconds))
            for peer, times in zip(peers, theirs):
                short = 0.0 if arguments.full else peer.rank(small)
                times.append((short, peer.rank(large)))
        same = all(
            np.array_equal(peer.ranks()[0], result.head_ranks[:large])
            and np.array_equal(peer.ranks()[1], result.tail_ranks[:large])
            for peer in peers
        )
    finally:
        for peer in peers:
            peer.close()
    pykeen, tuned = (
        whole_split(small, min(t[0] for t in times), large, min(t[1] for t in times), number)
        for times in theirs
    )
    seconds, scoring = min(ours)
    work = result.num_queries * dataset.num_entities * workload.floats
    if workload.model == "ComplEx":
        rate = ceilings.matmul_rate(1024, workload.floats, dataset.num_entities)
        least = 2e-9 * work / max(rate, limits.matmul_gflops)
    else:
        least = 1e-9 * work / limits.l1_gelements
    return Row(
        workload.model, workload.floats, number, seconds, workload.target, scoring, least / seconds,
        least / scoring, pykeen, tuned, large, pykeen / seconds, tuned / seconds, same,
    )  # fmt: skip


def show(row: Row) -> None:
    """Print one workload for people."""
    how = "measured on" if row.pykeen_triples == row.triples else "extrapolated from"
    print(
        f"\n{row.model}, {row.floats} floats: {row.seconds:.2f} s (target {row.target:.0f}), "
        f"of which scoring {row.scoring_seconds:.2f} s; {row.of_ceiling:.0%} of ceiling, scoring "
        f"alone {row.scoring_of_ceiling:.0%}\n"
        f"  PyKEEN, {how} {row.pykeen_triples} triples: {row.pykeen:.0f} s "
        f"({row.ratio:.0f}x); malloc tuned {row.pykeen_tuned:.0f} s ({row.ratio_tuned:.0f}x); "
        f"ranks {'identical' if row.same_ranks else 'DIFFER'}",
        flush=True,
    )


def write_csv(path: Path, rows: Sequence[Row], limits: ceilings.Ceilings) -> None:
    """Write the table with hardware and versions."""
    about = runtime.provenance()
    hardware = about["hardware"]
    common = {
        **{f"ceiling_{k}" if k != "threads" else k: v for k, v in asdict(limits).items()},
        "cpu": hardware["cpu"],
        "cores": hardware["cores"],
        "python": about["python"],
        "torch": about["torch"],
        "numba": about["numba"],
        "version": about["version"],
        "revision": (about["git"] or {}).get("revision"),
        "date": about["date"],
    }
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*asdict(rows[0]), *common])
        writer.writeheader()
        for row in rows:
            values = {**asdict(row), **common}
            writer.writerow(
                {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items()}
            )


def main() -> int:
    """Run all workloads; the exit code is 1 if ranks differ or a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, help="default: DGLKE_DISTILL_DATA")
    parser.add_argument("--threads", type=int, default=runtime.available_cores())
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pykeen-triples", type=int, default=512, help="size of PyKEEN's sample")
    parser.add_argument("--pykeen-batch-size", type=int, help="default: PyKEEN's own choice")
    parser.add_argument("--full", action="store_true", help="PyKEEN ranks the whole split")
    parser.add_argument("--only", help="a workload, such as TransE-32")
    parser.add_argument("--csv", type=Path, help="write the table there")
    arguments = parser.parse_args()
    runtime.tune_allocator()
    runtime.speed_up_products()
    limits = ceilings.measure(arguments.threads)
    print(limits, flush=True)
    dataset = catalog.load("fb15k237", data_root=arguments.data_root)
    parts = [dataset.train, dataset.valid, dataset.test]
    known = KnownAnswers.build(parts, dataset.num_entities)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for workload in WORKLOADS:
            if arguments.only in (None, f"{workload.model}-{workload.floats}"):
                limits = limits.or_better(ceilings.measure(arguments.threads))
                rows.append(run(workload, dataset, known, limits, arguments, Path(folder)))
                show(rows[-1])
    if arguments.csv and rows:
        write_csv(arguments.csv, rows, limits)
    return int(not all(row.same_ranks and row.seconds <= row.target for row in rows))


if __name__ == "__main__":
    sys.exit(main())
