from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dglke_distill import __version__
from dglke_distill.base import runtime
from dglke_distill.base.errors import UserError
from dglke_distill.base.runtime import speed_up_products

LINUX_GLIBC = sys.platform == "linux" and os.confstr("CS_GNU_LIBC_VERSION") is not None


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ours = ("DGLBACKEND", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


FAULTS = """
import resource, sys
from dglke_distill.base.runtime import tune_allocator
applied = tune_allocator() if sys.argv[-1] == "tuned" else None
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * (64 << 20)
before = faults()
for _ in range(20):
    b"x" * (64 << 20)
print(applied, faults() - before)
"""


@pytest.mark.skipif(not LINUX_GLIBC, reason="only glibc has mallopt")
def test_tuned_allocator_takes_no_fresh_pages() -> None:
    def measure(argument: str, **environment: str) -> tuple[str, int]:
        code = f"import sys; sys.argv.append({argument!r})\n{FAULTS}"
        applied, faults = run_python(code, **environment).stdout.split()
        return applied, int(faults)

    _, plain = measure("plain")
    applied, tuned = measure("tuned")
    assert applied == "True"
    assert tuned < plain / 10
    # Whoever has set glibc's own variables is not overruled.
    assert measure("tuned", MALLOC_MMAP_MAX_="65536")[0] == "False"


def test_dgl_is_imported_in_silence() -> None:
    done = run_python("import dglke_distill.base.runtime, dgl")
    assert "backend" not in done.stdout + done.stderr


def test_waiting_threads_do_not_spin_for_long() -> None:
    """The environment is set before torch can have read it, unless the user has set it."""
    code = (
        "import dglke_distill, os, sys; assert 'torch' not in sys.modules\n"
        "print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    assert run_python(code).stdout.strip() == "1000"
    assert run_python(code, GOMP_SPINCOUNT="7").stdout.strip() == "7"
    assert run_python(code, OMP_WAIT_POLICY="active").stdout.strip() == "None"


def test_package_import_is_light() -> None:
    code = (
        "import sys, dglke_distill; print([m for m in ('torch', 'dgl', 'ogb') if m in sys.modules])"
    )
    assert run_python(code).stdout.strip() == "[]"


def test_a_step_draws_as_after_seeding_torch() -> None:
    torch.manual_seed(7)
    drawn = torch.rand(5)
    runtime.seed_step(7, torch.device("cpu"))
    assert torch.equal(torch.rand(5), drawn)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "mps:0"])
def test_unknown_device(name: str) -> None:
    with pytest.raises(UserError, match="choose auto, cpu, cuda"):
        runtime.resolve_device(name)


def test_devices_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.resolve_device("auto") == torch.device("cpu")
    assert runtime.resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="--device cpu"):
        runtime.resolve_device("cuda:0")


def test_devices_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.resolve_device("auto") == torch.device("cuda")
    assert runtime.resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="cuda:1"):
        runtime.resolve_device("cuda:2")


def test_peak_memory_follows_an_allocation() -> None:
    code = (
        "from dglke_distill.base.runtime import peak_memory_bytes as peak\n"
        "before = peak(); block = bytearray(b'x' * (64 << 20)); print(before, peak())"
    )
    before, after = map(int, run_python(code).stdout.split())
    assert (64 << 20) <= after - before < (512 << 20)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_git_state(tmp_path: Path) -> None:
    assert runtime._git_state(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert runtime._git_state(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "one")
    revision = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("")
    assert runtime._git_state(tmp_path) == {"revision": revision, "dirty": False}
    (tmp_path / "file").write_text("two")
    assert runtime._git_state(tmp_path) == {"revision": revision, "dirty": True}
    (tmp_path / "installed").mkdir()
    assert runtime._git_state(tmp_path / "installed") is None


def test_provenance_is_json_and_says_what_runs_here() -> None:
    facts = json.loads(json.dumps(runtime.provenance()))
    assert facts["version"] == __version__
    assert facts["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["numpy"] == np.__version__
    assert facts["dgl"] == importlib.metadata.version("dgl")
    assert facts["hardware"]["cores"] == runtime.available_cores() >= 1
    assert facts["hardware"]["memory_bytes"] > 1 << 28
    assert facts["hardware"]["cpu"]
    assert facts["date"].endswith("+00:00")


def test_sped_up_products_are_as_exact() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(65, 300, generator=generator) for _ in range(2))
    try:
        plain = one @ other.T
        speed_up_products()
        found = one @ other.T
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
    exact = one.double() @ other.double().T
    for product in (plain, found):
        assert float((product - exact).abs().max()) < 1e-4
    # A processor that would round keeps what it had.
    rounded = one.bfloat16().double() @ other.bfloat16().double().T
    assert float((rounded - exact).abs().max()) > 1e-2


def test_only_processors_that_gain_are_sped_up(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    for fields in (
        {"vendor_id": "GenuineIntel", "flags": "avx512f"},
        {"vendor_id": "AuthenticAMD", "flags": "avx512f amx_tile"},
        {},
    ):
        monkeypatch.setattr(runtime, "_cpu_field", lambda name, of=fields: of.get(name, ""))
        assert not speed_up_products()
        assert torch.backends.mkldnn.matmul.fp32_precision == before
