"""The contract of datasets."""

from __future__ import annotations

from dglke_distill.data.sources import DATASETS, DatasetSource, load_source
from dglke_distill.testing.common import registered


def check_dataset(kind: type[DatasetSource]) -> None:
    """Check that a dataset is well-formed, is the same each time, and says what it is.

    Args:
        kind: the class.
    """
    with registered(DATASETS, kind) as name:
        first, second = load_source(name.upper()), load_source(name)
    assert first.name == name
    assert len(first.valid) and len(first.test), f"{name}: valid and test must not be empty"
    assert first.fingerprint == second.fingerprint, f"{name}: two calls give other triples"
    assert kind.licence, f"{name}: say its licence, or that its publisher names none"
