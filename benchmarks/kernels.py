"""Speed of the pairwise kernels, the losses over all candidates and the optimisers' steps.

    python benchmarks/kernels.py                       # everything, two threads
    python benchmarks/kernels.py --only l1 --rounds 9 --csv kernels.csv

Elements are b * n * d: one coordinate of one pair. Peers are what torch offers for the same work:
broadcasting (b, n, d) with autograd, torch.cdist where it knows the distance, matrix products for
the dot product. Contenders take turns, medians are quoted, ratios are ours over the peer's. The
last column is the share of the machine's ceiling measured in the same run: subtract, drop the
sign and add for distances (forward only; a gradient needs more), fp32 matmul for dot products.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Optional

import torch
from ceilings import Ceilings, measure
from torch import Tensor

from dglke_distill import kernels
from dglke_distill.base import runtime
from dglke_distill.kernels import reference
from dglke_distill.training import optim

Run = Callable[[], Any]
# A peer that would hold more floats than this at once is left out.
MOST_FLOATS = 3 * 2**28


@dataclass(frozen=True)
class Shape:
    """A workload: b queries in c chunks, n candidates each out of u rows of d floats."""

    name: str
    b: int
    c: Optional[int]
    n: int
    u: int
    d: int
    backward: bool = True

    @property
    def elements(self) -> int:
        """Coordinates of pairs."""
        return self.b * self.n * self.d


SHAPES = (
    Shape("chunks", 1024, 4, 256, 3072, 512),
    Shape("chunks", 1024, 4, 256, 3072, 32),
    Shape("shared", 1024, 1, 256, 3072, 512),
    Shape("private", 1024, 1024, 256, 14541, 512),
    Shape("private", 1024, 1024, 256, 14541, 32),
    Shape("all", 512, None, 14541, 14541, 512, backward=False),
    Shape("all", 512, None, 14541, 14541, 32, backward=False),
    Shape("all", 512, None, 14541, 14541, 512),
)


def broadcast(kernel: str, query: Tensor, rows: Tensor, index: Optional[Tensor]) -> Tensor:
    """Score through a (b, n, d) tensor."""
    if index is None:
        return reference.similarity(kernel, query[:, None], rows[None])
    grouped = query.view(len(index), -1, 1, query.shape[1])
    scores = reference.similarity(kernel, grouped, rows[index][:, None])
    return scores.view(len(query), -1)


def by_torch(kernel: str, query: Tensor, rows: Tensor, index: Optional[Tensor]) -> Tensor:
    """Score through torch.cdist or a matrix product."""
    return reference.pairwise(kernel, query, rows, index, exact=False)


def ours(kernel: Any, query: Tensor, rows: Tensor, index: Optional[Tensor]) -> Tensor:
    """Score through this package."""
    return kernels.pairwise(kernel, query, rows, index, exact=True)


def pairwise_contenders(kernel: str, shape: Shape, backward: bool) -> dict[str, Run]:
    """Return the runs to be compared."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(shape.b, shape.d, generator=generator)
    rows = torch.randn(shape.u, shape.d, generator=generator)
    index = None
    if shape.c is not None:
        index = torch.randint(shape.u, (shape.c, shape.n), generator=generator)
    weight = torch.randn(shape.b, shape.n, generator=generator)
    query.requires_grad_(backward)
    rows.requires_grad_(backward)

    def run(score: Callable[..., Tensor]) -> Run:
        def once() -> None:
            if not backward:
                with torch.no_grad():
                    score(kernel, query, rows, index)
            else:
                scores = score(kernel, query, rows, index)
                torch.autograd.grad(scores, (query, rows), weight)

        return once

    found = {"ours": run(ours)}
    # Difference and result, and a gradient of each.
    if shape.elements * (4 if backward else 2) <= MOST_FLOATS:
        found["broadcast"] = run(broadcast)
    # torch.cdist knows l1 and l2, its backward pass needs no (b, n, d); matmul is the dot product.
    if kernel != "complex_modulus":
        found["matmul" if kernel == "dot" else "cdist"] = run(by_torch)
    return found


