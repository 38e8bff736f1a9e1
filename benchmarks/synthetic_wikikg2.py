"""Write a synthetic graph of the size of ogbl-wikikg2, in its official file layout.

The real dataset cannot be shipped, and a benchmark of scale must not depend on a download. This
graph has the same numbers of entities, relations and triples, degrees with a power-law tail, and
something to learn: entities fall into communities that lie on a ring, and most relations have their
heads in a stretch of it, their domain, and lead from a community to the one a fixed number of steps
further on; the others gather at one community.

    python benchmarks/synthetic_wikikg2.py synthetic               # full size, a few minutes
    python benchmarks/synthetic_wikikg2.py small --scale 0.01      # a hundredth, seconds

The ogb package and ``dglke_distill.data.ogb.load_ogb`` then read it as ``ogbl-wikikg2``.
"""

from __future__ import annotations

import argparse
import gzip
import io
import pickle
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

HEAD_SKEW = 1.5
"""Heads are drawn by popularity as u**a, u uniform: their degrees fall off as a power."""
TAIL_SKEW = 3.0
"""The same for tails: a few objects, such as countries and types, are the answer to very much."""
NOISE = 0.1
"""Share of triples whose tail lies in a random community."""
GATHERING = 5
"""Every so many relations, one leads from everywhere to one community, as "instance of" does."""
DOMAIN = 1 / 8
"""Share of the ring from which the heads of a relation come that does not gather. Without domains
six facts an entity are too few: models learn facts by heart before they find the ring."""
ROWS_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class Size:
    """How large the graph is.

    Attributes:
        entities: number of entities; each occurs in train.
        relations: number of relations; each occurs in train.
        train: number of train triples.
        valid: number of validation triples.
        test: number of test triples.
        negatives: number of given negatives a side for each valid and test triple.
    """

    entities: int = 2_500_604
    relations: int = 535
    train: int = 16_109_182
    valid: int = 429_456
    test: int = 598_543
    negatives: int = 500

    def scaled(self, factor: float) -> Size:
        """Return a smaller graph with as many relations and negatives."""
        counts = (self.entities, self.train, self.valid, self.test)
        entities, train, valid, test = (max(1, round(count * factor)) for count in counts)
        return Size(entities, self.relations, train, valid, test, self.negatives)

    @property
    def communities(self) -> int:
        """Number of communities: about a thousand entities each, at least sixteen communities."""
        return min(self.entities, max(16, self.entities // 1000))


@dataclass(frozen=True)
class World:
    """What the facts are drawn from.

    Attributes:
        size: how large the graph is.
        step: int64 array of shape (relations,): how far along the ring each relation leads, or
            where to, for every ``GATHERING``-th relation.
        domain: int64 array of shape (relations,): first community of each relation's domain.
        entity_of: int64 array of shape (entities,): popularity rank -> entity id. The community of
            the entity with rank p is ``p % communities``.
    """

    size: Size
    step: Ids
    domain: Ids
    entity_of: Ids

    @classmethod
    def draw(cls, size: Size, rng: np.random.Generator) -> World:
        """Draw the steps and domains of the relations and the ids of the entities."""
        step, domain = rng.integers(0, size.communities, (2, size.relations))
        return cls(size, step, domain, rng.permutation(size.entities))

    @property
    def width(self) -> int:
        """Number of communities in a domain."""
        return max(1, round(DOMAIN * self.size.communities))

    def facts(self, count: int, rng: np.random.Generator) -> Ids:
        """Draw facts, packed into one int64 each; the first ones give each entity a fact.

        The next ones, as many as there are relations, give each relation one.
        """
        size, ring = self.size, self.size.communities
        head = (size.entities * rng.random(count) ** HEAD_SKEW).astype(np.int64)
        every = min(count, size.entities)
        head[:every] = rng.permutation(size.entities)[:every]
        weight = 1.0 / np.arange(1, size.relations + 1)
        relation = rng.choice(size.relations, count, p=weight / weight.sum())
        further = relation[every : every + size.relations]
        further[:] = np.arange(size.relations)[: len(further)]
        relation[:every] = self._relations_of(head[:every], weight, rng)
        gathers = relation % GATHERING == 0
        # Everyone else moves to the nearest rank that lies in the domain of its relation.
        moved = ~gathers
        moved[:every] = False
        place = (self.domain[relation] + rng.integers(0, self.width, count)) % ring
        nearest = head - head % ring + place
        nearest -= ring * (nearest >= size.entities)
        head = np.where(moved, nearest, head)
        start = np.where(gathers, 0, head)
        community = (start + self.step[relation]) % ring
        noisy = rng.random(count) < NOISE
        community[noisy] = rng.integers(0, ring, int(noisy.sum()))
        members = (size.entities - community + ring - 1) // ring
        tail = (members * rng.random(count) ** TAIL_SKEW).astype(np.int64) * ring + community
        query = self.entity_of[head] * size.relations + relation
        return query * size.entities + self.entity_of[tail]

    def _relations_of(self, head: Ids, weight: NDArray[Any], rng: np.random.Generator) -> Ids:
        """Draw a relation for each head (n,) among those whose domain it lies in."""
        size, ring = self.size, self.size.communities
        inside = (np.arange(ring)[:, None] - self.domain) % ring < self.width
        gathers = np.arange(size.relations) % GATHERING == 0
        chance = np.cumsum((inside | gathers) * weight, axis=1)
        community = head % ring
        drawn = rng.random(len(head)) * chance[community, -1]
        relation = np.empty(len(head), np.int64)
        order = np.argsort(community, kind="stable")
        ends = np.searchsorted(community[order], np.arange(1, ring))
        for place, own in enumerate(np.split(order, ends)):
            found = np.searchsorted(chance[place], drawn[own], side="right")
            relation[own] = np.minimum(found, size.relations - 1)
        return relation

    def unpack(self, packed: Ids) -> dict[str, Ids]:
        """Return the columns of packed facts."""
        rest, tail = np.divmod(packed, self.size.entities)
        head, relation = np.divmod(rest, self.size.relations)
        return {"head": head, "relation": relation, "tail": tail}


def draw_splits(world: World, seed: int) -> dict[str, dict[str, Ids]]:
    """Draw distinct facts and part them, the facts that cover entities and relations in train."""
    size = world.size
    rng = np.random.default_rng([seed, 1])
    wanted = size.train + size.valid + size.test
    packed = np.empty(0, np.int64)
    while len(packed) < wanted:
        more = world.facts(int((wanted - len(packed)) * 1.1) + size.entities, rng)
        # First come, first kept: the covering facts are the first ones.
        packed = np.concatenate([packed, more])
        first = np.sort(np.unique(packed, return_index=True)[1])
        packed = packed[first]
    packed = packed[:wanted]
    covering = min(size.train, size.entities + size.relations)
    rng.shuffle(packed[covering:])
    rng.shuffle(packed[: size.train])
    parts = np.split(packed, [size.train, size.train + size.valid])
    return {name: world.unpack(part) for name, part in zip(("train", "valid", "test"), parts)}


def write(root: Path, size: Size, seed: int) -> Path:
    """Write ``root/ogbl_wikikg2`` and return it.

    Raises:
        FileExistsError: the folder is already there.
    """
    folder = root / "ogbl_wikikg2"
    for part in ("raw", "processed", "split/time"):
        (folder / part).mkdir(parents=True)
    splits = draw_splits(World.draw(size, np.random.default_rng([seed, 0])), seed)
    train = splits["train"]
    write_table(folder / "raw" / "edge.csv.gz", train["head"], train["tail"])
    write_table(folder / "raw" / "edge_reltype.csv.gz", train["relation"])
    write_table(folder / "raw" / "num-node-list.csv.gz", np.array([size.entities]))
    write_table(folder / "raw" / "num-edge-list.csv.gz", np.array([size.train]))
    del train
    rng = np.random.default_rng([seed, 2])
    for name in ("train", "valid", "test"):
        columns: dict[str, Any] = splits.pop(name)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            if name != "train":
                shape = (len(columns["head"]), size.negatives)
                for side in ("head", "tail"):
                    on_disk = Path(temporary, f"{side}_neg.npy")
                    columns[f"{side}_neg"] = _draw_negatives(on_disk, shape, size.entities, rng)
            save_as_torch_does(columns, folder / "split" / "time" / f"{name}.pt")
            del columns
    (folder / "RELEASE_v1.txt").touch()
    return folder


def _draw_negatives(
    path: Path, shape: tuple[int, int], entities: int, rng: np.random.Generator
) -> Ids:
    """Draw uniform entities into a file that the returned array maps: gigabytes, not of memory."""
    negatives = np.lib.format.open_memmap(path, "w+", np.int64, shape)
    for start in range(0, shape[0], ROWS_AT_A_TIME // 64):
        rows = negatives[start : start + ROWS_AT_A_TIME // 64]
        rows[:] = rng.integers(0, entities, rows.shape)
    return np.asarray(negatives)


def save_as_torch_does(columns: dict[str, Ids], path: Path) -> None:
    """Write what ``torch.save`` would write for numpy arrays, which it gathers in memory first."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        # Protocol 5 hands an array's memory to the file as it is; older ones copy it.
        with archive.open(f"{path.stem}/data.pkl", "w", force_zip64=True) as stream:
            pickle.dump(columns, stream, protocol=5)
        archive.writestr(f"{path.stem}/byteorder", "little")
        archive.writestr(f"{path.stem}/version", "3\n")


def write_table(path: Path, *columns: Ids) -> None:
    """Write columns as gzipped comma-separated text without a header, some rows at a time."""
    import pandas as pd

    with gzip.open(path, "wb", compresslevel=1) as stream:
        for start in range(0, len(columns[0]), ROWS_AT_A_TIME):
            rows = [column[start : start + ROWS_AT_A_TIME] for column in columns]
            text = io.StringIO()
            pd.DataFrame(np.stack(rows, axis=1)).to_csv(text, index=False, header=False)
            stream.write(text.getvalue().encode())


def generate(about: str, folder: str, size: Any, write: Callable[[Path, Any, int], Path]) -> None:
    """Read a generator's command line and write its graph.

    Args:
        about: first line of its help. folder: what it writes below the root.
        size: its class of sizes. write: writes a graph of a size with a seed.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("root", type=Path, help=f"folder that will hold {folder}/")
    parser.add_argument("--scale", type=float, default=1.0, help="share of entities and triples")
    parser.add_argument("--negatives", type=int, default=500, help="given negatives a side")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    chosen = size(negatives=options.negatives).scaled(options.scale)
    place = write(options.root, chosen, options.seed)
    print(f"{place}: {chosen} in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    generate((__doc__ or "").splitlines()[0], "ogbl_wikikg2", Size, write)
