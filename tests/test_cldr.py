"""The embedded dataset: its frozen files, what the split promises, and that it builds again."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from scripts import imported

from dglke_distill.data.manifest import load_manifest

DATASETS = Path(__file__).resolve().parent.parent / "datasets"
SPLITS = ("train", "valid", "test")


def _read(name: str) -> list[tuple[str, str, str]]:
    lines = (DATASETS / "cldr" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    facts = [tuple(line.split("\t")) for line in lines]
    assert all(len(fact) == 3 for fact in facts)
    return facts  # type: ignore[return-value]


@pytest.fixture(scope="module")
def facts() -> dict[str, list[tuple[str, str, str]]]:
    return {name: _read(name) for name in SPLITS}


def test_manifest_describes_the_files(facts):
    manifest = load_manifest("cldr")
    for role, file in manifest.files.items():
        content = (DATASETS / "cldr" / file.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256, role
        assert len(content) == file.bytes
        assert file.lines in (None, content.count(b"\n"))
    everything = [fact for name in SPLITS for fact in facts[name]]
    assert manifest.counts.entities == len({e for h, _, t in everything for e in (h, t)})
    assert manifest.counts.relations == len({fact[1] for fact in everything})
    for name in SPLITS:
        assert getattr(manifest.counts, name) == len(facts[name])


def test_big_enough_and_readable(facts):
    everything = [fact for name in SPLITS for fact in facts[name]]
    assert len(everything) >= 5000
    names = {e for h, _, t in everything for e in (h, t)}
    assert len(names) >= 1500
    assert {"Georgia", "Georgian language", "Georgian script"} <= names
    assert all(name == name.strip() and name.isprintable() for name in names)


@pytest.mark.parametrize(
    "fact",
    [
        ("France", "official_language", "French language"),
        ("Germany", "uses_currency", "Euro"),
        ("Italy", "formerly_used_currency", "Italian Lira"),
        ("Kenya", "contained_in", "Eastern Africa"),
        ("Russian language", "main_script", "Cyrillic script"),
        ("Brazil", "has_time_zone", "America/Recife"),
        ("United States", "uses_clock", "12-hour clock"),
    ],
)
def test_well_known_facts(facts, fact):
    everything = {f for name in SPLITS for f in facts[name]}
    known = {f for f in everything if f[:2] == fact[:2]}
    assert fact in known, sorted(known)


def test_no_fact_gives_another_away(facts):
    pairs = Counter(frozenset((h, t)) for name in SPLITS for h, _, t in facts[name])
    assert max(pairs.values()) == 1
    assert all(len(pair) == 2 for pair in pairs), "no entity is tied to itself"


def test_held_out_facts_keep_to_what_train_knows(facts):
    degree = Counter(e for h, _, t in facts["train"] for e in (h, t))
    relations = Counter(r for _, r, _ in facts["train"])
    for name in ("valid", "test"):
        for head, relation, tail in facts[name]:
            assert degree[head] >= 2 and degree[tail] >= 2
            assert relations[relation] > 0
    held_out = Counter(r for name in ("valid", "test") for _, r, _ in facts[name])
    for relation, count in held_out.items():
        assert count <= 0.3 * (count + relations[relation])


def test_train_argues_for_every_held_out_fact(facts):
    """The promise of the split, checked against train alone and written out anew."""
    ends: dict[str, set[tuple[str, str, bool]]] = {}
    for head, relation, tail in facts["train"]:
        ends.setdefault(head, set()).add((relation, tail, True))
        ends.setdefault(tail, set()).add((relation, head, False))
    common = Counter(end for seen in ends.values() for end in seen)

    def argued(entity: str, answer: tuple[str, str, bool]) -> bool:
        telling = {end for end in ends[entity] if common[end] <= 60}
        alike = (other for other, seen in ends.items() if answer in seen and other != entity)
        return any(len(telling & ends[other]) >= 2 for other in alike)

    for name in ("valid", "test"):
        for head, relation, tail in facts[name]:
            from_head = argued(head, (relation, tail, True))
            assert from_head or argued(tail, (relation, head, False)), (head, relation, tail)


@pytest.mark.slow
def test_builder_writes_the_same_bytes(tmp_path, monkeypatch):
    babel = pytest.importorskip("babel", reason="Babel is not installed")
    monkeypatch.syspath_prepend(str(DATASETS))
    builder = imported(DATASETS / "build_cldr.py")
    if babel.__version__ != builder.BABEL_VERSION:
        pytest.skip(f"frozen from Babel {builder.BABEL_VERSION}; {babel.__version__} is installed")
    builder.write(tmp_path)
    for name in SPLITS:
        frozen = (DATASETS / "cldr" / f"{name}.txt").read_bytes()
        assert (tmp_path / f"{name}.txt").read_bytes() == frozen


def test_builder_refuses_another_babel(monkeypatch):
    babel = pytest.importorskip("babel", reason="Babel is not installed")
    monkeypatch.syspath_prepend(str(DATASETS))
    builder = imported(DATASETS / "build_cldr.py")
    monkeypatch.setattr(babel, "__version__", "0.1")
    with pytest.raises(RuntimeError, match=r"frozen from Babel .*, not 0\.1"):
        builder.build()


def test_split_by_hand():
    """Three facts in common: the fourth fact of one can be inferred for the other."""
    module = imported(DATASETS / "inferable_split.py")
    shared = [("a", f"r{i}", f"x{i}") for i in range(3)] + [
        ("b", f"r{i}", f"x{i}") for i in range(3)
    ]
    evidence = module.Evidence({*shared, ("a", "likes", "tea")})
    assert evidence.supports(("b", "likes", "tea"))
    assert not evidence.supports(("b", "likes", "coffee"))
    for fact in shared[4:]:
        evidence.remove(fact)
    assert not evidence.supports(("b", "likes", "tea")), "a single shared fact is no argument"


def test_pruning_leaves_no_single_fact():
    module = imported(DATASETS / "inferable_split.py")
    triangle = {("a", "r", "b"), ("b", "r", "c"), ("c", "r", "a")}
    chain = {("a", "r", "d"), ("d", "r", "e")}
    assert module.prune(triangle | chain) == triangle
    pairs = module.one_fact_per_pair(triangle | {("b", "s", "a")})
    assert len(pairs) == len(triangle)
    assert all({x[0], x[2]} != {y[0], y[2]} for x, y in combinations(pairs, 2))


def test_frequency_alone_reaches_what_the_readme_says(facts):
    """Filtered MRR of ranking entities by how often they answer the relation, ties halved."""
    counts = {False: Counter(), True: Counter()}
    for head, relation, tail in facts["train"]:
        counts[False][relation, tail] += 1
        counts[True][relation, head] += 1
    known: dict[tuple[str, str, bool], set[str]] = {}
    for head, relation, tail in (fact for name in SPLITS for fact in facts[name]):
        known.setdefault((head, relation, False), set()).add(tail)
        known.setdefault((tail, relation, True), set()).add(head)
    entities = sorted({e for h, _, t in facts["train"] for e in (h, t)})
    reciprocal = []
    for head, relation, tail in facts["test"]:
        for entity, answer, side in ((head, tail, False), (tail, head, True)):
            others = set(entities) - known[entity, relation, side]
            own = counts[side][relation, answer]
            scores = [counts[side][relation, other] for other in others]
            higher = sum(score > own for score in scores)
            equal = sum(score == own for score in scores)
            reciprocal.append(1 / (1 + higher + equal / 2))
    figure = f"{sum(reciprocal) / len(reciprocal):.3f}".lstrip("0")
    readme = (DATASETS / "cldr" / "README.md").read_text(encoding="utf-8")
    assert f"answers the relation in train {figure};" in " ".join(readme.split())
