"""How DGL is imported: with a GraphBolt that loads, that does not, or none; and what is said."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from parsed import tree_of

import dglke_distill
from dglke_distill.base.dgl_import import load_dgl

# A dgl of its own, with the names that are used and nothing behind them.
PARTS = {
    "__init__": (
        "__version__ = '9.9'\n"
        "from . import distributed\n"
        "EID = NID = ETYPE = NTYPE = '_ID'\n"
        "class DGLGraph: pass\n"
        "def graph(): pass\n"
        "create_block = in_subgraph = to_block = compact_graphs = edge_type_subgraph = graph\n"
        "to_homogeneous = heterograph = graph\n"
    ),
    "distributed": "",
    "heterograph": "class DGLBlock: pass\n",
    "dataloading/base": "class EdgePredictionSampler: pass\ndef find_exclude_eids(): pass\n",
    "function": "def sum(): pass\nu_mul_e = sum\n",
    "dataloading/__init__": "class Sampler: pass\n",
    "dataloading/negative_sampler": "class _BaseNegativeSampler: pass\n",
}
GRAPHBOLT_ASKED = (
    "import dgl.graphbolt as bolt\n"
    "def is_bolt(graph): return isinstance(graph, bolt.FusedCSCSamplingGraph)\n"
)


def fake(folder: Path, **parts: str) -> Path:
    for name, text in {**PARTS, **parts}.items():
        place = folder / "dgl" / f"{name}.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


def run(folder: Path, code: str) -> str:
    """Run ``code`` where ``dgl`` is the one in ``folder``."""
    root = Path(dglke_distill.__file__).parent.parent
    first = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(root)!r}]\n"
    done = subprocess.run([sys.executable, "-c", first + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


SAID = """
from dglke_distill.base.dgl_import import load_dgl
from dglke_distill.base.errors import UserError
try:
    print("loaded", load_dgl().__version__)
except UserError as error:
    print(error)
"""


def test_graphbolt_that_does_not_load_is_put_aside(tmp_path: Path) -> None:
    broken = "half = 1\nfrom . import part\nraise ImportError('no torchdata.datapipes')\n"
    fake(tmp_path, distributed=GRAPHBOLT_ASKED, **{"graphbolt/__init__": broken})
    (tmp_path / "dgl" / "graphbolt" / "part.py").write_text("")
    # In anyone's code too, as soon as the package is imported.
    code = """
import dglke_distill, dgl
print(dgl.distributed.is_bolt(3), hasattr(dgl.graphbolt, "__path__"))
print("dgl.graphbolt.part" in sys.modules, "half" in vars(dgl.graphbolt))
try:
    dgl.graphbolt.ItemSet
except ImportError as error:
    print(error)
"""
    aside = "dgl's GraphBolt does not load with this torch: no torchdata.datapipes"
    assert run(tmp_path, code).splitlines() == ["False True", "False False", aside]
    assert run(tmp_path, SAID).strip() == "loaded 9.9"


@pytest.mark.parametrize("error", ["OSError('undefined symbol')", "RuntimeError('built for 2.2')"])
def test_whatever_keeps_graphbolt_from_loading(tmp_path: Path, error: str) -> None:
    fake(tmp_path, distributed=GRAPHBOLT_ASKED, **{"graphbolt/__init__": f"raise {error}\n"})
    assert run(tmp_path, SAID).strip() == "loaded 9.9"


def test_graphbolt_that_loads_is_left_alone(tmp_path: Path) -> None:
    sound = "class FusedCSCSamplingGraph: own = True\nclass ItemSet: pass\n"
    fake(tmp_path, distributed=GRAPHBOLT_ASKED, **{"graphbolt/__init__": sound})
    code = "import dglke_distill, dgl.graphbolt as bolt\n"
    code += "print(bolt.FusedCSCSamplingGraph.own, bolt.ItemSet.__name__)"
    assert run(tmp_path, code).strip() == "True ItemSet"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"distributed": "import packagink.version\n"}, "dgl needs the package 'packagink'"),
        ({"distributed": "raise OSError('libdgl.so:\\n not found')\n"}, "(OSError: libdgl.so: not"),
        ({"function": "u_mul_e = 1\n"}, "dgl 9.9 has no dgl.function.sum"),
        ({"heterograph": "class Block: pass\n"}, "dgl 9.9 has no dgl.heterograph.DGLBlock"),
        (
            {"dataloading/negative_sampler": "raise ImportError('moved')\n"},
            "dgl 9.9 has no module dgl.dataloading.negative_sampler",
        ),
    ],
)
def test_what_dgl_lacks_is_said_in_one_line(tmp_path: Path, parts, words: str) -> None:
    said = run(fake(tmp_path, **parts), SAID)
    assert words in said and said.count("\n") == 1
    assert ("pip install packagink" if "needs" in said else "1.1.3 and 2.1.0 are known") in said


@pytest.mark.slow
def test_without_dgl_the_command_says_how_to_install_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['dgl'] = None\nfrom dglke_distill.cli import main\n"
    code += "sys.argv[1:] = ['train', 'cldr', '--out', 'run']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2 and not done.stdout
    assert "needs DGL, which is not installed" in done.stderr and done.stderr.count("\n") == 1
    assert "pip install" in done.stderr and not (tmp_path / "run").exists()


def test_the_installed_dgl_is_known_to_work() -> None:
    dgl = load_dgl()
    assert dgl.__version__ in ("1.1.3", "2.1.0") and load_dgl() is dgl
    ring = dgl.graph(([0, 1, 2], [1, 2, 0]))
    block = dgl.to_block(dgl.in_subgraph(ring, [1]), [1])
    assert block.srcdata[dgl.NID].tolist() == [1, 0]


def test_no_other_file_imports_dgl() -> None:
    package = Path(dglke_distill.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        text = path.read_text()
        if not re.search(r"\bdgl\b", text):
            continue
        tree = tree_of(path)
        typing = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if id(node) not in typing and any(n.split(".")[0] == "dgl" for n in names):
                found.append(f"{path.relative_to(package)}:{node.lineno}")
    assert not found
