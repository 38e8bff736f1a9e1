"""What is set once per process: backend, allocator, seeds, device; and what the process ran on."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from dglke_distill import __version__
from dglke_distill.base.errors import UserError

if TYPE_CHECKING:
    import torch

# OpenMP threads that wait for each other spin before they sleep, with libgomp's default for many
# milliseconds. Where other programs want the cores too, the thread that is waited for then gets
# none: with five busy programs on two cores, training on the embedded dataset took 47 s so, and
# 0.8 s with 1,000 turns (tens of microseconds). Read once, when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Parameters of glibc's mallopt(3), from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_TOP_PAD_BYTES = 256 << 20
_ALLOCATOR_VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


def tune_allocator() -> bool:
    """Make glibc keep freed memory instead of handing it back to the kernel.

    By default glibc maps every block above 32 MiB afresh, and writing to fresh pages is several
    times slower than writing to pages already held; a training step that makes a few large
    temporaries spends most of its time there. Equals starting the process with
    ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456``. The
    process's memory then stays at its peak until it ends.

    Returns:
        Whether the settings were applied: not under another C library, and not where the
        environment already says how malloc shall behave.
    """
    if any(name in os.environ for name in _ALLOCATOR_VARIABLES):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 (only glibc has it)
        mallopt = libc.mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: _TOP_PAD_BYTES}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])


def speed_up_products() -> bool:
    """Let oneDNN multiply float32 matrices where MKL, which torch asks first, does it slowly.

    On AMD's processors MKL leaves half of the vector units idle: one core of an EPYC with AVX-512
    did 53 GFLOP/s for 256 x 512 x 14,541 and 18 for 256 x 32 x 14,541; oneDNN did 103 and 70. The
    setting that sends products to it also allows it to round to bfloat16, which it does on
    processors with matrix units (AMX) alone. Those keep MKL, and a product that turns out to be
    rounded takes the setting back.

    Returns:
        Whether oneDNN does the products from now on.
    """
    import torch

    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if _cpu_field("vendor_id") != "AuthenticAMD" or "amx_tile" in _cpu_field("flags").split():
        return False
    if not torch.backends.mkldnn.is_available() or not hasattr(matmul, "fp32_precision"):
        return False  # torch before 2.9
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    one = torch.linspace(-1, 1, 256 * 64).view(256, 64).sin()
    exact = one.double() @ one.double().T
    if float((one @ one.T - exact).abs().max()) < 1e-4:  # bfloat16 is off by about 1e-2
        return True
    matmul.fp32_precision = before
    return False


@contextmanager
def rounded_products(rounded: bool) -> Iterator[None]:
    """Let float32 matrix products round their factors to bfloat16 inside the context.

    Processors with matrix units (AMX) then multiply two to three times as fast, and GPUs with
    tensor units likewise (in TF32); others do as before. Sums stay float32.

    Args:
        rounded: whether to; False changes nothing.
    """
    import torch

    if not rounded:
        yield
        return
    kinds = ((torch.backends.mkldnn, "bf16"), (torch.backends.cuda, "tf32"))
    places: list[Any] = [getattr(backend, "matmul", None) for backend, _ in kinds]
    before = [getattr(place, "fp32_precision", None) for place in places]
    for place, kept, (_, wanted) in zip(places, before, kinds):
        if kept is not None:  # torch before 2.9 has no such setting
            place.fp32_precision = wanted
    try:
        yield
    finally:
        for place, kept in zip(places, before):
            if kept is not None:
                place.fp32_precision = kept


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def seed_step(seed: int, device: torch.device) -> None:
    """Seed torch's global generator by any integer, and a GPU's if a step is taken there.

    ``torch.manual_seed`` does so for every kind of device there could be, and records the call
    stack for those that have not started: half a millisecond at each step of a small model.
    """
    import torch

    seed %= 1 << 64
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)


def resolve_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device; ``auto`` prefers CUDA.

    Raises:
        UserError: the name is none of these, or the device is absent.
    """
    import torch

    if name.lower() == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name.lower())
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UserError(f"--device {name}: torch sees no CUDA device here; use --device cpu")
        if (device.index or 0) >= count:
            raise UserError(f"--device {name}: the last CUDA device here is cuda:{count - 1}")
    return device


def torch_is_for_gpus() -> bool:
    """Return whether torch is a build for GPUs, which loads more libraries than one for CPUs."""
    import torch

    return torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None


def peak_memory_bytes() -> int:
    """Return the largest resident set this process has had, in bytes."""
    try:
        # ru_maxrss would also count what the parent held before it started this program.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory_bytes() -> int:
    """Return what this process holds in memory now, in bytes; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_memory_bytes() -> int:
    """Return how much memory this process may have, in bytes: what it holds and what is left.

    The least of what the machine and every control group above the process (version 1 or 2) have
    left. Files that the system keeps in memory only for speed count as free.
    """
    left = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                left.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError):
        pass
    left += [_left_in(group) for group in _memory_groups()]
    return resident_memory_bytes() + max(0, min(left))


def _memory_groups() -> Iterator[Path]:
    """Yield the folders of this process's control groups that may limit memory, up to the root."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        root = Path("/sys/fs/cgroup")
        if "memory" in controllers.split(","):
            root = root / "memory"
        elif controllers:
            continue
        folder = root / name.lstrip("/")
        # In a container the name may be that of the host, and its own group is the root.
        yield from (place for place in (folder, *folder.parents) if root in (place, *place.parents))


def _left_in(group: Path) -> int:
    """Return what a control group has left, a very large number where it has no limit."""
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            most = int((group / limit).read_text())
            used = int((group / usage).read_text())
            statistics = (group / "memory.stat").read_text().splitlines()
        except (OSError, ValueError):  # no such file, or "max"
            continue
        counts = dict(line.split()[:2] for line in statistics)
        cached = counts.get("total_inactive_file", counts.get("inactive_file", "0"))
        return most - used + int(cached)
    return sys.maxsize


def provenance() -> dict[str, Any]:
    """Return what a result depends on besides its settings, ready for JSON.

    Keys: ``version`` of this package; ``git`` with ``revision`` and ``dirty``, or None outside a
    checkout; ``python``, ``torch``, ``dgl``, ``numba`` and ``numpy`` versions; ``hardware`` with
    ``cpu``, ``cores``, ``memory_bytes`` and ``cuda`` (device names); ``platform``; ``date`` (UTC).
    """
    import platform
    from datetime import UTC, datetime

    return {
        "version": __version__,
        "git": _git_state(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        **{name: _installed_version(name) for name in ("torch", "dgl", "numba", "numpy")},
        "hardware": {
            "cpu": _cpu_model(),
            "cores": available_cores(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "cuda": _cuda_names(),
        },
        "platform": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _installed_version(name: str) -> Optional[str]:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_state(root: Path) -> Optional[dict[str, Any]]:
    # An installed package may lie inside somebody else's checkout: only our own root counts.
    if not (root / ".git").exists():
        return None

    import subprocess

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.strip()

    try:
        revision = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"revision": revision, "dirty": bool(changed)}


def _cpu_model() -> str:
    import platform

    return _cpu_field("model name") or platform.processor() or platform.machine()


def _cpu_field(name: str) -> str:
    """Return what Linux says of the first core; nothing where it does not."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def _cuda_names() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
