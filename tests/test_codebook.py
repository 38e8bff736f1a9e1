"""Vectors out of codebooks that are trained: by their definition, and into a table of codes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from cli_fixtures import exit_code

import dglke_distill as kd
from dglke_distill.artifacts.checkpoint import load_model, save_model
from dglke_distill.base.errors import UserError
from dglke_distill.compression import Storage, TableStorage, build_table
from dglke_distill.config import Config, ModelConfig, compose, read_toml
from dglke_distill.data.triples import Vocabulary
from dglke_distill.models import build_model
from dglke_distill.models.base import KGEModel
from dglke_distill.runs.start import model_tree, start_of
from dglke_distill.runs.train_run import train_run
from dglke_distill.training import loop

ENTITIES = 300
SMALL: dict[str, Any] = {"threads": 1, "search": "none"}
FACTS = [(f"e{i}", f"r{step}", f"e{(i + step) % 60}") for step in (1, 2, 5) for i in range(60)]


def made(dim: int = 6, *, dtype: torch.dtype = torch.float64, **options: Any) -> KGEModel:
    config = ModelConfig(name="DistMult", dim=dim, encoder="codebook", encoder_options=options)
    model = build_model(config, ENTITIES, 2, dtype)
    model.reset(0, 1.0)
    return model


@pytest.mark.parametrize("options", [{}, {"pieces": 2}, {"pieces": 6, "bits": 4}, {"pieces": 1}])
def test_a_vector_is_its_pieces(options: dict[str, Any]) -> None:
    encoder = made(**options).encoder
    codes, codebooks = encoder.codes, encoder.codebooks.detach()
    pieces = options.get("pieces", 3)
    assert codebooks.shape == (pieces, 2 ** options.get("bits", 8), 6 // pieces)
    assert int(codes.max()) < codebooks.shape[1]
    assert codes.unique().numel() > 12  # drawn, not all the same
    expected = [
        [v for p, c in enumerate(row) for v in codebooks[p, c].tolist()] for row in codes.tolist()
    ]
    assert encoder().tolist() == expected
    some = torch.tensor([7, 0, 299, 7])
    assert encoder(some).tolist() == [expected[i] for i in some]
    assert encoder.bytes_per_entity == pieces


def test_only_entries_in_use_are_trained() -> None:
    encoder = made(pieces=2).encoder
    encoder(torch.tensor([5, 9, 9])).sum().backward()
    counted = torch.zeros_like(encoder.codebooks)
    for entity in (5, 9, 9):
        for piece in range(2):
            counted[piece, int(encoder.codes[entity, piece])] += 1
    assert torch.equal(encoder.codebooks.grad, counted)


def test_the_nearest_entries_are_taken() -> None:
    encoder = made(pieces=2, bits=4, dtype=torch.float32).encoder
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    untouched = encoder.codes[200:].clone()
    encoder.take_vectors(vectors, torch.arange(200).flip(0))
    distance = torch.cdist(vectors.view(200, 2, 3).transpose(0, 1), encoder.codebooks.detach())
    nearest = distance.argmin(dim=2).T.flip(0)
    assert (encoder.codes[:200] == nearest).float().mean() > 0.99  # k-means ends before the last
    assert torch.equal(encoder.codes[200:], untouched)


@pytest.mark.parametrize("bits", [4, 8])
def test_storing_few_distinct_pieces_loses_nothing(bits: int) -> None:
    entries = 2**bits
    distinct = torch.randn(entries, 4, generator=torch.Generator().manual_seed(0))
    numbers = torch.randint(entries, (3_000, 2), generator=torch.Generator().manual_seed(1))
    rows = torch.cat([distinct[numbers[:, 0], :2], distinct[numbers[:, 1], 2:]], dim=1)
    storage = TableStorage(kind="pq", options={"pieces": 2, "bits": bits})
    table = build_table(storage, len(rows), 4)
    table.fit(rows)
    assert torch.equal(table.decode(slice(None)), rows)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> kd.TrainingRun:
    facts = pandas.DataFrame(FACTS, columns=["head", "relation", "tail"])
    out = tmp_path_factory.mktemp("table") / "run"
    return kd.train(facts, model="distmult", dim=8, epochs=30, out=out, **SMALL)


def test_a_model_becomes_codes_that_are_trained(table: kd.TrainingRun, tmp_path: Path) -> None:
    facts = pandas.DataFrame(FACTS, columns=["head", "relation", "tail"])
    coded = {"model.encoder": "codebook", "model.encoder_options.pieces": 4}
    coded["model.encoder_options.bits"] = 4
    runs = {}
    for epochs, rate in ((1, 1e-12), (40, 0.05)):
        runs[epochs] = kd.train(
            facts, init=table.directory, epochs=epochs, out=tmp_path / str(epochs), **SMALL,
            settings={**coded, "optimizer.learning_rate": rate},
        )  # fmt: skip
    storage = Storage.of("pq", {"pieces": 4, "bits": 4})
    plain = build_table(storage.entities, len(table.model.entities), 8)
    plain.fit(table.model.entity_embeddings.detach())
    start = runs[1].model.entity_embeddings.detach()
    torch.testing.assert_close(start, plain.decode(slice(None)), atol=1e-5, rtol=0)
    first, last = (load_model(tmp_path / str(n) / "checkpoint").model for n in (1, 40))
    assert torch.equal(first.encoder.codes, last.encoder.codes)
    assert not torch.allclose(first.encoder.codebooks, last.encoder.codebooks, atol=1e-2)

    smaller = tmp_path / "smaller"
    words = ["compress", tmp_path / "40", "--to", "pq", "--set", "pieces=4", "--set", "bits=4"]
    assert exit_code(*words, "--out", smaller) == 0
    stored = load_model(smaller).model
    assert torch.equal(stored.encoder(None), last.encoder(None).detach())
    assert stored.bytes_per_entity == 2

    words = ["zoo", "publish", smaller, "--store", tmp_path / "store"]
    assert exit_code(*words, "--name", "distmult-own-dim8-pq2") == 0
    assert "begun from run" in read_toml(tmp_path / "store" / "zoo.toml")["model"][0]["recipe"]


@pytest.mark.parametrize(
    ("options", "lost"),
    [
        ({"pieces": 4}, ""),
        ({"pieces": 8}, ""),  # finer pieces of 256 entries are no more than these
        ({"pieces": 2}, "2 pieces"),
        ({"pieces": 1}, "1 piece"),
        ({"pieces": 4, "bits": 4}, "4 pieces"),
    ],
)
@pytest.mark.parametrize("twice", [False, True])
def test_codebooks_that_are_lost_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: Any, lost: str, twice: bool
) -> None:
    """Of 300 entities with random codes, 256 entries of a wider piece are too few."""
    config = Config.from_mapping(
        {
            "model": {
                "name": "DistMult", "dim": 8, "encoder": "codebook",
                "encoder_options": {"pieces": 4},
            }
        },
        "test",
    )  # fmt: skip
    model = build_model(config.model, ENTITIES, 2)
    model.reset(0, 1.0)
    names = Vocabulary(size=ENTITIES), Vocabulary(size=2, kind="relation")
    place = tmp_path / "model"
    save_model(place, model, config, *names, {})
    if twice:  # what is stored as pq may be lost as well
        words = ["compress", place, "--to", "pq", "--set", "pieces=4", "--out", tmp_path / "pq"]
        assert exit_code(*words) == 0
        place = tmp_path / "pq"
        capsys.readouterr()
    given = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    assert exit_code("compress", place, "--to", "pq", *given, "--out", tmp_path / "made") == 0
    said = capsys.readouterr().err
    expected = (
        "warning: the model's own codebooks, and what training made of them, are lost: others of "
        f"{lost} are learned by k-means; give --set pieces=4 to keep them\n"
    )
    assert said == (expected if lost else "")


def test_codes_at_random_are_told(
    table: kd.TrainingRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = tmp_path / "facts.tsv"
    facts.write_text("".join("\t".join(fact) + "\n" for fact in FACTS))
    words = ["train", facts, "--model", "distmult", "--dim", "8", "--epochs", "1"]
    words += ["--search", "none"]
    coded = ["--set", "model.encoder=codebook"]
    for more, told in (
        (coded, True),
        ([*coded, "--init", table.directory], False),
        ([], False),
    ):
        place = tmp_path / str(len(more))
        assert exit_code(*words, *more, "--out", place) == 0
        output = " ".join(capsys.readouterr().out.split())
        assert ("warning: encoder codebook: with no model to start from" in output) == told
        assert ("start from one by `train --init MODEL`" in output) == told


def test_a_run_is_resumed_to_the_same(table: kd.TrainingRun, tmp_path: Path) -> None:
    facts = tmp_path / "facts.tsv"
    facts.write_text("".join("\t".join(fact) + "\n" for fact in FACTS))
    loaded = load_model(table.directory / "checkpoint")
    tree = {
        "data": {"dataset": str(facts)},
        "model": {**model_tree(loaded)["model"], "encoder": "codebook"},
        "training": {"epochs": 6, "batch_size": 16, "evaluate_every": 2, "threads": 1},
    }
    config = compose([tree], recipe=None)
    train_run(config, tmp_path / "whole", start=start_of(loaded, "table"))

    def stop(epoch: int, mrr: float) -> None:
        if epoch == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(loop.Interrupted):
        train_run(config, tmp_path / "parts", start=start_of(loaded, "table"), validated=stop)
    train_run(config, tmp_path / "parts", resume=True)
    whole, parts = (load_model(tmp_path / name / "checkpoint").model for name in ("whole", "parts"))
    assert torch.equal(whole.encoder.codebooks, parts.encoder.codebooks)
    assert torch.equal(whole.encoder.codes, parts.encoder.codes)


def test_a_student_of_codes_starts_from_its_teacher(table: kd.TrainingRun, tmp_path: Path) -> None:
    facts = pandas.DataFrame(FACTS, columns=["head", "relation", "tail"])
    student: dict[str, Any] = {
        "model": {"encoder": "codebook", "encoder_options": {"pieces": 4}, "reciprocal": True},
        "optimizer": {"learning_rate": 1e-12},
        "distillation": {"initialization": "truncate", "soft": {"name": "kl"}},
    }
    run = kd.distill(
        facts, teacher=table.directory, model="distmult", dims=[8, 8], control="none", epochs=1,
        out=tmp_path / "run", settings={"student": student}, **SMALL,
    )  # fmt: skip
    plain = build_table(Storage.of("pq", {"pieces": 4}).entities, len(table.model.entities), 8)
    plain.fit(table.model.entity_embeddings.detach())
    model = run.students[-1].model
    torch.testing.assert_close(
        model.entity_embeddings.detach(), plain.decode(slice(None)), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        model.relation_embeddings.detach(),
        table.model.relation_embeddings.detach(), atol=1e-5, rtol=0,
    )  # fmt: skip


def test_mistakes_are_named(table: kd.TrainingRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="6 floats do not make 4 equal pieces"):
        made(pieces=4)
    with pytest.raises(UserError, match="bits"):
        made(bits=5)
    words = ["train", table.directory, "--init", table.directory, "--set", "model.encoder=path"]
    assert exit_code(*words, "--out", tmp_path / "no") == 2
