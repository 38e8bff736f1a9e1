"""Seconds that publishing takes, by the number of models that a store has.

Eight publishers at once publish into a folder, each a model of its own and several times; the
floor is the same into an empty store. The models are a small one of those that ship, with other
weights each time.

    python benchmarks/publishing.py                  # 0, 100 and 1,000 models; a minute
    python benchmarks/publishing.py --entries 5000
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from dglke_distill import zoo
from dglke_distill.artifacts.checkpoint_places import MODEL_FILE
from dglke_distill.base.files import atomic_write_text
from dglke_distill.zoo.fetch import fetch_files
from dglke_distill.zoo.index import FoundEntry, shipped_store
from dglke_distill.zoo.publish import rebuild_index
from dglke_distill.zoo.registry_file import dump_entries, dump_entry
from dglke_distill.zoo.schema import Entry
from dglke_distill.zoo.store import LocalStore


def smallest() -> FoundEntry:
    """Return the smallest plain model that ships."""
    store = shipped_store()
    entries = [entry for entry in zoo.list(store=store) if entry.dtype == "float32"]
    return FoundEntry(min(entries, key=lambda entry: entry.total_bytes), store)


def checkpoint(found: FoundEntry, folder: Path, seed: int) -> Path:
    """Write a checkpoint like a published one, with other weights."""
    folder.mkdir(parents=True)
    for name, path in fetch_files(found).items():
        shutil.copyfile(path, folder / name)
    weights = load_file(folder / MODEL_FILE)
    generator = torch.Generator().manual_seed(seed)
    for tensor in weights.values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator).to(tensor.dtype))
    save_file(weights, folder / MODEL_FILE, metadata=metadata(folder / MODEL_FILE))
    return folder


def metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file of weights."""
    from safetensors import safe_open

    with safe_open(path, "pt") as stream:
        return dict(stream.metadata() or {})


def fill(place: Path, found: FoundEntry, count: int) -> None:
    """Write a store that has so many entries, without their files."""
    like = found.entry

    def entry(number: int) -> Entry:
        middle = f"{like.model}-filler{number}".lower()
        name = middle + like.name[like.name.index("-dim") :]
        return like.model_copy(update={"name": name, "version": 1})

    entries = [entry(number) for number in range(count)]
    for one in entries:
        path = place / "entries" / one.name / "1.toml"
        path.parent.mkdir(parents=True)
        path.write_text(dump_entry(one))
    entries.sort(key=lambda one: one.name)
    atomic_write_text(place / "zoo.toml", dump_entries(entries))


def publisher(
    number: int, folders: list[Path], name: str, place: Path, barrier: Any
) -> list[float]:
    """Publish checkpoints one after the other; return the seconds of each."""
    torch.set_num_threads(1)
    zoo.publish(folders[0], name, store=place.with_name(f"warm{number}"))  # imports, page cache
    barrier.wait()
    seconds = []
    for folder in folders:
        begun = time.perf_counter()
        zoo.publish(folder, name, store=place)
        seconds.append(time.perf_counter() - begun)
    return seconds


def measure(place: Path, found: FoundEntry, publishers: int, each: int) -> list[float]:
    """Return the seconds of every publishing, all publishers working at once."""
    end = found.entry.name[found.entry.name.index("-dim") :]
    tasks = []
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(publishers) as pool:
        barrier = manager.Barrier(publishers)
        for number in range(publishers):
            folders = [
                checkpoint(found, place.with_name(f"{place.name}-{number}-{i}"), 100 * number + i)
                for i in range(each)
            ]
            name = f"{found.entry.model}-publisher{number}{end}".lower()
            tasks.append((number, folders, name, place, barrier))
        return [one for seconds in pool.starmap(publisher, tasks, 1) for one in seconds]


def main() -> None:
    """Measure stores of growing size, and print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--publishers", type=int, default=8)
    parser.add_argument("--each", type=int, default=4, help="models of each publisher")
    options = parser.parse_args()
    found = smallest()
    floor = 0.0
    for count in [0, *options.entries]:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "store")
            if count:
                fill(place, found, count)
            seconds = measure(place, found, options.publishers, options.each)
            published = options.publishers * options.each
            if len(rebuild_index(LocalStore(place))) != count + published:
                raise SystemExit(f"entries were lost: {count} and {published} are expected")
        median = statistics.median(seconds)
        floor = floor or median
        print(
            f"{count:5} entries, {options.publishers} publishers: median {median:.3f} s, slowest "
            f"{max(seconds):.3f} s for each model; {median / floor:.2f} times the empty store",
            flush=True,
        )


if __name__ == "__main__":
    main()
