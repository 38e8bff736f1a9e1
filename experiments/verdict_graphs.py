"""Graphs made by seeds, whose relations are known: for the script of verdicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

__all__ = ["GRAPHS", "OWN", "write_graph"]

SPLITS = {"train.txt": 0.8, "valid.txt": 0.1, "test.txt": 0.1}

Fact = tuple[str, str, str]
Random = np.random.Generator


def family(rng: Random, size: int) -> list[Fact]:
    """Return generations of couples: inverse, symmetric and composed relations."""
    facts: list[Fact] = []
    parents: dict[str, tuple[str, str]] = {}
    alive = [f"p{n}" for n in range(8)]
    born = len(alive)
    while born < size:
        rng.shuffle(alive)
        children: list[str] = []
        for one, other in zip(alive[::2], alive[1::2]):
            facts += [(one, "spouse", other), (other, "spouse", one)]
            brood = [f"p{born + n}" for n in range(int(rng.integers(1, 5)))]
            born += len(brood)
            for child in brood:
                parents[child] = (one, other)
                for parent in (one, other):
                    facts += [(child, "parent", parent), (parent, "child", child)]
                    facts += [(child, "grandparent", old) for old in parents.get(parent, ())]
            facts += [(a, "sibling", b) for a in brood for b in brood if a != b]
            children += brood
        alive = children if len(children) > 1 else alive
    return facts


def kinds(rng: Random, size: int) -> list[Fact]:
    """Return one relation of each kind: symmetric, inverse, hierarchical and 1-N."""
    names = [f"e{n}" for n in range(size)]
    above = {n: int(rng.integers(0, n)) for n in range(1, size)}
    facts: list[Fact] = []
    for n in range(1, size):
        upper: Optional[int] = above[n]
        while upper is not None:  # below, and all that is above that
            facts.append((names[n], "below", names[upper]))
            upper = above.get(upper)
        one, other = names[n], names[above[n]]
        facts += [(one, "reports_to", other), (other, "leads", one)]
    for n in range(0, size - 1, 2):
        facts += [(names[n], "beside", names[n + 1]), (names[n + 1], "beside", names[n])]
    places = [f"place{n}" for n in range(max(2, size // 12))]
    facts += [(places[int(rng.integers(len(places)))], "holds", name) for name in names]
    return facts


def latent(rng: Random, size: int) -> list[Fact]:
    """Return facts between entities near each other after a relation's shift in a hidden space."""
    points = rng.normal(size=(size, 6))
    facts: list[Fact] = []
    for relation in range(6):
        moved = points + rng.normal(size=6) * (relation % 3) / 2
        far = ((moved[:, None] - points[None]) ** 2).sum(-1) + rng.exponential(0.5, (size, size))
        np.fill_diagonal(far, np.inf)
        for head in range(size):
            for tail in np.argsort(far[head])[: int(rng.integers(1, 4))]:
                facts.append((f"e{head}", f"r{relation}", f"e{tail}"))
    return facts


def blocks(rng: Random, size: int) -> list[Fact]:
    """Return facts whose chance depends on the groups of both ends (a stochastic block model)."""
    group = rng.integers(0, 6, size)
    facts: list[Fact] = []
    for relation in range(5):
        chance = rng.dirichlet(np.full(36, 0.15)).reshape(6, 6)
        weight = chance[group[:, None], group[None]]
        drawn = rng.choice(size * size, 2 * size, replace=False, p=(weight / weight.sum()).ravel())
        facts += [(f"e{n // size}", f"r{relation}", f"e{n % size}") for n in drawn]
    return facts


def grid(rng: Random, size: int) -> list[Fact]:
    """Return steps on a torus, both ways, and which column and row a cell is of."""
    side = max(3, round(size**0.5))
    cells = {(x, y): f"c{x}_{y}" for x in range(side) for y in range(side)}
    facts: list[Fact] = []
    for (x, y), name in cells.items():
        for way, (dx, dy) in {"east": (1, 0), "north": (0, 1), "knight": (1, 2)}.items():
            other = cells[(x + dx) % side, (y + dy) % side]
            facts += [(name, way, other), (other, f"un{way}", name)]
        facts += [(name, "column", f"x{x}"), (name, "row", f"y{y}")]
    return facts


def random(rng: Random, size: int) -> list[Fact]:
    """Return facts without any pattern: nothing can be better at them but by chance."""
    ends = rng.integers(0, size, (5 * size, 2))
    kind = rng.integers(0, 4, 5 * size)
    return [(f"e{h}", f"r{r}", f"e{t}") for (h, t), r in zip(ends, kind)]


