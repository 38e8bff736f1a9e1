"""New entities folded in: against the loss's own minimum, old answers by the bit, by command."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from export_fixtures import loaded_model
from identity_fixtures import run as run  # a fixture

import dglke_distill as kd
from dglke_distill.base.errors import UserError
from dglke_distill.models.fold_in import Facts, fold_in
from dglke_distill.predict import NamedModel

MODEL = "complex-cldr-dim32"
FACTS = [
    ("Baltistan", "uses_currency", "Euro"),
    ("Baltistan", "contained_in", "Northern Europe"),
    ("Baltistan", "has_time_zone", "Europe/Riga"),
    ("Baltistan", "official_language", "Latvian language"),
    ("Baltistan", "uses_clock", "24-hour clock"),
    ("Baltic", "minority_language", "Latgalian language"),
]


@pytest.fixture(scope="module")
def model() -> NamedModel:
    found = kd.load(MODEL)
    assert isinstance(found, NamedModel)
    return found


@pytest.fixture(scope="module")
def grown(model: NamedModel) -> NamedModel:
    return model.add_entities(FACTS)


def test_old_vectors_and_answers_stay_to_the_last_bit(model: Any, grown: Any) -> None:
    count = len(model.entities)
    assert list(grown.entities) == [*model.entities, "Baltistan", "Baltic"]
    assert torch.equal(grown.entity_embeddings[:count], model.entity_embeddings)
    assert torch.equal(grown.relation_embeddings, model.relation_embeddings)
    old = torch.arange(count)
    for relation in ("uses_currency", "main_script"):
        ask = {"head": "Latvia", "relation": relation, "k": 50, "candidates": old}
        assert grown.predict_tails(**ask) == model.predict_tails(**ask)


def test_a_new_entity_answers_and_is_answered(grown: Any) -> None:
    best = grown.predict_tails("Baltistan", "uses_currency", 3)
    assert best[0].name == "Euro"
    heads = [a.name for a in grown.predict_heads("uses_currency", "Euro", 60)]
    assert "Baltistan" in heads
    # What was not given, and holds of such a country: it is like its neighbours.
    assert grown.predict_tails("Baltistan", "member_of", 3)[0].name == "United Nations"
    known = grown.predict_tails("Baltistan", "uses_currency", 3, exclude_known=True)
    assert "Euro" not in [answer.name for answer in known]
    about = grown.results["extended_from"]
    assert (about["entities"], about["facts"], about["refreshed"]) == (2, 6, 0)
    assert grown.results["metrics"] == {}


@pytest.mark.parametrize(
    ("name", "options"),
    [("DistMult", {}), ("ComplEx", {}), ("RESCAL", {}), ("TransE", {"norm": "l1"}), ("RotatE", {})],
)
def test_the_vector_is_a_minimum_of_the_loss_over_all_entities(name: str, options: Any) -> None:
    """Written out anew: every term of the softmax loss that the vector has a part in."""
    loaded = loaded_model(name, options)
    model, count = loaded.model, len(loaded.entities)
    rng = np.random.default_rng(0)
    relation, other = (
        torch.from_numpy(rng.integers(0, n, 6)) for n in (loaded_relations(loaded), count)
    )
    new = torch.full((6,), count)
    outward = torch.arange(6) % 2 == 0
    facts = Facts(torch.where(outward, new, other), relation, torch.where(outward, other, new))
    pool_columns = [
        torch.from_numpy(rng.integers(0, n, 9)) for n in (count, loaded_relations(loaded), count)
    ]
    pool = Facts(*pool_columns)
    ridge = 0.7
    found = fold_in(model, facts, torch.tensor([count]), pool, ridge=ridge)[0].double()

    vectors = model.entity_embeddings.double()
    centre, scale = vectors.mean(0), vectors.std(0)

    def score(known: torch.Tensor, r: int, side: Any, answers: torch.Tensor) -> torch.Tensor:
        function = model.double().score_function
        rows = model.relation_weight.detach()[r : r + 1]
        query = function.whole_query(known[None], rows, side)
        moved = function.entity_view(answers)
        if function.kernel == "dot":
            return (query @ moved.T)[0] * function.score_scale
        gap = query - moved
        if function.kernel == "complex_modulus":
            real, imaginary = gap.chunk(2, dim=1)
            return -(real.square() + imaginary.square()).sqrt().sum(1) * function.score_scale
        return -gap.abs().sum(1) * function.score_scale

    def loss(vector: torch.Tensor) -> torch.Tensor:
        table = torch.cat([vectors, vector[None]])
        total = ridge / 2 * ((vector - centre) / scale).square().sum()
        rows = zip(facts.head.tolist(), facts.relation.tolist(), facts.tail.tolist())
        for h, r, t in rows:
            for known, answer, side in ((h, t, "tail"), (t, h, "head")):
                # The new entity is no rival in its own questions; it is in those of others.
                rivals = [i for i in range(count) if known != count or i != answer]
                scores = score(table[known], r, side, table[[*rivals, answer]])
                total = total - scores.log_softmax(0)[-1]
        rows = zip(pool.head.tolist(), pool.relation.tolist(), pool.tail.tolist())
        for h, r, t in rows:
            for known, side in ((h, "tail"), (t, "head")):
                scores = score(table[known], r, side, table)
                total = total - torch.log1p(-scores.softmax(0)[-1])
        return total

    best, slack = float(loss(found)), 1e-3 if model.score_function.kernel == "dot" else 1e-2
    for step in (1e-1, 1e-2):
        for _ in range(25):
            direction = torch.from_numpy(rng.normal(size=len(found)))
            assert float(loss(found + step * direction / direction.norm())) > best - slack


def loaded_relations(loaded: Any) -> int:
    return len(loaded.relations)


def test_refresh_moves_what_the_facts_touch_and_nothing_else(model: Any) -> None:
    made = model.add_entities(FACTS[:2], refresh=True)
    moved = (made.entity_embeddings[: len(model.entities)] != model.entity_embeddings).any(1)
    names = {model.entities[i] for i in torch.nonzero(moved).squeeze(1).tolist()}
    assert names == {"Euro", "Northern Europe"}
    # What 101 facts have put somewhere, one more does not move far: by standard deviations.
    many = model.add_entities(FACTS, refresh=True)
    old, new = model.entity_embeddings, many.entity_embeddings[: len(model.entities)]
    moved_by = ((new - old) / old.std(0)).norm(dim=1)
    assert 0 < float(moved_by[model.entities.id("24-hour clock")]) < 1
    again = model.add_entities([("Latvia", "borders" if "borders" in model.relations else
                                 "member_of", "Eurozone")], refresh=True)  # fmt: skip
    assert len(again.entities) == len(model.entities)


def test_what_cannot_be_added_is_said(model: Any, tmp_path: Path) -> None:
    for facts, message in (
        ([("Baltistan", "uses_curency", "Euro")], "fact 1, .*: unknown relation.*did you mean"),
        ([("Latvia", "uses_currency", "Euro")], "add refresh=True"),
        ([("Baltistan", "uses_currency")], "give head, relation and tail"),
        ([("a\tb", "uses_currency", "Euro")], "tab or line break"),
        ([("a\0b", "uses_currency", "Euro")], "entity name 'a.x00b' has a line end, a zero byte"),
        ([("\ud800", "uses_currency", "Euro")], "a zero byte or a lone surrogate in it: rename it"),
        ([("\ufeff ", "uses_currency", "Euro")], "fact 1: the name .* is empty but for blanks"),
        (
            [*FACTS, ("X", "uses_currency", "Y"), ("Y", "uses_currency", "Z")],
            "^'X', 'Y', 'Z': no fact links them to an entity that the model knows",
        ),
    ):
        with pytest.raises(UserError, match=message):
            model.add_entities(facts)


def test_the_grown_data_have_an_identity(run: Any, tmp_path: Path, grown: Any) -> None:
    """So that the model is published, and ranked on a folder that holds the same facts."""
    from dglke_distill.data import catalog

    grown.save_pretrained(tmp_path / "grown")
    place, folder = Path(kd.__file__).parent.parent / "datasets" / "cldr", tmp_path / "data"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        text = (place / f"{split}.txt").read_text(encoding="utf-8")
        more = "".join("\t".join(fact) + "\n" for fact in FACTS) if split == "train" else ""
        (folder / f"{split}.txt").write_text(text + more, encoding="utf-8")
    stated = grown.results["dataset"]
    assert catalog.load(str(folder)).fingerprint == stated["fingerprint"]
    told = json.loads(run("evaluate", tmp_path / "grown", "--dataset", folder, "--json").out)
    assert told["mrr"] > 0.55 and not [line for line in told["warnings"] if "OTHER" in line]
    store = tmp_path / "store"
    run("zoo", "publish", tmp_path / "grown", "--name", "complex-grown-dim32", "--store", store)
    again = kd.load("complex-grown-dim32", store=store)
    assert again.results["extended_from"]["dataset"] == "cldr"
    assert again.predict_tails("Baltistan", "uses_currency", 1)[0].name == "Euro"


def test_the_command(run: Any, tmp_path: Path, model: Any) -> None:
    facts, out = tmp_path / "facts.tsv", tmp_path / "grown"
    facts.write_text("".join("\t".join(fact) + "\n" for fact in FACTS))
    assert "2 new entities from 6 facts" in run("extend", MODEL, facts, "--out", out).out
    ask = ["--head", "Baltistan", "--relation", "uses_currency", "-k", "1", "--json"]
    told = json.loads(run("predict", out, *ask).out)
    assert told["predictions"][0]["name"] == "Euro"
    told = json.loads(run("predict", out, *ask, "--exclude-known").out)
    assert told["predictions"][0]["name"] != "Euro"
    more = tmp_path / "more.tsv"
    more.write_text("Baltistania\tcontained_in\tNorthern Europe\n")
    run("extend", out, more, "--out", tmp_path / "twice")
    again = kd.load(tmp_path / "twice")
    assert again.results["extended_from"]["extended_from"]["facts"] == 6
    assert torch.equal(again.entity_embeddings[:-3], model.entity_embeddings)
    small = tmp_path / "int8"
    run("compress", MODEL, "--to", "int8", "--out", small)
    run("extend", small, facts, "--out", tmp_path / "int8-grown")
    codes, whole = kd.load(small), kd.load(tmp_path / "int8-grown")
    assert torch.equal(whole.entity_embeddings[:-2], codes.entity_embeddings)
    assert whole.predict_tails("Baltistan", "uses_currency", 1)[0].name == "Euro"
    shared = tmp_path / "pq"
    run("compress", MODEL, "--to", "pq", "--set", "pieces=8", "--out", shared)
    said = run("extend", shared, facts, "--out", tmp_path / "x", code=2).err
    assert "shares codes" in said
    assert not (tmp_path / "x").exists()
    facts.write_text("Baltistan\tuses_currency\n")
    assert "line 1: has 2 columns" in run("extend", MODEL, facts, "--out", shared / "x", code=2).err


def test_new_entities_may_hang_on_each_other(model: Any) -> None:
    chain = [("A", "contained_in", "B"), ("B", "contained_in", "C"), ("C", "uses_currency", "Euro")]
    made = model.add_entities(chain)
    assert list(made.entities)[-3:] == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("name", "text", "flags"),
    [
        ("f.csv", "head,relation,tail\nBaltistan,uses_currency,Euro\n", []),
        ("f.csv", "d;a;c\nEuro;Baltistan;uses_currency\n",
         ["--columns", "head=a,relation=c,tail=d", "--delimiter", ";"]),
        ("f.tsv.gz", "Baltistan\tuses_currency\tEuro\t2020\n", ["--ignore-extra"]),
        ("f.tsv", "Euro\tuses_currency\tBaltistan\r\n", ["--set", "data.format=names_trh"]),
        ("f.parquet", "Baltistan,uses_currency,Euro", []),
    ],
)  # fmt: skip
def test_facts_are_read_as_training_data_are(
    run: Any, tmp_path: Path, name: str, text: str, flags: list[str]
) -> None:
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
        columns = zip(("head", "relation", "tail"), text.split(","))
        pandas.DataFrame({column: [cell] for column, cell in columns}).to_parquet(path)
    else:
        path.write_bytes(text.encode())
    (tmp_path / "entities.dict").write_text("0\tEuro\n")  # of something else that lies there
    (tmp_path / "relations.dict").write_text("0\tuses_currency\n")
    told = run("extend", MODEL, path, "--out", tmp_path / "grown", *flags).out
    assert "1 new entity from 1 fact, in" in told and "new: Baltistan" in told


def test_the_grown_data_are_written(run: Any, tmp_path: Path) -> None:
    facts, out, data = tmp_path / "facts.tsv", tmp_path / "my grown", tmp_path / "data"
    facts.write_text("".join("\t".join(fact) + "\n" for fact in FACTS))
    told = run("extend", MODEL, facts, "--out", out, "--data-out", data).out
    assert f"evaluate it: dglke-distill evaluate '{out}' --dataset {data}" in told
    lines = (data / "train.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) and {"\t".join(fact) for fact in FACTS} <= set(lines)
    told = json.loads(run("evaluate", out, "--dataset", data, "--json").out)
    assert told["mrr"] > 0.55 and not [line for line in told["warnings"] if "OTHER" in line]
    again = ["extend", MODEL, facts, "--out", tmp_path / "again", "--data-out"]
    assert "holds something already" in run(*again, data, code=2).err
    for place in (tmp_path / "again", tmp_path / "again" / "data", tmp_path):
        assert "--out" in run(*again, place, code=2).err
    assert not (tmp_path / "again").exists()


def test_a_grown_model_names_no_data_that_have_fewer_facts(run: Any, tmp_path: Path) -> None:
    facts = tmp_path / "facts.tsv"
    facts.write_text("Baltistan\tuses_currency\tEuro\n")
    run("extend", MODEL, facts, "--out", tmp_path / "grown")
    told = run("evaluate", tmp_path / "grown", code=2).err
    assert "its data are the folder that `extend --data-out FOLDER` writes" in told
    with pytest.raises(UserError) as error:
        kd.evaluate(tmp_path / "grown")
    assert "`add_entities(..., data_out=FOLDER)` writes, for dataset=FOLDER" in str(error.value)


def test_a_new_name_that_differs_by_case_alone_is_doubted(run: Any, tmp_path: Path) -> None:
    facts = tmp_path / "facts.tsv"
    facts.write_text("LATVIA\tuses_currency\tEuro\nBaltistan\tuses_currency\tEuro\n")
    told = run("extend", MODEL, facts, "--out", tmp_path / "grown").err
    assert "'LATVIA' is new, but 'Latvia' was known; is it the same?" in told
    assert "'Baltistan' is new" not in told


def test_training_goes_on_from_a_model(tmp_path: Path) -> None:
    lines = [line.split("\t") for line in data_lines()]
    folder = tmp_path / "cldr-grown"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        extra = [list(fact) for fact in FACTS] if split == "train" else []
        rows = [*lines, *extra] if split == "train" else lines[:40]
        (folder / f"{split}.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    before = kd.load(MODEL)
    made = kd.train(folder, init=MODEL, epochs=1, learning_rate=1e-9, threads=1,
                    settings={"evaluation.split": "none"}, out=tmp_path / "run")  # fmt: skip
    after = made.model
    for name in ("Abkhazian language", "Cyrillic script"):
        ours, theirs = after.entities.id(name), before.entities.id(name)
        np.testing.assert_allclose(
            after.entity_embeddings[ours], before.entity_embeddings[theirs], atol=1e-6
        )
    assert made.results.init is not None and made.results.init.dataset == "cldr"
    with pytest.raises(UserError, match="leave model and dim out"):
        kd.train(folder, init=MODEL, dim=16, out=tmp_path / "other")


def data_lines() -> list[str]:
    place = Path(kd.__file__).parent.parent / "datasets" / "cldr" / "train.txt"
    return place.read_text(encoding="utf-8").splitlines()[:400]


def test_a_wrong_setting_is_not_blamed_on_the_model(run: Any) -> None:
    told = run("evaluate", MODEL, "--threads", "-1", code=2).err
    assert "error: --threads (training.threads) is -1; it must be at least 1" in told
