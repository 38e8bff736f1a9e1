from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_fixtures import dataset_of
from export_fixtures import NAMES, RELATION_NAMES, loaded_model, queries
from kg_bundle import Bundle
from model_formulas import DIM, ENTITIES, IDS, RELATIONS, VARIANTS, one_thread  # noqa: F401

from dglke_distill.artifacts import checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.cli import main
from dglke_distill.compression import Storage, compress
from dglke_distill.data.triples import Dataset, Vocabulary
from dglke_distill.distill.loading import import_model, load_teacher
from dglke_distill.interop import FORMATS, export_model
from dglke_distill.interop.base import ExportFormat
from dglke_distill.predict import NamedModel

DGLKE = [
    ("TransE", {"norm": "l1"}),
    ("TransE", {"norm": "l2"}),
    ("TransE", {"normalize": True}),
    ("DistMult", {}),
    ("ComplEx", {}),
    ("RotatE", {}),
    ("RESCAL", {}),
    ("SimplE", {}),
]


def named_dataset(relations: Vocabulary = RELATION_NAMES) -> Dataset:
    plain = dataset_of(ENTITIES, RELATIONS)
    return Dataset("tiny", NAMES, relations, plain.train, plain.valid, plain.test)


@pytest.mark.parametrize(("name", "options"), DGLKE)
def test_dglke_gives_our_scores_back(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    loaded = loaded_model(name, options)
    export_model(loaded, "dglke", tmp_path / "out")
    back = load_teacher(tmp_path / "out", named_dataset())
    entity, relation = queries()
    for side in ("head", "tail"):
        torch.testing.assert_close(
            back.score_all(entity, relation, side),
            loaded.model.score_all(entity, relation, side),
            rtol=1e-5,
            atol=1e-5,
        )


def as_dglke_infers(folder: Path, head: Any, relation: Any, tail: Any) -> Any:
    """The scores of its `ScoreInfer`, from its own keys and files; with gamma 0, as it does."""
    settings = json.loads((folder / "config.json").read_text())
    model, hidden = settings["model"], settings["emb_size"]
    assert model == "RotatE" and settings["double_ent"] and not settings["double_rel"]
    entity, rows = (
        np.load(folder / f"{settings['dataset']}_{model}_{kind}.npy").astype(np.float64)
        for kind in ("entity", "relation")
    )
    assert entity.shape[1] == 2 * hidden and rows.shape[1] == hidden
    phase = rows[relation] / ((0.0 + 2.0) / hidden / np.pi)
    as_complex = entity[:, :hidden] + 1j * entity[:, hidden:]
    return -np.abs(as_complex[head] * np.exp(1j * phase) - as_complex[tail]).sum(-1)


def test_dglke_reads_the_phases_of_rotate_whatever_its_score_function(tmp_path: Path) -> None:
    loaded = loaded_model("RotatE")
    folder = export_model(loaded, "dglke", tmp_path / "out")
    head, relation, tail = (torch.tensor(ids) for ids in ([0, 3, 10], [0, 1, 2], [1, 3, 4]))
    ours = loaded.model.score_triples(head, relation, tail).detach().numpy()
    np.testing.assert_allclose(as_dglke_infers(folder, head, relation, tail), ours, rtol=1e-5)
    assert json.loads((folder / "config.json").read_text())["gamma"] == 0


def test_dglke_maps_are_its_own_lines(tmp_path: Path) -> None:
    folder = export_model(loaded_model("DistMult"), "dglke", tmp_path / "out")
    lines = (folder / "entities.tsv").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{i}\t{name}" for i, name in enumerate(NAMES)]
    settings = json.loads((folder / "config.json").read_text())
    assert settings["emap_file"] == "entities.tsv"
    assert settings["rmap_file"] == "relations.tsv"


def test_dglke_asks_inverse_relations_by_name(tmp_path: Path) -> None:
    loaded = loaded_model("ComplEx", reciprocal=True)
    folder = export_model(loaded, "dglke", tmp_path / "out")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "reciprocal": False}))
    twice = [*RELATION_NAMES, *(f"{name}_inverse" for name in RELATION_NAMES)]
    back = load_teacher(tmp_path / "out", named_dataset(Vocabulary(twice, kind="relation")))
    entity, relation = queries()
    for side, asked in (("tail", relation), ("head", relation + RELATIONS)):
        torch.testing.assert_close(
            back.score_all(entity, asked, "tail"), loaded.model.score_all(entity, relation, side)
        )


