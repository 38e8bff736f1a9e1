"""The score functions written out, and models with order-one weights to compare them with.

A new model is tested by adding it to the registry and one written-out formula to ``REFERENCES``.
"""

from __future__ import annotations

import cmath
import itertools
import math
from typing import Any

import dgl
import pytest
import torch
from hypothesis import strategies as st

from dglke_distill.config import ModelConfig
from dglke_distill.models import SCORE_FUNCTIONS, build_model, build_score_function
from dglke_distill.models.base import KGEModel

ENTITIES, RELATIONS, DIM = 11, 3, 12


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors of a dozen rows: a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- written-out formulas: vectors are lists of floats, loops are loops -------------------------


def norm(vector: list[float], name: str) -> float:
    if name == "l1":
        return sum(abs(x) for x in vector)
    return math.sqrt(sum(x * x for x in vector))


def unit(vector: list[float]) -> list[float]:
    return [x / norm(vector, "l2") for x in vector]


def complex_parts(vector: list[float]) -> list[complex]:
    half = len(vector) // 2
    return [complex(vector[k], vector[half + k]) for k in range(half)]


def trans_e(h, r, t, norm_name="l1", normalize=False):
    if normalize:
        h, r, t = unit(h), unit(r), unit(t)
    return -norm([a + b - c for a, b, c in zip(h, r, t)], norm_name)


def dist_mult(h, r, t):
    return sum(a * b * c for a, b, c in zip(h, r, t))


def compl_ex(h, r, t):
    products = zip(complex_parts(h), complex_parts(r), complex_parts(t))
    return sum(a * b * c.conjugate() for a, b, c in products).real


def simpl_e(h, r, t):
    half = len(h) // 2
    forward = sum(h[k] * r[k] * t[half + k] for k in range(half))
    backward = sum(t[k] * r[half + k] * h[half + k] for k in range(half))
    return (forward + backward) / 2


def rotat_e(h, r, t, norm_name="l1"):
    rotated = [a * cmath.exp(1j * phase) for a, phase in zip(complex_parts(h), r)]
    return -norm([abs(a - b) for a, b in zip(rotated, complex_parts(t))], norm_name)


def rot_e(h, r, t):
    move, phases = complex_parts(r[: len(h)]), r[len(h) :]
    turned = [a * cmath.exp(1j * phase) for a, phase in zip(complex_parts(h), phases)]
    return -(norm([abs(a + m - b) for a, m, b in zip(turned, move, complex_parts(t))], "l2") ** 2)


def moebius_sum(x, y):
    """Addition in the Poincare ball of radius 1 (Ungar 2001), another model than the code's."""
    xy, xx, yy = (sum(a * b for a, b in zip(*pair)) for pair in ((x, y), (x, x), (y, y)))
    bottom = 1 + 2 * xy + xx * yy
    return [((1 + 2 * xy + yy) * a + (1 - xx) * b) / bottom for a, b in zip(x, y)]


def in_ball(tangent):
    length = norm(tangent, "l2")
    return [math.tanh(min(length, 6) / 2) / length * x for x in tangent]


def rot_h(h, r, t, curvature=1.0):
    turned = [a * cmath.exp(1j * p) for a, p in zip(complex_parts(in_ball(h)), r[len(h) :])]
    turned = [a.real for a in turned] + [a.imag for a in turned]
    moved = moebius_sum(in_ball(r[: len(h)]), turned)
    apart = moebius_sum([-x for x in moved], in_ball(t))
    return -((2 * math.atanh(norm(apart, "l2"))) ** 2) / curvature


def rescal(h, r, t):
    d = len(h)
    return sum(h[i] * r[i * d + j] * t[j] for i in range(d) for j in range(d))


def hol_e(h, r, t):
    d = len(h)
    return sum(r[k] * h[i] * t[(k + i) % d] for k in range(d) for i in range(d))


def trans_r(h, r, t, norm_name="l1", normalize=False, relation_dim=None):
    d, k = len(h), relation_dim or len(h)
    if normalize:
        h, t = unit(h), unit(t)
    translation = unit(r[:k]) if normalize else r[:k]
    matrix = [r[k + i * k : k + (i + 1) * k] for i in range(d)]
    difference = [
        sum(h[i] * matrix[i][j] for i in range(d))
        + translation[j]
        - sum(t[i] * matrix[i][j] for i in range(d))
        for j in range(k)
    ]
    return -norm(difference, norm_name)


