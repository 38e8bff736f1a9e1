"""Training a graph of the size of ogbl-wikikg2, against the loop of OGB's own example.

    python benchmarks/ogb_scale.py synthetic --csv ogb_scale.csv            # whole size, an hour
    python benchmarks/ogb_scale.py synthetic --share 0.1                    # a tenth, minutes

``synthetic`` is a folder that receives ``share-1/ogbl_wikikg2`` (see ``synthetic_wikikg2.py``)
where it is not there yet. Prints seconds to prepare it and to open it again, and for ComplEx of 100
floats and TransE of 500, with 128 sampled negatives and batches of 512, peak memory and triples per
second of both, and the ratios. The contestants take turns, each time in a fresh process, so that a
passing disturbance hits both and each peak is its own (see ``ogb_contestants.py``).
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional

import synthetic_wikikg2

from dglke_distill.base import runtime
from dglke_distill.runs.memory import bytes_text

AIM_SPEED, AIM_MEMORY = 20.0, 0.5
MODELS = {"ComplEx": 100, "TransE": 500}
CONTESTANT = Path(__file__).with_name("ogb_contestants.py")


def prepare(root: Path, options: argparse.Namespace) -> dict[str, float]:
    """Write the graph if it is not there, and time the first and the second opening."""
    folder = root / "ogbl_wikikg2"
    if not folder.exists():
        size = synthetic_wikikg2.Size(negatives=options.given).scaled(options.share)
        begun = time.perf_counter()
        synthetic_wikikg2.write(root, size, seed=0)
        print(f"wrote {size} in {time.perf_counter() - begun:.0f} s", flush=True)
    shutil.rmtree(folder / "processed" / "dglke_distill", ignore_errors=True)
    (folder / "processed" / "data_processed").unlink(missing_ok=True)
    found = {}
    for name in ("prepare_seconds", "reopen_seconds"):
        code = (
            "import sys, time; from pathlib import Path; begun = time.perf_counter()\n"
            "from dglke_distill.data.ogb import load_ogb\n"
            "begun = time.perf_counter()\n"
            "load_ogb('ogbl-wikikg2', Path(sys.argv[1]))\n"
            "print(time.perf_counter() - begun)"
        )
        command = [sys.executable, "-c", code, str(root)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = float(done.stdout.split()[-1])
        print(f"{name.replace('_', ' ')}: {found[name]:.1f}", flush=True)
    return found


def contest(
    who: str, root: Path, model: str, options: argparse.Namespace, *further: str
) -> Optional[dict[str, Any]]:
    """Run one contestant in a process of its own; None where it ends without a result."""
    steps = options.peer_steps if who == "official" else options.steps
    command = [
        sys.executable, str(CONTESTANT), who, str(root), "--model", model,
        "--dim", str(MODELS[model]), "--batch-size", str(options.batch_size),
        "--negatives", str(options.negatives), "--steps", str(steps),
        "--threads", str(options.threads), *further,
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{who} {model} ended with {done.returncode}", flush=True)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(model: str, root: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let the contestants take turns on a model; return a record for each."""
    contestants = {
        "official example": ("official",),
        "ours, private negatives": ("ours",),
        "ours, shared negatives": ("ours", "--sharing", "chunk"),
        "ours, private, bfloat16": ("ours", "--storage", "bfloat16"),
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    size = synthetic_wikikg2.Size().scaled(options.share)
    dense = 4 * 4 * size.entities * MODELS[model]
    if dense > runtime.available_memory_bytes():
        print(f"official {model}: its {bytes_text(dense)} of tables and moments do not fit here")
        del contestants["official example"]
    for _ in range(options.rounds):
        for name, (who, *further) in contestants.items():
            result = contest(who, root, model, options, *further)
            if result is not None:
                found[name].append(result)
    records = []
    for name, results in found.items():
        if results:
            step = statistics.median(result["seconds_per_step"] for result in results)
            peak = max(result["peak_bytes"] for result in results)
            records.append({
                "model": model, "dim": MODELS[model], "contestant": name,
                "triples_per_second": round(options.batch_size / step, 1),
                "peak_gib": round(peak / 2**30, 3),
                "first_loss": results[0]["first_loss"], "last_loss": results[0]["last_loss"],
            })  # fmt: skip
    peer = next((r for r in records if r["contestant"] == "official example"), None)
    for record in records:
        line = f"{model} {record['dim']:<4}{record['contestant']:<26}"
        line += f"{record['triples_per_second']:>10,.0f} triples/s  {record['peak_gib']:6.2f} GiB"
        if peer is not None and record is not peer:
            record["speed_ratio"] = record["triples_per_second"] / peer["triples_per_second"]
            record["memory_ratio"] = record["peak_gib"] / peer["peak_gib"]
            line += f"  {record['speed_ratio']:6.1f}x as fast (aim {AIM_SPEED:g}x)"
            line += f", {record['memory_ratio']:.2f} of its memory (aim < {AIM_MEMORY:g})"
        print(line, flush=True)
    return records


def main() -> None:
    """Read the command line, measure, and write the records if a file is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="folder that holds, or receives, the graph")
    parser.add_argument("--share", type=float, default=1.0, help="share of entities and triples")
    parser.add_argument("--given", type=int, default=500, help="given negatives a side, if written")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--negatives", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200, help="of ours, per round")
    parser.add_argument("--peer-steps", type=int, default=10, help="of the official, per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--threads", type=int, default=runtime.available_cores())
    parser.add_argument("--csv", type=Path, help="file that receives the records")
    options = parser.parse_args()
    root = options.root / f"share-{options.share:g}"
    root.mkdir(parents=True, exist_ok=True)
    times = prepare(root, options)
    records = [
        record for model in options.models.split(",") for record in measure(model, root, options)
    ]
    about = runtime.provenance()
    shared = {
        "share": options.share, **times, "batch_size": options.batch_size,
        "negatives": options.negatives, "rounds": options.rounds, "threads": options.threads,
        "cpu": about["hardware"]["cpu"], "torch": about["torch"], "dgl": about["dgl"],
        "revision": (about["git"] or {}).get("revision", ""), "date": about["date"],
    }  # fmt: skip
    if options.csv is not None and records:
        columns = dict.fromkeys(key for record in records for key in {**record, **shared})
        with open(options.csv, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
            writer.writeheader()
            writer.writerows({**record, **shared} for record in records)


if __name__ == "__main__":
    main()
