"""Draw the README's picture from the committed tables: quality against bytes, with the controls.

    python benchmarks/picture.py

FB15k-237 and WN18RR, test MRR against bytes per entity: the best models of the zoo as int8 or
codebooks, of any kind (zoo.toml); ComplEx students as float32 (chains.csv), ComplEx trained
without a teacher by us (quality.csv) and as published (report/anchors.toml). What all entities
share, such as a hidden layer or codebooks, is not in the bytes. Writes
``benchmarks/results/quality.png``.
"""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TITLES = {"fb15k237": "FB15k-237", "wn18rr": "WN18RR"}
STUDENT, SMALL, DIRECT, PUBLISHED = "#3b6fb6", "#2f9e8f", "#c8553d", "#8a8a8a"

Points = list[tuple[float, float]]
"""Bytes per entity and test MRR."""


def table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def students(dataset: str) -> Points:
    """Return the students of the chains, as float32."""
    rows = table(ROOT / "experiments" / "results" / "chains.csv")
    return sorted(
        (int(row["bytes_per_entity"]), float(row["test_mrr"]))
        for row in rows
        if (row["dataset"], row["role"], row["model"]) == (dataset, "student", "ComplEx")
    )


def shipped(dataset: str) -> Points:
    """Return the zoo's models in few bytes, but those that a smaller one is as good as."""
    models = tomllib.loads((ROOT / "zoo.toml").read_text(encoding="utf-8"))["model"]
    found = {
        (each["bytes_per_entity"], each["metrics"]["mrr"])
        for each in models
        if each["dataset"] == dataset
        and each["dtype"] != "float32"
        and each["metrics"]["split"] == "test"
    }
    return sorted(
        (size, mrr)
        for size, mrr in found
        if not any(mrr <= other for smaller, other in found - {(size, mrr)} if smaller <= size)
    )


def direct(dataset: str) -> Points:
    """Return what we trained without a teacher."""
    return sorted(
        (int(row["bytes_per_entity"]), float(row["test_mrr"]))
        for row in table(RESULTS / "quality.csv")
        if (row["dataset"], row["model"]) == (dataset, "ComplEx")
    )


def published(dataset: str) -> Points:
    """Return what Lacroix, Usunier, Obozinski 2018 have without a teacher, 4 bytes a float."""
    path = ROOT / "dglke_distill" / "report" / "anchors.toml"
    (found,) = tomllib.loads(path.read_text(encoding="utf-8")).values()
    return sorted(
        (4 * each["floats_per_entity"], each["mrr"])
        for each in found
        if each["dataset"] == dataset and "kbc" in each["source"]
    )


def main() -> None:
    """Read the tables, draw, write the file."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.5), constrained_layout=True)
    for panel, (dataset, title) in zip(panels, TITLES.items()):
        series = (
            (shipped(dataset), SMALL, "o-", "best of the zoo, int8 or codebooks"),
            (students(dataset), STUDENT, "o-", "ComplEx student, float32"),
            (direct(dataset), DIRECT, "s--", "ComplEx, no teacher, float32"),
            (published(dataset), PUBLISHED, "x:", "ComplEx, no teacher, published"),
        )
        for points, colour, style, label in series:
            assert points, (dataset, label)
            panel.plot(*zip(*points), style, color=colour, markersize=6, linewidth=1.4, label=label)
        panel.set_xscale("log", base=2)
        ticks = [16, 32, 64, 128, 256, 512, 1024, 2048]
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8)
        panel.minorticks_off()
        panel.set_title(title, loc="left", fontsize=11)
        panel.set_xlabel("bytes per entity")
        panel.set_ylabel("test MRR, filtered")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8.5, loc="lower right")
    figure.savefig(RESULTS / "quality.png", dpi=130)
    print(RESULTS / "quality.png")


if __name__ == "__main__":
    main()