@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize(("name", "options"), DGLKE)
def test_a_dglke_folder_of_ours_is_a_teacher_that_scores_the_same(
    tmp_path: Path, name: str, options: dict[str, Any], reciprocal: bool
) -> None:
    loaded = loaded_model(name, options, reciprocal=reciprocal)
    folder = export_model(loaded, "dglke", tmp_path / "out")
    import_model(folder, tmp_path / "back")
    back = checkpoint.load_model(tmp_path / "back")
    assert list(back.relations) == list(RELATION_NAMES)
    assert back.config.model.reciprocal is reciprocal
    entity, relation = queries()
    exact = name != "RotatE"  # whose phases DGL-KE keeps in other units
    for model in (load_teacher(folder, named_dataset()), back.model):
        for side in ("head", "tail"):
            torch.testing.assert_close(
                model.score_all(entity, relation, side),
                loaded.model.score_all(entity, relation, side),
                rtol=0 if exact and not options.get("normalize") else 1e-5,
                atol=0 if exact and not options.get("normalize") else 1e-5,
            )
    again = export_model(back, "dglke", tmp_path / "again")
    for file in folder.iterdir():
        if file.name.endswith("_relation.npy") and exact:
            there = next(again.glob("*_relation.npy"))
            np.testing.assert_array_equal(np.load(there), np.load(file))


def test_an_older_export_of_ours_is_a_teacher_too(tmp_path: Path) -> None:
    loaded = loaded_model("ComplEx", reciprocal=True)
    folder = export_model(loaded, "dglke", tmp_path / "out")
    settings = json.loads((folder / "config.json").read_text())
    del settings["reciprocal"]
    (folder / "config.json").write_text(json.dumps(settings))
    entity, relation = queries()
    back = load_teacher(folder, named_dataset())
    assert torch.equal(
        back.score_all(entity, relation, "head"), loaded.model.score_all(entity, relation, "head")
    )
    # DGL-KE's own folder, of data that names inverse relations by itself.
    settings["gamma"] = 12.0
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="'relation 0_inverse' is not in the data"):
        load_teacher(folder, named_dataset())


