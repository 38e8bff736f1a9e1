"""Who may answer: against sets and loops over facts; in Python, by command, over HTTP, in ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_fixtures import loaded_model
from identity_fixtures import run as run  # a fixture
from serve_fixtures import FACTS, Page
from serve_fixtures import page as page
from serve_fixtures import town as town

from dglke_distill.base.errors import UserError
from dglke_distill.data.entity_types import COMMON, Ranges, read_types
from dglke_distill.data.graph import KnownAnswers
from dglke_distill.data.triples import SIDES, Triples
from dglke_distill.predict import NamedModel

MODEL = "complex-cldr-dim32"


def some_facts(seed: int, entities: int = 30, relations: int = 4, count: int = 90) -> Triples:
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, n, count) for n in (entities, relations, entities)]
    return Triples.from_array(np.stack(columns, axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_ranges_and_learned_types_are_those_of_loops(seed: int) -> None:
    facts = some_facts(seed)
    rows = {tuple(row) for row in facts.to_array().tolist()}
    ranges = Ranges(facts, 30, 5)
    roles: dict[int, dict[int, int]] = {}
    for h, r, t in facts.to_array().tolist():
        for entity, role in ((h, 2 * r), (t, 2 * r + 1)):
            counts = roles.setdefault(entity, {})
            counts[role] = counts.get(role, 0) + 1
    main = {
        entity: min(role for role in counts if counts[role] == max(counts.values()))
        for entity, counts in roles.items()
    }
    assert {i: int(t) for i, t in enumerate(ranges.learned) if t >= 0} == main
    for relation in range(5):
        for side in SIDES:
            place = 2 if side == "tail" else 0
            seen = sorted({row[place] for row in rows if row[1] == relation})
            assert ranges.observed(relation, side).tolist() == seen
            kinds = [main[entity] for entity in seen]
            fit = {k for k in kinds if kinds.count(k) >= max(1, COMMON * len(seen))}
            alike = sorted({*seen, *(e for e in main if main[e] in fit)})
            assert ranges.alike(np.array(seen, np.int64)).tolist() == alike


def test_facts_come_back_out_of_their_index() -> None:
    facts = some_facts(1)
    found = KnownAnswers.build([facts], 30).triples().to_array().tolist()
    assert found == np.unique(facts.to_array(), axis=0).tolist()


@pytest.fixture(scope="module")
def model() -> NamedModel:
    import dglke_distill as kd

    found = kd.load(MODEL)
    assert isinstance(found, NamedModel)
    return found


def test_answers_are_the_best_of_those_who_may(model: NamedModel) -> None:
    every = model.predict_tails("Latvia", "uses_currency", k=len(model.entities))
    facts = model.load_ranges()
    relation = model.relations.id("uses_currency")
    observed = set(facts.observed(relation, "tail").tolist())
    names = ["Euro", "Latvia", "Riga" if "Riga" in model.entities else "Estonia"]
    for candidates, may in (
        ("observed", observed),
        (names, {model.entities.id(name) for name in names}),
        (torch.tensor([5, 3, 5]), {3, 5}),
    ):
        found = model.predict_tails("Latvia", "uses_currency", k=9, candidates=candidates)
        expected = [answer for answer in every if answer.id in may][:9]
        assert [answer.id for answer in found] == [answer.id for answer in expected]
        np.testing.assert_allclose([a.score for a in found], [a.score for a in expected], rtol=1e-5)


def test_known_answers_are_left_out_of_the_candidates(model: NamedModel) -> None:
    asked = {"exclude_known": True, "candidates": "observed", "k": 2000}
    found = model.predict_tails("Latvia", "uses_currency", **asked)  # type: ignore[arg-type]
    relation, head = model.relations.id("uses_currency"), model.entities.id("Latvia")
    known = set(model.load_known().answers(head, relation, "tail").tolist())
    observed = set(model.load_ranges().observed(relation, "tail").tolist())
    assert known & observed
    assert {answer.id for answer in found} == observed - known


def test_each_relation_has_its_own_candidates(model: NamedModel) -> None:
    relations = ["uses_currency", "main_script", "uses_currency"]
    heads = ["Latvia", "Abkhazian language", "Estonia"]
    together = model.top_tails(
        model.entity_ids(heads), model.relation_ids(relations), 400, candidates="observed"
    )
    for row, (head, relation) in enumerate(zip(heads, relations)):
        alone = model.predict_tails(head, relation, 400, candidates="observed")
        ids = [i for i in together.ids[row].tolist() if i >= 0]
        assert ids == [answer.id for answer in alone]
        assert len(ids) == len(model.load_ranges().observed(model.relations.id(relation), "tail"))


def test_typed_goes_by_a_file(model: NamedModel, tmp_path: Path) -> None:
    import dglke_distill as kd

    own = kd.load(MODEL)
    assert isinstance(own, NamedModel)
    relation = own.relations.id("uses_currency")
    observed = own.load_ranges().observed(relation, "tail")
    lines = [
        f"{own.entities[i]}\tcurrency" for i in [*observed.tolist(), own.entities.id("Latvia")]
    ]
    path = tmp_path / "types.tsv"
    path.write_text("\n".join([*lines, "Atlantis\tmyth", "Latvia\tcountry"]) + "\n")
    own.load_types(path)
    found = own.predict_tails("Latvia", "uses_currency", 2000, candidates="typed")
    assert {a.id for a in found} == {*observed.tolist(), own.entities.id("Latvia")}
    found = own.predict_tails("Latvia", "uses_currency", 2000, candidates="type:country")
    assert [a.name for a in found] == ["Latvia"]
    with pytest.raises(UserError, match="no type 'county'; did you mean 'country'"):
        own.predict_tails("Latvia", "uses_currency", candidates="type:county")


def test_wrong_candidates_are_named(model: NamedModel, tmp_path: Path) -> None:
    path = tmp_path / "who.txt"

    def ask(candidates: Any) -> None:
        model.predict_tails("Latvia", "uses_currency", candidates=candidates)

    for candidates, message in (
        ([], "none are given"),
        ("Euro", "give observed, typed"),
        ("type:currency", "no types are known"),
        (["Euroo"], "did you mean 'Euro'"),
        (path, "there is no file"),
        (f"@{path}", "there is no file"),
    ):
        with pytest.raises(UserError, match=message):
            ask(candidates)
    for candidates, message in (("@", "names no file"), ("type:", "names no type"), (7, "a list")):
        with pytest.raises(UserError, match=message):
            ask(candidates)
    path.write_text("\n\n")
    with pytest.raises(UserError, match="names no entity"):
        ask(path)
    path.write_text("Euro\nLatvja\n")
    with pytest.raises(UserError, match="line 2: unknown entity 'Latvja'"):
        ask(path)
    path.write_text("Euro\n")
    with pytest.raises(UserError, match=r"line 1: 1 column,"):
        read_types(path, model.entities)
    path.write_text("Atlantis\tmyth\n")
    with pytest.raises(UserError, match="none of the model's"):
        read_types(path, model.entities)


def test_a_relation_without_facts_has_no_range(tmp_path: Path) -> None:
    named = NamedModel(loaded_model("ComplEx", {}))
    named._ranges = Ranges(some_facts(0, len(named.entities), 1), len(named.entities), 9)
    with pytest.raises(UserError, match="no fact of"):
        named.top_tails(torch.tensor([0]), torch.tensor([1]), 3, candidates="observed")


def test_the_command_line_takes_them(run: Any, tmp_path: Path) -> None:
    ask = ["predict", MODEL, "--head", "Latvia", "--relation", "uses_currency", "-k", "500"]
    told = json.loads(run(*ask, "--candidates", "observed", "--json").out)
    named = {answer["name"] for answer in told["predictions"]}
    assert "Soviet Rouble" not in named and "Norwegian Krone" in named
    assert told["candidates"] == ["observed"]
    told = json.loads(
        run(*ask, "--candidates", "Euro", "--candidates", "Soviet Rouble", "--json").out
    )
    assert [answer["name"] for answer in told["predictions"]] == ["Euro", "Soviet Rouble"]
    for one in ("observed", "@who.txt", "type:coin"):
        flags = ["--candidates", "Euro", "--candidates", one]
        assert (
            f"{one!r}: says who all may answer, so give it alone" in run(*ask, *flags, code=2).err
        )
    types = tmp_path / "kinds.tsv"
    types.write_text("Euro\tcoin\nSwedish Krona\tcoin\n")
    flags = ["--candidates", "type:coin", "--types", types, "--json"]
    told = json.loads(run(*ask, *flags).out)
    assert [answer["name"] for answer in told["predictions"]] == ["Euro", "Swedish Krona"]
    assert "give those too" in run(*ask, "--types", types, code=2).err
    both = ["predict", MODEL, "--head", "Latvia", "--tail", "Euro", "--candidates", "observed"]
    assert "--candidates" in run(*both, code=2).err
    whole = [*ask[:-2], "--tail", "Euro", "--candidates", "observed"]  # without -k
    assert "--candidates" in run(*whole, code=2).err


def alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Whether answers are the same, but for the rounding of scores made in other sums."""
    near = [{**one, "score": pytest.approx(one["score"], rel=1e-5)} for one in expected]
    return found == near


