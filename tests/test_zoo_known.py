"""What a published entry holds of its dataset: no path, and its facts where that was asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from identity_fixtures import CHAIN, Run, edit, results_of, run, trained
from safetensors.torch import save_file

from dglke_distill import zoo
from dglke_distill.artifacts.known_facts_file import read_known, write_known
from dglke_distill.base.errors import UserError
from dglke_distill.data import catalog
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.triples import Vocabulary
from dglke_distill.serve import Gallery

__all__ = ["run", "trained"]  # fixtures

NAME = "complex-mine-dim8"
ASK = ["--head", "e1", "--relation", "r1", "-k", "30", "--json", "--exclude-known"]


def texts(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_a_published_entry_holds_no_path(
    run: Run, tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    edit(model, lambda tree: tree.update(note=f"made of {data}/train.txt"))
    store = tmp_path / "store"
    run("zoo", "publish", model, "--store", store)
    assert not [name for name, text in texts(store).items() if str(tmp_path).encode() in text]
    entry = zoo.list(store=str(store))[0]
    assert (entry.name, entry.dataset) == (NAME, "mine")
    loaded = zoo.load_checkpoint(NAME, store=str(store))
    assert loaded.config.data.dataset == "mine"
    assert loaded.identity.path is None
    assert loaded.identity.fingerprint == catalog.load(str(data)).fingerprint
    before = texts(store)
    assert "@1" in run("zoo", "publish", model, "--store", store).out
    assert texts(store) == before
    run("zoo", "verify", NAME, "--store", store, "--metrics", "--dataset", data)
    # The checkpoint itself still says where the dataset lay.
    assert results_of(model)["dataset"]["path"] == str(data)


def test_students_of_a_chain_hold_no_path(
    run: Run, tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, _ = trained
    flags = ["--dims", "8,4", "--control", "none", "--out", tmp_path / "chain"]
    run("run", data, *CHAIN, *flags)
    store = tmp_path / "store"
    run("zoo", "publish", tmp_path / "chain", "--store", store)
    assert not [name for name, text in texts(store).items() if str(tmp_path).encode() in text]


def test_facts_published_with_a_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    store, plain = tmp_path / "store", tmp_path / "plain"
    refused = run("zoo", "publish", model, "--with-known", "--store", store, code=2).err
    assert f"--dataset {data}" in refused
    assert not store.exists() or not texts(store)
    said = run("zoo", "publish", model, "--with-known", "--dataset", data, "--store", store).out
    run("zoo", "publish", model, "--store", plain)
    entry = zoo.list(store=str(store))[0]
    (size,) = (file.bytes for file in entry.files if file.name == "known.safetensors")
    assert f"{size:,} of them known facts" in said
    assert f"| known.safetensors | {size:,} |" in run("zoo", "info", NAME, "--store", store).out
    dataset = catalog.load(str(data))
    assert size < 4 * sum(len(dataset.split(s)) for s in ("train", "valid", "test")) + 1000
    monkeypatch.setenv("DGLKE_DISTILL_STORES", str(plain))
    assert "--dataset PATH" in run("predict", NAME, *ASK, code=2).err
    answered = json.loads(run("predict", NAME, *ASK, "--dataset", data).out)
    shutil.move(data, tmp_path / "gone")
    monkeypatch.setenv("DGLKE_DISTILL_STORES", str(store))
    again = json.loads(run("predict", NAME, *ASK).out)
    assert again["predictions"] == answered["predictions"]
    known = {
        (h, r, t)
        for split in ("train", "valid", "test")
        for h, r, t in dataset.split(split).to_array().tolist()
    }
    h, r = dataset.entities.id("e1"), dataset.relations.id("r1")
    names = {answer["name"] for answer in again["predictions"]}
    assert names == {e for i, e in enumerate(dataset.entities) if (h, r, i) not in known}
    assert len(names) < len(dataset.entities)
    shown = Gallery([NAME], store=str(store), threads=1).get(NAME)
    assert shown.about()["facts"] == len(known)
    # A file that is not the one published is not read.
    (place,) = store.rglob("known.safetensors")
    place.write_bytes(place.read_bytes()[:-1] + b"\1")
    assert "tampered" in run("predict", NAME, *ASK, code=2).err


def test_facts_of_other_triples_are_not_published(
    run: Run, tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    data, model = trained
    (data / "test.txt").write_text((data / "valid.txt").read_text())
    flags = ["--with-known", "--dataset", data, "--store", tmp_path / "store"]
    assert (
        "are not those it was trained on, of mine"
        in run("zoo", "publish", model, *flags, code=2).err
    )
    edit(model, lambda tree: tree["dataset"].update(fingerprint=None))
    run("zoo", "publish", model, *flags, code=2)


def test_written_facts_are_the_index_of_all_splits(
    tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    dataset = catalog.load(str(trained[0]))
    count = write_known(tmp_path / "known.safetensors", dataset)
    found = read_known(tmp_path / "known.safetensors", dataset.entities, dataset.relations)
    splits = [dataset.train, dataset.valid, dataset.test]
    wanted = KnownAnswers.build(splits, dataset.num_entities)
    assert count == len(wanted.packed["tail"])
    for side in ("head", "tail"):
        np.testing.assert_array_equal(found.packed[side], wanted.packed[side])
        np.testing.assert_array_equal(found.offsets[side], wanted.offsets[side])


GOOD: dict[str, Any] = {"offsets": [0, 2, 2, 3], "relation": [0, 1, 0], "tail": [1, 2, 0]}


@pytest.mark.parametrize(
    "change",
    [
        {"offsets": [0, 2, 3]},
        {"offsets": [0, 2, 2, 4]},
        {"offsets": [1, 2, 2, 3]},
        {"offsets": [0, 3, 2, 3]},
        {"relation": [0, 2, 0]},
        {"relation": [0, -1, 0]},
        {"relation": [0, 1]},
        {"tail": [1, 3, 0]},
        {"tail": [[1, 2, 0]]},
        {"tail": [1.0, 2.0, 0.0]},
        {"extra": [1]},
        {"tail": None},
    ],
)
def test_damaged_facts_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    names = Vocabulary(["a", "b", "c"]), Vocabulary(["r", "s"], kind="relation")
    path = tmp_path / "known.safetensors"
    save_file({name: torch.tensor(column) for name, column in GOOD.items()}, path)
    assert read_known(path, *names).num_entities == 3
    tree = {name: column for name, column in {**GOOD, **change}.items() if column is not None}
    save_file({name: torch.tensor(column) for name, column in tree.items()}, path)
    with pytest.raises(UserError, match=r"no facts of 3 entities and 2 relations"):
        read_known(path, *names)
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="known"):
        read_known(path, *names)
