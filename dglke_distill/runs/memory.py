"""How much memory a run will take, said before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dglke_distill.base import runtime
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
from dglke_distill.runs.memory_parts import (
    DataSize,
    TeacherSize,
    batch_bytes,
    beginning_bytes,
    bytes_of,
    data_bytes,
    gradient_bytes,
    optimizer_bytes,
    preparing_bytes,
    ranking_bytes,
    relation_bytes,
    soft_label_bytes,
    token_bytes,
    without_memory,
)

_PROGRAM = 500 << 20
"""What the program with torch, dgl and compiled kernels takes without any data."""
_WORKER = 330 << 20
"""What a further process of it takes."""
_GPU_BUILD = 200 << 20
"""What a build of torch for GPUs takes besides, whether or not there is one: its libraries."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a run needs, by what they are for.

    Attributes:
        lasting: what is there all the time.
        passing: what is there at one time or another; the largest of them counts.
        on_disk: tables that lie in files, and checkpoints.
    """

    lasting: dict[str, int]
    passing: dict[str, int]
    on_disk: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Bytes of memory at the highest point."""
        return sum(self.lasting.values()) + max(self.passing.values(), default=0)

    @property
    def disk(self) -> int:
        """Bytes on disk."""
        return sum(self.on_disk.values())

    def __str__(self) -> str:
        """Return one line that names all parts, the larger ones first."""
        parts = sorted(self.lasting.items(), key=lambda part: -part[1])
        most = max(self.passing, key=lambda part: self.passing[part], default=None)
        if most is not None:
            parts.append((f"at most at a time, in {most},", self.passing[most]))
        said = ", ".join(f"{name} {bytes_text(size)}" for name, size in parts if size)
        files = ", ".join(f"{name} {bytes_text(size)}" for name, size in self.on_disk.items())
        return f"{bytes_text(self.total)} of memory ({said}); on disk {files}"


def bytes_text(size: float) -> str:
    """Return a number of bytes with a unit, as ``1.4 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.3g} GiB" if size < 999.5 else f"{size:,.0f} GiB"


def check_memory(
    config: Config, need: MemoryNeed, directory: Path, *, name: str = "this run"
) -> None:
    """Refuse a run that does not fit.

    Args:
        config: its settings.
        need: see ``memory_need``.
        directory: where it writes.
        name: what to call it.

    Raises:
        UserError: it needs more memory than it may have, or more disk than there is.
    """
    given = config.training.memory_megabytes
    limit = runtime.available_memory_bytes() if given is None else given << 20
    if need.total > limit:
        origin = "that this machine has available" if given is None else "that --memory allows"
        raise UserError(
            f"{name} needs about {need}; that is more than the {bytes_text(limit)} {origin}. Make "
            "it smaller (model.dim, training.batch_size, optimizer.name rowwise_adagrad, "
            "training.storage bfloat16), let tables lie in files (training.tables file), or raise "
            "--memory"
        )
    shared = need.lasting.get("tables", 0) + need.lasting.get("optimiser", 0)
    memory = Path("/dev/shm")
    if (config.training.processes or 1) > 1 and memory.is_dir():
        free = shutil.disk_usage(memory).free
        if shared > free:
            raise UserError(
                f"{name} shares about {bytes_text(shared)} of tables among processes, but /dev/shm "
                f"has {bytes_text(free)} left; enlarge it, let them lie in files (training.tables "
                "file), or leave --processes out"
            )
    place = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if need.disk > free:
        raise UserError(
            f"{name} writes about {bytes_text(need.disk)} below {directory}, where "
            f"{bytes_text(free)} are left; choose another --out"
        )


def memory_need(config: Config, size: DataSize, teachers: Sequence[TeacherSize] = ()) -> MemoryNeed:
    """Estimate what a training run needs at its highest point.

    On a GPU tables and what passes lie there, and are not counted.

    Args:
        config: the settings.
        size: of the data.
        teachers: of a student's stage.
    """
    model = without_memory(config, size)
    on_cpu = runtime.resolve_device(config.training.device).type == "cpu"
    parameters = list(model.parameters())
    tables = sum(bytes_of(t) for t in (*parameters, *model.buffers()))
    state = optimizer_bytes(config, model)
    wide = 8 if config.training.dtype == "float64" else 4
    taught = sum(teacher.parameters * wide for teacher in teachers)
    build = _GPU_BUILD if runtime.torch_is_for_gpus() else 0
    lasting = {"program": _PROGRAM + build, **data_bytes(config, size)}
    if on_cpu:
        lasting.update({"tables": tables, "optimiser": state, "teachers": taught})
        lasting["gradients"] = gradient_bytes(config, model)
    lasting["soft labels"] = soft_label_bytes(config, size)
    processes = config.training.processes or 1
    if processes > 1:
        own = batch_bytes(config, size, teachers) + token_bytes(config, model, size)
        own += 12 * size.entities + _WORKER + build + relation_bytes(config, model, size)
        # They share copies of the main process's loader and teachers.
        lasting["processes"] = processes * own + lasting["loader"] + lasting.get("teachers", 0)
    passing = {"preparing": 60 * size.train + preparing_bytes(size)}
    if on_cpu:
        passing["batches"] = batch_bytes(config, size, teachers) + token_bytes(config, model, size)
        passing["batches"] += relation_bytes(config, model, size)
        passing["ranking"] = ranking_bytes(config, model, size)
        passing["beginning"] = beginning_bytes(config, size, teachers)
    checkpoints = 2 * tables + state
    on_disk = {"checkpoints": 2 * checkpoints}  # the new one beside the old one
    if config.training.tables == "file" and on_cpu:
        on_disk["tables"] = lasting.pop("tables") + lasting.pop("optimiser")
    return MemoryNeed(lasting, passing, on_disk)
