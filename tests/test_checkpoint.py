from __future__ import annotations

import json
import math
import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from dglke_distill import zoo
from dglke_distill.artifacts import checkpoint
from dglke_distill.base import files
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import flatten_state, load_state, restore_state, save_state
from dglke_distill.compression import Storage, compress
from dglke_distill.config import Config
from dglke_distill.data.triples import Vocabulary
from dglke_distill.models import SCORE_FUNCTIONS, build_model
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.resume import restore_training

ENTITIES = Vocabulary(["/m/02mjmr", "São Tomé", "a\tb", "", "5", "x\r", "漢"])
RELATIONS = Vocabulary(["born in", "/r"], kind="relation")
RESULTS = {"metrics": {"test": {"mrr": 0.1 + 0.2}}, "ranks": [1, 2]}


def build(name: str = "ComplEx", **changes: Any) -> tuple[Config, KGEModel]:
    training = {"dtype": changes.pop("dtype", "float32")}
    tree = {"model": {"name": name, "dim": 8, **changes}, "training": training}
    config = Config.from_mapping(tree, "test")
    dtype = getattr(torch, config.training.dtype)
    model = build_model(config.model, len(ENTITIES), len(RELATIONS), dtype)
    model.reset(seed=3)
    return config, model


def save(directory: Path, config: Config, model: KGEModel) -> None:
    checkpoint.save_model(directory, model, config, ENTITIES, RELATIONS, RESULTS)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "checkpoint", *build())
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("name", SCORE_FUNCTIONS)
def test_every_model_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    config, model = build(name, reciprocal=True, entity_bias=True, dtype="float64")
    with torch.no_grad():
        model.bias_weight.normal_()
    save(tmp_path / "c", config, model)
    loaded = checkpoint.load_model(tmp_path / "c")
    assert loaded.config == config
    assert loaded.results == RESULTS
    assert list(loaded.entities) == list(ENTITIES)
    assert list(loaded.relations) == list(RELATIONS)
    assert loaded.relations.kind == "relation"
    assert not loaded.model.training
    want = model.state_dict()
    have = loaded.model.state_dict()
    assert set(have) == set(want)
    assert all(
        torch.equal(have[key], want[key]) and have[key].dtype == torch.float64 for key in want
    )
    entity, relation = torch.arange(7), torch.arange(7) % 2
    assert torch.equal(
        loaded.model.score_all(entity, relation, "head"), model.score_all(entity, relation, "head")
    )


def test_the_directory_holds_the_promised_files(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [
        "config.json",
        "entities.tsv",
        "model.safetensors",
        "relations.tsv",
        "results.json",
    ]
    assert (saved / "relations.tsv").read_text(encoding="utf-8") == "0\tborn in\n1\t/r\n"
    assert b"pickle" not in (saved / "model.safetensors").read_bytes()


def test_entities_without_names_stay_so(tmp_path: Path) -> None:
    config, model = build()
    plain = Vocabulary(size=len(ENTITIES))
    checkpoint.save_model(tmp_path / "c", model, config, plain, RELATIONS, {})
    loaded = checkpoint.load_model(tmp_path / "c").entities
    assert not loaded.named
    assert loaded.fingerprint == plain.fingerprint
    assert (tmp_path / "c" / "entities.tsv").read_text().startswith("0\t0\n1\t1\n")


def test_results_are_strict_json(tmp_path: Path) -> None:
    config, model = build()
    results = {"nan": math.nan, "deep": [{"inf": math.inf}], "scalar": np.float32(0.5), 3: None}
    checkpoint.save_model(tmp_path / "c", model, config, ENTITIES, RELATIONS, results)
    assert json.loads((tmp_path / "c" / "results.json").read_text()) == {
        "nan": None,
        "deep": [{"inf": None}],
        "scalar": 0.5,
        "3": None,
    }


def test_saving_again_replaces_the_checkpoint(saved: Path) -> None:
    config, model = build("DistMult")
    save(saved, config, model)
    assert checkpoint.load_model(saved).config.model.name == "DistMult"
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_saving_into_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        save(tmp_path, *build())
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("turned", ["half", "double", "bfloat16"])
@pytest.mark.parametrize("small", [False, True])
def test_what_could_not_be_read_again_is_not_written(
    tmp_path: Path, small: bool, turned: str
) -> None:
    named = zoo.load("complex-cldr-dim32")
    model, config = named.loaded.model, named.config
    if small:
        kinds = {"entities": {"kind": "int8"}, "relations": {"kind": "float32"}}
        model = compress(model, config.model, Storage.model_validate(kinds))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    getattr(model, turned)()
    parts = config, named.entities, named.relations, {}
    with pytest.raises(UserError, match=r"not written, .*turn the model back"):
        checkpoint.save_model(tmp_path / "made", model, *parts)
    assert not (tmp_path / "made").exists()
    if not small and turned == "double":
        checkpoint.save_model(tmp_path / "made", model.float(), *parts)
        again = checkpoint.load_model(tmp_path / "made").model.state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in before.items())


