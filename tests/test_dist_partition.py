"""A dataset cut into parts by DGL: nothing is lost, and what is wrong is said in one line."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
from dglke_distill.cli.app import app
from dglke_distill.config import DataConfig
from dglke_distill.data import catalog, metis, partitioning
from dglke_distill.data.partitioning import partition
from dglke_distill.data.partitions import Partition, check_files, read_partition
from dglke_distill.data.triples import Dataset, Triples, Vocabulary


def parallel(entities: int = 100, facts: int = 1000) -> Dataset:
    """Return facts of which many stand between the same two entities, with weights and types."""
    rng = np.random.default_rng(0)
    columns = [
        entities * rng.random(facts) ** 3,
        5 * rng.random(facts),
        entities * rng.random(facts) ** 2,
    ]
    train = Triples.from_array(np.unique(np.stack(columns, 1).astype(np.int32), axis=0))
    names = Vocabulary([f"e {i}" for i in range(entities)])
    relations = Vocabulary([f"r{i}" for i in range(5)], kind="relation")
    kinds = np.arange(entities, dtype=np.int32) % 3
    weight = np.arange(len(train), dtype=np.float32)
    return Dataset(
        "parallel", names, relations, train, train[:7], train[7:9], entity_type=kinds,
        entity_type_names=("a", "b", "c"), train_weight=weight,
    )  # fmt: skip


def facts_of(found: Partition, own: dict[int, int]) -> Counter[tuple[int, int, int, float]]:
    """Read all parts as DGL does, and return their own facts with the dataset's ids."""
    dgl: Any = load_dgl()
    facts: Counter[tuple[int, int, int, float]] = Counter()
    for part in range(found.parts):
        config = str(found.directory / "facts.json")
        graph, _, data, book, *_ = dgl.distributed.load_partition(config, part)
        inner = graph.edata["inner_edge"].bool()
        ids = graph.ndata[dgl.NID]
        heads, tails = (ids[ends[inner]].tolist() for ends in graph.edges(order="eid"))
        # What stands on facts is in the order of the whole graph's ids.
        places = (graph.edata[dgl.EID][inner] - book._max_edge_ids[part - 1] * (part > 0)).tolist()
        relation = data["_N:_E:_N/relation"][places].tolist()
        weight = data["_N:_E:_N/weight"][places].tolist()
        facts.update(zip([own[h] for h in heads], relation, [own[t] for t in tails], weight))
    return facts


@pytest.mark.parametrize("method", ["metis", "random"])
def test_parts_hold_each_fact_once(tmp_path: Path, method: Any) -> None:
    dataset = parallel()
    found = partition(dataset, DataConfig(), tmp_path / "out", 3, method)
    own = dict(enumerate(found.own_ids.tolist()))
    assert found.dgl_ids()[found.own_ids].tolist() == list(range(100))
    train = dataset.train
    expected = Counter(
        zip(
            train.head.tolist(), train.relation.tolist(), train.tail.tolist(),
            map(float, range(len(train))),
        )
    )  # fmt: skip
    assert facts_of(found, own) == expected
    assert sum(found.entities) == 100
    assert min(found.facts) > 0


def test_dataset_travels_whole(tmp_path: Path) -> None:
    dataset = parallel()
    partition(dataset, DataConfig(dataset="/somewhere"), tmp_path / "out", 2, "random")
    found = read_partition(tmp_path / "out")
    back = found.dataset()
    assert back.fingerprint == dataset.fingerprint == found.fingerprint
    assert list(back.entities) == list(dataset.entities)
    assert list(back.relations) == list(dataset.relations)
    for split in ("train", "valid", "test"):
        assert (back.split(split).to_array() == dataset.split(split).to_array()).all()
    assert back.entity_type is not None and back.train_weight is not None
    assert (back.entity_type == dataset.entity_type).all()
    assert back.entity_type_names == ("a", "b", "c")
    assert (back.train_weight == dataset.train_weight).all()
    assert found.data.dataset == "/somewhere"


@pytest.mark.parametrize("method", ["random", "metis"])
def test_the_same_call_gives_the_same_parts(tmp_path: Path, method: Any) -> None:
    dataset = catalog.load("cldr")  # METIS has cut it in three ways within one process
    ids = []
    for number, seed in enumerate((1, 1, 2)):
        found = partition(dataset, DataConfig(), tmp_path / str(number), 2, method, seed)
        ids.append((found.id, found.own_ids.tolist()))
    assert ids[0] == ids[1]
    assert (ids[0][1] == ids[2][1]) is (method == "metis")


