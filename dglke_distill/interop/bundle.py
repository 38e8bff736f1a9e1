"""One small file with all that answering needs, for browsers and other small places."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import torch

from dglke_distill.artifacts.loaded_model import LoadedModel
from dglke_distill.base.errors import UserError
from dglke_distill.base.schema import Field
from dglke_distill.compression.int8 import Int8, Int8Options
from dglke_distill.config.registry import NoOptions
from dglke_distill.interop.base import (
    Array,
    ExportFormat,
    as_float32,
    entity_bias,
    entity_labels,
    entity_table,
)
from dglke_distill.interop.query_forms import AffineMap, query_forms
from dglke_distill.models.score_function import HiddenLayer

_MAGIC = b"KGBUNDLE"
_ALIGNMENT = 16
_SHORTEST = 1e-6  # length below which a vector is not made longer


class BundleOptions(NoOptions):
    """Options of the bundle."""

    dtype: Optional[Literal["float32", "float16", "int8", "pq"]] = Field(
        None,
        description="of entity vectors; None: pq, its own codes and codebooks, of a model that has "
        "some, else float16",
    )
    labels: bool = Field(True, description="whether the labels of entities are in it, if any")


class EdgeBundle(ExportFormat):
    """A header and little-endian arrays; the packages in ``readers`` answer from it.

    ``readers/FORMAT.md`` describes the file; ``query_forms`` how queries are written in it.
    But with float32 entities the relations' coefficients are float16, and so are the weights of a
    hidden layer.
    """

    name = "bundle"
    begins = _MAGIC
    about = "one file that a dependency-free JavaScript or NumPy reader scores"
    Options = BundleOptions

    def write(self, loaded: LoadedModel, options: Any, place: Path) -> None:
        """Write the file."""
        forms = query_forms(loaded.model)
        table = as_float32(entity_table(loaded))
        coded, unit = _coded(loaded, table) if options.dtype in (None, "pq") else ({}, False)
        if options.dtype == "pq" and not coded:
            raise UserError(
                "--format bundle: --set dtype=pq: the model has no codebooks that make its "
                "vectors; compress it by `dglke-distill compress --to pq` first, or leave dtype out"
            )
        dtype = options.dtype or "float16"
        kept = getattr(loaded.model, "storage", None)
        kind = kept.entities.kind if kept else loaded.config.training.storage
        self.decodes = not coded and kind != dtype
        arrays = coded or _entities(table, dtype)
        bias = entity_bias(loaded)
        if bias is not None:
            arrays["entity_bias"] = _cast(bias, "<f2") if coded else as_float32(bias)
        exact = "<f4" if options.dtype == "float32" else "<f2"
        header: dict[str, Any] = {
            "model": loaded.config.model.name,
            "dataset": loaded.dataset_name,
            "dim": loaded.config.model.dim,
            "entities": len(loaded.entities),
            "relations": len(loaded.relations),
            "kernel": forms.kernel,
            "query": _maps(forms.query, "query", arrays, exact),
            "candidate": forms.candidate and _maps(forms.candidate, "candidate", arrays, exact),
            "names": {
                kind: _texts(names, kind, arrays) if names.named else None
                for kind, names in (("entities", loaded.entities), ("relations", loaded.relations))
            },
        }
        said = []
        if unit:
            header["normalize"] = True
        if forms.hidden is not None:
            header["hidden"] = _hidden(forms.hidden, arrays, exact)
            size = sum(kept.nbytes for name, kept in arrays.items() if name.startswith("hidden_"))
            said.append(f"the hidden layer takes {size:,} bytes of it, its biases counted")
        labels = entity_labels(loaded) if options.labels else None
        if labels is not None:
            header["labels"] = _texts(labels, "labels", arrays)
            size = sum(arrays[name].nbytes for name in header["labels"].values())
            said.append(f"labels take {size:,} bytes of it; --set labels=false leaves them out")
        self.said = "; ".join(said)
        place.write_bytes(_packed(header, arrays))


def _cast(table: Array, dtype: str) -> Array:
    with np.errstate(over="ignore"):
        cast = table.astype(dtype)
    if not np.isfinite(cast).all():
        raise UserError(
            f"--format bundle: the model has values too large for {cast.dtype}; "
            "add --set dtype=float32"
        )
    return cast


def _coded(loaded: LoadedModel, table: Array) -> tuple[dict[str, Array], bool]:
    """Return the codes and codebooks that make the vectors ``table``, if there are any.

    Returns:
        The arrays, and whether vectors are to be normalised.
    """
    found = loaded.model.encoder.coded()
    if found is None:
        return {}, False
    with torch.no_grad():
        made = as_float32(loaded.model.encoder().cpu().numpy())
    unit = not np.array_equal(made, table)
    if unit:
        made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), _SHORTEST)
        if not np.allclose(made, table, rtol=1e-5, atol=1e-6):
            return {}, False
    codes, codebooks = (part.cpu().numpy() for part in found)
    return {"entity": codes, "entity_codebooks": as_float32(codebooks)}, unit


def _entities(table: Array, dtype: str) -> dict[str, Array]:
    if dtype != "int8":
        return {"entity": _cast(table, {"float32": "<f4", "float16": "<f2"}[dtype])}
    stored = Int8(len(table), table.shape[1], Int8Options())
    stored.fit(torch.from_numpy(table))
    scale = stored.scale[:, 0].float().numpy()
    return {"entity": stored.codes.numpy(), "entity_scale": as_float32(scale)}


def _maps(
    maps: Mapping[Any, AffineMap], kind: str, arrays: dict[str, Array], dtype: str
) -> dict[str, dict[str, Any]]:
    """Describe the maps of both sides and add the arrays they need."""
    described: dict[str, dict[str, Any]] = {}
    for side in ("tail", "head"):
        described[side] = {}
        for part in AffineMap._fields:
            weights = getattr(maps[side], part)
            if weights is not None:
                array = _cast(weights.numpy(), dtype)
                described[side][part] = _reference(array, f"{kind}_{side}_{part}", kind, arrays)
    return described


def _hidden(
    layers: Mapping[Any, HiddenLayer], arrays: dict[str, Array], dtype: str
) -> dict[str, Any]:
    """Describe the hidden layer of queries and add its arrays; sides differ in biases alone."""
    for part in ("inner", "outer"):
        arrays[f"hidden_{part}"] = _cast(getattr(layers["tail"], part).numpy(), dtype)
    return {
        "inner": "hidden_inner",
        "outer": "hidden_outer",
        "bias": {
            side: _reference(
                _cast(layers[side].bias.numpy(), dtype), f"hidden_{side}_bias", "hidden", arrays
            )
            for side in ("tail", "head")
        },
    }


def _reference(array: Array, name: str, kind: str, arrays: dict[str, Array]) -> dict[str, Any]:
    """Return how to find a coefficient; add it to the arrays if none there serves."""
    if array.ndim == 2 and (array == array[:1, :1]).all():
        return {"constant": float(array[0, 0]) if array.size else 0.0}
    for known, other in arrays.items():
        if known.startswith(f"{kind}_") and other.ndim == array.ndim:
            if np.array_equal(other, array):
                return {"array": known}
            if np.array_equal(other, -array):
                return {"array": known, "negate": True}
            if array.ndim == 3 and np.array_equal(other.transpose(0, 2, 1), array):
                return {"array": known, "transpose": True}
    arrays[name] = array
    return {"array": name}


def _texts(texts: Iterable[str], kind: str, arrays: dict[str, Array]) -> dict[str, str]:
    encoded = [text.encode() for text in texts]
    text, ends = f"{kind}_text", f"{kind}_ends"
    arrays[text] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    arrays[ends] = np.cumsum([len(each) for each in encoded]).astype("<u4")
    return {"text": text, "ends": ends}


def _packed(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    described, blocks, offset = {}, [], 0
    for name, array in arrays.items():
        described[name] = {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "offset": offset,
        }
        blocks.append(_padded(np.ascontiguousarray(array).tobytes(), b"\0"))
        offset += len(blocks[-1])
    text = json.dumps({**header, "arrays": described}, ensure_ascii=False, allow_nan=False)
    encoded = _padded(text.encode(), b" ")
    # Readers of version 1 would pass over a hidden layer, those of 2 know no codes.
    version = 3 if "entity_codebooks" in arrays else 2 if "hidden" in header else 1
    start = _MAGIC + np.array([version, len(encoded)], dtype="<u4").tobytes()
    return b"".join([start, encoded, *blocks])


def _padded(data: bytes, filler: bytes) -> bytes:
    return data + filler * (-len(data) % _ALIGNMENT)
