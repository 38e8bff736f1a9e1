"""Published reference points that a run is shown beside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dglke_distill.config import read_toml

_FILE = Path(__file__).with_name("anchors.toml")
_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Anchor:
    """A published test MRR.

    Attributes:
        name: model and code.
        dataset: name in our catalog.
        floats_per_entity: complex parts counted.
        mrr: filtered, over all entities.
        citation: the paper.
        source: where figure and size stand.
    """

    name: str
    dataset: str
    floats_per_entity: int
    mrr: float
    citation: str
    source: str

    @property
    def bytes_per_entity(self) -> int:
        """All of them were trained in 32-bit floats."""
        return self.floats_per_entity * _FLOAT32_BYTES


@cache
def _all() -> tuple[Anchor, ...]:
    return tuple(Anchor(**entry) for entry in read_toml(_FILE)["anchor"])


def anchors(dataset: str) -> tuple[Anchor, ...]:
    """Return the reference points of a dataset, in the order of the file."""
    return tuple(anchor for anchor in _all() if anchor.dataset == dataset)
