"""``dglke-distill compress``: files in, files out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from dglke_distill.artifacts import checkpoint
from dglke_distill.cli import app, main
from dglke_distill.compression import CompressedModel
from dglke_distill.config import Config
from dglke_distill.data import catalog
from dglke_distill.distill.loading import load_teacher
from dglke_distill.models import build_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of the embedded dataset, with results of its own."""
    dataset = catalog.load("cldr")
    config = Config.from_mapping({"model": {"name": "ComplEx", "dim": 8}}, "test")
    model = build_model(config.model, dataset.num_entities, dataset.num_relations)
    model.reset(0, 1.0)
    directory = tmp_path_factory.mktemp("compress") / "checkpoint"
    results = {
        "model": {"name": "ComplEx", "bytes_per_entity": 32},
        "metrics": {"test": {"mrr": 0.5}},
    }
    checkpoint.save_model(directory, model, config, dataset.entities, dataset.relations, results)
    return directory


def test_there_and_back(saved: Path, tmp_path: Path):
    small, back = tmp_path / "small", tmp_path / "back"
    command = ["compress", str(saved), "--to", "int8", "--set", "scale=column", "--out", str(small)]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "32 bytes per entity became 8, and 16 that all entities share" in shown.output
    settings = json.loads((small / "config.json").read_text())
    assert settings["storage"]["entities"] == {"kind": "int8", "options": {"scale": "column"}}
    loaded = checkpoint.load_model(small)
    assert isinstance(loaded.model, CompressedModel)
    assert loaded.results["metrics"] == {}
    assert loaded.results["compressed_from"]["metrics"] == {"test": {"mrr": 0.5}}
    assert loaded.results["model"]["bytes_per_entity"] == 8
    assert (small / "model.safetensors").stat().st_size < (
        saved / "model.safetensors"
    ).stat().st_size / 3

    shown = CliRunner().invoke(app, ["compress", str(small), "--to", "float32", "--out", str(back)])
    assert shown.exit_code == 0, shown.output
    assert "storage" not in json.loads((back / "config.json").read_text())
    plain = checkpoint.load_model(back).model
    assert not isinstance(plain, CompressedModel) and list(plain.parameters())
    assert torch.equal(plain.encoder.weight, loaded.model.entity_embeddings)
    teacher = load_teacher(small, catalog.load("cldr"))
    assert torch.equal(teacher.encoder.weight, plain.encoder.weight)


def test_ranked_figures_are_those_of_evaluate(saved: Path, tmp_path: Path):
    small = tmp_path / "small"
    command = ["compress", str(saved), "--to", "pq", "--set", "pieces=2", "--evaluate"]
    shown = CliRunner().invoke(app, [*command, "--out", str(small)])
    assert shown.exit_code == 0, shown.output
    stated = json.loads((small / "results.json").read_text())["metrics"]
    assert set(stated) == {"valid", "test"}
    shown = CliRunner().invoke(app, ["evaluate", str(small), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["mrr"] == pytest.approx(stated["test"]["mrr"], abs=1e-9)


def test_codebooks_that_outweigh_what_they_save_are_told(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against the bytes of a model that is stored in int8 indeed."""
    weights = {}
    for name, storage in (
        ("int8", ["int8"]),
        ("one", ["pq", "--set", "pieces=1"]),
        ("all", ["pq", "--set", "pieces=8"]),
    ):
        words = ["compress", str(saved), "--to", *storage, "--out", str(tmp_path / name)]
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 0
        state = checkpoint.load_model(tmp_path / name).model.state_dict()
        weights[name] = sum(tensor.nbytes for tensor in state.values())
        said = " ".join(capsys.readouterr().out.split())
        line = f"int8 would take less, {weights['int8']:,} bytes"
        assert (line in said) is (weights[name] > weights["int8"]), said
    assert weights["one"] < weights["int8"] < weights["all"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to", "int9"], "unknown storage 'int9'; did you mean 'int8'"),
        (["--to", "pq", "--set", "pieces=3"], "8 floats do not make 3 equal pieces"),
        (["--to", "int8", "--set", "scales=row"], "unknown setting 'scales'; did you mean 'scale'"),
        (["--to", "int8", "--relations", "flat"], "unknown storage 'flat'"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(saved, tmp_path, flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["compress", str(saved), *flags, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_not_compressed_onto_itself(saved: Path, capsys):
    with pytest.raises(SystemExit):
        main(["compress", str(saved), "--to", "int8", "--out", str(saved)])
    assert "choose another directory" in capsys.readouterr().err


def test_a_tampered_storage_is_refused(saved: Path, tmp_path: Path, capsys):
    small = tmp_path / "small"
    CliRunner().invoke(app, ["compress", str(saved), "--to", "int8", "--out", str(small)])
    config = json.loads((small / "config.json").read_text())
    for storage, message in (
        ({"entities": {"kind": "zip"}, "relations": {"kind": "int8"}}, "unknown storage 'zip'"),
        ({"entities": {"kind": "float16"}, "relations": {"kind": "int8"}}, "weight"),
        ({"relations": {"kind": "int8"}}, "entities"),
    ):
        (small / "config.json").write_text(json.dumps({**config, "storage": storage}))
        with pytest.raises(SystemExit):
            main(["evaluate", str(small)])
        error = capsys.readouterr().err
        assert message in error and str(small) in error, error