def distillation_contenders(
    scores: Tensor, offsets: Tensor, answers: Tensor, label: Tensor
) -> Iterator[tuple[str, dict[str, Run]]]:
    """Yield the loss against answers and a teacher, gradient included, with torch's own."""
    b, n = scores.shape
    teacher, ones = torch.randn(b, n, generator=torch.Generator().manual_seed(1)), torch.ones(b)
    functional = torch.nn.functional

    def ours(temperature: float) -> None:
        hard, soft = kernels.distillation_cross_entropy(
            scores, teacher, offsets, answers, ones, ones, temperature=temperature
        )
        torch.autograd.grad(hard + soft, scores)

    def torchs(temperature: float) -> None:
        logs = scores.log_softmax(1)
        softened = logs if temperature == 1.0 else (scores / temperature).log_softmax(1)
        taught = (teacher / temperature).log_softmax(1)
        soft = functional.kl_div(softened, taught, reduction="sum", log_target=True)
        torch.autograd.grad(soft * temperature**2 - (logs * label).sum(), scores)

    for temperature in (1.0, 2.0):
        yield (
            f"distillation ({b}, {n}), temperature {temperature:g}",
            {"ours": partial(ours, temperature), "torch": partial(torchs, temperature)},
        )


def other_contenders() -> Iterator[tuple[str, dict[str, Run]]]:
    """Yield the losses over all candidates and the optimisers' steps, each with torch's own."""
    b, n, d, m = 512, 14541, 512, 2304
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(b, n, generator=generator, requires_grad=True)
    offsets, answers = torch.arange(0, 4 * b + 1, 4), torch.randint(n, (4 * b,))
    label = torch.zeros(b, n)
    label[torch.arange(b).repeat_interleave(4), answers] = 1.0

    def gradient(loss: Callable[[], Tensor]) -> Run:
        return lambda: torch.autograd.grad(loss(), scores)

    yield (
        f"softmax cross-entropy ({b}, {n})",
        {
            "ours": gradient(lambda: kernels.softmax_cross_entropy(scores, offsets, answers)),
            "torch": gradient(lambda: -(scores.log_softmax(1) * label).sum()),
        },
    )
    yield from distillation_contenders(scores, offsets, answers, label)
    for width in (d, 32):
        table = torch.randn(n, width)
        ids, rows = torch.randperm(n, generator=generator)[:m], torch.randn(m, width)
        for name, make in optim.OPTIMIZERS.items():
            parameter = torch.nn.Parameter(table.clone())
            optimizer = make([parameter], lr=0.1)

            def sparse(p: Any = parameter, o: Any = optimizer, i: Any = ids, r: Any = rows) -> None:
                p.row_gradients = [(i, r)]
                o.step()

            found: dict[str, Run] = {"ours": sparse}
            peer = {"adagrad": torch.optim.Adagrad, "adam": torch.optim.SparseAdam}.get(name)
            if peer is not None:
                weight = torch.nn.Parameter(table.clone())
                weight.grad = torch.sparse_coo_tensor(
                    ids[None], rows, weight.shape, check_invariants=False, is_coalesced=False
                )
                found["torch"] = peer([weight], lr=0.1).step
            yield f"{name}, {m} rows of {width}", found
    whole = torch.nn.Parameter(torch.randn(n, d))
    whole.grad = torch.randn_like(whole)
    fused = torch.nn.Parameter(torch.randn(n, d))
    fused.grad = torch.randn_like(fused)
    yield (
        f"adagrad, dense {n} rows of {d}",
        {
            "ours": optim.OPTIMIZERS["adagrad"]([whole], lr=0.1).step,
            "torch": torch.optim.Adagrad([fused], lr=0.1, fused=True).step,
        },
    )
    rows = torch.randn(n, d, requires_grad=True)
    index, weight = torch.randint(n, (4 * 1024,)), torch.randn(4 * 1024, d)
    yield (
        f"gradient of taking 4096 of {n} rows of {d}",
        {
            "ours": lambda: torch.autograd.grad(kernels.take_rows(rows, index), rows, weight),
            "torch": lambda: torch.autograd.grad(rows.index_select(0, index), rows, weight),
        },
    )


