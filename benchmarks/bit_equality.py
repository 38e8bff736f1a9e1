"""Do two versions of the code train the same weights and find the same figures, bit for bit?

Every training recipe, chain recipe, method, soft loss, schedule, start and mode runs for an epoch
or two on the embedded dataset. A case's digest is over all weights, losses and metrics that it
leaves, and over nothing that depends on time. Before a change of structure:

    python benchmarks/bit_equality.py --save before.json

and after it, which prints the cases that differ and ends with 1 if there are any:

    python benchmarks/bit_equality.py --against before.json
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from safetensors.numpy import load_file

SMALL = [
    "--threads=1",
    "--set={}model.dim=16",
    "--set={}training.epochs=2",
    "--set={}training.evaluate_every=1",
]
METHODS = ("iterde", "fan_out", "dgkd", "bkd", "ta", "dualde", "rkd", "fitnet", "mulde", "direct")
TIMED = {"seconds", "validation_seconds"}
NAMED = {"name"}  # of the protocol, which results name since; no figure


def cases() -> Iterator[tuple[str, list[str]]]:
    """Yield names of cases and the command line of each, without the output folder."""
    import dglke_distill

    shipped = next(Path(dglke_distill.__file__).parent.glob("**/recipes"))
    for path in sorted(shipped.glob("*.toml")):
        sets = [text.format("") for text in SMALL]
        if path.stem.startswith("meim"):
            sets.append("--set=model.dim=18")
        yield f"train {path.stem}", ["train", "cldr", f"--recipe={path.stem}", *sets]
    for mode in ("negatives", "one_vs_all", "k_vs_all"):
        for loss in ("margin", "logistic", "self_adversarial", "softmax", "bce"):
            if mode != "negatives" and loss not in ("softmax", "bce"):
                continue
            for extra in ((), ("--set=negatives.sharing=private", "--set=negatives.filtered=true")):
                if extra and mode != "negatives":
                    continue
                name = f"train {mode} {loss}{' private' if extra else ''}"
                sets = [f"--set=loss.name={loss}", f"--set=training.mode={mode}"]
                sets += ["--set=regularizer.name=n3", "--set=regularizer.weight=0.01"]
                small = [text.format("") for text in SMALL]
                yield name, ["train", "cldr", "--model=complex", *small, *sets, *extra]
    for sampler in ("uniform", "bernoulli", "degree", "typed"):
        small = [text.format("") for text in SMALL]
        sets = [f"--set=negatives.sampler={sampler}", "--set=negatives.sides=both"]
        yield f"train {sampler}", ["train", "cldr", "--model=transe", *sets, *small]
    for path in sorted((shipped / "chains").glob("*.toml")):
        yield f"run {path.stem}", _chain(f"--recipe={path.stem}", dims="32,16")
    for method in METHODS:
        dims = "32,16" if method in ("direct",) else "32,24,16"
        more = ["--more-teachers=transe"] if method == "mulde" else []
        yield f"method {method}", _chain(f"--method={method}", *more, dims=dims)
        sampled = ["--recipe=none", "--model=transe", f"--method={method}", *more]
        yield f"method {method} sampled", _chain(*sampled, dims=dims)
    soft = "student.distillation"
    for name in ("huber", "kl"):
        for candidates in ("batch", "top", "neighbors"):
            flags = [f"--set={soft}.soft.name={name}", f"--set={soft}.soft.candidates={candidates}"]
            flags += ["--recipe=none", "--model=complex", "--method=bkd"]
            yield f"soft {name} {candidates}", _chain(*flags, dims="32,16")
    for schedule in ("constant", "two_phase", "power", "linear", "fading"):
        yield (
            f"schedule {schedule}",
            _chain("--method=iterde", f"--set={soft}.weight.name={schedule}", dims="32,16"),
        )
    for start in ("random", "truncate", "pca", "svd"):
        yield f"start {start}", _chain(f"--set={soft}.initialization={start}", dims="32,16")


def _chain(*flags: str, dims: str) -> list[str]:
    short = ["--set=shared.training.epochs=2", "--set=shared.training.evaluate_every=1"]
    parts = ("teacher", "student", "direct")
    short += [f"--set={part}.training.epochs=2" for part in parts]
    short += [f"--set={part}.training.batch_size=256" for part in parts]
    return ["run", "cldr", f"--dims={dims}", "--control=none", "--threads=1", *short, *flags]


def digest(folder: Path) -> Optional[str]:
    """Return a digest of the weights, losses and metrics below a folder; None if there are none."""
    total = hashlib.sha256()
    found = sorted(folder.rglob("checkpoint/model.safetensors"))
    for path in found:
        for name, tensor in sorted(load_file(path).items()):
            total.update(name.encode() + str(tensor.shape).encode() + tensor.tobytes())
        results = json.loads(path.with_name("results.json").read_text())
        total.update(json.dumps(_untimed(results.get("metrics")), sort_keys=True).encode())
    for path in sorted(folder.rglob("history.csv")):
        with open(path, newline="") as stream:
            for row in csv.DictReader(stream):
                kept = {key: value for key, value in row.items() if key not in TIMED}
                total.update(json.dumps(kept, sort_keys=True).encode())
    return total.hexdigest() if found else None


def _untimed(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {key: _untimed(value) for key, value in tree.items() if key not in TIMED | NAMED}


def run(arguments: list[str], folder: Path) -> str:
    """Run a case in a process of its own and return its digest, or what its error says."""
    printed = folder / "printed"
    child = os.fork()  # with everything imported: a new process would spend most of its time on it
    if child == 0:
        code = 70
        try:
            with open(printed, "wb") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            _command([*arguments, f"--out={folder / 'run'}"])
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else bool(stop.code)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        text = " ".join(printed.read_text(errors="replace").split())
        return f"exit {code}: {text[-300:].replace(str(folder), '')}"
    return digest(folder) or "no weights"


def _command(arguments: list[str]) -> None:
    from dglke_distill.cli import main as command

    command(arguments)


def main() -> None:
    """Run the cases and save or compare their digests."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--save", type=Path, help="file for the digests")
    parser.add_argument("--against", type=Path, help="file of an earlier version's digests")
    parser.add_argument("--only", default="", help="run the cases whose names contain this")
    args = parser.parse_args()
    before: dict[str, Any] = json.loads(args.against.read_text()) if args.against else {}
    made, different = {}, 0
    for module in ("dglke_distill.base.runtime", "dgl", "numba", "dglke_distill.cli"):
        with suppress(ImportError):  # a name of a former or a later layout
            importlib.import_module(module)
    for name, arguments in cases():
        if args.only not in name:
            continue
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            made[name] = run(arguments, Path(folder))
        verdict = made[name][:60]
        if args.against:
            verdict = "equal" if before.get(name) == made[name] else "DIFFERS"
            if name not in before:
                verdict = "new"
            different += verdict == "DIFFERS"
        print(f"{time.perf_counter() - begun:6.1f} s  {name}: {verdict}", flush=True)
        if args.save:
            args.save.write_text(json.dumps(made, indent=1) + "\n")
    if args.against:
        print(f"{different} of {len(made)} differ")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main()
