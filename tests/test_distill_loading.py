"""Teachers from disk: DGL-KE's folders against its published formulas, and against checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from clock_fixtures import clock_chain, write_clock

from dglke_distill.artifacts.checkpoint import load_model
from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.data import catalog
from dglke_distill.data.triples import Dataset
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.compare import ComparisonConfig, run_comparison
from dglke_distill.distill.loading import load_teacher
from dglke_distill.distill.saved import describe_teacher
from dglke_distill.interop.dglke_folder import DGLKE_MODELS

GAMMA, HIDDEN = 12.0, 3
DOUBLED = ("ComplEx", "RotatE", "SimplE")


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clock(tmp_path_factory.mktemp("data") / "clock")


@pytest.fixture(scope="module")
def dataset(clock: Path) -> Dataset:
    return catalog.load(str(clock))


def write_folder(
    folder: Path, model: str, dataset: Dataset, entity: Any, relation: Any, **changes: Any
) -> Path:
    """Write what DGL-KE writes; entities and relations have other ids there than with us.

    The arrays are in the dataset's order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    tables = (("entity", "entities", entity), ("relation", "relations", relation))
    for kind, names, table in tables:
        order = rng.permutation(len(table))
        np.save(folder / f"clock_{model}_{kind}.npy", table[order])
        lines = [f"{row}\t{getattr(dataset, names)[i]}\n" for row, i in enumerate(order)]
        (folder / f"{names}.tsv").write_text("".join(lines))
    settings = {
        "model_name": model,
        "dataset": "clock",
        "hidden_dim": HIDDEN,
        "gamma": GAMMA,
        "double_ent": model in DOUBLED,
        "double_rel": model in ("ComplEx", "SimplE"),
        "emp_file": "entities.tsv",
        "rmap_file": "relations.tsv",
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=4))
    return folder


def arrays(model: str, dataset: Dataset) -> tuple[Any, Any]:
    """Return random tables of the shapes that DGL-KE gives them."""
    rng = np.random.default_rng(1)
    entity = HIDDEN * (2 if model in DOUBLED else 1)
    relation = {"ComplEx": 2 * HIDDEN, "SimplE": 2 * HIDDEN, "RESCAL": HIDDEN**2}
    return (
        rng.normal(size=(dataset.num_entities, entity)).astype(np.float32),
        rng.normal(size=(dataset.num_relations, relation.get(model, HIDDEN))).astype(np.float32),
    )


def rotate(h: Any, r: Any, t: Any) -> float:
    phase = r / ((GAMMA + 2.0) / HIDDEN / math.pi)
    (a, b), (c, d) = np.split(h, 2), np.split(t, 2)
    real = a * np.cos(phase) - b * np.sin(phase) - c
    imaginary = a * np.sin(phase) + b * np.cos(phase) - d
    return GAMMA - float(np.sqrt(real**2 + imaginary**2).sum())


def complex_score(h: Any, r: Any, t: Any) -> float:
    (a, b), (c, d), (e, f) = (np.split(v, 2) for v in (h, r, t))
    return float((a * c * e + b * c * f + a * d * f - b * d * e).sum())


def simple(h: Any, r: Any, t: Any) -> float:
    (hi, hj), (forward, inverse), (ti, tj) = (np.split(v, 2) for v in (h, r, t))
    return float((hi * forward * tj).sum() + (ti * inverse * hj).sum()) / 2


FORMULAS: dict[str, Callable[..., float]] = {
    "TransE": lambda h, r, t: GAMMA - float(np.sqrt(((h + r - t) ** 2).sum())),
    "TransE_l2": lambda h, r, t: GAMMA - float(np.sqrt(((h + r - t) ** 2).sum())),
    "TransE_l1": lambda h, r, t: GAMMA - float(np.abs(h + r - t).sum()),
    "DistMult": lambda h, r, t: float((h * r * t).sum()),
    "ComplEx": complex_score,
    "RotatE": rotate,
    "RESCAL": lambda h, r, t: float(h @ (r.reshape(HIDDEN, HIDDEN) @ t)),
    "SimplE": simple,
}


@pytest.mark.parametrize("model", DGLKE_MODELS)
def test_scores_are_those_of_the_published_formula(
    dataset: Dataset, tmp_path: Path, model: str
) -> None:
    entity, relation = arrays(model, dataset)
    folder = write_folder(tmp_path / "model", model, dataset, entity, relation)
    teacher = load_teacher(folder, dataset)
    rng = np.random.default_rng(2)
    heads, tails = rng.integers(0, dataset.num_entities, (2, 40))
    relations = rng.integers(0, dataset.num_relations, 40)
    ids = (torch.from_numpy(column) for column in (heads, relations, tails))
    scores = teacher.score_triples(*ids).detach().numpy()
    shift = GAMMA if model.startswith("Trans") or model == "RotatE" else 0.0
    wide = entity.astype(np.float64), relation.astype(np.float64)
    expected = [
        FORMULAS[model](wide[0][h], wide[1][r], wide[0][t]) - shift
        for h, r, t in zip(heads, relations, tails)
    ]
    np.testing.assert_allclose(scores, expected, rtol=2e-5, atol=2e-5)