def interleaved(contenders: dict[str, Run], rounds: int, seconds: float) -> dict[str, float]:
    """Return the median seconds per run of each contender; they take turns."""
    repeats = {}
    for name, run in contenders.items():
        run()
        started = time.perf_counter()
        run()
        repeats[name] = max(1, int(seconds / (time.perf_counter() - started)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - started) / repeats[name])
    return {name: statistics.median(values) for name, values in times.items()}


def ceiling_share(kernel: str, backward: bool, rate: float, ceilings: Ceilings) -> str:
    """Return the share of the ceiling as text; empty where none was measured."""
    if kernel == "dot":
        flops = 2 * rate * (3 if backward else 1)
        return f"{flops / ceilings.matmul_gflops:.0%} of matmul"
    return "" if backward else f"{rate / ceilings.l1_gelements:.0%} of L1"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05, help="per turn, at least one run")
    parser.add_argument("--only", choices=["dot", "l1", "l2", "complex_modulus", "other"])
    parser.add_argument("--csv", help="also write the figures here")
    options = parser.parse_args()
    runtime.tune_allocator()
    runtime.speed_up_products()
    kernels.set_num_threads(options.threads)
    ceilings = measure(options.threads)
    print(ceilings)
    lines: list[dict[str, Any]] = []

    def record(what: str, part: str, medians: dict[str, float], elements: int, kernel: str) -> None:
        mine = medians["ours"]
        text = f"{what:<44} {part:<16} {1e3 * mine:9.3f} ms"
        if elements:
            rate = 1e-9 * elements / mine
            text += f" {rate:7.1f} G/s"
            text += f"  {ceiling_share(kernel, part != 'forward', rate, ceilings):<14}"
        text += "".join(
            f"  {other / mine:6.1f}x {name}" for name, other in medians.items() if name != "ours"
        )
        print(text, flush=True)
        for name, value in medians.items():
            rate = 1e-9 * elements / value if elements else None
            lines.append(
                {"what": what, "part": part, "by": name, "ms": 1e3 * value, "gelements": rate}
            )

    for kernel in ("dot", "l1", "l2", "complex_modulus"):
        for shape in SHAPES:
            if options.only not in (None, kernel):
                continue
            for backward in (False, True) if shape.backward else (False,):
                if shape.backward and shape.name == "all" and not backward:
                    continue
                contenders = pairwise_contenders(kernel, shape, backward)
                medians = interleaved(contenders, options.rounds, options.seconds)
                what = f"{kernel} {shape.name} {shape.b}x{shape.n}x{shape.d}"
                part = "forward+backward" if backward else "forward"
                record(what, part, medians, shape.elements, kernel)
    if options.only in (None, "other"):
        for what, contenders in other_contenders():
            record(what, "", interleaved(contenders, options.rounds, options.seconds), 0, "")
    again = measure(options.threads)
    print(f"again: {again}")
    if options.csv:
        facts = runtime.provenance()
        machine = {
            "cpu": facts["hardware"]["cpu"],
            "threads": options.threads,
            "torch": facts["torch"],
            "numba": facts["numba"],
            "date": facts["date"],
            "matmul_gflops": ceilings.or_better(again).matmul_gflops,
            "copy_gb": ceilings.or_better(again).copy_gb,
            "l1_gelements": ceilings.or_better(again).l1_gelements,
        }
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, [*lines[0], *machine])
            writer.writeheader()
            writer.writerows({**line, **machine} for line in lines)


if __name__ == "__main__":
    main()