def test_a_failing_metis_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command, words in (
        (["sh", "-c", "kill -9 $$"], "METIS ended by signal 9, perhaps since memory ran out"),
        (["sh", "-c", "echo no room >&2; exit 3"], "METIS failed: no room"),
    ):
        run = subprocess.run
        monkeypatch.setattr(metis.subprocess, "run", lambda _, **more: run(command, **more))  # noqa: B023
        with pytest.raises(UserError, match=words):
            partition(parallel(), DataConfig(), tmp_path / "out", 2)
        monkeypatch.undo()
    assert not (tmp_path / "out").exists()


def test_metis_is_sent_every_byte_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted are bytes, not rows, by which subprocess knows what is left to write."""
    sent: list[tuple[int, ...]] = []
    run = subprocess.run

    def heard(*given: Any, **more: Any) -> Any:
        view = memoryview(more["input"])
        sent.append((len(view), view.nbytes))
        return run(*given, **more)

    monkeypatch.setattr(metis.subprocess, "run", heard)
    ring = torch.arange(6000)
    graph = load_dgl().graph((ring, (ring + 1) % 6000), num_nodes=6000)
    found = metis.assign_by_metis(graph, 2, balance_edges=False)
    assert sent == [(2 * 8 * 6000,) * 2]
    assert sorted(found.bincount().tolist()) == pytest.approx([3000, 3000], abs=200)
    assert int((found != found.roll(-1)).sum()) < 1500  # dealt at random, half of 6,000 were cut


def test_one_part_keeps_the_order(tmp_path: Path) -> None:
    found = partition(parallel(), DataConfig(), tmp_path / "out", 1)
    assert found.own_ids.tolist() == list(range(100))
    assert found.method == "none"


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["dist", "partition", *arguments])
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def test_bad_calls_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert "choose 1 to 1024" in refused("cldr", "--parts", "0", *out)
    assert "give fewer parts" in refused("cldr", "--parts", "1024", "--method", "random", *out)
    assert "choose metis or random" in refused("cldr", "--parts", "2", "--method", "x", *out)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").touch()
    assert "'mine'" in refused("cldr", "--parts", "2", "--out", str(tmp_path / "used"))
    monkeypatch.setattr(partitioning.runtime, "available_memory_bytes", lambda: 1 << 20)
    assert "needs about" in refused("cldr", "--parts", "2", *out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["used"]


def test_command_says_memory_and_parts(tmp_path: Path) -> None:
    place = str(tmp_path / "out")
    result = CliRunner().invoke(app, ["dist", "partition", "cldr", "--parts", "2", "--out", place])
    assert result.exit_code == 0, result.output
    assert "holds parts already" in refused("cldr", "--parts", "2", "--out", place)
    read = CliRunner().invoke(app, ["data", "info", place])
    assert "dist launch" in str(read.exception)
    lines = result.output.splitlines()
    assert lines[0].startswith("needs about ")
    assert [line.split(":")[0] for line in lines[1:3]] == ["part 0", "part 1"]
    assert read_partition(tmp_path / "out").name == "cldr"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("partition.json", {"schema": 9}, "schema 9"),
        ("partition.json", {"parts": 3}, "at odds"),
        ("partition.json", {"id": 4}, "TypeError"),
        ("facts.json", {"node_map": {"_N": [[0, 3], [5, 9]]}}, "not consecutive"),
        ("facts.json", {"edge_map": []}, "AttributeError"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, change: dict[str, Any], words: str) -> None:
    partition(parallel(), DataConfig(), tmp_path / "out", 2, "random")
    path = tmp_path / "out" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=words):
        read_partition(tmp_path / "out")


def test_damaged_files_of_a_part_are_named(tmp_path: Path) -> None:
    found = partition(parallel(), DataConfig(), tmp_path / "out", 2, "random")
    check_files(found, 1)
    for name in ("part1/graph.dgl", "part1/edge_feat.dgl", "facts.safetensors"):
        path = tmp_path / "out" / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(UserError, match=f"{name}: is damaged"):
            check_files(found, 1)
        path.write_bytes(whole)
    (tmp_path / "out" / "part1" / "node_feat.dgl").unlink()
    with pytest.raises(UserError, match=r"node_feat.dgl: is missing"):
        check_files(found, 1)


def test_other_folders_are_no_partition(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no partitioned dataset"):
        read_partition(tmp_path)
    first = partition(parallel(), DataConfig(), tmp_path / "a", 2, "random")
    second = partition(parallel(90), DataConfig(), tmp_path / "b", 2, "random")
    (first.directory / "facts.safetensors").replace(second.directory / "facts.safetensors")
    with pytest.raises(UserError, match="another partition"):
        _ = read_partition(second.directory).own_ids
