"""ogbl-wikikg2 and ogbl-biokg as the official loader reads them, and the converted form of both."""

from __future__ import annotations

import builtins
import gzip
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from ogb_fixtures import BIOKG_TYPES, write_biokg, write_wikikg2

import dglke_distill.data.ogb as ogb_data
from dglke_distill.base.errors import UserError
from dglke_distill.data.ogb import GivenCandidates, load_ogb
from dglke_distill.data.ogb_files import read_official

# The official examples number the types in the order of the official graph, which is alphabetical.
BIOKG_OFFSETS = {"disease": 0, "drug": 4, "protein": 10}


@pytest.fixture(autouse=True)
def _offline_and_silent(monkeypatch):
    """Neither the network nor the terminal may be asked for anything."""

    def refuse(*arguments, **options):
        raise AssertionError("must not be called")

    monkeypatch.setattr(builtins, "input", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def _forbid_official(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("the official loader must not be called again")

    monkeypatch.setattr(ogb_data, "read_official", refuse)


def test_wikikg2_is_what_the_official_files_say(tmp_path):
    written = write_wikikg2(tmp_path)
    dataset = load_ogb("ogbl-wikikg2", tmp_path)
    assert dataset.name == "ogbl-wikikg2"
    assert (dataset.num_entities, dataset.num_relations) == (30, 5)
    for split, columns in written.items():
        for column in ("head", "relation", "tail"):
            np.testing.assert_array_equal(getattr(dataset.split(split), column), columns[column])
    for split in ("valid", "test"):
        given = dataset.candidates(split)
        assert len(given) == len(dataset.split(split))
        np.testing.assert_array_equal(given.of("head"), written[split]["head_neg"])
        np.testing.assert_array_equal(given.of("tail"), written[split]["tail_neg"])
        assert given.head.dtype == np.int32
        assert isinstance(given.head, np.memmap)
    assert dataset.entity_type is None
    assert not dataset.entities.named
    assert not dataset.relations.named
    assert dataset.entities[17] == "17"
    assert dataset.warnings == ()


def test_biokg_ids_are_offset_by_type(tmp_path):
    written = write_biokg(tmp_path)
    dataset = load_ogb("ogbl-biokg", tmp_path)
    assert dataset.num_entities == sum(BIOKG_TYPES.values())
    assert dataset.entity_type_names == tuple(BIOKG_OFFSETS)
    for split, columns in written.items():
        for side in ("head", "tail"):
            offset = np.array([BIOKG_OFFSETS[kind] for kind in columns[f"{side}_type"]])
            ids = getattr(dataset.split(split), side)
            np.testing.assert_array_equal(ids, columns[side] + offset)
            kinds = [dataset.entity_type_names[kind] for kind in dataset.entity_type[ids]]
            assert kinds == columns[f"{side}_type"]
            if split != "train":
                negatives = dataset.candidates(split).of(side)
                np.testing.assert_array_equal(negatives, columns[f"{side}_neg"] + offset[:, None])
                assert (dataset.entity_type[negatives] == dataset.entity_type[ids][:, None]).all()
    assert list(dataset.relations) == ["drug-disease", "drug-drug_headache", "protein-protein"]


def test_names_come_from_the_mapping(tmp_path):
    write_wikikg2(tmp_path, mapping=True)
    write_biokg(tmp_path, mapping=True)
    wikikg2 = load_ogb("ogbl-wikikg2", tmp_path)
    assert [wikikg2.entities[i] for i in (0, 7, 29)] == ["Q0", "Q7", "Q29"]
    assert list(wikikg2.relations) == ["P0", "P1", "P2", "P3", "P4"]
    biokg = load_ogb("ogbl-biokg", tmp_path)
    assert biokg.entities.id("disease:103") == 3
    assert biokg.entities.id("protein:100") == BIOKG_OFFSETS["protein"]


def test_a_mapping_that_names_too_few_is_told(tmp_path):
    write_wikikg2(tmp_path, mapping=True)
    path = tmp_path / "ogbl_wikikg2" / "mapping" / "nodeidx2entityid.csv.gz"
    path.write_bytes(gzip.compress(b"node idx,entity id\n0,Q0\n"))
    dataset = load_ogb("ogbl-wikikg2", tmp_path)
    assert not dataset.entities.named
    assert dataset.relations.named
    (warning,) = dataset.warnings
    assert "does not give each entity its own name" in warning


def test_official_evaluator_accepts_the_candidates(tmp_path):
    """Scores of given candidates go through ogb's Evaluator and give the ranks counted by hand."""
    write_wikikg2(tmp_path)
    dataset = load_ogb("ogbl-wikikg2", tmp_path)
    from ogb.linkproppred import Evaluator

    score = torch.from_numpy(np.random.default_rng(1).normal(size=dataset.num_entities))
    positive = score[torch.from_numpy(dataset.test.tail).long()]
    negative = score[torch.tensor(dataset.candidates("test").tail, dtype=torch.int64)]
    mrr = Evaluator("ogbl-wikikg2").eval({"y_pred_pos": positive, "y_pred_neg": negative})
    higher = (negative > positive[:, None]).sum(1)
    equal = (negative == positive[:, None]).sum(1)
    expected = 1 / (1 + higher + equal / 2)
    torch.testing.assert_close(mrr["mrr_list"].double(), expected.double())


@pytest.mark.parametrize("name", ["ogbl-wikikg2", "ogbl-biokg"])
def test_the_official_loader_reads_the_same(tmp_path, name):
    """Graph and splits as the ogb package itself gives them, unpickled in another process."""
    (write_wikikg2 if name == "ogbl-wikikg2" else write_biokg)(tmp_path)
    script = f"""
import functools, sys, torch, numpy as np
sys.modules["outdated"] = None
torch.load = functools.partial(torch.load, weights_only=False)
from ogb.linkproppred import LinkPropPredDataset
data = LinkPropPredDataset({name!r}, {str(tmp_path)!r})
graph, splits = data[0], data.get_edge_split()
flat = {{f"{{s}}.{{k}}": np.asarray(v) for s, part in splits.items() for k, v in part.items()}}
counts = graph.get("num_nodes_dict", {{"": graph.get("num_nodes")}})
out = {str(tmp_path / "official.npz")!r}
np.savez(out, **flat, kinds=list(counts), counts=list(counts.values()))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=600, capture_output=True)
    official = np.load(tmp_path / "official.npz")
    graph, splits = read_official(name, tmp_path)
    assert list(graph.counts) == official["kinds"].tolist()
    assert list(graph.counts.values()) == official["counts"].tolist()
    seen = {f"{split}.{key}" for split, columns in splits.items() for key in columns}
    assert seen == set(official.files) - {"kinds", "counts"}
    for split, columns in splits.items():
        for key, column in columns.items():
            np.testing.assert_array_equal(column, official[f"{split}.{key}"])


@pytest.mark.parametrize(
    "write, name", [(write_wikikg2, "ogbl-wikikg2"), (write_biokg, "ogbl-biokg")]
)
def test_second_start_reads_the_converted_form(tmp_path, monkeypatch, write, name):
    write(tmp_path, mapping=True)
    first = load_ogb(name, tmp_path)
    _forbid_official(monkeypatch)
    second = load_ogb(name, tmp_path)
    assert second.fingerprint == first.fingerprint
    # The converted form serves without the official files, too.
    folder = tmp_path / name.replace("-", "_")
    shutil.rmtree(folder / "split")
    shutil.rmtree(folder / "mapping")
    shutil.rmtree(folder / "raw")
    assert load_ogb(name, tmp_path).fingerprint == first.fingerprint


def test_changed_official_files_are_read_again(tmp_path):
    write_wikikg2(tmp_path)
    before = load_ogb("ogbl-wikikg2", tmp_path)
    written = _rewrite(tmp_path)
    after = load_ogb("ogbl-wikikg2", tmp_path)
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(after.train.head, written["train"]["head"])


def _rewrite(root: Path):
    """Put other files in the place of the official ones, the converted form staying in place."""
    new = root / "new"
    written = write_wikikg2(new, seed=1)
    for part in ("raw", "split"):
        shutil.rmtree(root / "ogbl_wikikg2" / part)
        shutil.move(str(new / "ogbl_wikikg2" / part), root / "ogbl_wikikg2" / part)
    return written


def test_cache_folder_can_be_elsewhere(tmp_path, monkeypatch):
    write_wikikg2(tmp_path)
    cache = tmp_path / "elsewhere" / "wikikg2"
    first = load_ogb("ogbl-wikikg2", tmp_path, cache=cache)
    assert (cache / "train_head.npy").is_file()
    assert not (tmp_path / "ogbl_wikikg2" / "processed" / "dglke_distill").exists()
    _forbid_official(monkeypatch)
    again = load_ogb("ogbl-wikikg2", tmp_path, cache=cache)
    assert again.fingerprint == first.fingerprint


def test_official_folder_need_not_be_writable(tmp_path):
    """Nothing is written beside the official files when the cache is elsewhere."""
    written = write_wikikg2(tmp_path)
    processed = tmp_path / "ogbl_wikikg2" / "processed"
    dataset = load_ogb("ogbl-wikikg2", tmp_path, cache=tmp_path / "cache")
    np.testing.assert_array_equal(dataset.train.tail, written["train"]["tail"])
    assert list(processed.iterdir()) == []


def test_copies_without_the_empty_folder_are_complete(tmp_path):
    write_wikikg2(tmp_path)
    (tmp_path / "ogbl_wikikg2" / "processed").rmdir()
    assert load_ogb("ogbl-wikikg2", tmp_path).num_entities == 30


def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch):
    write_wikikg2(tmp_path)
    original, calls = np.save, []

    def fail_later(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", fail_later)
        with pytest.raises(KeyboardInterrupt):
            load_ogb("ogbl-wikikg2", tmp_path)
    processed = tmp_path / "ogbl_wikikg2" / "processed"
    assert list(processed.iterdir()) == []
    assert load_ogb("ogbl-wikikg2", tmp_path).num_entities == 30


def test_nothing_on_standard_output(tmp_path, capsys):
    write_wikikg2(tmp_path)
    load_ogb("ogbl-wikikg2", tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("part", ["split/time/valid.pt", "raw/edge.csv.gz"])
def test_incomplete_copy_is_a_user_error(tmp_path, part):
    write_wikikg2(tmp_path)
    (tmp_path / "ogbl_wikikg2" / part).unlink()
    with pytest.raises(UserError, match=r"ogbl_wikikg2 is not a complete copy of ogbl-wikikg2"):
        load_ogb("ogbl-wikikg2", tmp_path)


def test_missing_release_file_is_an_error_instead_of_a_question(tmp_path):
    write_wikikg2(tmp_path)
    (tmp_path / "ogbl_wikikg2" / "RELEASE_v1.txt").unlink()
    with pytest.raises(UserError, match=r"has no RELEASE_v1\.txt"):
        load_ogb("ogbl-wikikg2", tmp_path)


def test_absent_dataset(tmp_path):
    with pytest.raises(UserError, match="place the official folder ogbl_biokg/ there"):
        load_ogb("ogbl-biokg", tmp_path)


def test_unknown_names():
    with pytest.raises(UserError, match=r"unknown OGB dataset 'ogbl-ppa'"):
        load_ogb("ogbl-ppa", Path("nowhere"))


def test_ids_out_of_range_are_refused(tmp_path):
    write_wikikg2(tmp_path)
    path = tmp_path / "ogbl_wikikg2" / "split" / "time" / "valid.pt"
    columns = torch.load(path, weights_only=False)
    columns["tail_neg"][0, 0] = 30
    torch.save(columns, path)
    with pytest.raises(UserError, match=r"valid_tail_negatives is outside 0\.\.29"):
        load_ogb("ogbl-wikikg2", tmp_path)


def test_splits_without_negatives_are_refused(tmp_path):
    write_wikikg2(tmp_path)
    path = tmp_path / "ogbl_wikikg2" / "split" / "time" / "valid.pt"
    columns = torch.load(path, weights_only=False)
    del columns["tail_neg"]
    torch.save(columns, path)
    with pytest.raises(UserError, match="lack 'tail_neg'"):
        load_ogb("ogbl-wikikg2", tmp_path)


def test_ids_of_more_than_31_bits_are_refused(tmp_path):
    write_wikikg2(tmp_path)
    path = tmp_path / "ogbl_wikikg2" / "split" / "time" / "test.pt"
    columns = torch.load(path, weights_only=False)
    columns["head"][0] += 1 << 32
    torch.save(columns, path)
    with pytest.raises(UserError, match="more than 31 bits"):
        load_ogb("ogbl-wikikg2", tmp_path)


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    write_wikikg2(tmp_path)

    def refuse(final, **options):
        raise PermissionError(13, "Permission denied", str(final))

    monkeypatch.setattr(ogb_data, "directory_aside", refuse)
    with pytest.raises(UserError, match="cannot write the converted ogbl-wikikg2"):
        load_ogb("ogbl-wikikg2", tmp_path)


def test_candidates_must_agree():
    with pytest.raises(ValueError, match="same shape"):
        GivenCandidates(np.zeros((2, 3), np.int32), np.zeros((2, 4), np.int32))


def test_no_thread_asks_for_versions_and_importing_is_lazy(tmp_path):
    write_wikikg2(tmp_path)
    script = f"""
import sys, threading
from pathlib import Path
from dglke_distill.data.ogb import load_ogb
assert "ogb" not in sys.modules and "pandas" not in sys.modules, "must be imported when needed"
started = []
begin = threading.Thread.start
threading.Thread.start = lambda self: (started.append(self._target), begin(self))
load_ogb("ogbl-wikikg2", Path({str(tmp_path)!r}))
from dglke_distill.data.ogb_package import official_package
assert "ogb" not in sys.modules, "its loader is not needed"
official_package()
import ogb.version
checks = [target for target in started if target is ogb.version.check]
assert not checks and ogb.version.check_outdated is None
assert sys.modules.get("outdated", "absent") is not None, "others may still import outdated"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=600)