def pair_re(h, r, t, normalize=True):
    if normalize:
        h, t = unit(h), unit(t)
    d = len(h)
    return -sum(abs(h[k] * r[k] - t[k] * r[d + k]) for k in range(d))


def triple_re(h, r, t, version="v2", u=1.0, normalize=True):
    if normalize:
        h, t = unit(h), unit(t)
    d = len(h)
    u = u if version == "v2" else 0.0
    return -sum(abs(h[k] * (r[k] + u) - t[k] * (r[2 * d + k] + u) + r[d + k]) for k in range(d))


def auto_sf(h, r, t, structure="ogbl-wikikg2"):
    """As the authors' leaderboard code and searched_SFs.txt write it, blocks named one by one."""
    size = len(h) // 4
    (h0, h1, h2, h3), (r0, r1, r2, r3), (t0, t1, t2, t3) = (
        [vector[k * size : (k + 1) * size] for k in range(4)] for vector in (h, r, t)
    )
    total = 0.0
    for k in range(size):
        if structure == "ogbl-wikikg2":
            total += h0[k] * r0[k] * t0[k]
            total += (h1[k] * r1[k] - h3[k] * r1[k]) * t1[k]
            total += (h2[k] * r0[k] + h3[k] * r3[k]) * t2[k]
            total += (h1[k] * r2[k] + h2[k] * r2[k]) * t3[k]
        elif structure == "ogbl-biokg":
            total += h0[k] * r0[k] * t0[k]
            total += (h0[k] * r0[k] + h1[k] * r1[k]) * t1[k]
            total += h2[k] * r2[k] * t2[k] + h3[k] * r3[k] * t3[k]
        elif structure == "FB15k237":
            total += h0[k] * r0[k] * t2[k] + h1[k] * r1[k] * t1[k]
            total += h2[k] * r2[k] * t3[k] + h3[k] * r3[k] * t0[k]
        elif structure == "wn18rr":
            total += h0[k] * r0[k] * t1[k] + h1[k] * r1[k] * t0[k]
            total += h2[k] * r2[k] * t2[k] + h3[k] * r3[k] * t3[k]
            total += h1[k] * r3[k] * t1[k] + h0[k] * r3[k] * t0[k]
            total -= h3[k] * r0[k] * t2[k] + h2[k] * r1[k] * t3[k]
            total -= h3[k] * r1[k] * t1[k] + h1[k] * r0[k] * t3[k]
        else:  # numbers
            first, more = structure[:4], structure[4:]
            blocks = [(h0, h1, h2, h3), (r0, r1, r2, r3), (t0, t1, t2, t3)]
            for i in range(4):
                total += blocks[0][i][k] * blocks[1][i][k] * blocks[2][first[i]][k]
            for at in range(0, len(more), 4):
                k_r, k_h, k_t, sign = more[at : at + 4]
                total += sign * blocks[1][k_r][k] * blocks[0][k_h][k] * blocks[2][k_t][k]
    return total


def core_float(k: int, c: int, a: int, b: int) -> float:
    """Return a float of the cores that ``make`` gives models: of order one, no two nearly alike."""
    return 1.5 * math.sin(1.0 + 7 * k + 3.3 * c + 2.1 * a + 0.7 * b + a * b)


def meim(h, r, t, partitions=2, relation_dim=None, shared_core=False):
    part = len(h) // partitions
    relation_part = relation_dim or part
    total = 0.0
    for k in range(partitions):
        core = 0 if shared_core else k
        for c in range(relation_part):
            for a in range(part):
                for b in range(part):
                    w = core_float(core, c, a, b)
                    total += w * h[k * part + a] * r[k * relation_part + c] * t[k * part + b]
    return total


def tuck_er(h, r, t, relation_dim=None):
    return meim(h, r, t, 1, relation_dim)


