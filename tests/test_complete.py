"""Words that the shell completes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dglke_distill.cli import complete


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train cl", {"cldr"}),
        ("train cldr --model comp", {"complex"}),
        ("run --method du", {"dualde"}),
        ("export x --format word", {"word2vec", "word2vec-binary"}),
        ("predict complex-cldr", {"complex-cldr-dim32", "complex-cldr-dim64"}),
        ("zoo info complex-cldr-dim3", {"complex-cldr-dim32"}),
    ],
)
def test_the_shell_gets_the_names(words: str, expected: set[str], tmp_path) -> None:
    line = f"dglke-distill {words}"
    more = {"_DGLKE_DISTILL_COMPLETE": "complete_bash", "COMP_WORDS": line}
    more |= {"COMP_CWORD": str(len(line.split()) - 1), "HOME": str(tmp_path)}
    code = "import sys; sys.argv[0] = 'dglke-distill'; from dglke_distill.cli import app\n"
    code += "app(prog_name='dglke-distill')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **more}, capture_output=True, text=True
    )
    assert set(done.stdout.split()) == expected, done.stderr


def test_completing_needs_no_torch() -> None:
    calls = "; ".join(f"complete.{name}('c')" for name in complete.__all__)
    code = f"import sys; from dglke_distill.cli import complete; {calls}; "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
