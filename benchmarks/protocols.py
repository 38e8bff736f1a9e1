"""The zoo's best models under every protocol: what the same model's figure would be elsewhere.

    python benchmarks/protocols.py --data-root DIR
    python benchmarks/protocols.py --data-root DIR --models rote-wn18rr-dim31-int8

Each model's test split is ranked under each protocol of ``evaluate --protocol``. Figures of
different protocols do not compare with each other; each compares with published ones of its kind.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

import dglke_distill as kd
from dglke_distill.base import runtime
from dglke_distill.base.files import atomic_write_text
from dglke_distill.evaluate import PROTOCOLS

RESULTS = Path(__file__).parent / "results" / "protocols.csv"

MODELS = (
    "rote-wn18rr-dim61-pq32",
    "rote-wn18rr-dim31-int8",
    "rescal-fb15k237-dim64-int8",
    "rescal-fb15k237-dim32-int8",
)
"""The best of the zoo with at most 64 and 32 floats."""


def main() -> None:
    """Rank every model under every protocol and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--threads", type=int, default=runtime.available_cores())
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        for protocol in PROTOCOLS:
            found = kd.evaluate(
                name,
                protocol=protocol,
                data_root=arguments.data_root,
                threads=arguments.threads,
            )
            rows.append(
                {
                    "model": name,
                    "protocol": protocol,
                    "triples": found.triples,
                    "dropped": found.protocol.dropped,
                    "candidates": found.entities,
                    "mrr": round(found.mrr, 4),
                    "hits_at_1": round(found.hits_at_1, 4),
                    "hits_at_3": round(found.hits_at_3, 4),
                    "hits_at_10": round(found.hits_at_10, 4),
                }
            )
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(arguments.csv, out.getvalue())


if __name__ == "__main__":
    main()
