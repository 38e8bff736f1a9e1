"""Tables in shared memory, in files, and in two bytes a float."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from distill_fixtures import dataset_of, model_of, workspace_of, write_clock
from torch import nn

from dglke_distill.artifacts.checkpoint import load_model, save_model
from dglke_distill.base.disk import NotWritten
from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state
from dglke_distill.cli.compress import in_storage
from dglke_distill.compression import compress
from dglke_distill.compression.storage import Storage
from dglke_distill.config import Config
from dglke_distill.data import catalog
from dglke_distill.evaluate import evaluate
from dglke_distill.models.coded import CodedModel, build_configured
from dglke_distill.models.tables import (
    CODED,
    FileTables,
    SharedTables,
    coded_rows,
    new_table,
    round_at_random,
    tables_in,
)
from dglke_distill.runs.train_run import train_run
from dglke_distill.training.optim import OPTIMIZERS

coded = pytest.mark.parametrize("dtype", CODED, ids=str)


@coded
def test_rounding_takes_a_neighbour_and_keeps_the_mean(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(400, generator=generator) * 10.0 ** torch.arange(-5, 3).repeat(50)
    values = torch.cat([values, torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-7, -3e-8])])
    torch.manual_seed(1)
    drawn = torch.stack([round_at_random(values, dtype).double() for _ in range(2000)])
    low, high = drawn.amin(0), drawn.amax(0)
    assert (low <= values).all() and (values <= high).all()
    near = values.to(dtype)
    up = torch.nextafter(near.cpu(), torch.tensor(torch.inf, dtype=dtype)).double()
    down = torch.nextafter(near.cpu(), torch.tensor(-torch.inf, dtype=dtype)).double()
    assert ((low >= down) & (high <= up)).all(), "a code that is no neighbour"
    gap = torch.where(high > low, high - low, torch.ones_like(high))
    # Of 2000 tosses the mean's deviation is at most 0.011 gaps; 406 values stay within five.
    assert ((drawn.mean(0) - values).abs() / gap).max() < 0.056
    assert torch.equal(drawn[0, 402:404], torch.tensor([1.0, -1.0], dtype=torch.float64))


@coded
def test_values_beyond_the_dtype_become_its_largest(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    values = torch.tensor([largest, -largest, torch.finfo(torch.float32).max])
    expected = torch.tensor([largest, -largest, largest], dtype=dtype)
    assert torch.equal(round_at_random(values, dtype), expected)


@coded
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_coded_steps_are_those_of_float32_on_the_rows_touched(
    name: str, dtype: torch.dtype
) -> None:
    """One step at a time: what is stored is a neighbour of what the float32 optimiser reaches."""
    generator = torch.Generator().manual_seed(0)
    stored = nn.Parameter(torch.randn(9, 4, generator=generator).to(dtype))
    whole = nn.Parameter(stored.detach().float())
    whole.row_sparse = True  # type: ignore[attr-defined]
    mine, peer = (OPTIMIZERS[name]([p], lr=0.1) for p in (stored, whole))
    for _ in range(4):
        with torch.no_grad():
            whole.copy_(stored.detach().float())
        ids = torch.randint(6, (5,), generator=generator)  # rows 6 to 8 are never met
        rows = torch.randn(5, 4, generator=generator)
        stored.row_gradients = [(ids, rows), (ids[:2], rows[:2])]  # type: ignore[attr-defined]
        whole.row_gradients = [(ids, rows), (ids[:2], rows[:2])]  # type: ignore[attr-defined]
        before = stored.detach().clone()
        mine.step()
        peer.step()
        spacing = torch.finfo(dtype).eps * whole.detach().abs() + torch.finfo(dtype).tiny
        assert ((stored.detach().float() - whole.detach()).abs() <= spacing).all()
        untouched = [i for i in range(9) if i not in ids.tolist()]
        assert torch.equal(stored.detach()[untouched], before[untouched])
        assert not torch.equal(stored.detach(), before)
    for kept, other in zip(mine.state[stored].values(), peer.state[whole].values()):
        assert kept.dtype == torch.float32
        torch.testing.assert_close(kept, other)
    assert list(mine.state) == [stored] or name == "sgd"


@coded
def test_steps_too_small_for_a_code_arrive_all_the_same(dtype: torch.dtype) -> None:
    """A thousand steps of a hundredth of a code each; rounded to the nearest, none would count."""
    step = torch.finfo(dtype).eps / 100
    stored = nn.Parameter(torch.ones(1, 256, dtype=dtype))
    optimizer = OPTIMIZERS["sgd"]([stored], lr=1.0)
    torch.manual_seed(0)
    for _ in range(1000):
        stored.row_gradients = [(torch.tensor([0]), torch.full((1, 256), -step))]  # type: ignore[attr-defined]
        optimizer.step()
    moved = (stored.detach().float().mean() - 1) / (1000 * step)
    assert 0.9 < moved < 1.1
    assert (torch.ones(1, dtype=dtype).float() + step).to(dtype) == 1


@coded
def test_gradients_of_coded_rows_are_float32(dtype: torch.dtype) -> None:
    weight = nn.Parameter(torch.randn(5, 3).to(dtype))
    ids = torch.tensor([4, 0])
    rows = coded_rows(weight, ids)
    assert torch.equal(rows.detach(), weight.detach()[ids].float())
    (rows * torch.tensor([[1.0001], [3.0]])).sum().backward()
    ((kept, gradient),) = weight.row_gradients  # type: ignore[attr-defined]
    assert torch.equal(kept, ids) and weight.grad is None
    assert torch.equal(gradient, torch.tensor([[1.0001], [3.0]]).expand(2, 3))


def settings(folder: Path, **training: Any) -> Config:
    return Config.from_mapping(
        {
            "data": {"dataset": str(folder)},
            "model": {"name": "RotatE", "dim": 16, "entity_bias": True},
            "negatives": {"count": 8},
            "loss": {"options": {"margin": 3.0}},
            "training": {
                "epochs": 150,
                "batch_size": 16,
                "evaluate_every": 50,
                "threads": 1,
                **training,
            },
        },
        "test",
    )


@pytest.mark.parametrize("storage", ["bfloat16", "float16"])
def test_a_coded_run_learns_and_its_checkpoint_ranks_the_same(storage: str, tmp_path: Path) -> None:
    clock = write_clock(tmp_path / "clock")
    full = train_run(settings(clock), tmp_path / "full").to_tree()
    results = train_run(settings(clock, storage=storage), tmp_path / "run").to_tree()
    mrr = {r["metrics"]["test"]["mrr"] for r in (full, results)}
    assert max(mrr) < min(mrr) + 0.15 and min(mrr) > 0.4, "chance is about 0.15"
    assert results["model"]["bytes_per_entity"] == 2 * 16 + 4
    loaded = load_model(tmp_path / "run" / "checkpoint")
    assert isinstance(loaded.model, CodedModel)
    assert loaded.model.encoder.weight.dtype == getattr(torch, storage)
    assert loaded.model.entity_embeddings.dtype == torch.float32
    exact = compress(loaded.model, loaded.config.model, Storage.of("float32"))
    assert torch.equal(exact.entity_embeddings, loaded.model.entity_embeddings)
    plain = in_storage(loaded, Storage.of("float32"))
    dataset = workspace_of(catalog.load(str(clock))).dataset
    save_model(
        tmp_path / "plain", plain.model, plain.config, dataset.entities, dataset.relations, {}
    )
    assert load_model(tmp_path / "plain").model.encoder.weight.dtype == torch.float32


def test_a_coded_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    clock = write_clock(tmp_path / "clock")
    config = settings(clock, storage="bfloat16", epochs=4, checkpoint_minutes=1e-9)
    train_run(config, tmp_path / "whole")

    class Stop(Exception):
        pass

    def report(progress: Any) -> None:
        raise Stop

    import dglke_distill.training.loop as training

    clock_of = training.time.perf_counter
    ticks = iter(range(10**9))
    try:
        training.time.perf_counter = lambda: next(ticks) * 0.05  # type: ignore[assignment]
        with pytest.raises(Stop):
            train_run(config, tmp_path / "cut", report=report)
    finally:
        training.time.perf_counter = clock_of
    train_run(config, tmp_path / "cut", resume=True)
    ends = [load_state(tmp_path / run / "resume.safetensors")[0] for run in ("whole", "cut")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("name", ["TransE", "ComplEx", "RotatE", "SimplE", "PairRE"])
def test_a_coded_model_scores_as_one_of_the_decoded_table(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dglke_distill.models.blockwise.BLOCK_ROWS", 4)
    config = Config.from_mapping(
        {"model": {"name": name, "dim": 8, "entity_bias": True},
         "training": {"storage": "bfloat16"}}, "test",
    )  # fmt: skip
    dataset = dataset_of()
    model = build_configured(config, dataset.num_entities, dataset.num_relations)
    model.reset(0, 0.7)
    plain = model_of(name, 8, dtype=torch.float32, entity_bias=True)
    state = {n: t.float() for n, t in model.state_dict().items()}
    plain.load_state_dict(state)
    entity, relation = torch.tensor([0, 3, 3]), torch.tensor([2, 1, 0])
    for side in ("head", "tail"):
        torch.testing.assert_close(
            model.score_all(entity, relation, side), plain.score_all(entity, relation, side)
        )
    known = workspace_of(dataset).known
    ranked = [evaluate(m, dataset.test, known).mrr for m in (model, plain)]
    assert ranked[0] == pytest.approx(ranked[1])


@pytest.mark.parametrize(
    ("section", "tree"),
    [
        ("model.encoder", {"model": {"encoder": "neighbor"}}),
        ("training.dtype", {"training": {"dtype": "float64"}}),
        ("training.mode", {"training": {"mode": "k_vs_all"}}),
    ],
)
def test_what_storage_does_not_go_with_is_said(section: str, tree: dict[str, Any]) -> None:
    tree = {**tree, "training": {"storage": "float16", **tree.get("training", {})}}
    with pytest.raises(UserError, match=f"needs {section}"):
        build_configured(Config.from_mapping(tree, "test"), 5, 2)


def test_tables_lie_where_they_are_told(tmp_path: Path) -> None:
    plain = new_table(3, 4, torch.float32)
    with tables_in(SharedTables()):
        shared = new_table(3, 4, torch.float32)
        with torch.device("meta"):
            assert new_table(3, 4, torch.float32).device.type == "meta"
    with tables_in(FileTables(tmp_path / "tables")):
        mapped = new_table(3, 4, torch.bfloat16)
    assert new_table(1, 1, torch.float32).is_shared() is False
    for table, kept in ((plain, False), (shared, True), (mapped, True)):
        assert not table.any() and table.shape == (3, 4)
        assert table.is_shared() == kept
        optimizer = OPTIMIZERS["adagrad"]([table], lr=0.1)
        optimizer.allocate()  # type: ignore[attr-defined]
        assert optimizer.state[table]["sum"].is_shared() == kept
        assert optimizer.state[table]["sum"].dtype == torch.float32
    assert list((tmp_path / "tables").iterdir()) == [], "mapped files have no name"


def test_tables_that_find_no_room_are_refused_before_they_are_mapped(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with tables_in(FileTables(tmp_path / "tables")):
            assert new_table(16, 1024, torch.float32).shape == (16, 1024)
            with pytest.raises(NotWritten, match=r"tables: not written: File too large"):
                new_table(17, 1024, torch.float32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "tables").iterdir()) == []
