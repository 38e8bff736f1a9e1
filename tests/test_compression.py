"""The contract of storages, run over all of them and over all score functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from model_formulas import (
    DIM,
    ENTITIES,
    RELATIONS,
    every_variant,
    graph_of,
    make,
    one_thread,  # noqa: F401 (a fixture)
    some_triples,
)

from dglke_distill.artifacts import checkpoint
from dglke_distill.base.errors import UserError
from dglke_distill.compression import (
    STORAGES,
    CompressedModel,
    Storage,
    TableStorage,
    build_table,
    compress,
    decompress,
)
from dglke_distill.compression.int8 import bfloat16_above
from dglke_distill.config import Config, ModelConfig
from dglke_distill.data.known_answers import KnownAnswers
from dglke_distill.data.triples import SIDES, Triples, Vocabulary
from dglke_distill.evaluate import evaluate

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in STORAGES),
    ("int8", {"scale": "column"}),
    ("int8", {"affine": True}),
    ("int8", {"scale": "column", "affine": True}),
    ("pq", {"pieces": 3, "bits": 4}),
    ("pq", {"pieces": 1}),
]
every_storage = pytest.mark.parametrize(
    ("kind", "chosen"), VARIANTS, ids=["-".join([k, *map(str, o.values())]) for k, o in VARIANTS]
)


def table_of(kind: str, chosen: dict[str, Any], rows: torch.Tensor) -> Any:
    table = build_table(TableStorage(kind=kind, options=chosen), *rows.shape)
    table.fit(rows)
    return table


def some_rows(rows: int = 50, dim: int = 6) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(1))


# --- tables -------------------------------------------------------------------------------------


@every_storage
def test_rows_are_decoded_alike_however_they_are_asked_for(kind, chosen):
    table = table_of(kind, chosen, some_rows())
    whole = table.decode(slice(None))
    assert whole.dtype == torch.float32 and whole.shape == (50, 6)
    assert torch.equal(table.decode(slice(7, 20)), whole[7:20])
    ids = torch.tensor([49, 3, 3, 0])
    assert torch.equal(table.decode(ids), whole[ids])
    assert table.decode(slice(0, 0)).shape == (0, 6)


@every_storage
def test_bytes_stated_are_bytes_held(kind, chosen):
    """The state, which is what a file holds, grows by ``bytes_per_row`` per row."""
    small, large = (table_of(kind, chosen, some_rows(rows)) for rows in (50, 130))
    held = [sum(t.nbytes for t in table.state_dict().values()) for table in (small, large)]
    assert held[1] - held[0] == 80 * small.bytes_per_row
    assert held[0] == 50 * small.bytes_per_row + small.shared_bytes


def test_bytes_of_a_row_of_32_floats():
    sizes = {
        ("float32", ()): 128,
        ("float16", ()): 64,
        ("int8", ()): 34,
        ("int8", (("scale", "column"),)): 32,
        ("int8", (("affine", True),)): 36,
        ("pq", ()): 16,
        ("pq", (("pieces", 32),)): 32,
        ("pq", (("pieces", 32), ("bits", 4))): 16,
        ("binary", ()): 6,
    }
    for (kind, chosen), size in sizes.items():
        table = build_table(TableStorage(kind=kind, options=dict(chosen)), 10, 32)
        assert table.bytes_per_row == size, (kind, chosen)


MODERATE = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
TABLES = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=MODERATE)


@pytest.mark.parametrize("scale", ["row", "column"])
@given(array=TABLES)
def test_int8_is_off_by_half_a_level_at_most(scale, array):
    rows = torch.from_numpy(array)
    decoded = table_of("int8", {"scale": scale}, rows).decode(slice(None))
    greatest = rows.abs().amax(1 if scale == "row" else 0, keepdim=True)
    # A bfloat16 has 8 significant bits: rounded up, a scale is too large by 1/128 at most.
    bound = greatest / 127 / 2 * (1 + 2**-7)
    assert ((decoded - rows).abs() <= bound * (1 + 1e-5) + 1e-36).all()


@given(array=TABLES)
def test_affine_int8_is_off_by_half_a_level_of_the_range(array):
    rows = torch.from_numpy(array)
    decoded = table_of("int8", {"affine": True}, rows).decode(slice(None))
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    # The offset is rounded to 8 significant bits, which widens what the levels must reach.
    reach = (high - low) / 2 + (low + high).abs() / 2 * 2**-8
    bound = reach / 127 / 2 * (1 + 2**-7) + 1e-6 * rows.abs().amax(1, keepdim=True) + 1e-36
    assert ((decoded - rows).abs() <= bound).all()


@given(array=arrays(np.float32, st.integers(1, 20), elements=st.floats(0, 2.0**127, width=32)))
def test_bfloat16_above_is_the_next_one(array):
    values = torch.from_numpy(array)
    above = bfloat16_above(values)
    before = (above.view(torch.int16) - 1).view(torch.bfloat16).float()
    finite = torch.isfinite(above)
    assert (above.float() >= values)[finite].all()
    assert ((before < values) | (values == 0))[finite].all()


@given(array=TABLES)
def test_binary_is_the_best_one_bit_row(array):
    """Against least squares over each row's own signs."""
    rows = torch.from_numpy(array).double()
    decoded = table_of("binary", {}, rows.float()).decode(slice(None)).double()
    signs = torch.where(rows >= 0, 1.0, -1.0).double()
    best = (rows * signs).sum(1, keepdim=True) / rows.shape[1] * signs
    torch.testing.assert_close(decoded, best, rtol=2**-8, atol=1e-30)


