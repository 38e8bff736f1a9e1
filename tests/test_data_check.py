from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import torch
from fact_fixtures import Fact, fact_lists, triples
from hypothesis import given, settings
from hypothesis import strategies as st

import dglke_distill as kd
from dglke_distill import cli
from dglke_distill.base.errors import UserError
from dglke_distill.data import overlaps as overlaps_module
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.overlaps import pair_overlaps
from dglke_distill.data.triples import SIDES, Dataset, Side, Triples, Vocabulary
from dglke_distill.evaluate import rule_ranks as ranks_module
from dglke_distill.evaluate.data_check import check_dataset
from dglke_distill.evaluate.data_findings import DataCheck
from dglke_distill.evaluate.ranking import evaluate
from dglke_distill.evaluate.rule_ranks import Rule, column_counts, column_ranks, rule_ranks

ENTITIES, RELATIONS = 6, 3
facts = fact_lists(ENTITIES, RELATIONS, 25)


def dataset(
    train: Sequence[Fact],
    valid: Sequence[Fact] = (),
    test: Sequence[Fact] = (),
    *,
    size: Optional[tuple[int, int]] = None,
) -> Dataset:
    """Return a dataset of entities e0, e1 … and relations r0, r1 …, as many as facts need."""
    every = [*train, *valid, *test]
    entities, relations = size or (
        1 + max(max(h, t) for h, _, t in every),
        1 + max(r for _, r, _ in every),
    )
    return Dataset(
        "made",
        Vocabulary([f"e{i}" for i in range(entities)]),
        Vocabulary([f"r{i}" for i in range(relations)], kind="relation"),
        *(triples(rows) for rows in (train, valid, test)),
    )


@given(facts)
def test_overlaps_are_those_of_sets(rows: list[Fact]) -> None:
    found = pair_overlaps(triples(rows), ENTITIES, RELATIONS)
    pairs = {r: {(h, t) for h, s, t in rows if s == r} for r in range(RELATIONS)}
    loops = {r: {(h, t) for h, t in pairs[r] if h == t} for r in pairs}
    assert found.facts.tolist() == [len(pairs[r]) for r in pairs]
    assert found.loops.tolist() == [len(loops[r]) for r in pairs]
    wanted = set()
    for one in pairs:
        turned = {(t, h) for h, t in pairs[one]}
        for other in pairs:
            same = len(pairs[one] & pairs[other])
            back = len(turned & pairs[other]) - (len(loops[one]) if one == other else 0)
            if one != other:
                assert found.shared(one, other, False) == same
                wanted |= {(one, other, False, same)} if same else set()
            assert found.shared(one, other, True) == back
            wanted |= {(one, other, True, back)} if back else set()
    assert set(found.pairs()) == wanted


def test_overlaps_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).integers(0, (30, 4, 30), (800, 3))
    whole = pair_overlaps(Triples.from_array(rows), 30, 4)
    monkeypatch.setattr(overlaps_module, "FACTS_AT_ONCE", 40)
    parts = pair_overlaps(Triples.from_array(rows), 30, 4)
    assert sorted(parts.pairs()) == sorted(whole.pairs())
    assert (parts.facts == whole.facts).all() and (parts.loops == whole.loops).all()


class Dense:
    """Scores every entity one by one, from the rules or the columns as they are written."""

    def __init__(self, score: Any) -> None:
        self.score = score

    def score_all(self, entity: torch.Tensor, relation: torch.Tensor, side: Side) -> torch.Tensor:
        rows = zip(entity.tolist(), relation.tolist())
        return torch.tensor(
            [[self.score(e, r, c, side) for c in range(ENTITIES)] for e, r in rows]
        ).double()


