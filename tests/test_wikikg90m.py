"""WikiKG90Mv2's layout: the official loader and ours read the same, ours without reading it in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
from dglke_distill.data import catalog
from dglke_distill.data.triples import Triples
from dglke_distill.data.wikikg90m import WikiKG90M, load_wikikg90m
from dglke_distill.runs.workspace import prepare

ENTITIES, RELATIONS = 50, 6


def write(root: Path, dtype: Any = np.int32, train: int = 200, meta: bool = True) -> Path:
    """Write ``wikikg90m-v2`` as its archive has it, small."""
    rng = np.random.default_rng(0)
    folder = root / "wikikg90m-v2"
    (folder / "processed").mkdir(parents=True)
    (folder / "RELEASE_v1.txt").touch()
    counts = {"num_entities": ENTITIES, "num_relations": RELATIONS}
    if meta:
        torch.save(counts, folder / "meta.pt")

    def ids(*columns: int, rows: int = 9) -> Any:
        return np.stack([rng.integers(0, limit, rows) for limit in columns], 1).astype(dtype)

    arrays = {
        "train_hrt": ids(ENTITIES, RELATIONS, ENTITIES, rows=train),
        "val_hr": ids(ENTITIES, RELATIONS),
        "val_t": ids(ENTITIES)[:, 0],
        "test-dev_hr": ids(ENTITIES, RELATIONS),
        "test-challenge_hr": ids(ENTITIES, RELATIONS),
        "entity_feat": rng.normal(size=(ENTITIES, 768)).astype(np.float16),
        "relation_feat": rng.normal(size=(RELATIONS, 768)).astype(np.float16),
    }
    for name, array in arrays.items():
        np.save(folder / "processed" / f"{name}.npy", array)
    return folder


def mapped(array: Any) -> bool:
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def test_it_is_what_the_official_loader_reads(tmp_path: Path) -> None:
    folder = write(tmp_path)
    code = (
        "import sys; sys.modules['outdated'] = None\n"
        "from ogb.lsc.wikikg90mv2 import WikiKG90Mv2Dataset\n"
        "import numpy as np\n"
        "data = WikiKG90Mv2Dataset(sys.argv[1])\n"
        "valid = data.valid_dict['h,r->t']\n"
        "np.savez(sys.argv[2], train=data.train_hrt, hr=valid['hr'], t=valid['t'],\n"
        "         dev=data.test_dict('test-dev')['h,r->t']['hr'],\n"
        "         counts=[data.num_entities, data.num_relations])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "official.npz")]
    subprocess.run(command, check=True, capture_output=True)
    official = np.load(tmp_path / "official.npz")
    dataset = catalog.load(str(folder))
    assert isinstance(dataset, WikiKG90M)
    assert [dataset.num_entities, dataset.num_relations] == official["counts"].tolist()
    np.testing.assert_array_equal(dataset.train.to_array(), official["train"])
    np.testing.assert_array_equal(dataset.valid.to_array()[:, :2], official["hr"])
    np.testing.assert_array_equal(dataset.valid.tail, official["t"])
    np.testing.assert_array_equal(dataset.test_queries["test-dev"], official["dev"])
    assert len(dataset.test) == 0 and "hidden" in dataset.warnings[0]
    for column in (dataset.train.head, dataset.train.relation, dataset.train.tail):
        assert mapped(column) and column.dtype == np.int32
    assert mapped(dataset.entity_features) and dataset.entity_features is not None
    assert dataset.entity_features.shape == (ENTITIES, 768)


def test_converted_columns_serve_again_until_the_file_changes(tmp_path: Path) -> None:
    folder = write(tmp_path, np.int64)
    first = load_wikikg90m(folder)
    official = np.load(folder / "processed" / "train_hrt.npy")
    np.testing.assert_array_equal(first.train.to_array(), official)
    for ids in (first.train.head, first.train.relation, first.train.tail):
        assert mapped(ids) and ids.dtype == np.int32
    column = folder / "processed" / "dglke_distill" / "train_head.npy"
    written = column.stat().st_mtime_ns
    assert load_wikikg90m(folder).fingerprint == first.fingerprint
    assert column.stat().st_mtime_ns == written
    whole = np.load(folder / "processed" / "train_hrt.npy")
    np.save(folder / "processed" / "train_hrt.npy", whole[:-1])
    assert len(load_wikikg90m(folder).train) == len(whole) - 1


def test_counts_come_from_the_features_where_meta_is_missing(tmp_path: Path) -> None:
    dataset = load_wikikg90m(write(tmp_path, meta=False))
    assert (dataset.num_entities, dataset.num_relations) == (ENTITIES, RELATIONS)
    (tmp_path / "wikikg90m-v2" / "processed" / "entity_feat.npy").unlink()
    with pytest.raises(UserError, match=r"meta\.pt: no such file"):
        load_wikikg90m(tmp_path / "wikikg90m-v2")


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path)
    processed = folder / "processed"
    np.save(processed / "val_t.npy", np.full(9, ENTITIES))
    with pytest.raises(UserError, match=r"val_t\.npy is outside 0\.\.49"):
        load_wikikg90m(folder)
    np.save(processed / "val_hr.npy", np.zeros((9, 3), np.int32))
    with pytest.raises(UserError, match=r"val_hr\.npy: has shape \(9, 3\), not \(n, 2\)"):
        load_wikikg90m(folder)
    (processed / "val_hr.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"val_hr\.npy: not an array"):
        load_wikikg90m(folder)
    (processed / "val_hr.npy").unlink()
    with pytest.raises(UserError, match=r"val_hr\.npy: no such file"):
        load_wikikg90m(folder)
    (folder / "meta.pt").write_bytes(b"\x80\x02c__builtin__\nprint\nq\x00.")
    with pytest.raises(UserError, match=r"meta\.pt: .* a pickle can run any code"):
        load_wikikg90m(folder)


def test_a_fingerprint_does_not_depend_on_the_layout_of_columns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset = load_wikikg90m(write(tmp_path))
    whole = dataset.file_order_fingerprint
    copy = load_wikikg90m(tmp_path / "wikikg90m-v2")
    object.__setattr__(copy, "train", Triples.from_array(dataset.train.to_array()))
    monkeypatch.setattr("dglke_distill.data.fingerprints._BLOCK", 7)
    assert copy.file_order_fingerprint == whole
    assert copy.fingerprint == dataset.fingerprint


def test_the_filter_is_built_when_a_ranking_among_all_entities_asks_for_it(tmp_path: Path) -> None:
    config = Config.from_mapping({"data": {"dataset": str(write(tmp_path))}}, "test")
    workspace = prepare(config)
    assert "known" not in vars(workspace)
    valid = workspace.dataset.valid
    assert workspace.known.contains(valid.head, valid.relation, valid.tail[:, None], "tail").all()


def test_opening_takes_no_memory_of_the_arrays_size(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "import torch\n"
        "from dglke_distill.base import runtime\n"
        "from dglke_distill.data.wikikg90m import load_wikikg90m\n"
        "before = runtime.peak_memory_bytes()\n"
        "dataset = load_wikikg90m(Path(sys.argv[1]))\n"
        "print(len(dataset.train), runtime.peak_memory_bytes() - before)\n"
    )
    folder = write(tmp_path, train=4_000_000)  # 48 MB
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    count, growth = map(int, done.stdout.split())
    assert count == 4_000_000
    assert growth < 16 << 20
