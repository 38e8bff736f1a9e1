"""What storing a model in fewer bytes costs: MRR at each number of bytes per entity.

    python experiments/compression.py CHECKPOINT... --data-root DIR
    python experiments/compression.py CHECKPOINT --data-root DIR --test "int8 scale=column"

Each model is stored in each way below and ranked on the validation split. With ``--test`` the ways
named, which validation has chosen, are ranked on the test split too. Rows of the CSV are kept
from run to run and replaced by newer ones of the same model and storage; revision and hardware
stand beside each figure. ``stage`` is the folder that the checkpoint lies in, as a chain names it.
``bytes_per_entity`` counts an entity's codes and scales; ``shared_bytes`` are kept once (codebooks,
scales of columns); ``file_bytes`` is everything, relations too.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
import time
from pathlib import Path
from typing import Any

from dglke_distill.artifacts.checkpoint import load_model, save_model
from dglke_distill.artifacts.checkpoint_places import MODEL_FILE
from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base import runtime
from dglke_distill.base.files import atomic_write_text
from dglke_distill.cli.compress import in_storage
from dglke_distill.compression import Storage
from dglke_distill.config import parse_assignment
from dglke_distill.data.identity import Lookup
from dglke_distill.runs.measure import evaluate_model
from dglke_distill.runs.workspace import prepare

RESULTS = Path(__file__).parent / "results" / "compression.csv"

STORAGES = (
    "float32",
    "float16",
    "int8",
    "int8 affine=true",
    "int8 scale=column",
    "pq pieces={floats}",
    "pq pieces={half}",
    "pq pieces={half} bits=4",
    "pq pieces={quarter}",
    "binary",
)
"""Ways to store entities; a word in braces is a share of the model's floats."""

KEY = ("model", "dataset", "floats_per_entity", "stage", "storage")


def parse(text: str, floats: int) -> Storage:
    """Return the storage that a line of ``STORAGES`` describes."""
    shares = {"floats": floats, "half": floats // 2, "quarter": floats // 4}
    kind, *assignments = text.format(**shares).split()
    options: dict[str, Any] = {}
    for assignment in assignments:
        options.update(parse_assignment(assignment))
    return Storage.of(kind, options)


def measure(loaded: LoadedModel, storage: Storage, workspace: Any, splits: list[str]) -> dict:
    """Compress, write, read back, rank; return the figures of one row."""
    started = time.perf_counter()
    made = in_storage(loaded, storage)
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "checkpoint")
        parts = made.entities, made.relations, made.results
        save_model(place, made.model, made.config, *parts)
        size = (place / MODEL_FILE).stat().st_size
        model = load_model(place).model
        row = {
            "bytes_per_entity": model.bytes_per_entity,
            "shared_bytes": made.results["model"]["shared_bytes"],
            "file_bytes": size,
            "relations": storage.relations.kind,
            "compression_seconds": round(seconds, 1),
        }
        for split in splits:
            ranking = evaluate_model(model, workspace, split, made.config).to_dict()
            row[f"{split}_mrr"] = round(ranking["mrr"], 4)
            row[f"{split}_hits_at_10"] = round(ranking["hits@10"], 4)
    return row


def main() -> None:
    """Measure every checkpoint in every way, and lay the rows over those there are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--storages", nargs="+", default=STORAGES, help="instead of all")
    parser.add_argument("--test", nargs="*", default=[], help="storages to rank on test too")
    parser.add_argument("--threads", type=int, default=runtime.available_cores())
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    provenance = runtime.provenance()
    git = provenance["git"] or {"revision": ""}
    for checkpoint in arguments.checkpoints:
        loaded = load_model(checkpoint)
        training = loaded.config.training.model_copy(update={"threads": arguments.threads})
        config = loaded.config.model_copy(update={"training": training})
        dataset, _ = loaded.find_dataset(str(checkpoint), Lookup(None, arguments.data_root))
        workspace = prepare(config, dataset=dataset)
        floats = loaded.model.floats_per_entity
        for text in arguments.test or arguments.storages:
            splits = ["valid", "test"] if text in arguments.test else ["valid"]
            row = {
                "model": config.model.name,
                "dataset": workspace.dataset.name,
                "floats_per_entity": floats,
                "stage": checkpoint.resolve().parent.name,
                "storage": text.format(floats=floats, half=floats // 2, quarter=floats // 4),
                **measure(loaded, parse(text, floats), workspace, splits),
                "threads": arguments.threads,
                "cpu": provenance["hardware"]["cpu"],
                "torch": provenance["torch"],
                "revision": git["revision"],
                "date": provenance["date"],
            }
            print("  ".join(f"{key} {value}" for key, value in list(row.items())[:12]), flush=True)
            write(arguments.csv, row)


def write(path: Path, row: dict[str, Any]) -> None:
    """Put a row into the CSV, in the place of an earlier one of the same key."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    key = [str(row[name]) for name in KEY]
    old = next((each for each in rows if [each[name] for name in KEY] == key), {})
    rows = [each for each in rows if each is not old]
    rows.append({**old, **row})
    rows.sort(key=lambda each: (each["dataset"], each["model"], -int(each["bytes_per_entity"])))
    columns = list(dict.fromkeys(name for each in rows for name in each))
    front = [name for name in columns if not name.startswith(("valid", "test"))]
    split = front.index("threads")
    figures = sorted((name for name in columns if name not in front), reverse=True)
    out = io.StringIO()
    fields = [*front[:split], *figures, *front[split:]]
    writer = csv.DictWriter(out, fields, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(path, out.getvalue())


if __name__ == "__main__":
    main()