def test_failure_while_saving_leaves_the_earlier_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: files.sha256_file(path) for path in saved.iterdir()}

    def fail(*arguments: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "_write_names", fail)
    with pytest.raises(OSError, match="no space"):
        save(saved, *build("DistMult"))
    assert {path.name: files.sha256_file(path) for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    tmp_path: Path, saved: Path, value: float
) -> None:
    config, model = build()
    with torch.no_grad():
        model.relation_weight[1, 2] = value
    with pytest.raises(UserError, match="relation_weight"):
        save(tmp_path / "other", config, model)
    assert not (tmp_path / "other").exists()
    tensors = load_file(saved / "model.safetensors")
    tensors["relation_weight"][0, 0] = value
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors.*'relation_weight'.*not finite"):
        checkpoint.load_model(saved)


def change_weights(saved: Path, change: Any) -> None:
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, saved / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("relation_weight"), "'relation_weight' is missing"),
        (lambda t: t.update(spare=torch.zeros(1)), "'spare' is unknown"),
        (
            lambda t: t.update(relation_weight=torch.zeros(2, 9)),
            r"\(2, 9\).*the settings ask for float32 of shape \(2, 8\)",
        ),
        (
            lambda t: t.update(relation_weight=t["relation_weight"].double()),
            "float64.*ask for float32",
        ),
    ],
)
def test_weights_at_odds_with_the_settings(saved: Path, change: Any, message: str) -> None:
    change_weights(saved, change)
    with pytest.raises(UserError, match=rf"model\.safetensors: .*{message}"):
        checkpoint.load_model(saved)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "entities.tsv", "relations.tsv", "results.json"]
)
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        checkpoint.load_model(saved)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such checkpoint"):
        checkpoint.load_model(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"PK\x03\x04 a pickle in a zip archive", "damaged"),
        ("model.safetensors", b"", "damaged"),
        ("config.json", b"{", "not valid JSON"),
        ("config.json", b"[]", "JSON object"),
        ("config.json", b"{}", "'schema' is missing"),
        ("config.json", b'{"schema": 1}', "section 'config'"),
        ("config.json", b'{"schema": 1, "config": {"modle": {}}}', "did you mean 'model'"),
        ("config.json", b'{"schema": 1, "config": {}}', "section 'entities'"),
        ("results.json", b"\xff", "not valid JSON"),
        ("entities.tsv", b"0\tx\n2\ty\n", "line 2: expected id 1, found '2'"),
        ("entities.tsv", b"0\tx\n", "1 names that are not the 7"),
        ("entities.tsv", b"0\t\xff\n", "not UTF-8"),
        ("relations.tsv", b"0\tborn on\n1\t/r\n", "names that are not"),
    ],
)
def test_a_damaged_file_is_named(saved: Path, name: str, content: bytes, message: str) -> None:
    (saved / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        checkpoint.load_model(saved)
    assert name in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("entities.tsv", "1\tSão Tomé", "1\t/m/02mjmr", "'/m/02mjmr' occurs twice"),
        ("relations.tsv", "1\t/r", "1\tborn in", "'born in' occurs twice"),
        ("config.json", '"ComplEx"', '"Compl-X"', "unknown score function 'Compl-X'"),
        ("config.json", '"options": {}', '"options": {"x": 1}', "unknown setting 'x'"),
    ],
)
def test_what_is_wrong_inside_a_file_names_the_file(
    saved: Path, name: str, old: str, new: str, message: str
) -> None:
    text = (saved / name).read_text()
    assert old in text
    (saved / name).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        checkpoint.load_model(saved)
    said = str(caught.value)
    assert said.startswith(f"{saved / name}: ") and message in said and said.count(str(saved)) == 1