rules = st.lists(
    st.builds(
        Rule,
        st.integers(0, RELATIONS - 1),
        st.integers(0, RELATIONS - 1),
        st.booleans(),
        st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    ),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(facts, facts.filter(bool), facts, rules, st.sampled_from([1, 4, 1 << 20]))
def test_ranks_of_rules_are_those_of_scores_for_all(
    train: list[Fact], split: list[Fact], other: list[Fact], some: list[Rule], block: int
) -> None:
    held = set(train)

    def score(entity: int, relation: int, candidate: int, side: Side) -> float:
        head, tail = (entity, candidate) if side == "tail" else (candidate, entity)
        return max(
            [
                rule.score
                for rule in some
                if rule.head == relation
                and not (rule.reversed and rule.body == relation and head == tail)
                and ((tail, rule.body, head) if rule.reversed else (head, rule.body, tail)) in held
            ],
            default=0.0,
        )

    trained = KnownAnswers.build([triples(train)], ENTITIES)
    known = KnownAnswers.build([triples(train + split + other)], ENTITIES)
    wanted = evaluate(Dense(score), triples(split), known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks_module, "ANSWERS_AT_ONCE", block)
        found = rule_ranks(some, triples(split), trained, known)
    assert found["head"].tolist() == wanted.head_ranks.tolist()
    assert found["tail"].tolist() == wanted.tail_ranks.tolist()


@settings(max_examples=40, deadline=None)
@given(facts, facts.filter(bool), st.booleans(), st.sampled_from([1, 4, 1 << 20]))
def test_ranks_of_columns_are_those_of_scores_for_all(
    train: list[Fact], split: list[Fact], filtered: bool, block: int
) -> None:
    def score(entity: int, relation: int, candidate: int, side: Side) -> float:
        place = 0 if side == "head" else 2
        return float(sum(f[1] == relation and f[place] == candidate for f in train))

    known = KnownAnswers.build([triples(split + (train if filtered else []))], ENTITIES)
    wanted = evaluate(Dense(score), triples(split), known)
    columns = {side: column_counts(triples(train), ENTITIES, side) for side in SIDES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks_module, "ANSWERS_AT_ONCE", block)
        found = column_ranks(columns, triples(split), known)
    assert found["head"].tolist() == wanted.head_ranks.tolist()
    assert found["tail"].tolist() == wanted.tail_ranks.tolist()


def counts(check: DataCheck, split: str) -> dict[str, int]:
    return {leak.kind: getattr(leak, split).facts for leak in check.leaks}


@settings(max_examples=25, deadline=None)
@given(facts.filter(bool), facts, facts)
def test_findings_are_those_of_sets(train: list[Fact], valid: list[Fact], test: list[Fact]) -> None:
    check = check_dataset(dataset(train, valid, test, size=(ENTITIES, RELATIONS)))
    held, every = set(train), {*train, *valid, *test}
    pairs = {r: {(h, t) for h, s, t in every if s == r} for r in range(RELATIONS)}

    def linked(body: int, head: int, turned: bool) -> bool:
        shared = {(t, h) if turned else (h, t) for h, t in pairs[body]} & pairs[head]
        return len(shared) >= 2 and len(shared) / len(pairs[body]) >= 0.8

    def kinds(fact: Fact) -> set[str]:
        h, r, t = fact
        found = {"copy"} if fact in held else set()
        if (t, r, h) in held and h != t:
            found.add("reverse")
        for s in set(pairs) - {r}:
            for turned, here in ((False, (h, s, t)), (True, (t, s, h))):
                if here in held and linked(s, r, turned):
                    both = linked(r, s, turned)
                    found.add(("inverse" if turned else "duplicate") if both else "implied")
        return found | ({"any"} if found else set())

    for name, split in (("valid", valid), ("test", test)):
        wanted = {kind: sum(kind in kinds(f) for f in split) for kind in counts(check, name)}
        assert counts(check, name) == wanted
        joined = sum(any((h, s, t) in held or (t, s, h) in held for s in pairs)
                     for h, _, t in split)  # fmt: skip
        assert check.linked[name].facts == joined
        seen = {e for h, _, t in train for e in (h, t)}, {r for _, r, _ in train}
        new = [f for f in split if not {f[0], f[2]} <= seen[0] or f[1] not in seen[1]]
        assert check.unseen[name].facts == len(new)
        assert check.unseen[name].entities == len(
            {e for f in split for e in (f[0], f[2])} - seen[0]
        )
        assert check.unseen[name].relations == len({f[1] for f in split} - seen[1])
        assert getattr(check.repeated, name) == len(split) - len(set(split))
        assert getattr(check.repeated, f"{name}_in_train") == sum(f in held for f in split)
    assert check.repeated.train == len(train) - len(held)
    assert check.repeated.test_in_valid == sum(f in set(valid) for f in test)
    products = {}
    for r, of in pairs.items():
        heads, tails = {h for h, _ in of}, {t for _, t in of}
        if len(heads) > 1 < len(tails) and len(of) / len(heads) / len(tails) >= 0.8:
            products[f"r{r}"] = (len(heads), len(tails), len(of))
    assert {p.relation: (p.heads, p.tails, p.facts) for p in check.products} == products


def test_a_symmetric_relation_whose_reverses_are_held_out() -> None:
    """Ten pairs, of which train has one direction and test the other: all ranks are 1."""
    pairs = [(2 * i, 2 * i + 1) for i in range(10)]
    check = check_dataset(
        dataset([(h, 0, t) for h, t in pairs], test=[(t, 0, h) for h, t in pairs])
    )
    reverse = check.leak("reverse")
    assert (reverse.test.facts, reverse.test.share, reverse.test.mrr) == (10, 1.0, 1.0)
    assert (reverse.valid.facts, reverse.valid.mrr) == (0, None)
    (link,) = check.links
    assert (link.kind, link.relation, link.other) == ("symmetric", "r0", "r0")
    assert (link.shared, link.share, link.test) == (20, 1.0, 10)
    # 19 others, of which no rule says anything.
    assert check.leak("copy").test.mrr == pytest.approx(1 / 10.5)


def test_an_inverse_relation_and_a_near_duplicate() -> None:
    pairs = [(i, 20 + i) for i in range(20)]
    train = [(h, 0, t) for h, t in pairs] + [(t, 1, h) for h, t in pairs[:15]]
    train += [(h, 2, t) for h, t in pairs[:18]]
    check = check_dataset(dataset(train, test=[(t, 1, h) for h, t in pairs[15:]]))
    kinds = {(link.kind, link.relation, link.other): link for link in check.links}
    assert set(kinds) == {
        ("inverse", "r0", "r1"), ("duplicate", "r0", "r2"), ("inverse", "r1", "r2")
    }  # fmt: skip
    assert kinds["inverse", "r0", "r1"].test == 5
    assert kinds["duplicate", "r0", "r2"].share == 0.9
    assert kinds["duplicate", "r0", "r2"].other_share == 1.0
    assert check.leak("inverse").test.mrr == 1.0
    assert counts(check, "test") == {
        "copy": 0, "reverse": 0, "inverse": 5, "duplicate": 0, "implied": 0, "any": 5
    }  # fmt: skip
    # Of 40 entities, 39 may answer (40, without the 19 known ones, is no question here).
    assert check.leak("duplicate").test.mrr == pytest.approx(1 / 20.5)
    stricter = check_dataset(dataset(train, test=[(t, 1, h) for h, t in pairs[15:]]), 0.95)
    assert [(link.kind, link.relation, link.other) for link in stricter.links][:1] == [
        ("inverse", "r0", "r1")
    ]
    assert {(link.kind, link.relation, link.other) for link in stricter.links} == {
        ("inverse", "r0", "r1"), ("implied", "r2", "r0"), ("implied inverse", "r2", "r1")
    }  # fmt: skip


def test_a_product_of_all_heads_and_tails() -> None:
    every = [(h, 0, t) for h in range(4) for t in range(4, 9)]
    other = [(9, 1, 10), (10, 1, 11)]
    check = check_dataset(dataset([*every[:-1], *other], test=every[-1:]))
    (product,) = check.products
    assert (product.relation, product.heads, product.tails, product.facts) == ("r0", 4, 5, 20)
    assert product.share == 1.0
    # All other heads and tails of the relation are known: the one that is left is the answer.
    assert (check.product["test"].facts, check.product["test"].mrr) == (1, 1.0)


def test_skew_is_counted() -> None:
    train = [(0, 0, t) for t in range(1, 21)] + [(1, 1, 2)]
    skew = check_dataset(dataset(train, test=[(3, 0, 4)], size=(300, 3))).skew
    assert (skew.largest_entity, skew.largest_degree, skew.median_degree) == ("e0", 20, 0.0)
    assert skew.mean_degree == pytest.approx(42 / 300)
    assert skew.top_share == pytest.approx((20 + 2 + 2) / 42)  # of the first three entities
    assert (skew.largest_relation, skew.relations_of_half, skew.small_relations) == ("r0", 1, 2)
    assert skew.largest_relation_share == pytest.approx(20 / 21)
    assert skew.categories == {"1-1": 1, "1-N": 1, "unseen": 1}
    assert skew.unused_entities == 300 - 21
    # (3, r0, ?): the 20 tails of train tie; (?, r0, 4): e0 is known, and 298 others tie.
    assert skew.test_mrr == pytest.approx((1 / 10.5 + 1 / 150) / 2)


LINES = {
    "train": "a\tknows\tb\nc\tknows\td\ne\tlikes\tf\n",
    "valid": "e\tlikes\ta\n",
    "test": "b\tknows\ta\nd\tknows\tc\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, lines in LINES.items():
        (tmp_path / f"{name}.txt").write_text(lines, encoding="utf-8")
    return tmp_path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "check", *map(str, arguments)])
    code = stop.value.code
    return code if isinstance(code, int) else 0 if code is None else -1