def each_kind(rng: Random, size: int) -> list[Fact]:
    """Return a relation of each kind, on one ladder of ranks.

    1-1 (next), 1-N (leads), N-1 (reports_to, its inverse), N-N (knows), symmetric (beside),
    transitive (below), and one composed of another with itself (boss_of_boss).
    """
    names = [f"e{n}" for n in range(size)]
    above = {n: int(rng.integers(max(0, n // 4 - 2), (n + 3) // 4)) for n in range(1, size)}
    groups = rng.integers(0, max(2, size // 15), size)
    facts: list[Fact] = []
    for n in range(1, size):
        boss = above[n]
        facts.append((names[n - 1], "next", names[n]))
        facts += [(names[n], "reports_to", names[boss]), (names[boss], "leads", names[n])]
        if boss:
            facts.append((names[n], "boss_of_boss", names[above[boss]]))
        upper: Optional[int] = boss
        while upper is not None:
            facts.append((names[n], "below", names[upper]))
            upper = above.get(upper)
        if n % 2:
            facts += [(names[n], "beside", names[n - 1]), (names[n - 1], "beside", names[n])]
    for n, name in enumerate(names):
        near = np.flatnonzero(groups == groups[n])
        known = rng.choice(near, min(3, len(near)), replace=False)
        facts += [(name, "knows", names[other]) for other in known if other != n]
    return facts


def society(rng: Random, size: int) -> list[Fact]:
    """Return families in towns, with work and acquaintances: many facts of few relations."""
    facts = family(rng, size)
    people = list(dict.fromkeys(end for fact in facts for end in (fact[0], fact[2])))
    towns = [f"town{n}" for n in range(max(2, size // 40))]
    home: dict[str, int] = {}
    couples = {head: tail for head, relation, tail in facts if relation == "spouse"}
    for person in people:
        beside = home.get(couples.get(person, ""))
        home[person] = int(rng.integers(len(towns))) if beside is None else beside
        facts.append((person, "lives_in", towns[home[person]]))
    folk: dict[int, list[str]] = {}
    for person in people:
        folk.setdefault(home[person], []).append(person)
    for person in people:
        trade = int(rng.integers(12))
        facts.append((person, "works_as", f"trade{trade}"))
        if rng.random() < 0.7:
            facts.append((person, "employed_by", f"firm{home[person]}_{trade % 3}"))
        for _ in range(int(rng.integers(1, 4))):
            other = folk[home[person]][int(rng.integers(len(folk[home[person]])))]
            if other != person:
                facts += [(person, "knows", other), (other, "knows", person)]
    return facts


class Graph(NamedTuple):
    """A graph to be made: its maker, and about how many entities it has."""

    make: Callable[[Random, int], list[Fact]]
    size: int


GRAPHS: dict[str, tuple[Graph, int]] = {
    f"{make.__name__}-{seed}": (Graph(make, size), seed)
    for make, sizes in (
        (family, (60, 160)),
        (kinds, (60, 150)),
        (latent, (50, 150)),
        (blocks, (80, 200)),
        (grid, (49, 144)),
        (random, (60, 150)),
    )
    for seed, size in enumerate(sizes)
}
"""The dozen, by name; the number is the seed."""

OWN: dict[str, tuple[Graph, int]] = {
    "under-500-facts": (Graph(family, 42), 5),
    "each-kind": (Graph(each_kind, 240), 0),
    "50000-facts": (Graph(society, 2700), 0),
}
"""Three more, for `run` without flags."""


def write_graph(name: str, folder: Path) -> Path:
    """Write a graph of this script as train, valid and test, and return its folder.

    Every entity and relation of valid and test stands in train.
    """
    graph, seed = (GRAPHS | OWN)[name]
    rng = np.random.default_rng((seed, graph.size))
    facts = list(dict.fromkeys(graph.make(rng, graph.size)))
    rng.shuffle(facts)
    facts = [tuple(fact) for fact in facts]  # type: ignore[misc]  # (shuffling makes no arrays)
    known: set[str] = set()
    first: list[Fact] = []
    rest: list[Fact] = []
    for fact in facts:
        (rest if known.issuperset(fact) else first).append(fact)
        known.update(fact)
    counts = [round(share * len(facts)) for share in list(SPLITS.values())[1:]]
    held = min(sum(counts), len(rest))
    valid, test = rest[: held // 2], rest[held // 2 : held]
    parts = dict(zip(SPLITS, (first + rest[held:], valid, test)))
    folder.mkdir(parents=True, exist_ok=True)
    for file, part in parts.items():
        lines = "".join("\t".join(fact) + "\n" for fact in part)
        (folder / file).write_text(lines, encoding="utf-8")
    return folder
