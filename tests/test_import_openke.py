"""OpenKE's models as teachers, against the formulas of its code written out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from distill_fixtures import dataset_of
from model_formulas import one_thread  # noqa: F401

from dglke_distill.artifacts import checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.data.triples import Dataset, Vocabulary
from dglke_distill.data.writers import write_dataset
from dglke_distill.distill.loading import load_teacher

ENTITIES, RELATIONS, DIM, SPACE = 6, 3, 4, 3
MARGIN, EPSILON = 6.0, 2.0
NAMES = [f"e{i}" for i in range(ENTITIES)]
RELATION_NAMES = [f"/r{i}" for i in range(RELATIONS)]
TABLES = {
    "TransE": {"ent_embeddings": DIM, "rel_embeddings": DIM},
    "TransR": {"ent_embeddings": DIM, "rel_embeddings": SPACE, "transfer_matrix": DIM * SPACE},
    "DistMult": {"ent_embeddings": DIM, "rel_embeddings": DIM},
    "HolE": {"ent_embeddings": DIM, "rel_embeddings": DIM},
    "SimplE": {"ent_embeddings": DIM, "rel_embeddings": DIM, "rel_inv_embeddings": DIM},
    "RESCAL": {"ent_embeddings": DIM, "rel_matrices": DIM * DIM},
    "RotatE": {"ent_embeddings": 2 * DIM, "rel_embeddings": DIM},
    "ComplEx": {
        f"{kind}_{part}_embeddings": DIM for kind in ("ent", "rel") for part in ("re", "im")
    },
}


def dataset() -> Dataset:
    """The names in another order than OpenKE's."""
    plain = dataset_of(ENTITIES, RELATIONS)
    entities, relations = Vocabulary(NAMES[::-1]), Vocabulary(RELATION_NAMES[::-1], kind="relation")
    return Dataset("tiny", entities, relations, plain.train, plain.valid, plain.test)


def state_of(model: str) -> dict[str, torch.Tensor]:
    """What `state_dict()` of OpenKE's model holds, with random numbers."""
    generator = torch.Generator().manual_seed(3)
    state = {
        f"{name}.weight": torch.randn(
            ENTITIES if name.startswith("ent") else RELATIONS, floats, generator=generator
        )
        for name, floats in TABLES[model].items()
    }
    state.update(zero_const=torch.zeros(1), pi_const=torch.full((1,), math.pi))
    if model == "RotatE":
        state["rel_embedding_range"] = torch.tensor([(MARGIN + EPSILON) / DIM])
        state["margin"] = torch.tensor([MARGIN])
    return state


def write_folder(folder: Path, model: str, settings: str = "", as_json: bool = False) -> Path:
    folder.mkdir(parents=True)
    state = state_of(model)
    if as_json:
        lists = {name: tensor.tolist() for name, tensor in state.items()}
        (folder / "model.vec.json").write_text(json.dumps(lists))
    else:
        torch.save(state, folder / "model.ckpt")
    for file, names in (("entity2id.txt", NAMES), ("relation2id.txt", RELATION_NAMES)):
        lines = [f"{name}\t{i}\n" for i, name in enumerate(names)]
        (folder / file).write_text(f"{len(names)}\n{''.join(lines)}")
    (folder / "import.toml").write_text(f'model = "{model}"\n{settings}')
    return folder


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


def transr(h: Any, r: Any, t: Any, matrix: Any) -> float:
    matrix = matrix.reshape(DIM, SPACE)
    return float(-np.abs(h @ matrix + r - t @ matrix).sum())


def hole(h: Any, r: Any, t: Any) -> float:
    # The real part of the inverse transform of conj(F h) F t, met with r, as its code has it.
    correlation = np.fft.ifft(np.conj(np.fft.fft(h)) * np.fft.fft(t)).real
    return float((correlation * r).sum())


def rotate(h: Any, r: Any, t: Any) -> float:
    phase = r / (((MARGIN + EPSILON) / DIM) / math.pi)
    re_h, im_h = h[:DIM], h[DIM:]
    re = re_h * np.cos(phase) - im_h * np.sin(phase) - t[:DIM]
    im = re_h * np.sin(phase) + im_h * np.cos(phase) - t[DIM:]
    return float(-np.sqrt(re**2 + im**2).sum())


def score(model: str, state: dict[str, torch.Tensor], head: int, relation: int, tail: int) -> float:
    """What OpenKE trains to be high for a fact, without its margin."""

    def of(name: str, row: int) -> Any:
        return state[f"{name}.weight"][row].double().numpy()

    if model == "ComplEx":
        (h_re, h_im), (t_re, t_im), (r_re, r_im) = (
            (of(f"{kind}_re_embeddings", row), of(f"{kind}_im_embeddings", row))
            for kind, row in (("ent", head), ("ent", tail), ("rel", relation))
        )
        terms = h_re * t_re * r_re + h_im * t_im * r_re + h_re * t_im * r_im - h_im * t_re * r_im
        return float(terms.sum())
    h, t = of("ent_embeddings", head), of("ent_embeddings", tail)
    if model == "RESCAL":
        return float(-(h * (of("rel_matrices", relation).reshape(DIM, DIM) @ t)).sum())
    r = of("rel_embeddings", relation)
    if model == "TransE":
        return float(-np.abs(unit(h) + unit(r) - unit(t)).sum())
    if model == "TransR":
        return transr(h, r, t, of("transfer_matrix", relation))
    if model == "DistMult":
        return float((h * r * t).sum())
    if model == "SimplE":
        return float((h * r * t).sum() + (h * of("rel_inv_embeddings", relation) * t).sum()) / 2
    return {"HolE": hole, "RotatE": rotate}[model](h, r, t)