def test_the_command_says_what_it_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    out = capsys.readouterr().out
    assert "reverse" in out and "100.0%" in out and "1.0000" in out
    assert "symmetric" in out and "knows" in out
    assert run(folder, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    check = kd.check_data(folder)
    assert said == json.loads(json.dumps(check.to_dict()))
    assert check.leak("reverse").test.facts == 2


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (["leak"], 1),
        (["reverse"], 1),
        (["reverse=0.5"], 1),
        (["copy", "inverse", "unseen"], 0),
        (["copy", "leak=0.99"], 1),
    ],
)
def test_a_gate_fails_on_what_it_minds(
    folder: Path, capsys: pytest.CaptureFixture[str], limits: list[str], code: int
) -> None:
    assert run(folder, *(f"--fail-on={limit}" for limit in limits)) == code
    err = capsys.readouterr().err
    assert ("100.00% of test" in err) == bool(code)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--fail-on", "leaks"], "choose from copy, reverse"),
        (["--fail-on", "copy=2"], "from 0 to below 1"),
        (["--fail-on", "copy=many"], "from 0 to below 1"),
        (["--threshold", "0"], "above 0"),
        (["--threshold", "nan"], "above 0"),
        (["--threshold", "1.5"], "above 0"),
    ],
)
def test_bad_arguments_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert run(folder, *arguments) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1


