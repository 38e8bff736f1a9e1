"""Batches: positives, negatives and neighbourhoods, drawn reproducibly."""