def test_reciprocal_without_the_names_for_it_is_refused(tmp_path: Path) -> None:
    folder = export_model(loaded_model("ComplEx"), "dglke", tmp_path / "out")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "reciprocal": True}))
    with pytest.raises(UserError, match=r"config.json: reciprocal is True, but the relations"):
        load_teacher(folder, named_dataset())


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("RotatE", {"options": {"norm": "l2"}}, "no model that scores as this RotatE"),
        ("HolE", {}, "no model that scores as this HolE"),
        ("TransR", {}, "no model that scores as this TransR"),
        ("PairRE", {}, "no model that scores as this PairRE"),
        ("DistMult", {"entity_bias": True}, "adds a bias per entity"),
    ],
)
def test_dglke_refuses_what_it_cannot_score(
    tmp_path: Path, name: str, settings: Any, match: str
) -> None:
    with pytest.raises(UserError, match=match):
        export_model(loaded_model(name, **settings), "dglke", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_dictionaries_cannot_hold_is_told(tmp_path: Path) -> None:
    loaded = loaded_model("DistMult")
    names = Vocabulary([*list(NAMES)[:-1], "a\tb"])
    with pytest.raises(UserError, match=r"the entity name 'a\\tb' has a character"):
        export_model(
            checkpoint.LoadedModel(loaded.model, loaded.config, names, loaded.relations, {}),
            "dglke",
            tmp_path / "out",
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["DistMult", "RESCAL", "PairRE"])
def test_npz_holds_every_table(tmp_path: Path, name: str) -> None:
    loaded = loaded_model(name, dtype="float64", reciprocal=True, entity_bias=True)
    export_model(loaded, "npz", tmp_path / "model.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
    with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["entity"], loaded.model.entity_embeddings)
        np.testing.assert_array_equal(arrays["relation"], loaded.model.relation_embeddings)
        bias = loaded.model.bias_weight
        assert bias is not None
        np.testing.assert_array_equal(arrays["entity_bias"], bias.detach()[:, 0])
        assert arrays["entity_names"].tolist() == list(NAMES)
        assert arrays["relation_names"].tolist()[RELATIONS] == "relation 0_inverse"
        assert json.loads(str(arrays["config"]))["model"]["name"] == name


def read_word2vec(path: Path, binary: bool) -> tuple[list[str], Any]:
    """Read the format as word2vec's distance tool does."""
    data = path.read_bytes()
    first, _, rest = data.partition(b"\n")
    count, dim = map(int, first.split())
    names, rows = [], []
    for _ in range(count):
        name, _, rest = rest.partition(b" ")
        names.append(name.decode())
        if binary:
            rows.append(np.frombuffer(rest[: 4 * dim], "<f4"))
            assert rest[4 * dim : 4 * dim + 1] == b"\n"
            rest = rest[4 * dim + 1 :]
        else:
            line, _, rest = rest.partition(b"\n")
            rows.append(np.array(line.split(), dtype=np.float32))
            assert len(rows[-1]) == dim
    assert rest == b""
    return names, np.stack(rows)


@pytest.mark.parametrize("format", ["word2vec", "word2vec-binary"])
@pytest.mark.parametrize("table", ["entities", "relations"])
def test_word2vec_gives_the_vectors_back_bit_for_bit(
    tmp_path: Path, format: str, table: str
) -> None:
    loaded = loaded_model("TransE", reciprocal=True)
    path = export_model(loaded, format, tmp_path / "vectors", {"table": table})
    names, rows = read_word2vec(path, binary=format.endswith("binary"))
    if table == "entities":
        assert names == [name.replace(" ", "_") for name in NAMES]
        np.testing.assert_array_equal(rows, loaded.model.entity_embeddings)
    else:
        assert names[-1] == "relation_2_inverse"
        np.testing.assert_array_equal(rows, loaded.model.relation_embeddings)


@pytest.mark.parametrize("format", ["word2vec", "word2vec-binary"])
def test_gensim_reads_word2vec(tmp_path: Path, format: str) -> None:
    models = pytest.importorskip("gensim.models", reason="gensim is not installed")
    loaded = loaded_model("ComplEx")
    path = export_model(loaded, format, tmp_path / "vectors")
    vectors = models.KeyedVectors.load_word2vec_format(path, binary=format.endswith("binary"))
    assert vectors.index_to_key == [name.replace(" ", "_") for name in NAMES]
    np.testing.assert_array_equal(vectors["São_Tomé"], loaded.model.entity_embeddings[-3])


@pytest.mark.parametrize(
    ("names", "match"),
    [(["a b", "a_b"], "'a b' and 'a_b' would both"), (["", "x"], "no vector can be called ''")],
)
def test_word2vec_refuses_keys_that_are_none(tmp_path: Path, names: list[str], match: str) -> None:
    loaded = loaded_model("TransE")
    odd = Vocabulary([*list(NAMES)[2:], *names])
    other = checkpoint.LoadedModel(loaded.model, loaded.config, odd, loaded.relations, {})
    with pytest.raises(UserError, match=match):
        export_model(other, "word2vec", tmp_path / "vectors")
    export_model(other, "word2vec", tmp_path / "vectors", {"keys": "ids"})
    assert read_word2vec(tmp_path / "vectors", False)[0] == [str(i) for i in range(ENTITIES)]


def test_parquet_holds_names_and_vectors(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    loaded = loaded_model("RotatE", entity_bias=True)
    folder = export_model(loaded, "parquet", tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "entities.parquet",
        "relations.parquet",
    ]
    entities = parquet.read_table(folder / "entities.parquet")
    assert entities.schema.field("vector").type.list_size == DIM
    assert entities["id"].to_pylist() == list(range(ENTITIES))
    assert entities["name"].to_pylist() == list(NAMES)
    table = np.array(entities["vector"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(table, loaded.model.entity_embeddings)
    bias = loaded.model.bias_weight
    assert bias is not None
    assert entities["bias"].to_pylist() == bias[:, 0].tolist()
    assert json.loads(entities.schema.metadata[b"config"])["model"]["name"] == "RotatE"
    relations = parquet.read_table(folder / "relations.parquet")
    assert relations["name"].to_pylist() == list(RELATION_NAMES)
    assert relations.column_names == ["id", "name", "vector"]


def test_what_lies_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("precious")
    with pytest.raises(UserError, match="is there already"):
        export_model(loaded_model("TransE"), "word2vec", tmp_path / "thesis")
    assert (tmp_path / "thesis").read_text() == "precious"


def test_unknown_formats_and_options_are_told(tmp_path: Path) -> None:
    loaded = loaded_model("TransE")
    with pytest.raises(UserError, match="format 'word2vek'; did you mean 'word2vec'"):
        export_model(loaded, "word2vek", tmp_path / "out")
    with pytest.raises(UserError, match="options of the format word2vec: unknown setting 'tables'"):
        export_model(loaded, "word2vec", tmp_path / "out", {"tables": "entities"})


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("onnx", "parquet"):
        with pytest.raises(UserError, match=r"pip install 'dglke-distill\[export\]'"):
            export_model(loaded_model("TransE"), name, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_compressed_models_export_what_they_decode(tmp_path: Path, kind: str) -> None:
    loaded = loaded_model("ComplEx", reciprocal=True, entity_bias=True)
    small = compress(loaded.model, loaded.config.model, Storage.of(kind))
    packed = checkpoint.LoadedModel(small, loaded.config, NAMES, RELATION_NAMES, {})
    with np.load(export_model(packed, "npz", tmp_path / "out.npz")) as arrays:
        np.testing.assert_array_equal(arrays["entity"], small.entity_embeddings)
        assert arrays["entity"].dtype == np.float32
    bundle = Bundle(export_model(packed, "bundle", tmp_path / "out", {"dtype": "float32"}))
    entity, relation = queries()
    for side in ("head", "tail"):
        theirs = [bundle.scores(int(e), int(r), side) for e, r in zip(entity, relation)]
        ours = small.score_all(entity, relation, side)
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=2e-5)


class Failing(ExportFormat):
    name = "failing"
    about = "breaks half-way"

    def write(self, loaded: Any, options: Any, place: Path) -> None:
        place.write_text("half")
        raise RuntimeError("disk on fire")


@pytest.mark.parametrize("directory", [True, False])
def test_a_broken_export_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: bool
) -> None:
    class Broken(Failing):
        def write(self, loaded: Any, options: Any, place: Path) -> None:
            super().write(loaded, options, place / "file" if directory else place)

    Broken.directory = directory
    monkeypatch.setattr(FORMATS, "_registered", {})
    FORMATS.register(Broken)
    with pytest.raises(RuntimeError):
        export_model(loaded_model("TransE"), "failing", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = loaded_model("DistMult")
    place, out = tmp_path / "checkpoint", tmp_path / "out.vec"
    checkpoint.save_model(place, loaded.model, loaded.config, NAMES, RELATION_NAMES, {})
    arguments = ["export", str(place), "--format", "word2vec", "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--set", "table=relations"])
    assert not ended.value.code
    assert read_word2vec(out, False)[0] == ["relation_0", "relation_1", "relation_2"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "is there already" in capsys.readouterr().err


def test_the_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["formats"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert all(name in shown for name in FORMATS)
    assert "dtype=None" in shown


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
@pytest.mark.parametrize("settings", [{"reciprocal": True}, {"entity_bias": True}])
def test_a_refusal_names_formats_that_take_the_model(
    tmp_path: Path, name: str, options: Any, settings: Any
) -> None:
    loaded = loaded_model(name, options, **settings)
    for format in ("dglke", "bundle", "onnx", "pgvector", "sqlite-vec"):
        try:
            export_model(loaded, format, tmp_path / format, OPTIONS.get(format))
        except UserError as error:
            named = re.search(r"export it as ([a-z, ]+?)(, or export a|$)", str(error))
            assert named is not None, error
            others = re.split(", | or ", named[1])
            assert format not in others
            for number, other in enumerate(others):
                export_model(loaded, other, tmp_path / f"{format}-{number}")


OPTIONS = {"pgvector": {"questions": 0}, "sqlite-vec": {"questions": 0}}


def test_scores_that_are_not_finite_have_no_search(tmp_path: Path) -> None:
    loaded = loaded_model("ComplEx")
    with torch.no_grad():
        for weights in loaded.model.parameters():
            weights.mul_(1e20)  # products of three are beyond float32
    with pytest.raises(UserError, match="the model's scores are not finite"):
        export_model(loaded, "pgvector", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_load_returns_is_exported_and_errors_name_parameters(tmp_path: Path) -> None:
    loaded, out = loaded_model("ComplEx"), tmp_path / "it.npz"
    export_model(NamedModel(loaded), "npz", out)
    assert out.read_bytes() == export_model(loaded, "npz", tmp_path / "as.npz").read_bytes()
    with pytest.raises(UserError, match="add overwrite=True to replace it"):
        export_model(loaded, "npz", out)
    with pytest.raises(UserError, match="loaded is 'it': give a model"):
        export_model("it", "npz", out)  # type: ignore[arg-type]
