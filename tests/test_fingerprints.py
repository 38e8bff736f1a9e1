"""One digest of the facts and their splits, by names."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dglke_distill.data import fingerprints
from dglke_distill.data.formats import read_file, read_folder
from dglke_distill.data.manifest import datasets_dir
from dglke_distill.data.triples import Dataset, Triples, Vocabulary
from dglke_distill.data.writers import write_dataset

Fact = tuple[str, str, str]
SPLITS = ("train", "valid", "test")

names = st.sampled_from(["a", "b", "ab", "é", "10", "9", "x y", "z\\n"])
facts = st.lists(st.tuples(names, st.sampled_from(["r", "s", "rr"]), names), max_size=12)


def dataset(splits: dict[str, list[Fact]], shuffle: random.Random | None = None) -> Dataset:
    every = [fact for facts in splits.values() for fact in facts]
    entities = sorted({"lonely", *(e for h, _, t in every for e in (h, t))})
    relations = sorted({"r", *(r for _, r, _ in every)})
    columns = {}
    if shuffle is not None:
        shuffle.shuffle(entities)
        shuffle.shuffle(relations)
    for split, rows in splits.items():
        rows = list(rows)
        if shuffle is not None:
            shuffle.shuffle(rows)
        ids = [(entities.index(h), relations.index(r), entities.index(t)) for h, r, t in rows]
        columns[split] = Triples.from_array(np.array(ids, dtype=np.int64).reshape(-1, 3))
    return Dataset("x", Vocabulary(entities), Vocabulary(relations, kind="relation"), **columns)


def by_hand(splits: dict[str, list[Fact]]) -> str:
    """The digest as its docstring has it, from sorted lists of Python."""
    every = [fact for facts in splits.values() for fact in facts]
    entities = {"lonely", *(e for h, _, t in every for e in (h, t))}
    relations = {"r", *(r for _, r, _ in every)}
    digest = hashlib.sha256(b"facts 2\n")
    ranked = []
    for kind, found in (("entities", entities), ("relations", relations)):
        ordered = sorted(found, key=lambda name: (len(name), name))
        ranked.append({name: rank for rank, name in enumerate(ordered)})
        digest.update(f"{kind} {len(found)}\n".encode())
        for name in ordered:
            digest.update(name.replace("\\", "\\\\").encode() + b"\n")
    e, r = ranked
    for split in SPLITS:
        rows = sorted((e[h], r[q], e[t]) for h, q, t in splits[split])
        digest.update(f"{split} {len(rows)}\n".encode())
        for h, q, t in rows:
            digest.update(((h * len(r) + q) * len(e) + t).to_bytes(8, "little"))
    return digest.hexdigest()


@given(train=facts, valid=facts, test=facts, order=st.randoms())
def test_it_is_that_of_the_facts_by_name(
    train: list[Fact], valid: list[Fact], test: list[Fact], order: random.Random
) -> None:
    splits = dict(zip(SPLITS, (train, valid, test)))
    plain = dataset(splits)
    assert plain.fingerprint == by_hand(splits)
    assert dataset(splits, order).fingerprint == plain.fingerprint
    for split in SPLITS:
        if splits[split]:
            fewer = {**splits, split: splits[split][1:]}
            twice = {**splits, split: [splits[split][0], *splits[split]]}
            assert by_hand(fewer) != plain.fingerprint
            assert dataset(twice).fingerprint != plain.fingerprint


def test_a_fact_in_another_split_is_other_data() -> None:
    one, two = ("a", "r", "b"), ("b", "r", "a")
    first = dataset({"train": [one], "valid": [two], "test": []})
    second = dataset({"train": [one], "valid": [], "test": [two]})
    assert first.fingerprint != second.fingerprint


def test_numbers_as_names_are_the_names_that_they_are() -> None:
    rows = np.array([[0, 1, 11], [10, 0, 2], [2, 1, 9]])
    empty = Triples.from_array(np.empty((0, 3), dtype=np.int64))
    splits = {"train": Triples.from_array(rows), "valid": empty, "test": empty}
    plain = Dataset("x", Vocabulary(size=12), Vocabulary(size=2, kind="relation"), **splits)
    spelled = [str(i) for i in range(12)]
    named = Dataset("y", Vocabulary(spelled), Vocabulary(["0", "1"], kind="relation"), **splits)
    assert named.fingerprint == plain.fingerprint
    order = sorted(spelled)
    moved = np.array([[order.index(str(h)), r, order.index(str(t))] for h, r, t in rows.tolist()])
    splits["train"] = Triples.from_array(moved)
    other = Dataset("z", Vocabulary(order), Vocabulary(size=2, kind="relation"), **splits)
    assert other.fingerprint == plain.fingerprint


@pytest.mark.parametrize("written", ["names_hrt", "names_tsv", "udd_hrt", "openke"])
def test_no_format_matters(tmp_path: Path, written: str) -> None:
    lines = [f"e{i % 7}\tr{i % 3}\te{(i * i + 1) % 11}" for i in range(60)]
    (tmp_path / "kg.tsv").write_text("\n".join(lines) + "\n")
    plain = read_file(tmp_path / "kg.tsv")
    out = tmp_path / "out"
    if written == "names_tsv":
        out.mkdir()
        for split in SPLITS:
            t = plain.split(split)
            rows = [
                f"{plain.entities[h]}\t{plain.relations[r]}\t{plain.entities[o]}\n"
                for h, r, o in t.to_array().tolist()
            ]
            (out / f"{split}.tsv").write_text("".join(reversed(rows)))
    else:
        write_dataset(plain, out, format=written)
    assert read_folder(out).fingerprint == plain.fingerprint


def test_appended_facts_change_it_and_shuffled_lines_do_not(tmp_path: Path) -> None:
    lines = [f"e{i % 7}\tr{i % 3}\te{(i * i + 1) % 11}\n" for i in range(60)]
    file = tmp_path / "kg.tsv"
    file.write_text("".join(lines))
    before = read_file(file).fingerprint
    file.write_text("".join(reversed(lines)))
    assert read_file(file).fingerprint == before
    file.write_text("".join(lines) + "e0\tr0\tnew\n")
    assert read_file(file).fingerprint != before


def test_what_older_versions_wrote_is_still_recognised() -> None:
    # As results.json of the models of cldr that ship have it.
    shipped = "30f2e395b9df4f65b584b6f85d8ccc729ad1fdccc7474e38829a4a3b92e3b2ee"
    cldr = read_folder(datasets_dir() / "cldr")
    assert cldr.file_order_fingerprint == shipped
    assert cldr.fingerprint != shipped
    assert cldr.has_fingerprint(shipped)
    assert cldr.has_fingerprint(cldr.fingerprint)
    assert not cldr.has_fingerprint("0" * 64)


def test_too_many_for_a_key_keep_the_order_of_their_files(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ("a", "r", "b")
    found = dataset({"train": [one], "valid": [], "test": []})
    monkeypatch.setattr(fingerprints, "_MOST_KEYS", 2)
    assert found.fingerprint == found.file_order_fingerprint
