"""Draw the README's picture from the committed quality table.

    python benchmarks/picture.py

Test MRR against floats per entity, one panel per dataset, beside published figures of other
libraries at their own sizes. Writes ``benchmarks/results/quality.png``.
"""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).with_name("results")
TITLES = {"fb15k237": "FB15k-237", "wn18rr": "WN18RR"}
COLOURS = {
    "TransE": "#3b6fb6",
    "ComplEx": "#c8553d",
    "RotatE": "#4b8f5a",
    "RotE": "#8a5fb0",
    "RotH": "#b08a2e",
}
# Published test MRR: LibKGE's model zoo (Ruffinelli, Broscheit, Gemulla 2020) and, for 50 floats,
# ComplEx-N3 with the code of Lacroix, Usunier, Obozinski 2018.
PUBLISHED = {
    "fb15k237": [("TransE", 0.313), ("ComplEx", 0.348), ("RotatE", 0.333)],
    "wn18rr": [("ComplEx", 0.475), ("RotatE", 0.478)],
}


def main() -> None:
    """Read the table, draw, write the file."""
    with (RESULTS / "quality.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] in TITLES]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for panel, (dataset, title) in zip(panels, TITLES.items()):
        for model, mrr in PUBLISHED[dataset]:
            panel.axhline(mrr, color=COLOURS[model], linewidth=1, linestyle=(0, (4, 3)), alpha=0.7)
            panel.annotate(
                f"{model}, LibKGE {mrr:.3f}",
                (0.01, mrr),
                xycoords=("axes fraction", "data"),
                fontsize=7.5,
                color=COLOURS[model],
                va="bottom",
            )
        for row in (row for row in rows if row["dataset"] == dataset):
            floats, mrr = int(row["floats_per_entity"]), float(row["test_mrr"])
            colour = COLOURS[row["model"]]
            panel.plot(floats, mrr, "o", color=colour, markersize=8)
            panel.annotate(
                f"{row['model']} {mrr:.3f}",
                (floats, mrr),
                # RotH is measured at RotE's size and all but equal to it: its name goes above.
                xytext=(-8 if floats > 100 else 8, 5 if row["model"] == "RotH" else -11),
                textcoords="offset points",
                fontsize=8.5,
                color=colour,
                ha="right" if floats > 100 else "left",
            )
        values = [float(r["test_mrr"]) for r in rows if r["dataset"] == dataset]
        values += [mrr for _, mrr in PUBLISHED[dataset]]
        margin = 0.02
        panel.set_ylim(min(values) - margin, max(values) + margin)
        panel.set_xscale("log", base=2)
        panel.set_xlim(20, 900)
        panel.set_xticks([32, 64, 128, 256, 512], ["32", "64", "128", "256", "512"])
        panel.set_title(title, loc="left", fontsize=11)
        panel.set_xlabel("floats per entity")
        panel.set_ylabel("test MRR, filtered")
        panel.grid(axis="y", alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / "quality.png", dpi=130)
    print(RESULTS / "quality.png")


if __name__ == "__main__":
    main()
