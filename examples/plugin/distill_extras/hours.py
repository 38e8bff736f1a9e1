"""The hours of a day, and how they lie to each other: a graph that is made, not downloaded."""

from __future__ import annotations

import numpy as np

from dglke_distill.data.sources import DatasetSource
from dglke_distill.data.triples import Dataset, Triples, Vocabulary

STEPS = {"next": 1, "previous": -1, "six hours on": 6, "opposite": 12}


class Hours(DatasetSource):
    """All facts about 24 hours, every tenth to choose a model by and every tenth to test it."""

    name = "hours"
    description = "The 24 hours of a day with four relations between them."
    licence = "CC0-1.0"

    def load(self) -> Dataset:
        """Return the dataset."""
        hours = np.arange(24)
        facts = np.concatenate(
            [
                np.stack([hours, np.full(24, relation), (hours + step) % 24], axis=1)
                for relation, step in enumerate(STEPS.values())
            ]
        )
        facts = facts[np.random.default_rng(0).permutation(len(facts))].astype(np.int32)
        turn = np.arange(len(facts)) % 10
        splits = (facts[turn > 1], facts[turn == 0], facts[turn == 1])
        return Dataset(
            self.name,
            Vocabulary([f"{hour:02}:00" for hour in hours]),
            Vocabulary(list(STEPS), kind="relation"),
            *(Triples(*split.T) for split in splits),
        )
