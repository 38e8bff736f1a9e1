"""Batches: positives, negatives and neighbourhoods, drawn reproducibly."""

from dglke_distill.base import runtime  # noqa: F401  (chooses DGL's backend before dgl is imported)