@given(data=st.data())
def test_state_comes_back_bit_for_bit(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("state") / "resume.safetensors"
    shape = data.draw(st.lists(st.integers(0, 3), max_size=3))
    bits = data.draw(
        st.lists(
            st.integers(-(2**31), 2**31 - 1), min_size=math.prod(shape), max_size=math.prod(shape)
        )
    )
    number = data.draw(st.floats(allow_nan=False))
    whole = torch.tensor(bits, dtype=torch.int32).reshape(shape)
    tensors = {"whole": whole, "any bits": whole.view(torch.float32), "flag": torch.tensor(True)}
    save_state(path, tensors, {"number": number, "text": "ü\n", "none": None})
    have, metadata = load_state(path)
    assert set(have) == set(tensors)
    assert torch.equal(have["whole"], whole)
    assert torch.equal(have["any bits"].view(torch.int32), whole)
    assert have["flag"].shape == ()
    assert metadata["number"] == number
    assert metadata["text"] == "ü\n"


def test_state_of_views_of_one_memory(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    save_state(tmp_path / "s", {"a": base, "b": base.T, "c": base[1]}, {})
    have, _ = load_state(tmp_path / "s")
    assert torch.equal(have["a"], base)
    assert torch.equal(have["b"], base.T)
    assert torch.equal(have["c"], base[1])


def test_loaded_state_is_its_own_memory(tmp_path: Path) -> None:
    save_state(tmp_path / "s", {"a": torch.ones(1000)}, {})
    have, _ = load_state(tmp_path / "s")
    have["a"].zero_()
    again, _ = load_state(tmp_path / "s")
    assert torch.equal(again["a"], torch.ones(1000))


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 60, -1])
def test_truncated_state_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "resume.safetensors"
    save_state(path, {"a": torch.ones(100)}, {"epoch": 1})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"resume\.safetensors: damaged"):
        load_state(path)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80\x04K\x01.", struct.pack("<Q", 2**63) + b"{}" * 50]
)
def test_foreign_state_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "resume.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"resume\.safetensors"):
        load_state(path)


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "foreign")
    with pytest.raises(UserError, match="foreign: not written by dglke_distill"):
        load_state(tmp_path / "foreign")
    with pytest.raises(UserError, match="nothing: no such file"):
        load_state(tmp_path / "nothing")


words = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=3)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    words,
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(
            st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), words),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@given(trees)
def test_any_tree_of_scalars_comes_back(tree: Any) -> None:
    again = restore_state(flatten_state(tree, "p"), "p")
    assert again == tree
    assert repr(again) == repr(tree)  # True is not 1, a tuple is no list, -0.0 is not 0.0


def test_trees_of_anything_else_are_refused() -> None:
    for tree in (object(), {1.5: 0}, [np.float64(1)]):
        with pytest.raises(TypeError):
            flatten_state(tree, "p")
    assert restore_state({}, "p") is None


@pytest.mark.parametrize("name", ["Adagrad", "Adam", "SGD"])
def test_training_resumes_bit_for_bit(tmp_path: Path, name: str) -> None:
    """torch's own optimisers, resumed, against the same run undisturbed."""

    def start() -> tuple[KGEModel, torch.optim.Optimizer]:
        model = build("TransE")[1]
        options = {"momentum": 0.9} if name == "SGD" else {}
        return model, getattr(torch.optim, name)(model.parameters(), lr=0.1, **options)

    def work(model: KGEModel, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (step + 1)
            optimizer.zero_grad()
            ids = torch.arange(7)
            model.score_triples(ids, ids % 2, (ids + step) % 7).square().sum().backward()
            optimizer.step()

    whole, optimizer = start()
    work(whole, optimizer, range(10))
    half, optimizer = start()
    work(half, optimizer, range(5))
    save_state(tmp_path / "s", checkpoint.training_tensors(half, optimizer), {})
    resumed, optimizer = start()
    restore_training(load_state(tmp_path / "s")[0], resumed, optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.1
    work(resumed, optimizer, range(5, 10))
    for key, want in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], want)


def test_state_of_another_model_is_refused() -> None:
    _, model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    tensors = checkpoint.training_tensors(model, optimizer)
    _, other = build("RESCAL")
    with pytest.raises(UserError, match="relation_weight"):
        restore_training(tensors, other, optimizer)
    del tensors["optimizer.structure"]
    with pytest.raises(UserError, match="optimiser"):
        restore_training(tensors, model, optimizer)


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_are_what_the_umask_says(tmp_path: Path, mask: int, mode: int) -> None:
    """A model that one user has trained can be read by the one that serves it."""
    before = os.umask(mask)
    try:
        save(tmp_path / "model", *build())
        save_state(tmp_path / "state", {"a": torch.zeros(2)}, {})
        save_state(tmp_path / "state", {"a": torch.ones(2)}, {})
    finally:
        os.umask(before)
    for path in [*(tmp_path / "model").iterdir(), tmp_path / "state"]:
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
    folder = stat.S_IMODE((tmp_path / "model").stat().st_mode)
    assert folder == 0o777 & ~mask
