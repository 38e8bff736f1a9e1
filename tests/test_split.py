from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.base.errors import UserError
from dglke_distill.data.checks import find_warnings, triple_keys
from dglke_distill.data.split import Split, _mix, split_triples
from dglke_distill.data.triples import Triples, Vocabulary

ENTITIES, RELATIONS = 9, 4
Row = tuple[int, int, int]


def rows(triples: Triples) -> list[Row]:
    return [(h, r, t) for h, r, t in triples.to_array().tolist()]


def make(facts: list[Row]) -> Triples:
    return Triples.from_array(np.array(facts, dtype=np.int64).reshape(-1, 3))


def mentioned(facts: list[Row]) -> tuple[set[int], set[int]]:
    return {e for h, _, t in facts for e in (h, t)}, {r for _, r, _ in facts}


facts_lists = st.lists(
    st.tuples(
        st.integers(0, ENTITIES - 1), st.integers(0, RELATIONS - 1), st.integers(0, ENTITIES - 1)
    ),
    min_size=1,
    max_size=60,
)
shares = st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (0.4, 0.0, 0.6), (0.1, 0.45, 0.45)])


def attempt(facts: list[Row], fractions: tuple[float, float, float], seed: int) -> Split | None:
    """Split, or None when the refusal was right: no triple of the facts can be spared."""
    try:
        return split_triples(make(facts), ENTITIES, RELATIONS, fractions=fractions, seed=seed)
    except UserError:
        distinct = sorted(set(facts))
        for fact in distinct:
            rest = [other for other in distinct if other != fact]
            assert mentioned(rest) != mentioned(distinct)
        return None


@given(facts=facts_lists, fractions=shares, seed=st.integers(0, 2**70))
def test_nothing_in_valid_or_test_alone(
    facts: list[Row], fractions: tuple[float, float, float], seed: int
) -> None:
    split = attempt(facts, fractions, seed)
    if split is None:
        return
    train, valid, test = rows(split.train), rows(split.valid), rows(split.test)
    assert sorted(train + valid + test) == sorted(set(facts))
    assert split.duplicates == len(facts) - len(set(facts))
    assert mentioned(train) == mentioned(facts)
    shares = {"valid": (valid, fractions[1]), "test": (test, fractions[2])}
    spared = [
        fact for fact in train if mentioned([f for f in train if f != fact]) == mentioned(facts)
    ]
    for held, share in shares.values():
        if share > 0 and not held:
            # Empty only when train has nothing to spare, and the other share one at most.
            assert not spared
            assert len(valid) + len(test) < 2
    if fractions[1] == 0:
        assert not valid
    if fractions[2] == 0:
        assert not test


@given(facts=facts_lists, seed=st.integers(0, 5), order=st.randoms())
def test_the_order_of_lines_does_not_matter(facts: list[Row], seed: int, order) -> None:
    first = attempt(facts, (0.8, 0.1, 0.1), seed)
    shuffled = facts + facts[:3]
    order.shuffle(shuffled)
    second = attempt(shuffled, (0.8, 0.1, 0.1), seed)
    if first is None or second is None:
        assert first is second
        return
    for name in ("train", "valid", "test"):
        assert rows(getattr(first, name)) == rows(getattr(second, name))


def grid(size: int) -> list[Row]:
    return [(h, r, t) for h in range(size) for r in range(3) for t in range(size)]


def test_seeds_give_other_splits_and_the_same_seed_the_same() -> None:
    facts = make(grid(9))
    first, again, other = (split_triples(facts, 9, 3, seed=seed) for seed in (1, 1, 2))
    assert rows(first.test) == rows(again.test)
    assert set(rows(first.test)) != set(rows(other.test))
    # Written down once: a run must find the same split in later versions of everything.
    assert rows(first.test)[:4] == [(0, 0, 1), (0, 2, 1), (1, 1, 5), (1, 2, 4)]


def sides(split: Split) -> dict[Row, str]:
    return {row: s for s in ("train", "valid", "test") for row in rows(getattr(split, s))}


