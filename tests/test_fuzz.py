"""Random and changed bytes where files of ours are read: nothing but our own error comes out.

``python tests/fuzz.py --minutes 10`` does the same for longer.
"""

from __future__ import annotations

import random
import shutil

import pytest
from fuzz_targets import TARGETS, run, run_in_node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLOW = {"resume": 25, "model": 60}


@pytest.mark.parametrize("name", TARGETS)
def test_only_our_own_error_comes_out(name: str) -> None:
    @settings(
        max_examples=SLOW.get(name, 100),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(max_size=60))
    def check(data: bytes) -> None:
        run(name, data)

    check()


@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith("raw")])
def test_an_unchanged_file_is_accepted(name: str) -> None:
    """Else the test above would pass without looking at anything."""
    assert run(name, b"")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_reader_in_javascript_has_its_own_error() -> None:
    source = random.Random(0)
    assert (
        run_in_node([b"", *(source.randbytes(5 * source.randint(1, 4)) for _ in range(200))]) == ""
    )
