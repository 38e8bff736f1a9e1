"""Write a synthetic graph of the size of ogbl-biokg, in its official file layout.

Five types of entities, 51 relations between them, ids local to the type, negatives of the type that
they replace. As in ``synthetic_wikikg2.py`` degrees have a power-law tail and there is something to
learn: the entities of every type lie at places on one ring, and a relation leads from a place to
the one a fixed number of steps further on, except for a stated share of noise. Facts of symmetric
relations (protein with protein, function with function) come with a step of nought.

    python benchmarks/synthetic_biokg.py synthetic               # full size, minutes
    python benchmarks/synthetic_biokg.py small --scale 0.01      # a hundredth, seconds

The ogb package and ``dglke_distill.data.ogb.load_ogb`` then read it as ``ogbl-biokg``.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from synthetic_wikikg2 import (
    HEAD_SKEW,
    NOISE,
    TAIL_SKEW,
    generate,
    save_as_torch_does,
    write_table,
)

Ids = NDArray[np.int64]
Triplet = tuple[str, str, str]

TYPES = {"disease": 10_687, "drug": 10_533, "function": 45_085, "protein": 17_499,
         "sideeffect": 9_969}  # fmt: skip
PAIRS = [
    ("disease", "disease-protein", "protein"),
    ("drug", "drug-disease", "disease"),
    ("drug", "drug-protein", "protein"),
    ("drug", "drug-sideeffect", "sideeffect"),
    ("function", "function-function", "function"),
    ("protein", "protein-function", "function"),
]
TRIPLETS: list[Triplet] = sorted(
    PAIRS
    + [("drug", f"drug-drug_effect{i:02d}", "drug") for i in range(38)]
    + [("protein", f"protein-protein_kind{i}", "protein") for i in range(7)]
)
SYMMETRIC = ("protein-protein", "function-function")
ROWS_AT_A_TIME = 1 << 14


@dataclass(frozen=True)
class Size:
    """How large the graph is.

    Attributes:
        types: number of entities of each type; each entity occurs in train.
        train: number of train triples. valid: of validation triples. test: of test triples.
        negatives: number of given negatives a side for each valid and test triple.
        places: length of the ring.
    """

    types: tuple[tuple[str, int], ...] = tuple(TYPES.items())
    train: int = 4_762_678
    valid: int = 162_886
    test: int = 162_870
    negatives: int = 500
    places: int = 60

    def scaled(self, factor: float) -> Size:
        """Return a smaller graph with as many types, relations and negatives."""
        types = tuple((name, max(10, round(count * factor))) for name, count in self.types)
        train, valid, test = (
            max(1, round(count * factor)) for count in (self.train, self.valid, self.test)
        )
        places = max(5, min(self.places, min(count for _, count in types) // 8))
        return Size(types, train, valid, test, self.negatives, places)


@dataclass(frozen=True)
class World:
    """What the facts are drawn from.

    Attributes:
        size: how large the graph is.
        step: int64 (relations,), how far along the ring each relation leads.
        entity_of: of each type int64 (entities,), popularity rank -> local id. The place of the
            entity with rank p is ``p % places``.
    """

    size: Size
    step: Ids
    entity_of: dict[str, Ids]

    @classmethod
    def draw(cls, size: Size, rng: np.random.Generator) -> World:
        """Draw the steps of the relations and the ids of the entities."""
        step = rng.integers(1, size.places, len(TRIPLETS))
        step[[name.startswith(SYMMETRIC) for _, name, _ in TRIPLETS]] = 0
        return cls(size, step, {name: rng.permutation(count) for name, count in size.types})

    def facts(self, relation: int, ranks: Ids, rng: np.random.Generator, *, head: bool) -> Ids:
        """Complete facts of a relation whose heads, or tails, have the given popularity ranks.

        Returns:
            int64 (n, 2), local ids of head and tail.
        """
        kinds = TRIPLETS[relation][0], TRIPLETS[relation][2]
        given, asked = kinds if head else kinds[::-1]
        ring, count = self.size.places, len(self.entity_of[asked])
        place = (ranks + (1 if head else -1) * self.step[relation]) % ring
        noisy = rng.random(len(ranks)) < NOISE
        place[noisy] = rng.integers(0, ring, int(noisy.sum()))
        members = (count - place + ring - 1) // ring
        skew = TAIL_SKEW if head else HEAD_SKEW
        other = (members * rng.random(len(ranks)) ** skew).astype(np.int64) * ring + place
        ends = self.entity_of[given][ranks], self.entity_of[asked][other]
        return np.stack(ends if head else ends[::-1], axis=1)

    def covering(self, rng: np.random.Generator) -> list[tuple[int, Ids]]:
        """Return facts that give each entity one, by relation; every relation has some."""
        found = []
        for relation, (head, _, tail) in enumerate(TRIPLETS):
            of_head = [r for r, triplet in enumerate(TRIPLETS) if triplet[0] == head]
            ranks = np.arange(of_head.index(relation), len(self.entity_of[head]), len(of_head))
            found.append((relation, self.facts(relation, ranks, rng, head=True)))
            if tail not in {triplet[0] for triplet in TRIPLETS}:
                ranks = np.arange(len(self.entity_of[tail]))
                found.append((relation, self.facts(relation, ranks, rng, head=False)))
        return found


def draw_splits(world: World, seed: int) -> dict[str, dict[str, Ids]]:
    """Draw distinct facts and part them, the facts that cover all entities in train.

    Raises:
        ValueError: there are fewer train facts than needed to cover all entities, or the ring has
            room for fewer facts than asked for.
    """
    size, rng = world.size, np.random.default_rng([seed, 1])
    wanted = size.train + size.valid + size.test
    limit = max(count for _, count in size.types)

    def pack(relation: int, ends: Ids) -> Ids:
        return (relation * limit + ends[:, 0]) * limit + ends[:, 1]

    packed = np.unique(np.concatenate([pack(*facts) for facts in world.covering(rng)]))
    covering = len(packed)
    if covering > size.train:
        raise ValueError(f"{size.train} train facts cannot cover all entities: {covering} do")
    weight = 1.0 / np.arange(1, len(TRIPLETS) + 1)
    # Large relations are those between large types.
    room = [dict(size.types)[h] * dict(size.types)[t] for h, _, t in TRIPLETS]
    share = np.empty(len(TRIPLETS))
    share[np.argsort(room)[::-1]] = weight / weight.sum()
    for _ in range(100):
        if len(packed) >= wanted:
            break
        missing = int((wanted - len(packed)) * 1.2) + 1000
        more = []
        for relation, count in enumerate(rng.multinomial(missing, share)):
            heads = len(world.entity_of[TRIPLETS[relation][0]])
            ranks = (heads * rng.random(count) ** HEAD_SKEW).astype(np.int64)
            more.append(pack(relation, world.facts(relation, ranks, rng, head=True)))
        packed = np.concatenate([packed, *more])
        packed = packed[np.sort(np.unique(packed, return_index=True)[1])]
    if len(packed) < wanted:
        raise ValueError(f"only {len(packed)} of {wanted} distinct facts were found")
    rest = rng.permutation(packed[covering:])[: wanted - covering]
    train = rng.permutation(np.concatenate([packed[:covering], rest[: size.train - covering]]))
    others = rest[size.train - covering :]
    parts = {"train": train, "valid": others[: size.valid], "test": others[size.valid :]}

    def unpack(part: Ids) -> dict[str, Ids]:
        query, tail = np.divmod(part, limit)
        relation, head = np.divmod(query, limit)
        return {"head": head, "relation": relation, "tail": tail}

    return {name: unpack(part) for name, part in parts.items()}


def write(root: Path, size: Size, seed: int) -> Path:
    """Write ``root/ogbl_biokg`` and return it.

    Raises:
        FileExistsError: the folder is already there.
    """
    import pandas as pd

    folder = root / "ogbl_biokg"
    for part in ("raw/relations", "processed", "split/random"):
        (folder / part).mkdir(parents=True)
    splits = draw_splits(World.draw(size, np.random.default_rng([seed, 0])), seed)
    counts = pd.DataFrame({name: [count] for name, count in size.types})
    counts.to_csv(folder / "raw" / "num-node-dict.csv.gz", index=False)
    triplets = pd.DataFrame(TRIPLETS)
    triplets.to_csv(folder / "raw" / "triplet-type-list.csv.gz", index=False, header=False)
    train = splits["train"]
    for number, triplet in enumerate(TRIPLETS):
        place = folder / "raw" / "relations" / "___".join(triplet)
        place.mkdir()
        rows = np.flatnonzero(train["relation"] == number)
        write_table(place / "edge.csv.gz", train["head"][rows], train["tail"][rows])
        write_table(place / "num-edge-list.csv.gz", np.array([len(rows)]))
        write_table(place / "edge_reltype.csv.gz", np.full(len(rows), number))
    rng = np.random.default_rng([seed, 2])
    for name in ("train", "valid", "test"):
        columns: dict[str, Any] = splits.pop(name)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            for side, end in (("head", 0), ("tail", 2)):
                kinds = [TRIPLETS[relation][end] for relation in columns["relation"].tolist()]
                columns[f"{side}_type"] = kinds
                if name != "train":
                    limits = np.array([dict(size.types)[kind] for kind in kinds])
                    on_disk = Path(temporary, f"{side}_neg.npy")
                    columns[f"{side}_neg"] = _draw_negatives(on_disk, limits, size.negatives, rng)
            save_as_torch_does(columns, folder / "split" / "random" / f"{name}.pt")
            del columns
    (folder / "RELEASE_v1.txt").touch()
    return folder


def _draw_negatives(path: Path, limits: Ids, count: int, rng: np.random.Generator) -> Ids:
    """Draw uniform local ids below each row's limit into a file that the returned array maps."""
    negatives = np.lib.format.open_memmap(path, "w+", np.int64, (len(limits), count))
    for start in range(0, len(limits), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        negatives[rows] = rng.integers(0, limits[rows, None], (len(limits[rows]), count))
    return np.asarray(negatives)


if __name__ == "__main__":
    generate((__doc__ or "").splitlines()[0], "ogbl_biokg", Size, write)
