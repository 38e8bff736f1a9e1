"""Loading and asking a published model where torch and numpy are installed, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import dglke_distill
from dglke_distill import zoo
from dglke_distill.base.errors import UserError
from dglke_distill.base.plain_tensors import read_plain
from dglke_distill.base.tensor_files import read_tensors
from dglke_distill.zoo.registry_file import parse_registry

ROOT = Path(dglke_distill.__file__).parent.parent

# Refuses every package but torch, numpy and what torch itself needs.
ALONE = """
import importlib.util, sys
class Alone:
    here = set(sys.stdlib_module_names) | {"torch", "torchgen", "functorch", "numpy"}
    here |= {"sympy", "mpmath", "typing_extensions", "filelock", "jinja2", "markupsafe"}
    here |= {"networkx", "fsspec", "dglke_distill"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.here and not name.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
look = importlib.util.find_spec
def found(name, package=None):
    try:
        return look(name, package)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = found
sys.meta_path.insert(0, Alone())
sys.path.insert(0, sys.argv[1])
import json
"""


def alone(code: str, given: Any = None) -> Any:
    """Run code where nothing else is installed; it finds ``given``, and sets ``result``."""
    text = f"{ALONE}\ngiven = json.loads(sys.stdin.read())\n{code}\nprint(json.dumps(result))"
    done = subprocess.run(
        [sys.executable, "-c", text, str(ROOT)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_the_hook_refuses_what_is_installed() -> None:
    code = "try:\n    import pydantic\n    result = True\nexcept ImportError:\n    result = False"
    assert alone(code) is False


MODELS = (
    "complex-cldr-dim32",
    "complex-fb15k237-dim16-int8",
    "rescal-fb15k237-dim32-int8",
    "rotate-wn18rr-dim31-int8",
    "rote-wn18rr-dim31-int8",
    "transe-fb15k237-dim32",
)


@pytest.mark.slow
def test_models_answer_as_with_everything_installed() -> None:
    code = """
import dglke_distill
from dglke_distill import zoo
result = {}
for name in given:
    model = zoo.load(name, store="shipped")
    head, relation = list(model.entities)[7], list(model.relations)[3]
    tails = model.predict_tails(head, relation, k=5)
    heads = model.predict_heads(relation, tails[0].name, k=5)
    one = float(model.score([(head, relation, tails[0].name)]))
    result[name] = [[[p.name, p.score] for p in found] for found in (tails, heads)] + [one]
"""
    for name, (tails, heads, one) in alone(code, MODELS).items():
        model = zoo.load(name, store="shipped")
        head, relation = list(model.entities)[7], list(model.relations)[3]
        for found, expected in (
            (tails, model.predict_tails(head, relation, k=5)),
            (heads, model.predict_heads(relation, tails[0][0], k=5)),
        ):
            assert [name for name, _ in found] == [p.name for p in expected]
            scores = [p.score for p in expected]
            assert [score for _, score in found] == pytest.approx(scores, rel=1e-4, abs=1e-4)
        assert one == pytest.approx(tails[0][1], rel=1e-4, abs=1e-4)


def test_the_whole_registry_is_read_alike() -> None:
    code = """
from dglke_distill import zoo
result = [entry.to_tree() for entry in zoo.list(store="shipped")]
"""
    assert alone(code) == [entry.to_tree() for entry in zoo.list(store="shipped")]


TREES: list[dict[str, Any]] = [
    {},
    {"model": {"name": "complex", "dim": 32}},
    {"model": {"dim": 0}},
    {"model": {"dim": 1 << 40}},
    {"model": {"dim": 2.5}},
    {"model": {"dim": 2.0}},
    {"model": {"dim": [1]}},
    {"model": {"name": 3}},
    {"model": []},
    {"model": {"options": {"norm": "l1", "many": [1, 2], "share": 0.5, "on": True}}},
    {"model": {"options": {"norm": {"deep": 1}}}},
    {"model": {"options": {"norm": None}}},
    {"model": {"init_scale": -1}},
    {"model": {"init_scale": None}},
    {"model": {"colour": "red"}},
    {"modell": {}},
    {"negatives": {"sharing": "PRIVATE"}},
    {"negatives": {"sharing": "none"}},
    {"optimizer": {"warmup": 1}},
    {"optimizer": {"warmup": "much"}},
    {"data": {"header": "auto"}},
    {"data": {"header": "perhaps"}},
    {"training": {"seed": (1 << 62) + 1}},
    {"training": {"storage": "float16", "threads": 2}},
    {"distillation": {"soft": {"name": "KL", "count": 9}}},
    {"distillation": {"soft": {"count": 0}}},
    {"distillation": None},
    {"evaluation": {"split": "train"}},
]


OUTCOME = """
from dglke_distill.base.errors import UserError
from dglke_distill.config import Config
def outcome(tree):
    try:
        config = Config.from_mapping(tree, "file")
    except UserError as error:
        key = str(error).split("'")[1]
        return [False, str(error).startswith("file: "), key.split(".")[:3]]
    return [True, config.model_dump(mode="json"), config.model_dump(exclude_defaults=True)]
"""


def test_settings_are_read_and_refused_alike() -> None:
    here: dict[str, Any] = {}
    exec(OUTCOME, here)
    found = alone(OUTCOME + "result = [outcome(tree) for tree in given]", TREES)
    for tree, one in zip(TREES, found):
        assert one == here["outcome"](tree), tree


def test_entries_of_strangers_are_refused_alike() -> None:
    text = (ROOT / "zoo.toml").read_text() if (ROOT / "zoo.toml").is_file() else ""
    head, first, *_ = text.split("\n[[model]]\n")
    texts = [
        "\n[[model]]\n".join([head, first.replace(old, new, 1)])
        for old, new in (
            ("version = 1", "version = 0"),
            ("version = 1", 'version = "one"'),
            ("version = 1", "version = 1\nmore = 2"),
            ('name = "', 'name = "../'),
            ('sha256 = "', 'sha256 = "x'),
            ("\nbytes = ", "\nbytes = -"),
            ('path = "', 'path = "/etc/'),
            ('path = "', 'path = "../'),
            ("dim = ", "dim = 1"),
            ("seed = ", 'licence = "a"\nseed = '),
            ('name = "config.json"', 'name = "model.safetensors"'),
            ('name = "config.json"', 'name = "other.json"'),
            ("mrr = 0", "mrr = 2"),
            ("mrr = 0", "mrr = nan #"),
        )
    ]
    assert all(text != "\n[[model]]\n".join([head, first]) for text in texts)
    code = """
from dglke_distill.base.errors import UserError
from dglke_distill.zoo.registry_file import parse_registry
result = []
for text in given:
    try:
        parse_registry(text, "zoo.toml")
        result.append("taken")
    except UserError as error:
        result.append("refused" if "zoo.toml" in str(error) else str(error))
"""
    assert alone(code, texts) == ["refused"] * len(texts)
    for text in texts:
        with pytest.raises(UserError):
            parse_registry(text, "zoo.toml")


def written(path: Path, header: Any, numbers: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)
    return path


def test_tensors_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64)
    kinds += (torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    tensors = {str(kind): (torch.arange(6).view(2, 3) % 2).to(kind) for kind in kinds}
    tensors |= {"none": torch.empty(0, 4), "one": torch.tensor(2.5)}
    save_file(tensors, path, metadata={"word": "värde"})
    found, strings = read_plain(path, int.from_bytes(path.read_bytes()[:8], "little"))
    expected, theirs = read_tensors(path)
    assert strings == theirs == {"word": "värde"} and found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
    found["one"].fill_(1.0)  # its own memory: the file does not change
    assert float(read_tensors(path)[0]["one"]) == 2.5


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        (b"", b""),
        (b"{", bytes(8)),
        (b"[]", b""),
        (b'"a"', b""),
        ({"a": []}, b""),
        ({"a": GOOD}, bytes(7)),
        ({"a": GOOD}, bytes(9)),
        ({"a": {**GOOD, "dtype": "F31"}}, bytes(8)),
        ({"a": {**GOOD, "dtype": ["F32"]}}, bytes(8)),
        ({"a": {**GOOD, "shape": [3]}}, bytes(8)),
        ({"a": {**GOOD, "shape": [-2]}}, bytes(8)),
        ({"a": {**GOOD, "shape": 2}}, bytes(8)),
        ({"a": {**GOOD, "shape": [1 << 40, 1 << 40]}}, bytes(8)),
        ({"a": {**GOOD, "data_offsets": [8, 0]}}, bytes(8)),
        ({"a": {**GOOD, "data_offsets": [0]}}, bytes(8)),
        ({"a": {**GOOD, "data_offsets": [4, 12]}}, bytes(12)),
        ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
        ({"a": GOOD, "b": GOOD}, bytes(8)),
        ({"a": GOOD, "b": {**GOOD, "data_offsets": [12, 20]}}, bytes(20)),
        ({"a": GOOD, "__metadata__": {"x": 1}}, bytes(8)),
        ({"a": GOOD, "__metadata__": "x"}, bytes(8)),
    ],
)
def test_damaged_tensors_are_refused_as_by_the_library(tmp_path: Path, header, numbers) -> None:
    path = written(tmp_path / "bad.safetensors", header, numbers)
    with pytest.raises(UserError, match=r"bad\.safetensors"):
        read_tensors(path)
    with pytest.raises(UserError, match=r"bad\.safetensors"):
        read_plain(path, int.from_bytes(path.read_bytes()[:8], "little"))


def test_a_header_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes((100).to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError, match="cut short"):
        read_plain(path, 100)
