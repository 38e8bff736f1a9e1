"""The curves that make probabilities of a model's scores, in a small file beside it.

``calibration.safetensors`` holds ``curve_of``, ``pooled``, ``probe`` and ``probe_scores`` as
``curves.Calibration`` has them, and of each array of a curve ``value.NAME``, those of
all curves end to end, and ``offsets.NAME``, where each begins. How it was fitted stands in the
header, as JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dglke_distill.base.errors import UserError
from dglke_distill.base.tensor_files import load_state, save_state
from dglke_distill.calibration.curves import CALIBRATIONS, Calibration
from dglke_distill.models.base import KGEModel

CALIBRATION_FILE = "calibration.safetensors"
SCHEMA = 1
_FIX = "remove the file, then calibrate the model anew (`dglke-distill calibrate`)"
_SAME = 1e-3  # of the spread of the probes: another device or number of threads moves last digits


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write, or replace, the file of a calibration at once.

    Args:
        path: the file.
        calibration: what to write.

    Raises:
        NotWritten: it cannot be written.
    """
    tensors: dict[str, NDArray[Any]] = {
        "curve_of": calibration.curve_of,
        "pooled": calibration.pooled,
        "probe": calibration.probe,
        "probe_scores": calibration.probe_scores,
    }
    for part in CALIBRATIONS.find(calibration.method).parts:
        arrays = [curve[part] for curve in calibration.curves]
        tensors[f"value.{part}"] = np.concatenate(arrays)
        tensors[f"offsets.{part}"] = np.cumsum([0, *map(len, arrays)])
    about = {"schema": SCHEMA, "method": calibration.method, "about": calibration.about}
    save_state(path, {name: torch.from_numpy(of) for name, of in tensors.items()}, about)


def read_calibration(path: Path, model: KGEModel) -> Calibration:
    """Read the calibration of a model.

    Args:
        path: the file.
        model: the model that it lies beside.

    Raises:
        UserError: it is damaged, of a newer version or an unknown method, or of another model.
    """
    tensors, metadata = load_state(path)
    if metadata.get("schema") != SCHEMA:
        raise UserError(
            f"{path}: schema {metadata.get('schema')!r:.50} is not the one this version reads "
            f"({SCHEMA}); {_FIX}"
        )
    name, about = metadata.get("method"), metadata.get("about")
    if not isinstance(name, str) or not CALIBRATIONS.knows(name):
        raise UserError(f"{path}: unknown method {name!r:.100}; {CALIBRATIONS.hint(str(name))}")
    if not isinstance(about, dict):
        raise UserError(f"{path}: does not say how it was fitted; {_FIX}")
    found = _parsed(tensors, CALIBRATIONS.spell(name), about, model)
    if isinstance(found, str):
        raise UserError(f"{path}: {found}; {_FIX}")
    if not belongs_to(found, model):
        raise UserError(f"{path}: was made for other weights than lie beside it; {_FIX}")
    return found


def belongs_to(calibration: Calibration, model: KGEModel) -> bool:
    """Return whether a model still gives the scores that a calibration was made for.

    Args:
        calibration: the calibration.
        model: a model with as many entities and relations, or more entities.
    """
    probe = torch.from_numpy(calibration.probe).to(model.device)
    before = calibration.probe_scores
    with torch.no_grad():
        scores = model.score_triples(*probe.unbind(1)).double().cpu().numpy()
    spread = max(float(np.ptp(before)), 1e-3 * float(np.abs(before).max()), 1e-12)
    return bool((np.abs(scores - before) <= _SAME * spread).all())  # never of a NaN


def _parsed(
    tensors: dict[str, torch.Tensor], name: str, about: dict[str, Any], model: KGEModel
) -> Calibration | str:
    """Return the calibration, or what is wrong with it."""
    method = CALIBRATIONS.find(name)()
    kinds = {
        "curve_of": (torch.int64, 2),
        "pooled": (torch.bool, 2),
        "probe": (torch.int64, 2),
        "probe_scores": (torch.float64, 1),
        **{f"value.{part}": (torch.float64, 1) for part in method.parts},
        **{f"offsets.{part}": (torch.int64, 1) for part in method.parts},
    }
    if set(tensors) != set(kinds):
        return f"its tensors are not those of the method {name}"
    for key, (dtype, dimensions) in kinds.items():
        tensor = tensors[key]
        if tensor.dtype != dtype or tensor.dim() != dimensions:
            return f"{key} is of another type"
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"{key} has values that are not finite"
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    curve_of, probe = arrays["curve_of"], arrays["probe"]
    directions = 2 if model.reciprocal else 1
    if curve_of.shape != (directions, model.num_relations):
        return f"it is not of {model.num_relations} relations in {directions} direction(s)"
    if arrays["pooled"].shape != curve_of.shape:
        return "pooled is of another shape"
    limits = (model.num_entities, model.num_relations, model.num_entities)
    if probe.shape != (len(arrays["probe_scores"]), 3) or not len(probe):
        return "its probes are no triples"
    if (probe < 0).any() or (probe >= np.array(limits)).any():
        return "its probes are not of this model"
    count = len(arrays[f"offsets.{method.parts[0]}"]) - 1
    if count < 1 or (curve_of < 0).any() or (curve_of >= count).any():
        return "it names curves that it does not have"
    parts = {}
    for part in method.parts:
        offsets, values = arrays[f"offsets.{part}"], arrays[f"value.{part}"]
        sound = len(offsets) == count + 1 and offsets[0] == 0 and offsets[-1] == len(values)
        if not sound or (np.diff(offsets) < 0).any():
            return f"offsets.{part} do not fit the values"
        parts[part] = np.split(values, offsets[1:-1])
    curves = [{part: parts[part][i] for part in method.parts} for i in range(count)]
    for i, curve in enumerate(curves):
        wrong = method.check(curve)
        if wrong:
            return f"curve {i}: {wrong}"
    return Calibration(
        name, curves, curve_of, arrays["pooled"], probe, arrays["probe_scores"], about
    )