@given(array=TABLES)
def test_half_floats_are_numpys(array):
    decoded = table_of("float16", {}, torch.from_numpy(array)).decode(slice(None)).numpy()
    np.testing.assert_array_equal(decoded, array.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("bits", [4, 8])
def test_pq_takes_the_nearest_entry_and_entries_are_means(bits):
    rows = some_rows(700, 6)
    table = table_of("pq", {"pieces": 3, "bits": bits}, rows)
    decoded = table.decode(slice(None))
    for piece in range(3):
        part = rows[:, 2 * piece : 2 * piece + 2]
        distance = torch.cdist(part, table.codebooks[piece])
        got = (part - decoded[:, 2 * piece : 2 * piece + 2]).norm(dim=1)
        # k-means stopped early leaves a few rows a hair from their nearest centre.
        assert (got <= distance.amin(1) * 1.05 + 0.02).float().mean() > 0.97
        for entry in (0, 5, 15):
            mine = (table.entry_numbers(slice(None))[:, piece] == entry).nonzero().squeeze(1)
            centre = part[mine].mean(0)
            assert (centre - table.codebooks[piece, entry]).norm() < 0.1


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8])
def test_pq_puts_together_the_entries_that_codes_name(width):
    table = table_of("pq", {"pieces": 4}, some_rows(300, 4 * width))
    numbers = table.entry_numbers(slice(20, 30)).tolist()
    expected = [torch.cat([table.codebooks[p, n] for p, n in enumerate(row)]) for row in numbers]
    assert torch.equal(table.decode(slice(20, 30)), torch.stack(expected))


def test_pq_of_fewer_rows_than_entries_is_exact():
    rows = some_rows(40, 6)
    decoded = table_of("pq", {}, rows).decode(slice(None))
    torch.testing.assert_close(decoded, rows)


def test_overflow_of_half_floats_is_an_error():
    with pytest.raises(UserError, match="65504"):
        table_of("float16", {}, torch.tensor([[1e5]]))


# --- models -------------------------------------------------------------------------------------


def both(name, options, kind, chosen, **settings):
    """A compressed model, and the plain one that it decodes to."""
    config = ModelConfig(name=name, dim=DIM, options=options, **settings)
    model = make(name, options, dtype=torch.float32, **settings)
    small = compress(model, config, Storage.of(kind, chosen))
    return model, small, decompress(small, config)


@pytest.mark.parametrize("reciprocal", [False, True])
@every_storage
@every_variant
def test_scores_are_those_of_the_decoded_model(name, options, kind, chosen, reciprocal):
    _, small, plain = both(name, options, kind, chosen, reciprocal=reciprocal, entity_bias=True)
    head, relation, tail = some_triples()
    for side in SIDES:
        expected = plain.score_all(head, relation, side)
        with_frozen = small.score_all(head, relation, side)
        torch.testing.assert_close(with_frozen, expected, rtol=1e-4, atol=1e-4)
    expected = plain.score_triples(head, relation, tail).detach()
    torch.testing.assert_close(
        small.score_triples(head, relation, tail), expected, rtol=1e-4, atol=1e-4
    )
    graph = graph_of(head, relation, tail)
    torch.testing.assert_close(small(graph), expected, rtol=1e-4, atol=1e-4)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert small(graph_of(nothing, nothing, nothing)).shape == (0,)