def every_triple() -> torch.Tensor:
    return torch.cartesian_prod(*map(torch.arange, (ENTITIES, RELATIONS, ENTITIES)))


def ours(folder: Path) -> Any:
    """Scores of every triple, ids being OpenKE's."""
    data = dataset()
    teacher = load_teacher(folder, data)
    entity = torch.tensor([data.entities.id(name) for name in NAMES])
    relation = torch.tensor([data.relations.id(name) for name in RELATION_NAMES])
    head, r, tail = every_triple().T
    return teacher.score_triples(entity[head], relation[r], entity[tail]).detach().numpy()


@pytest.mark.parametrize("model", TABLES)
@pytest.mark.parametrize("as_json", [False, True])
def test_scores_are_those_of_its_formula(tmp_path: Path, model: str, as_json: bool) -> None:
    settings = "norm_flag = false\n" if model == "TransR" else ""
    folder = write_folder(tmp_path / "model", model, settings, as_json)
    expected = [score(model, state_of(model), *triple) for triple in every_triple().tolist()]
    np.testing.assert_allclose(ours(folder), expected, rtol=1e-4, atol=1e-5)


def test_options_are_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "TransE", "p_norm = 2\nnorm_flag = false\n")
    state = state_of("TransE")
    first = (state["ent_embeddings.weight"][0] + state["rel_embeddings.weight"][0]).numpy()
    expected = -np.linalg.norm(first - state["ent_embeddings.weight"][1].numpy())
    assert ours(folder)[1] == pytest.approx(expected, rel=1e-5)


def test_a_model_inside_its_sampling_strategy_is_found(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "ComplEx")
    before = ours(folder)
    state = {f"model.{name}": tensor for name, tensor in state_of("ComplEx").items()}
    torch.save({**state, "zero_const": torch.zeros(1)}, folder / "model.ckpt")
    np.testing.assert_array_equal(ours(folder), before)


def test_the_command_ranks_it_on_its_dataset(tmp_path: Path) -> None:
    folder, place = write_folder(tmp_path / "model", "DistMult"), tmp_path / "tiny"
    write_dataset(dataset(), place)
    arguments = ["import", str(folder), "--dataset", str(place), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    loaded = checkpoint.load_model(tmp_path / "out")
    assert loaded.results["metrics"]["test"]["mrr"] > 0
    assert loaded.results["source"]["format"] == "openke"
    assert set(loaded.entities) == set(NAMES)
    ids = [loaded.entities.id("e1"), loaded.relations.id("/r2"), loaded.entities.id("e4")]
    found = loaded.model.score_triples(*torch.tensor(ids)[:, None]).item()
    assert found == pytest.approx(score("DistMult", state_of("DistMult"), 1, 2, 4), rel=1e-5)


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def no_range(folder: Path) -> None:
    state = state_of("RotatE")
    del state["rel_embedding_range"]
    torch.save(state, folder / "model.ckpt")


def in_json(folder: Path, text: str) -> None:
    (folder / "model.ckpt").unlink()
    (folder / "model.json").write_text(text)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "hidden code": (
        lambda f: torch.save({"x": Evil()}, f / "model.ckpt"), r"model\.ckpt: no weights alone"
    ),
    "two files": (lambda f: (f / "b.ckpt").touch(), r"found: b\.ckpt, model\.ckpt"),
    "no settings": (lambda f: (f / "import.toml").unlink(), r"import\.toml: is missing; .*TransE"),
    "no such model": (
        lambda f: (f / "import.toml").write_text('model = "TransH"'), "'TransH' of OpenKE cannot be"
    ),
    "other model": (
        lambda f: (f / "import.toml").write_text('model = "RESCAL"'), "no table rel_matrices"
    ),
    "normalised TransR": (
        lambda f: (f / "import.toml").write_text('model = "TransR"'), "without .norm_flag = false."
    ),
    "no range": (no_range, "no number rel_embedding_range"),
    "no json": (lambda f: in_json(f, "{"), r"model\.json: not valid JSON"),
    "list": (lambda f: in_json(f, "[1]"), r"model\.json: no parameters that OpenKE saved"),
    "ragged": (lambda f: in_json(f, '{"x": [[1], [1, 2]]}'), "no parameters that OpenKE saved"),
    "no names": (lambda f: (f / "relation2id.txt").unlink(), r"relation2id\.txt"),
    "fewer names": (
        lambda f: (f / "entity2id.txt").write_text("1\ne0\t0\n"), "names 1 entity, but .* 6 rows"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], what: str
) -> None:
    folder = write_folder(tmp_path / "model", "RotatE")
    load_teacher(folder, dataset())
    breaks, match = BROKEN[what]
    breaks(folder)
    with pytest.raises(UserError, match=match):
        load_teacher(folder, dataset())
    assert "run" not in capfd.readouterr().out.split()
