"""The contracts of storages and of export formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import torch

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.compression import STORAGES
from dglke_distill.compression.table import StoredTable
from dglke_distill.config import Config
from dglke_distill.interop import FORMATS, ExportFormat, export_model
from dglke_distill.models import build_model
from dglke_distill.testing.common import check_component, close, options_of, registered, ring


def check_storage(
    kind: type[StoredTable],
    error: float,
    *,
    options: Optional[Mapping[str, Any]] = None,
    dim: int = 6,
) -> None:
    """Check that rows come back alike however they are asked for, in the bytes that are stated.

    Args:
        kind: the class.
        error: how far a float may be off, as a share of the range of its row.
        options: options of the storage.
        dim: floats per row.
    """
    check_component(STORAGES, kind)
    rows = torch.randn(130, dim, generator=torch.Generator().manual_seed(1))
    tables = {}
    for count in (50, 130):
        tables[count] = kind(count, dim, options_of(kind, options))
        tables[count].fit(rows[:count].clone())
    table, whole = tables[50], tables[50].decode(slice(None))
    assert whole.dtype == torch.float32 and whole.shape == (50, dim), "rows are float32 (n, dim)"
    ids = torch.tensor([49, 3, 3, 0])
    assert torch.equal(table.decode(slice(7, 20)), whole[7:20]), "a range of rows differs"
    assert torch.equal(table.decode(ids), whole[ids]), "rows by their numbers differ"
    assert table.decode(slice(0, 0)).shape == (0, dim), "no rows at all"
    spread = (rows[:50].amax(1) - rows[:50].amin(1))[:, None]
    off = float(((whole - rows[:50]).abs() / spread).max())
    assert off <= error, f"a float is off by {off:.3g} of its row's range, more than {error:g}"
    held = {n: sum(t.nbytes for t in one.state_dict().values()) for n, one in tables.items()}
    each, shared = table.bytes_per_row, table.shared_bytes
    assert held[130] - held[50] == 80 * each, f"80 rows take {held[130] - held[50]} bytes"
    assert held[50] == 50 * each + shared, f"{held[50]} bytes are held in all"
    again = kind(50, dim, options_of(kind, options))
    again.load_state_dict(table.state_dict())
    assert torch.equal(again.decode(slice(None)), whole), "what is saved comes back otherwise"


def check_export_format(
    kind: type[ExportFormat],
    out: Path,
    *,
    model: str = "DistMult",
    options: Optional[Mapping[str, Any]] = None,
) -> LoadedModel:
    """Write a small model, twice, and check that the same files or bytes come of it.

    Args:
        kind: the class.
        out: an empty folder; the first export lies at ``out / "first"`` afterwards.
        model: a score function that the format can express.
        options: options of the format.

    Returns:
        The model that was written, to look for it in the file.
    """
    check_component(FORMATS, kind)
    assert kind.about, "say in `about` what is written, and who reads it"
    data = ring(8)
    config = Config.from_mapping({"model": {"name": model, "dim": 8}}, "check_export_format")
    made = build_model(config.model, data.num_entities, data.num_relations)
    made.reset(0)
    loaded = LoadedModel(made.eval(), config, data.entities, data.relations, {})
    with registered(FORMATS, kind) as name:
        places = [export_model(loaded, name, out / part, options) for part in ("first", "second")]
    first, second = places
    assert first.is_dir() == kind.directory, "`directory` says otherwise than what is written"
    files = [path.relative_to(first) for path in sorted(first.rglob("*"))] or [Path()]
    for path in files:
        if (first / path).is_file():
            same = (first / path).read_bytes() == (second / path).read_bytes()
            assert same, f"{path}: one model gives other bytes the second time"
    assert sorted(path.name for path in out.iterdir()) == ["first", "second"], "more was written"
    again = build_model(config.model, data.num_entities, data.num_relations)
    again.reset(0)
    for one, other in zip(made.parameters(), again.parameters()):
        close(one, other.detach(), "the model was changed by its export", 0.0)
    return loaded