@every_variant
def test_float32_and_back_changes_no_score(name, options):
    model, small, plain = both(name, options, "float32", {}, entity_bias=True)
    small_bias = model.bias_weight.half().float()  # the only thing that is rounded
    with torch.no_grad():
        model.bias_weight.copy_(small_bias)
    entity, relation, _ = some_triples()
    expected = model.score_all(entity, relation, "tail")
    torch.testing.assert_close(plain.score_all(entity, relation, "tail"), expected)
    torch.testing.assert_close(small.score_all(entity, relation, "tail"), expected)


@every_storage
def test_no_more_than_a_block_is_ever_decoded(kind, chosen, monkeypatch):
    """Ranking, prediction and scoring of edges never hold the table as floats."""
    from dglke_distill.predict.batches import best_entities, nearest_entities

    _, small, plain = both("ComplEx", {}, kind, chosen)
    monkeypatch.setattr("dglke_distill.models.blockwise.BLOCK_ROWS", 4)
    table, asked = small.encoder.table, []

    def decode(rows):
        decoded = type(table).decode(table, rows)
        asked.append(len(decoded))
        return decoded

    monkeypatch.setattr(table, "decode", decode)
    entity, relation = torch.tensor([1, 1, 3]), torch.tensor([0, 2, 1])
    columns = np.array([[1, 0, 2], [3, 1, 4], [5, 2, 5]])
    triples = Triples.from_array(columns)
    known = KnownAnswers.build([triples], ENTITIES)
    result = evaluate(small, triples, known)
    best = best_entities(small, entity, relation, "tail", 3)
    nearest_entities(small, entity[:2], 3)
    small(graph_of(*torch.from_numpy(columns.T.copy())))
    assert asked and max(asked) <= 6  # a block, or the distinct entities asked about
    assert sum(asked) >= 3 * ENTITIES
    assert result.mrr == pytest.approx(evaluate(plain, triples, known).mrr)
    expected = plain.score_all(entity, relation, "tail").topk(3).values
    torch.testing.assert_close(best.scores, expected, rtol=1e-4, atol=1e-4)


def test_a_compressed_model_says_that_it_cannot_be_trained():
    _, small, _ = both("TransE", {}, "int8", {})
    assert not small.training and list(small.parameters()) == []
    small.eval()
    with pytest.raises(UserError, match="--to float32"):
        small.train()


def test_bytes_of_a_model():
    _, small, _ = both("ComplEx", {}, "int8", {}, entity_bias=True)
    assert small.bytes_per_entity == DIM + 2 + 2  # codes, scale, bias
    assert small.floats_per_entity == DIM + 1
    assert small.shared_bytes == 0
    _, small, _ = both("ComplEx", {}, "pq", {"pieces": 3})
    assert small.bytes_per_entity == 3
    assert small.shared_bytes == 3 * 256 * (DIM // 3) * 4


# --- checkpoints --------------------------------------------------------------------------------


@every_storage
def test_checkpoints_come_back_bit_for_bit(tmp_path: Path, kind, chosen):
    _, small, _ = both("RESCAL", {}, kind, chosen, reciprocal=True, entity_bias=True)
    model = {"name": "RESCAL", "dim": DIM, "reciprocal": True, "entity_bias": True}
    config = Config.from_mapping({"model": model}, "test")
    names = Vocabulary([f"e{i}" for i in range(ENTITIES)])
    relations = Vocabulary([f"r{i}" for i in range(RELATIONS)], kind="relation")
    checkpoint.save_model(tmp_path / "c", small, config, names, relations, {"a": 1})
    loaded = checkpoint.load_model(tmp_path / "c")
    assert isinstance(loaded.model, CompressedModel)
    assert loaded.model.storage == small.storage
    want, have = small.state_dict(), loaded.model.state_dict()
    assert set(want) == set(have)
    for key in want:
        assert have[key].dtype == want[key].dtype and torch.equal(have[key], want[key])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("int9", {}, "did you mean 'int8'"),
        ("int8", {"scales": "row"}, "did you mean 'scale'"),
        ("pq", {"pieces": 4}, "6 floats do not make 4 equal pieces"),
        ("pq", {"bits": 5}, "bits"),
        ("float16", {"bits": 5}, "bits"),
    ],
)
def test_storages_that_cannot_be(kind, options, message):
    with pytest.raises(UserError, match=message):
        build_table(TableStorage(kind=kind, options=options), 10, 6)
