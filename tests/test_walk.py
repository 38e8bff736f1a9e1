"""The walk of ten minutes, with a training of one epoch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "walk" / "ten_minutes.py"


@pytest.mark.slow
def test_every_step_is_walked_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SCRIPT.parents[2]))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DGLKE_DISTILL_DATA", raising=False)
    command = [sys.executable, str(SCRIPT), "--quick", "--limit", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr  # all is right, but not within a second
    lines = done.stdout.splitlines()
    assert [re.sub(r"^ *[0-9.]+ s  ([^:;]*).*", r"\1", line) for line in lines] == [
        "ask a model of the zoo",
        "ask in words",
        "look at your file",
        "distil it",
        "open the page and ask",
        "in all",
    ]
    assert "riga.n.01 (09013353) is an instance of " in lines[1]
    assert "countries: 1,684 entities, 26 relations;" in lines[2]
    assert "[256, 64] bytes per entity" in lines[3]
    seconds = [float(line.split()[0]) for line in lines]
    assert sum(seconds[:-1]) == pytest.approx(seconds[-1], abs=0.5)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "home"])  # it cleans up


def test_a_step_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dglke_distill").mkdir()
    (tmp_path / "dglke_distill" / "__init__.py").touch()
    (tmp_path / "dglke_distill" / "__main__.py").write_text("raise SystemExit('error: a fault')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [sys.executable, str(SCRIPT), "--quick"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first.startswith("failed: ") and "predict complex-cldr-dim32 --head Latvia" in first
    assert last == "error: a fault"