def test_the_server_takes_them(page: Page) -> None:
    asked = {"entity": "Ada", "relation": "runs", "k": 100}
    everyone = page.get("answers", **asked)["answers"]
    ran = {tail for _, relation, tail in FACTS if relation == "runs"}
    found = page.get("answers", candidates="observed", **asked)
    assert found["candidates"] == len(ran)
    assert alike(found["answers"], [answer for answer in everyone if answer["name"] in ran])
    hidden = page.get("answers", candidates="observed", known="hide", **asked)["answers"]
    assert {a["name"] for a in hidden} == ran - {
        t for h, r, t in FACTS if (h, r) == ("Ada", "runs")
    }
    names = ["Zoë", "Mill"]
    found = page.get("answers", candidates=json.dumps(names), **asked)["answers"]
    assert alike(found, [answer for answer in everyone if answer["name"] in names])
    typed = page.get("answers", candidates="typed", **asked)
    assert len(ran) <= typed["candidates"] <= len(everyone)


def test_onnx_takes_a_mask(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from dglke_distill.interop import export_model

    loaded = loaded_model("ComplEx", {})
    path = export_model(loaded, "onnx", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {
        "entity": np.array([3]), "relation": np.array([1]), "k": np.array([4], np.int64)
    }  # fmt: skip
    mask = np.zeros(len(loaded.entities), np.bool_)
    mask[[2, 5, 6]] = True
    ids, scores = session.run(["ids", "scores"], {**feed, "candidates": mask})
    ours = loaded.model.score_all(torch.tensor([3]), torch.tensor([1]), "tail")[0].numpy()
    expected = sorted([2, 5, 6], key=lambda i: -ours[i])
    assert ids[0, :3].tolist() == expected
    assert scores[0, 3] == -np.inf
    everyone, _ = session.run(["ids", "scores"], feed)
    assert everyone[0].tolist() == np.argsort(-ours, kind="stable")[:4].tolist()