def test_a_side_follows_from_the_names_the_seed_and_the_shares_alone() -> None:
    # The rule once more, by integers of Python and no array.
    names = ["ä", "b\n", "c"]
    facts = [(h, r, t) for h in range(3) for r in range(2) for t in range(3)]
    mask = 2**64 - 1

    def bits(name: str) -> int:
        digest = hashlib.blake2b(name.encode(), digest_size=8, key=b"5").digest()
        return int.from_bytes(digest, "little")

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    expected = {}
    for h, r, t in facts:
        state = 0
        for name in (names[h], ["x", "y"][r], names[t]):
            state = mix(((state ^ bits(name)) + 0x9E3779B97F4A7C15) & mask)
        number = (state >> 11) / 2**53
        expected[h, r, t] = "test" if number < 0.3 else "valid" if number < 0.5 else "train"
    assert set(expected.values()) == {"train", "valid", "test"}
    split = split_triples(
        make(facts), 3, 2, fractions=(0.5, 0.2, 0.3), seed=5, entities=names, relations=["x", "y"]
    )
    assert split.kept_back == 0
    assert sides(split) == expected


@given(facts=facts_lists, more=facts_lists, seed=st.integers(0, 50))
def test_facts_keep_their_side_when_others_are_added(
    facts: list[Row], more: list[Row], seed: int
) -> None:
    small, large = (attempt(f, (0.8, 0.1, 0.1), seed) for f in (facts, facts + more))
    if small is None or large is None:
        return
    before, after = sides(small), sides(large)
    moved = {fact for fact in before if after[fact] != before[fact]}
    # None of a size to matter: those that stayed in train for want of others, and those that the
    # two empty shares were given, in the one file or in the other.
    assert len(moved) <= small.kept_back + 4


def test_a_dense_file_may_grow_without_any_fact_changing_its_side() -> None:
    random = np.random.default_rng(3)
    facts = sorted({tuple(r) for r in random.integers(0, (30, 3, 30), (400, 3)).tolist()})
    random.shuffle(facts)
    for seed in range(20):
        # Ids change with the names that come in; names do not.
        before = named(facts[:240], seed)
        after = named(facts, seed)
        assert {fact: after[fact] for fact in before} == before


def named(facts: list[Row], seed: int) -> dict[tuple[str, str, str], str]:
    entities = sorted({f"e{i}" for h, _, t in facts for i in (h, t)})
    relations = sorted({f"r{r}" for _, r, _ in facts})
    ids = [
        (entities.index(f"e{h}"), relations.index(f"r{r}"), entities.index(f"e{t}"))
        for h, r, t in facts
    ]
    split = split_triples(
        make(ids),
        len(entities),
        len(relations),
        seed=seed,
        entities=entities,
        relations=relations,
    )
    return {(entities[h], relations[r], entities[t]): s for (h, r, t), s in sides(split).items()}


def test_shares_are_met_on_average() -> None:
    split = split_triples(make(grid(60)), 60, 3, fractions=(0.7, 0.2, 0.1))
    # Binomial(10800, p): five standard deviations are 208 and 156.
    assert abs(len(split.valid) - 2160) < 208
    assert abs(len(split.test) - 1080) < 156
    assert split.kept_back == 0


def test_every_triple_is_equally_likely() -> None:
    counts = np.zeros(len(grid(5)))
    facts = make(grid(5))
    for seed in range(400):
        held = split_triples(facts, 5, 3, seed=seed)
        keys = triple_keys(held.test, 5, 3)
        counts[np.searchsorted(np.sort(triple_keys(facts, 5, 3)), keys)] += 1
    # Binomial(400, 0.1): mean 40, standard deviation 6.
    assert counts.min() > 40 - 5 * 6
    assert counts.max() < 40 + 5 * 6


@pytest.mark.parametrize("count", [4, 5, 6])
def test_a_small_file_has_valid_and_test(count: int) -> None:
    facts = [(h, 0, t) for h in range(count) for t in range(count) if h != t][: 2 * count]
    for seed in range(50):
        split = split_triples(make(facts), count, 1, seed=seed)
        assert len(split.valid) > 0
        assert len(split.test) > 0
        assert mentioned(rows(split.train)) == mentioned(facts)


def test_a_star_has_nothing_to_spare() -> None:
    with pytest.raises(UserError, match="none of the 8 triples can be held out"):
        split_triples(make([(0, 0, i) for i in range(1, 9)]), 9, 1)


