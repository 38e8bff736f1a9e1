"""The contracts of distillation methods and of the schedules of their weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from safetensors.torch import load_file

from dglke_distill.artifacts.checkpoint_places import MODEL_FILE
from dglke_distill.config import Config, merge
from dglke_distill.data.writers import write_dataset
from dglke_distill.distill.chain import run_chain
from dglke_distill.distill.chain_config import ChainConfig
from dglke_distill.distill.methods import METHODS, Method
from dglke_distill.distill.schedules import SCHEDULES, Schedule
from dglke_distill.testing.common import check_component, options_of, registered, ring
from dglke_distill.training.objective import Moment

_SIZES = ([64, 32, 16, 8], [64, 8], [32, 16])


def check_method(kind: type[Method], *, options: Optional[Mapping[str, Any]] = None) -> None:
    """Check the sizes and settings of a method, and let it distil a small model, twice.

    Args:
        kind: the class.
        options: options of the method.
    """
    check_component(METHODS, kind)
    method = kind(options_of(kind, options))
    for sizes in _SIZES:
        chosen = method.dims(list(sizes))
        assert chosen and chosen[-1] == sizes[-1], f"{kind.name}: {sizes} end as {chosen}"
        assert not method.taught or chosen[0] == sizes[0], f"{kind.name}: {sizes} begin as {chosen}"
        falls = all(before >= after for before, after in zip(chosen, chosen[1:]))
        assert falls, f"{kind.name}: {sizes} become {chosen}, which rise"
    source = f"settings of {kind.name}"
    Config.from_mapping(merge(method.defaults(), method.settings()), source)
    with registered(METHODS, kind) as name, tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "ring"
        write_dataset(ring(), data)
        weights = []
        for turn in ("first", "second"):
            chain = ChainConfig.from_mapping(_small(kind, name, data, options), source)
            run_chain(chain, Path(folder) / turn)
            found = sorted((Path(folder) / turn).glob(f"stages/*/checkpoint/{MODEL_FILE}"))
            assert found, f"{name}: nothing was trained"
            weights.append([load_file(path) for path in found])
    for first, second in zip(*weights):
        for key, one in first.items():
            assert one.isfinite().all(), f"{name}: {key} is not finite"
            assert one.equal(second[key]), f"{name}: {key} differs between two runs of one seed"


def _small(
    kind: type[Method], name: str, data: Path, options: Optional[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a chain's settings that take a second."""
    mode = kind.modes[0]
    training = {"mode": mode, "epochs": 2, "batch_size": 16, "threads": 1}
    return {
        "data": {"dataset": str(data)},
        "method": name,
        "dims": [16, 8, 4],
        "control": "none",
        "more_teachers": [{"training": {"seed": n}} for n in range(1, kind.least_teachers)],
        "shared": {
            "recipe": "none",
            "model": {"name": "ComplEx"},
            "loss": {"name": "softmax"},
            "negatives": {"count": 8},
            "optimizer": {"name": "adagrad", "learning_rate": 0.1},
            "training": training,
        },
        "student": {"distillation": {"options": dict(options or {})}} if kind.taught else {},
    }


def check_schedule(kind: type[Schedule], *, options: Optional[Mapping[str, Any]] = None) -> None:
    """Check that weights are finite and not negative, and nothing where the schedule is over.

    Args:
        kind: the class.
        options: options of the schedule.
    """
    check_component(SCHEDULES, kind)
    for value in (0.0, 0.5, 2.0):
        schedule = kind(options_of(kind, options))
        schedule.value = value
        for step in range(60):
            moment = Moment(epoch=step // 10, epochs=6, step=step, steps=60)
            for hard, soft in ((1.0, 0.5), (0.0, 0.0), (1e30, 1e-30), (3.0, 1e6)):
                weight = schedule.weight(moment, hard, soft)
                right = math.isfinite(weight) and weight >= 0
                assert right, f"{kind.name}: the weight is {weight} at step {step} of 60"
                if schedule.over(moment):
                    assert weight == 0, f"{kind.name}: over at step {step}, with weight {weight}"
