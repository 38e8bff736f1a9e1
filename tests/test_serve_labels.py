"""The page with names that people know: found as they are typed, shown, and offered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from serve_fixtures import FACTS, Page, served, write_model, write_town

from dglke_distill.serve.introduction import MOST_EXAMPLES


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("labelled")
    facts = write_town(folder / "facts")
    names = sorted({name for head, _, tail in FACTS for name in (head, tail)} - {"Old Town"})
    lines = ["Old Town\tAltstadt\twhere it all began\n", f"{names[0]}\tFirst of all\n"]
    lines += [f"{name}\tSame\n" for name in names[1:3]]
    (facts / "labels.tsv").write_text("".join(lines), encoding="utf-8")
    model = write_model(folder / "complex", facts, "ComplEx", 0)
    with served([str(model)], store=str(folder / "none"), dataset=str(facts)) as page:
        yield page


def relation_of(name: str) -> str:
    return next(relation for head, relation, tail in FACTS if name in (head, tail))


@pytest.mark.parametrize("text", ["altst", "ALTSTADT", "Old To"])
def test_an_entity_is_found_by_label_and_by_name(labelled: Page, text: str) -> None:
    found = labelled.get("entities", text=text, limit=5)
    assert found["names"][0] == "Old Town"
    assert found["labels"][0] == "Altstadt"
    assert found["descriptions"][0] == "where it all began"
    assert len(found["labels"]) == len(found["descriptions"]) == len(found["names"])


def test_a_question_may_name_the_label_and_answers_show_it(labelled: Page) -> None:
    asked = {"relation": relation_of("Old Town"), "side": "head", "k": 100}
    by_label = labelled.get("answers", entity="altstadt", **asked)
    assert by_label == labelled.get("answers", entity="Old Town", **asked)
    assert (by_label["entity"], by_label["label"]) == ("Old Town", "Altstadt")
    labels = {one["name"]: one["label"] for one in by_label["answers"]}
    assert labels["Old Town"] == "Altstadt"
    assert list(labels.values()).count(None) == len(labels) - 4


@pytest.mark.parametrize(("text", "words"), [("same", "is the label of"), ("nobody", "no entity")])
def test_what_no_single_entity_is_called_is_refused(labelled: Page, text: str, words: str) -> None:
    query = urlencode({"entity": text, "relation": relation_of("Old Town")})
    status, _, body = labelled.request(f"/api/answers?{query}")
    assert status == 404 and words in body.decode()


def test_the_answer_suggests_what_may_be_meant(labelled: Page) -> None:
    asked = {"relation": relation_of("Old Town")}
    who = '["Old Town", "alstadt"]'
    for more in ({"entity": "alstadt"}, {"entity": "Old Town", "candidates": who}):
        status, _, body = labelled.request(f"/api/answers?{urlencode({**asked, **more})}")
        told = json.loads(body)
        assert status == 404 and told["field"] == list(more)[-1]
        assert told["error"] == "unknown entity 'alstadt'; did you mean Altstadt (Old Town)?"
        assert told["suggestions"] == ["Old Town"]
    found = labelled.get("answers", entity="Altstadt", candidates='["altstadt"]', **asked)
    assert [one["name"] for one in found["answers"]] == ["Old Town"]


def test_the_first_model_is_introduced(labelled: Page) -> None:
    about = labelled.get("model")
    assert about["labels"] == 4
    assert about["sentences"][0].startswith("ComplEx model of facts: ")
    assert about["sentences"][1] == "How good it is has not been measured."


def test_examples_are_questions_with_known_answers(labelled: Page) -> None:
    examples = labelled.get("model")["examples"]
    known = {(head, relation) for head, relation, _ in FACTS}
    assert 0 < len(examples) <= MOST_EXAMPLES
    assert {(one["entity"], one["relation"]) for one in examples} <= known
    assert len({one["relation"] for one in examples}) == len(examples)
    for one in examples:
        found = labelled.get("answers", **{k: one[k] for k in ("entity", "relation", "side")})
        assert found["known"] > 0 and found["label"] == one["label"]


def test_without_facts_nothing_is_offered_and_labels_may_be_malformed(tmp_path: Path) -> None:
    facts = write_town(tmp_path / "facts")
    model = write_model(tmp_path / "model", facts, "TransE", 0, "no-such-dataset-here")
    (model / "labels.tsv").write_text("only one column\n")
    with served([str(model)], store=str(tmp_path / "none")) as page:
        about = page.get("model")
        assert about["examples"] == [] and about["labels"] == 0
        assert "line 1: has 1 column" in about["fact_notes"][0]


def test_models_are_asked_before_anybody_does(labelled: Page) -> None:
    assert labelled.server.api is not None
    assert labelled.server.api.warm_up() >= 0