def test_a_triangle_with_tails_gives_what_it_can() -> None:
    # The tails hang by one edge each and keep the triangle's corners in train.
    facts = [(0, 0, 1), (1, 0, 2), (2, 0, 0), (0, 0, 3), (1, 0, 4), (2, 0, 5)]
    split = split_triples(make(facts), 6, 1, fractions=(1e-9, 0.5, 0.5 - 1e-9))
    assert rows(split.train) == [(0, 0, 3), (1, 0, 4), (2, 0, 5)]
    assert len(split.valid) + len(split.test) == 3
    assert min(len(split.valid), len(split.test)) > 0
    assert split.wanted == 6
    assert split.kept_back == 3


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.8, 0.1, 0.2), "sum to 1.1"),
        ((0.0, 0.5, 0.5), "the first above 0"),
        ((1.2, -0.1, -0.1), "the first above 0"),
    ],
)
def test_unusable_fractions(fractions: tuple[float, float, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_triples(make(grid(4)), 4, 3, fractions=fractions)


def test_random_numbers_are_splitmix64() -> None:
    # First outputs of the reference implementation (Vigna, splitmix64.c) from state 0.
    golden = np.uint64(0x9E3779B97F4A7C15)
    states = np.arange(1, 4, dtype=np.uint64) * golden
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert _mix(states).tolist() == expected


@given(facts=facts_lists)
def test_keys_tell_triples_apart_and_order_them(facts: list[Row]) -> None:
    keys = triple_keys(make(facts), ENTITIES, RELATIONS).tolist()
    assert len(set(keys)) == len(set(facts))
    assert [fact for _, fact in sorted(zip(keys, facts))] == sorted(facts)


def test_keys_refuse_to_overflow() -> None:
    with pytest.raises(UserError, match="too many"):
        triple_keys(make([(0, 0, 0)]), 2**31, 3)


@given(train=facts_lists, valid=facts_lists, test=facts_lists)
def test_warnings_count_what_sets_count(
    train: list[Row], valid: list[Row], test: list[Row]
) -> None:
    splits = {"train": train, "valid": valid, "test": test}
    warnings = find_warnings(
        {name: make(facts) for name, facts in splits.items()},
        Vocabulary(size=ENTITIES),
        Vocabulary(size=RELATIONS, kind="relation"),
    )
    entities, relations = mentioned(train)

    def count(pattern: str) -> int:
        found = [
            w
            for w in warnings
            if w.startswith(pattern.split("*")[0]) and pattern.split("*")[1] in w
        ]
        assert len(found) <= 1
        return int(found[0].split()[1]) if found else 0

    for name, facts in splits.items():
        assert count(f"{name}: *duplicate") == len(facts) - len(set(facts))
    for name, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        leaked = sum(fact in set(splits[other]) for fact in splits[name])
        assert count(f"{name}: *also in {other}") == leaked
    for name in ("valid", "test"):
        new = sum(h not in entities or t not in entities for h, _, t in splits[name])
        seen = [w for w in warnings if w.startswith(f"{name}: ") and "entit" in w]
        assert (int(seen[0].split()[1]) if seen else 0) == new
        assert count(f"{name}: *relation") == sum(r not in relations for _, r, _ in splits[name])


def test_names_with_and_without_quotes_are_told() -> None:
    facts = Triples.from_array(np.array([[0, 0, 1], [2, 1, 3]], dtype=np.int32))
    none = Triples.from_array(np.zeros((0, 3), dtype=np.int32))
    splits = {"train": facts, "valid": none, "test": none}
    names = Vocabulary(["Town 1", '"Town 1"', '"x', '"only"'])
    (warning,) = find_warnings(splits, names, Vocabulary(["in", "near"], kind="relation"))
    assert warning == (
        '1 entity with quotes around the name and without, e.g. "Town 1" and Town 1: they count '
        "as two; leave the quotes out"
    )
    plain = Vocabulary(["a", "b", "c", "d"])
    (warning,) = find_warnings(splits, plain, Vocabulary(["in", '"in"'], kind="relation"))
    assert warning.startswith('1 relation with quotes around the name and without, e.g. "in" and')