@pytest.fixture(scope="module")
def chain(clock: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished chain of RotatE models; its teacher has 2 * HIDDEN floats."""
    directory = tmp_path_factory.mktemp("chain") / "run"
    return directory, run_chain(rotations(clock), directory).to_tree()


def rotations(clock: Path) -> Any:
    shared = clock_chain(clock).shared
    shared = {**shared, "model": {"name": "RotatE"}}
    student = {"distillation": {"initialization": "random"}}
    return clock_chain(clock, dims=[2 * HIDDEN, 2], shared=shared, student=student, control="none")


@pytest.fixture(scope="module")
def written(chain: tuple[Path, Any], dataset: Dataset) -> Path:
    """The chain's teacher, as DGL-KE would have saved it."""
    model = load_model(chain[0] / "stages" / "0-teacher-rotate-dim6" / "checkpoint").model
    phases = model.relation_embeddings.double().numpy() * ((GAMMA + 2.0) / HIDDEN / math.pi)
    entity = model.entity_embeddings.numpy()
    return write_folder(chain[0].parent / "dglke", "RotatE", dataset, entity, phases)


def test_a_model_of_ours_written_their_way_is_itself(
    chain: tuple[Path, Any], written: Path, dataset: Dataset
) -> None:
    place = chain[0] / "stages" / "0-teacher-rotate-dim6" / "checkpoint"
    ours, theirs = load_teacher(place, dataset), load_teacher(written, dataset)
    ids = torch.arange(4)
    torch.testing.assert_close(
        theirs.score_triples(ids, ids, ids), ours.score_triples(ids, ids, ids)
    )
    torch.testing.assert_close(theirs.state_dict(), ours.state_dict())
    known = describe_teacher(written)
    assert known["model"] == chain[1]["stages"][0]["results"]["model"]
    assert known["format"] == "dglke"
    assert known["weights"] == {
        f"clock_RotatE_{kind}.npy": hashlib.sha256(
            (written / f"clock_RotatE_{kind}.npy").read_bytes()
        ).hexdigest()
        for kind in ("entity", "relation")
    }


def test_a_chain_and_a_comparison_under_a_teacher_of_dglke(
    chain: tuple[Path, dict[str, Any]], written: Path, clock: Path, tmp_path: Path
) -> None:
    results = run_chain(rotations(clock), tmp_path / "run", loaded=[written]).to_tree()
    assert results["summary"]["teacher_mrr"] == pytest.approx(chain[1]["summary"]["teacher_mrr"])
    about = results["stages"][0]["results"]["distillation"]["teachers"][0]
    assert about == {"name": written.name, **describe_teacher(written)}
    # Phases went to another unit and back: the same student but for rounding.
    first, second = (
        load_model(directory / "stages" / name / "checkpoint").model.entity_embeddings
        for directory, name in ((chain[0], "1-rotate-dim2"), (tmp_path / "run", "0-rotate-dim2"))
    )
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)
    comparison = ComparisonConfig(methods=["bkd"], loaded=[str(written)], chain=rotations(clock))
    compared = run_comparison(comparison, tmp_path / "compare").to_tree()
    metrics = compared["teacher"]["results"]["metrics"]
    assert metrics["test"]["mrr"] == pytest.approx(chain[1]["summary"]["teacher_mrr"])
    assert compared["teacher"]["results"]["source"] == describe_teacher(written)
    assert compared["teacher_seconds"] == 0
    assert (
        run_comparison(comparison, tmp_path / "compare", resume=True).to_tree()["rows"]
        == compared["rows"]
    )


def test_the_plan_of_a_chain_under_it(
    written: Path, clock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"run {clock} --model RotatE --dims 6,2 --teacher {written} --dry-run --epochs 1"
    with pytest.raises(SystemExit) as ended:
        main([*arguments.split(), "--recipe", "none", "--threads", "1"])
    assert not ended.value.code
    assert "0-rotate-dim2" in capsys.readouterr().out


def test_the_settings_of_other_versions_are_understood(dataset: Dataset, tmp_path: Path) -> None:
    entity, relation = arrays("RotatE", dataset)
    first = write_folder(tmp_path / "a", "RotatE", dataset, entity, relation)
    second = write_folder(tmp_path / "b", "RotatE", dataset, entity, relation)
    settings(
        second, model_name=None, model="RotatE", hidden_dim=None, emb_size=HIDDEN, dataset="other",
        emp_file=None, emap_file="/elsewhere/entities.tsv", rmap_file=None,
    )  # fmt: skip
    one, two = load_teacher(first, dataset), load_teacher(second, dataset)
    torch.testing.assert_close(one.state_dict(), two.state_dict(), rtol=0, atol=0)


def settings(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    tree = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}))