def test_a_check_says_nothing_of_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a training misses without a split is none of the data's faults; repeated lines are."""
    (tmp_path / "train.txt").write_text("a\tr\tb\nb\tr\tc\na\tr\tb\n")
    for split in ("valid", "test"):
        (tmp_path / f"{split}.txt").write_text("")
    assert run(tmp_path) == 0
    said = capsys.readouterr().out
    assert "3 train, 0 valid, 0 test triples" in said
    assert "is empty" not in said and "warning: train: 1 duplicate triple" in said
    with pytest.raises(SystemExit):
        cli.main(["data", "prepare", str(tmp_path)])
    assert "valid is empty: the last model is kept" in capsys.readouterr().out


def test_an_unknown_dataset_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fb15k-238") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(UserError):
        kd.check_data("cldr", threshold=-1)


@pytest.mark.realdata
def test_published_truths() -> None:
    """What the papers say of WN18RR and FB15k-237.

    Dettmers et al. 2018, table 6: their inverse model has a test MRR of .35 on WN18RR, .01 on
    FB15k-237. Toutanova and Chen 2015 took held-out pairs that train links out of FB15k-237.
    """
    words = kd.check_data("wn18rr")
    symmetric = {link.relation for link in words.links if link.kind == "symmetric"}
    assert symmetric == {"_derivationally_related_form", "_verb_group", "_similar_to"}
    mrr = words.leak("reverse").test.mrr
    assert mrr is not None and abs(mrr - 0.35) < 0.005
    assert words.unseen["test"].facts == 210
    films = kd.check_data("fb15k237")
    assert films.linked["valid"].facts == films.linked["test"].facts == 0
    assert films.leak("any").test.facts == 0
    assert films.products
