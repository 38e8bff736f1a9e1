"""Fuzz all that reads files of others for as long as you like; ends at the first fault.

    python tests/fuzz.py --minutes 10
    python tests/fuzz.py --minutes 10 --engine atheris --target model

``random`` changes valid files at random, the same from the same seed; ``atheris`` (pip install
atheris) is led by the code that each change reaches. A fault's bytes are printed, and
``python tests/fuzz.py --target NAME --bytes HEX`` repeats it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "readers" / "python"))

from fuzz_targets import TARGETS, run


def main() -> None:
    """Read the arguments and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--engine", choices=["random", "atheris"], default="random")
    parser.add_argument("--target", choices=list(TARGETS), action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bytes", help="hex of one input to repeat")
    asked = parser.parse_args()
    names = asked.target or list(TARGETS)
    if asked.bytes is not None:
        print(run(names[0], bytes.fromhex(asked.bytes)))
    elif asked.engine == "atheris":
        _by_coverage(names, asked.minutes)
    else:
        _at_random(names, asked.minutes, asked.seed)


def _one(name: str, data: bytes) -> bool:
    try:
        return run(name, data)
    except BaseException:
        print(f"fault: --target {name} --bytes {data.hex()}", file=sys.stderr, flush=True)
        raise


def _at_random(names: list[str], minutes: float, seed: int) -> None:
    source = random.Random(seed)
    end = time.monotonic() + 60 * minutes
    counts = {name: [0, 0] for name in names}
    while time.monotonic() < end:
        for name in names:
            data = source.randbytes(1 + 5 * source.randint(1, 6))
            counts[name][_one(name, data)] += 1
    for name, (refused, accepted) in counts.items():
        print(f"{name}: {refused} refused, {accepted} accepted")


def _by_coverage(names: list[str], minutes: float) -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("error: the engine is not installed: pip install atheris")

    def test(data: bytes) -> None:
        if data:
            _one(names[data[0] % len(names)], data[1:])

    atheris.instrument_all()
    seconds = f"-max_total_time={int(60 * minutes)}"
    atheris.Setup([sys.argv[0], seconds, "-max_len=64"], test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
