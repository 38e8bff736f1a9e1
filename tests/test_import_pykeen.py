"""PyKEEN's models as teachers: against its formulas written out, and against PyKEEN itself."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from distill_fixtures import chain_tree, dataset_of
from model_formulas import one_thread  # noqa: F401

from dglke_distill.artifacts import checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.data.triples import Dataset, Vocabulary
from dglke_distill.data.writers import write_dataset
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.loading import import_model, load_teacher
from dglke_distill.distill.saved import describe_teacher

ENTITIES, RELATIONS, DIM = 7, 2, 4
NAMES = ["a", "São Tomé", 'quo"te', "tab\there", "5", "NA", "漢"]
RELATION_NAMES = ["born in", "/r"]
COMPLEX = ("ComplEx", "RotatE")


def dataset(names: Sequence[str] = NAMES) -> Dataset:
    """The names in another order than PyKEEN's."""
    plain = dataset_of(ENTITIES, RELATIONS)
    entities = Vocabulary(names[::-1])
    relations = Vocabulary(RELATION_NAMES[::-1], kind="relation")
    return Dataset("tiny", entities, relations, plain.train, plain.valid, plain.test)


def write_names(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerows([("id", "label"), *enumerate(names)])


def write_folder(folder: Path, model: str, state: dict[str, Any], settings: str = "") -> Path:
    folder.mkdir(parents=True)
    torch.save(state, folder / "state.pt")
    for kind, names in (("entity", NAMES), ("relation", RELATION_NAMES)):
        write_names(folder / "training_triples" / f"{kind}_to_id.tsv.gz", names)
    (folder / "import.toml").write_text(f'model = "{model}"\n{settings}')
    return folder


def table(rows: int, floats: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, floats, generator=torch.Generator().manual_seed(seed))


def state_of(model: str, relations: int = RELATIONS) -> dict[str, Any]:
    """What `state_dict()` of PyKEEN's model holds, with random numbers."""
    floats = 2 * DIM if model in COMPLEX else DIM
    twice = model == "SimplE"
    entities = [table(ENTITIES, floats, i) for i in range(1 + twice)]
    width = DIM * DIM if model == "RESCAL" else floats
    rows = [
        table(relations, width, 9 + i) for i in range(2 if model in ("SimplE", "PairRE") else 1)
    ]
    if model == "RotatE":
        pairs = torch.view_as_complex(rows[0].view(relations, DIM, 2))
        rows = [torch.view_as_real(pairs / pairs.abs()).reshape(relations, floats)]
    return {
        **{f"entity_representations.{i}._embeddings.weight": t for i, t in enumerate(entities)},
        **{f"relation_representations.{i}._embeddings.weight": t for i, t in enumerate(rows)},
        "loss.margin": torch.tensor(1.0),
    }


def parts(state: dict[str, Any], kind: str, row: int, is_complex: bool = False) -> list[Any]:
    found = []
    for i in range(2):
        name = f"{kind}_representations.{i}._embeddings.weight"
        if name in state:
            vector = state[name][row].double().numpy()
            found.append(vector[0::2] + 1j * vector[1::2] if is_complex else vector)
    return found


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


def hole(h: Any, r: Any, t: Any) -> float:
    d = len(h)
    return float(sum(r[i] * h[k] * t[(i + k) % d] for i in range(d) for k in range(d)))


def simple(h: Any, r: Any, t: Any) -> float:
    return float((h[0] * r[0] * t[0]).sum() + (t[1] * r[1] * h[1]).sum()) / 2


FORMULAS: dict[str, Callable[..., float]] = {
    "TransE": lambda h, r, t: -np.abs(h[0] + r[0] - t[0]).sum(),
    "DistMult": lambda h, r, t: (h[0] * r[0] * t[0]).sum(),
    "ComplEx": lambda h, r, t: (h[0] * r[0] * t[0].conj()).sum().real,
    "RotatE": lambda h, r, t: -np.linalg.norm(h[0] * r[0] - t[0]),
    "RESCAL": lambda h, r, t: h[0] @ r[0].reshape(DIM, DIM) @ t[0],
    "HolE": lambda h, r, t: hole(h[0], r[0], t[0]),
    "SimplE": simple,
    "PairRE": lambda h, r, t: -np.abs(unit(h[0]) * r[0] - unit(t[0]) * r[1]).sum(),
}


def every_triple() -> Any:
    return torch.cartesian_prod(*map(torch.arange, (ENTITIES, RELATIONS, ENTITIES)))


def ours(folder: Path) -> torch.Tensor:
    """Scores of every triple, ids being PyKEEN's."""
    data = dataset()
    teacher = load_teacher(folder, data)
    entity = torch.tensor([data.entities.id(name) for name in NAMES])
    relation = torch.tensor([data.relations.id(name) for name in RELATION_NAMES])
    head, r, tail = every_triple().T
    return teacher.score_triples(entity[head], relation[r], entity[tail]).detach()


@pytest.mark.parametrize("model", FORMULAS)
def test_scores_are_those_of_its_formula(tmp_path: Path, model: str) -> None:
    state = state_of(model)
    folder = write_folder(tmp_path / "model", model, state)
    is_complex = model in COMPLEX
    expected = [
        FORMULAS[model](
            parts(state, "entity", h, is_complex),
            parts(state, "relation", r, is_complex),
            parts(state, "entity", t, is_complex),
        )
        for h, r, t in every_triple().tolist()
    ]
    np.testing.assert_allclose(ours(folder), expected, rtol=1e-4, atol=1e-5)


def test_options_are_read(tmp_path: Path) -> None:
    state = state_of("TransE")
    folder = write_folder(tmp_path / "model", "transe", state, "scoring_fct_norm = 2\n")
    first = parts(state, "entity", 0)[0] + parts(state, "relation", 0)[0]
    expected = -np.linalg.norm(first - parts(state, "entity", 1)[0])
    assert ours(folder)[1].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("model", FORMULAS)
def test_scores_are_pykeens(tmp_path: Path, model: str) -> None:
    models = pytest.importorskip("pykeen.models", reason="pykeen is not installed")
    triples = pytest.importorskip("pykeen.triples")
    array = np.array([[NAMES[i], RELATION_NAMES[i % 2], NAMES[(i + 1) % 7]] for i in range(7)])
    factory = triples.TriplesFactory.from_labeled_triples(array)
    resolved = models.model_resolver.make(
        model, triples_factory=factory, embedding_dim=DIM, random_seed=0
    ).eval()
    with torch.no_grad():
        scores = resolved.predict_hrt(
            torch.tensor(
                [
                    [factory.entity_to_id[NAMES[h]], factory.relation_to_id[RELATION_NAMES[r]],
                     factory.entity_to_id[NAMES[t]]]
                    for h, r, t in every_triple().tolist()
                ]
            )
        )[:, 0]  # fmt: skip
    folder = tmp_path / "model"
    folder.mkdir()
    torch.save(resolved.state_dict(), folder / "state.pt")
    factory.to_path_binary(folder / "training_triples")
    (folder / "import.toml").write_text(f'model = "{model}"')
    torch.testing.assert_close(ours(folder), scores, rtol=1e-4, atol=1e-5)


def test_inverse_triples_are_reciprocal_relations(tmp_path: Path) -> None:
    models = pytest.importorskip("pykeen.models", reason="pykeen is not installed")
    triples = pytest.importorskip("pykeen.triples")
    array = np.array([[NAMES[i], RELATION_NAMES[i % 2], NAMES[(i + 1) % 7]] for i in range(7)])
    factory = triples.TriplesFactory.from_labeled_triples(array, create_inverse_triples=True)
    model = models.ComplEx(triples_factory=factory, embedding_dim=DIM, random_seed=0).eval()
    folder = tmp_path / "model"
    folder.mkdir()
    torch.save(model.state_dict(), folder / "state.pt")
    factory.to_path_binary(folder / "training_triples")
    (folder / "import.toml").write_text('model = "ComplEx"')
    import_model(folder, tmp_path / "checkpoint")
    loaded = checkpoint.load_model(tmp_path / "checkpoint")
    assert loaded.config.model.reciprocal
    names = sorted(factory.entity_to_id, key=factory.entity_to_id.__getitem__)
    assert list(loaded.entities) == names
    entity, relation = torch.cartesian_prod(torch.arange(7), torch.arange(2)).T
    tails = loaded.model.score_all(entity, relation, "tail")
    torch.testing.assert_close(tails, model.predict_t(torch.stack([entity, relation], 1)))
    heads = loaded.model.score_all(entity, relation, "head")
    torch.testing.assert_close(heads, model.predict_h(torch.stack([relation, entity], 1)))


def test_without_pykeen_inverse_rows_come_second(tmp_path: Path) -> None:
    state = state_of("DistMult", relations=2 * RELATIONS)
    teacher = load_teacher(write_folder(tmp_path / "model", "DistMult", state), dataset())
    rows = state["relation_representations.0._embeddings.weight"]
    torch.testing.assert_close(teacher.relation_embeddings, rows[[2, 0, 3, 1]])
    assert teacher.reciprocal


def test_the_command_writes_a_checkpoint(tmp_path: Path) -> None:
    state = state_of("SimplE")
    folder = write_folder(tmp_path / "model", "SimplE", state)
    arguments = ["import", str(folder), "--format", "pykeen", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    loaded = checkpoint.load_model(tmp_path / "out")
    assert list(loaded.entities) == NAMES
    assert list(loaded.relations) == RELATION_NAMES
    assert loaded.results["source"] == describe_teacher(folder)
    assert loaded.results["source"]["format"] == "pykeen"
    assert loaded.results["model"]["parameters"] == 2 * DIM * (ENTITIES + RELATIONS)
    torch.testing.assert_close(loaded.model.score_triples(*every_triple().T).detach(), ours(folder))


def test_a_student_learns_from_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "TransE", state_of("TransE"))
    names = [name.replace("\t", " ") for name in NAMES]  # files of triples hold no tabs
    write_names(folder / NAMES_FILE, names)
    write_dataset(dataset(names), tmp_path / "tiny")
    tree = chain_tree(tmp_path / "tiny", epochs=1, checkpoint_minutes=9)
    tree.update(dims=[4, 2], control="none")
    chain = ChainConfig.from_mapping(tree, "test")
    (stage,) = run_chain(chain, tmp_path / "run", loaded=[folder]).to_tree()["stages"]
    (teacher,) = stage["results"]["distillation"]["teachers"]
    assert teacher == {"name": folder.name, **describe_teacher(folder)}


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def with_state(folder: Path, state: Any) -> None:
    torch.save(state, folder / "state.pt")


def pickled_model(folder: Path) -> None:
    (folder / "state.pt").rename(folder / "trained_model.pkl")


def stretched(folder: Path) -> None:
    state = state_of("RotatE")
    state["relation_representations.0._embeddings.weight"] *= 2
    with_state(folder, state)


NAMES_FILE = Path("training_triples", "entity_to_id.tsv.gz")
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickle": (pickled_model, r"trained_model\.pkl: is a pickled model, which can run any code"),
    "a whole model": (lambda f: with_state(f, Evil()), r"state\.pt: no weights alone"),
    "hidden code": (lambda f: with_state(f, {"x": Evil()}), r"state\.pt: no weights alone"),
    "no file": (lambda f: (f / "state.pt").write_bytes(b"PK"), r"state\.pt: no weights alone"),
    "no tensors": (lambda f: with_state(f, [1, 2]), r"state\.pt: no named tensors"),
    "two states": (lambda f: (f / "b.pt").touch(), r"one file \*\.pt of weights is needed"),
    "no settings": (lambda f: (f / "import.toml").unlink(), r"import\.toml: is missing"),
    "odd settings": (
        lambda f: (f / "import.toml").write_text('model = "RotatE"\nscoring_fct = 1'),
        r"import\.toml: unknown setting 'scoring_fct'",
    ),
    "no such model": (
        lambda f: (f / "import.toml").write_text('model = "ConvE"'), "'ConvE' of PyKEEN cannot be"
    ),
    "powers": (
        lambda f: (f / "import.toml").write_text('model = "TransE"\npower_norm = true'),
        "setting 'power_norm' is True",
    ),
    "other model": (
        lambda f: (f / "import.toml").write_text('model = "SimplE"'),
        r"has the tables .*representations\.1\..* is `model` in import\.toml right",
    ),
    "no rotation": (stretched, "has relations that are no rotations"),
    "no names": (lambda f: (f / NAMES_FILE).unlink(), "names of its entities .* are not found"),
    "damaged names": (lambda f: (f / NAMES_FILE).write_bytes(b"\x1f\x8b"), "no names that PyKEEN"),
    "other column": (
        lambda f: (f / NAMES_FILE).write_bytes(gzip.compress(b"id\tname\n0\ta\n")),
        "no names that PyKEEN",
    ),
    "ids twice": (
        lambda f: (f / NAMES_FILE).write_bytes(gzip.compress(b"id\tlabel\n0\ta\n0\tb\n")),
        "the ids must be 0 to 1, each once",
    ),
    "fewer names": (
        lambda f: write_names(f / NAMES_FILE, NAMES[1:]), "names 6 entities, but .* 7 rows"
    ),
    "other names": (
        lambda f: write_names(f / NAMES_FILE, [*NAMES[1:], "x"]), "entities are not those .*'a'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], what: str
) -> None:
    folder = write_folder(tmp_path / "model", "RotatE", state_of("RotatE"))
    load_teacher(folder, dataset())
    breaks, match = BROKEN[what]
    breaks(folder)
    with pytest.raises(UserError, match=match):
        load_teacher(folder, dataset())
    assert "run" not in capfd.readouterr().out.split()


def test_a_folder_of_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder that DGL-KE, OpenKE or PyKEEN left a model in"):
        import_model(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="no library 'keras' can be read"):
        import_model(tmp_path, tmp_path / "out", "keras")
    assert list(tmp_path.iterdir()) == []
