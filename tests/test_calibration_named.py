"""Probabilities beside answers in names; files of calibrations, sound and spoilt."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calibration_fixtures import ENTITIES, RELATIONS, named, toy

import dglke_distill as kd
from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state, save_state
from dglke_distill.calibration.file import CALIBRATION_FILE, read_calibration

# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reciprocal", [False, True])
def test_answers_have_the_probabilities_of_their_scores(reciprocal: bool) -> None:
    model, data = toy(reciprocal)
    asked = named(model, data, reciprocal)
    assert asked.predict_tails("e1", "r0", k=3)[0].probability is None
    with pytest.raises(UserError, match="not calibrated"):
        asked.probability([("e1", "r0", "e2")])
    with pytest.raises(UserError, match="not calibrated"):
        asked.predict_tails("e1", "r0", min_probability=0.5)
    made = asked.calibrate(data, negatives_per_positive=3, fewest=10)
    shown = f"Calibration(platt: {len(made.curves)} curves of {RELATIONS} relations)"
    assert repr(made) == shown

    def curve(score: float, relation: int, side: Any = "tail") -> float:
        return float(made.probability(torch.tensor([score]), torch.tensor([relation]), side)[0])

    for answers, relation, side in (
        (asked.predict_tails("e1", "r0", k=ENTITIES), 0, "tail"),
        (asked.predict_heads("r1", "e2", k=ENTITIES), 1, "head"),
    ):
        for answer in answers:
            assert answer.probability == curve(answer.score, relation, side)
        chances = [answer.probability for answer in answers]
        assert chances == sorted(chances, reverse=True) and len(chances) == ENTITIES  # type: ignore[type-var]
    tails = asked.predict_tails("e1", "r0", k=ENTITIES)
    middle = tails[4].probability
    assert middle is not None
    assert asked.predict_tails("e1", "r0", k=ENTITIES, min_probability=middle) == tails[:5]
    assert asked.predict_tails("e1", "r0", k=3, min_probability=1) == []
    for answer in asked.predict_relations("e1", "e2", k=RELATIONS):
        assert answer.probability == curve(answer.score, answer.id)
    triples = [("e1", "r0", "e2"), ("e3", "r3", "e3")]
    scores = asked.score(triples)
    assert asked.probability(triples).tolist() == [
        curve(float(scores[0]), 0), curve(float(scores[1]), 3)
    ]  # fmt: skip
    questions = [("e1", "r0", None), (None, "r1", "e2"), ("e1", None, "e2")]
    frame = asked.predict_frame(questions, k=4)
    for row in frame.itertuples():
        side = "head" if row.question == 1 else "tail"
        relation = asked.relations.id(row.relation)
        assert row.probability == curve(row.score, relation, side)
    some = asked.predict_frame(questions, k=4, min_probability=0.4)
    kept = frame[frame["probability"] >= 0.4]
    assert some["score"].tolist() == kept["score"].tolist() and 0 < len(kept) < len(frame)
    found = asked.discover(k=20, known=False)
    assert len(found) == 20 * RELATIONS
    for row in found.itertuples():
        assert row.probability == curve(row.score, asked.relations.id(row.relation))
    some = asked.discover(k=20, known=False, min_probability=0.6)
    assert some["score"].tolist() == found[found["probability"] >= 0.6]["score"].tolist()


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_no_probability_is_refused(bad: float) -> None:
    model, data = toy()
    asked = named(model, data)
    asked.calibrate(data)
    for call in (
        lambda: asked.predict_tails("e1", "r0", min_probability=bad),
        lambda: asked.predict_frame([("e1", "r0", None)], min_probability=bad),
        lambda: asked.discover("r0", known=False, min_probability=bad),
    ):
        with pytest.raises(UserError, match="give a probability, from 0 to 1"):
            call()


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model, data = toy()
    asked = named(model, data)
    asked.calibrate(data, method="isotonic", fewest=20)
    return asked.save_pretrained(tmp_path / "model")


def test_a_calibration_comes_back_as_it_was(saved: Path) -> None:
    model, data = toy()
    asked = named(model, data)
    made = asked.calibrate(data, method="isotonic", fewest=20)
    read = load_model(saved).calibration
    assert read is not None
    assert read.about == made.about and read.method == "isotonic"
    assert np.array_equal(read.curve_of, made.curve_of)
    assert np.array_equal(read.pooled, made.pooled)
    for one, other in zip(read.curves, made.curves, strict=True):
        assert all(np.array_equal(one[part], other[part]) for part in ("score", "value"))
    again = kd.load(saved)
    again.save_pretrained(saved.parent / "copy")
    assert (saved.parent / "copy" / CALIBRATION_FILE).read_bytes() == (
        saved / CALIBRATION_FILE
    ).read_bytes()


def test_weights_that_changed_lose_their_calibration(saved: Path, tmp_path: Path) -> None:
    asked = kd.load(saved)
    with torch.no_grad():
        next(asked.model.parameters()).add_(0.1)
    with pytest.warns(UserWarning, match="written without the calibration"):
        asked.save_pretrained(tmp_path / "changed")
    assert kd.load(tmp_path / "changed").calibration is None
    shutil.copy(saved / CALIBRATION_FILE, tmp_path / "changed" / CALIBRATION_FILE)
    with pytest.raises(UserError, match="made for other weights than lie beside it"):
        kd.load(tmp_path / "changed")


def test_folded_in_entities_keep_the_probabilities_of_the_others(saved: Path) -> None:
    asked = kd.load(saved)
    grown = asked.add_entities([("new", "r0", "e1"), ("new", "r1", "e2")])
    triples = [("e1", "r0", "e2"), ("e5", "r2", "e7")]
    assert torch.equal(grown.probability(triples), asked.probability(triples))
    assert len(grown.probability([("new", "r0", "e2")])) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grown.save_pretrained(saved.parent / "grown")
    assert kd.load(saved.parent / "grown").calibration is not None


BROKEN: dict[str, tuple[Any, str]] = {
    "schema": (lambda t, m: m.update(schema=9), "schema 9 is not"),
    "method": (lambda t, m: m.update(method="spline"), "unknown method 'spline'; known: platt"),
    "no method": (lambda t, m: m.pop("method"), "unknown method None"),
    "about": (lambda t, m: m.update(about=3), "does not say how it was fitted"),
    "missing": (lambda t, m: t.pop("pooled"), "are not those of the method isotonic"),
    "more": (lambda t, m: t.update(x=torch.zeros(1)), "are not those of the method isotonic"),
    "dtype": (lambda t, m: t.update(pooled=t["pooled"].long()), "pooled is of another type"),
    "dimensions": (lambda t, m: t.update(probe=t["probe"][0]), "probe is of another type"),
    "nan": (
        lambda t, m: t.update({"value.score": t["value.score"] * torch.nan}),
        "value.score has values that are not finite",
    ),
    "relations": (
        lambda t, m: t.update(curve_of=t["curve_of"][:, :2].contiguous()),
        "it is not of 4 relations",
    ),
    "pooled shape": (
        lambda t, m: t.update(pooled=t["pooled"][:, :2].contiguous()),
        "pooled is of another shape",
    ),
    "curve": (lambda t, m: t.update(curve_of=t["curve_of"] + 99), "names curves that it does not"),
    "negative curve": (lambda t, m: t.update(curve_of=t["curve_of"] - 9), "names curves"),
    "offsets": (
        lambda t, m: t["offsets.score"].__setitem__(1, 10**9),
        "offsets.score do not fit the values",
    ),
    "lengths": (lambda t, m: t["offsets.score"].__setitem__(1, 1), "as many scores as values"),
    "falling": (
        lambda t, m: t.update({"value.value": t["value.value"].flip(0)}),
        "its points do not rise",
    ),
    "above one": (lambda t, m: t.update({"value.value": t["value.value"] + 1}), "no probability"),
    "probe": (lambda t, m: t.update(probe=t["probe"] + 1000), "its probes are not of this model"),
    "no probe": (
        lambda t, m: t.update(probe=t["probe"][:0], probe_scores=t["probe_scores"][:0]),
        "its probes are no triples",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_file_that_is_wrong_is_one_line(saved: Path, fault: str) -> None:
    path = saved / CALIBRATION_FILE
    tensors, metadata = load_state(path)
    spoil, said = BROKEN[fault]
    spoil(tensors, metadata)
    save_state(path, tensors, metadata)
    with pytest.raises(UserError) as error:
        kd.load(saved)
    assert said in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_a_file_of_something_else_is_one_line(saved: Path, content: bytes) -> None:
    (saved / CALIBRATION_FILE).write_bytes(content)
    with pytest.raises(UserError, match=CALIBRATION_FILE):
        kd.load(saved)


def test_a_calibration_is_of_one_model_alone(saved: Path) -> None:
    other, _ = toy(seed=1)
    with pytest.raises(UserError, match="made for other weights"):
        read_calibration(saved / CALIBRATION_FILE, other)
    both, _ = toy(reciprocal=True)
    with pytest.raises(UserError, match="in 2 direction"):
        read_calibration(saved / CALIBRATION_FILE, both)