def fill_core(function) -> None:
    """Put ``core_float`` into the cores of a score function that has some."""
    if hasattr(function, "core"):
        floats = [
            core_float(*place) for place in itertools.product(*map(range, function.core.shape))
        ]
        with torch.no_grad():
            values = torch.tensor(floats, dtype=torch.float64)
            function.core.copy_(values.view(function.core.shape))


REFERENCES: dict[str, Any] = {
    "TransE": trans_e,
    "DistMult": dist_mult,
    "ComplEx": compl_ex,
    "SimplE": simpl_e,
    "RotatE": rotat_e,
    "RotE": rot_e,
    "RotH": rot_h,
    "RESCAL": rescal,
    "HolE": hol_e,
    "TransR": trans_r,
    "PairRE": pair_re,
    "TripleRE": triple_re,
    "AutoSF": auto_sf,
    "TuckER": tuck_er,
    "MEIM": meim,
}

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in SCORE_FUNCTIONS),
    ("TransE", {"norm": "l2"}),
    ("TransE", {"normalize": True}),
    ("RotatE", {"norm": "l2"}),
    ("RotH", {"curvature": 0.2}),
    ("TransR", {"norm": "l2", "relation_dim": 4, "normalize": True}),
    ("TransR", {"relation_dim": 9}),
    ("PairRE", {"normalize": False}),
    ("TripleRE", {"version": "v1"}),
    ("TripleRE", {"u": 0.3, "normalize": False}),
    ("AutoSF", {"structure": "ogbl-biokg"}),
    ("AutoSF", {"structure": "FB15k237"}),
    ("AutoSF", {"structure": "wn18rr"}),
    ("AutoSF", {"structure": [1, 2, 3, 0, 2, 0, 0, -1]}),
    ("TuckER", {"relation_dim": 5}),
    ("MEIM", {"partitions": 4, "relation_dim": 3}),
    ("MEIM", {"shared_core": True}),
]
IDS = ["-".join([name, *(f"{k}={v}" for k, v in options.items())]) for name, options in VARIANTS]
every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
every_model = pytest.mark.parametrize("name", SCORE_FUNCTIONS)


def reference(name: str, options: dict[str, Any], h, r, t) -> float:
    renamed = {"norm_name" if key == "norm" else key: value for key, value in options.items()}
    return float(
        REFERENCES[name](list(map(float, h)), list(map(float, r)), list(map(float, t)), **renamed)
    )


def make(name: str, options=None, *, dim=DIM, seed=0, dtype=torch.float64, **settings) -> KGEModel:
    config = ModelConfig(name=name, dim=dim, options=options or {}, **settings)
    model = build_model(config, ENTITIES, RELATIONS, dtype)
    model.reset(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in model.parameters():  # order-one numbers everywhere, biases too
            weight.normal_(generator=generator)
    fill_core(model.score_function)
    return model


def some_triples(count: int = 12, seed: int = 5):
    generator = torch.Generator().manual_seed(seed)
    head, tail = torch.randint(0, ENTITIES, (2, count), generator=generator)
    return head, torch.randint(0, RELATIONS, (count,), generator=generator), tail


def graph_of(head, relation, tail) -> dgl.DGLGraph:
    graph = dgl.graph((head, tail), num_nodes=ENTITIES)
    graph.edata["relation"] = relation
    return graph


def one_score(name, h, r, t, options=None, side="tail") -> float:
    """Score one triple of given vectors through query and kernel, from the side asked for."""
    from dglke_distill.kernels import pairwise

    h, r, t = (torch.as_tensor(v, dtype=torch.float64).reshape(1, -1) for v in (h, r, t))
    function = build_score_function(ModelConfig(name=name, dim=h.shape[1], options=options or {}))
    fill_core(function.double())
    known, answer = (h, t) if side == "tail" else (t, h)
    score = pairwise(function.kernel, function.query(known, r, side), answer, exact=True)
    return score.item() * function.score_scale


def vectors(size: int, count: int = 1):
    number = st.floats(-4, 4, allow_nan=False, width=32)
    return st.lists(
        st.lists(number, min_size=size, max_size=size), min_size=count, max_size=count
    ).map(lambda rows: torch.tensor(rows, dtype=torch.float64))