def replace(folder: Path, kind: str, array: Any, **how: Any) -> None:
    np.save(folder / f"clock_RotatE_{kind}.npy", array, **how)


def spoil(folder: Path) -> None:
    array = np.load(folder / "clock_RotatE_entity.npy")
    array[3, 1] = np.nan
    replace(folder, "entity", array)


def rename(folder: Path, file: str, old: str, new: str) -> None:
    text = (folder / file).read_text()
    (folder / file).write_text(text.replace(f"\t{old}\n", f"\t{new}\n"))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no settings": (lambda f: (f / "config.json").unlink(), r"config\.json: is missing"),
    "no json": (lambda f: (f / "config.json").write_text("{"), r"config\.json: not valid JSON"),
    "unknown model": (lambda f: settings(f, model_name="TransR"), "'TransR' of DGL-KE cannot be"),
    "no gamma": (lambda f: settings(f, gamma=None), "without gamma"),
    "other width": (lambda f: settings(f, hidden_dim=6), "hidden_dim .is 6., half the 6 floats"),
    "no relations": (lambda f: (f / "clock_RotatE_relation.npy").unlink(), "there is none"),
    "relation floats": (lambda f: replace(f, "relation", np.ones((4, 6))), "6 floats per relation"),
    "rows": (lambda f: replace(f, "entity", np.ones((29, 6))), "names 30 entities, but .* 29 rows"),
    "shape": (lambda f: replace(f, "entity", np.ones(30)), r"of shape \(30,\)"),
    "integers": (lambda f: replace(f, "entity", np.ones((30, 6), int)), "int64 of shape"),
    "not finite": (spoil, r"clock_RotatE_entity\.npy: has values that are not finite"),
    "damaged": (
        lambda f: (f / "clock_RotatE_entity.npy").write_bytes(b"\x93NUMPY"), "not an array of numpy"
    ),
    "no dictionary": (lambda f: (f / "entities.tsv").unlink(), r"\(entities\.tsv\) is not found"),
    "other names": (
        lambda f: rename(f, "entities.tsv", "n7", "x7"), "the teacher's entities are not .*'n7'"
    ),
    "other relations": (
        lambda f: rename(f, "relations.tsv", "plus2", "minus2"), "the teacher's relations are not"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_told(dataset: Dataset, tmp_path: Path, what: str) -> None:
    folder = write_folder(tmp_path / "model", "RotatE", dataset, *arrays("RotatE", dataset))
    load_teacher(folder, dataset)
    breaks, match = BROKEN[what]
    breaks(folder)
    with pytest.raises(UserError, match=match):
        load_teacher(folder, dataset)


def test_a_dictionary_with_more_names_is_told(dataset: Dataset, tmp_path: Path) -> None:
    entity, relation = arrays("RotatE", dataset)
    folder = write_folder(tmp_path / "model", "RotatE", dataset, entity, relation)
    replace(folder, "entity", np.ones((31, 6), np.float32))
    with open(folder / "entities.tsv", "a") as file:
        file.write("30\tstranger\n")
    with pytest.raises(UserError, match="'stranger' is not in the data"):
        load_teacher(folder, dataset)


def test_nothing_is_unpickled(dataset: Dataset, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "RotatE", dataset, *arrays("RotatE", dataset))
    bad = np.array([[object()]], dtype=object)
    replace(folder, "entity", bad, allow_pickle=True)
    with pytest.raises(UserError, match="not an array of numpy"):
        load_teacher(folder, dataset)


def file_named(folder: Path, name: str) -> Path:
    (folder / name).write_text("a\tr\tb\n", encoding="utf-8")
    return folder / name


def test_a_teacher_that_is_not_there_leaves_nothing_behind(clock: Path, tmp_path: Path) -> None:
    for run in (
        lambda: run_chain(clock_chain(clock), tmp_path / "run", loaded=[tmp_path / "none"]),
        lambda: run_comparison(
            ComparisonConfig(
                methods=["bkd"], chain=clock_chain(clock), loaded=[str(tmp_path / "none")]
            ),
            tmp_path / "run",
        ),
    ):
        with pytest.raises(UserError, match=r"none: does not exist; --teacher takes the folder"):
            run()
    with pytest.raises(UserError, match=r"clock: is a file; --teacher takes the folder"):
        run_chain(clock_chain(clock), tmp_path / "run", loaded=[file_named(tmp_path, "clock")])
    with pytest.raises(UserError, match=r"neither a checkpoint .* nor a folder that DGL-KE"):
        run_chain(clock_chain(clock), tmp_path / "run", loaded=[tmp_path])
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_other_data_is_told(chain: tuple[Path, Any], tmp_path: Path) -> None:
    other = catalog.load(str(write_clock(tmp_path / "small", hours=20)))
    with pytest.raises(UserError, match="the teacher's entities are not those of small"):
        load_teacher(chain[0] / "stages" / "0-teacher-rotate-dim6" / "checkpoint", other)
