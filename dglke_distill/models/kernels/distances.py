from __future__ import annotations

import numba
import numpy as np

FAST = {"reassoc", "contract", "nsz", "arcp"}


@numba.njit(parallel=True, fastmath=FAST, cache=True)
def forward(kind, query, rows, index, out):
    b, d = query.shape
    c, n = index.shape
    per = b // c
    half = d // 2
    for i in numba.prange(b):
        q = query[i]
        for j in range(n):
            r = rows[index[i // per, j]]
            s = query.dtype.type(0)
            if kind == 0:
                for k in range(d):
                    s += q[k] * r[k]
            elif kind == 1:
                for k in range(d):
                    s -= abs(q[k] - r[k])
            elif kind == 2:
                for k in range(d):
                    t = q[k] - r[k]
                    s += t * t
                s = -np.sqrt(s)
            else:
                for k in range(half):
                    t = q[k] - r[k]
                    u = q[k + half] - r[k + half]
                    s -= np.sqrt(t * t + u * u)
            out[i, j] = s


@numba.njit(parallel=True, fastmath=FAST, cache=True)
def backward(kind, query, rows, index, out, grad, grad_query, grad_rows):
    b, d = query.shape
    c, n = index.shape
    per = b // c
    half = d // 2
    zero = query.dtype.type(0)
    slabs = 2
    width = half if kind == 3 else d
    for slab in numba.prange(slabs):
        lo = slab * width // slabs
        hi = (slab + 1) * width // slabs
        for i in range(b):
            q = query[i]
            gq = grad_query[i]
            for j in range(n):
                x = index[i // per, j]
                r = rows[x]
                gr = grad_rows[x]
                g = grad[i, j]
                if kind == 0:
                    for k in range(lo, hi):
                        gq[k] += g * r[k]
                        gr[k] += g * q[k]
                elif kind == 1:
                    for k in range(lo, hi):
                        t = q[k] - r[k]
                        s = g if t > 0 else (-g if t < 0 else zero)
                        gq[k] -= s
                        gr[k] += s
                elif kind == 2:
                    o = out[i, j]
                    w = g / o if o != 0 else zero
                    for k in range(lo, hi):
                        t = (q[k] - r[k]) * w
                        gq[k] += t
                        gr[k] -= t
                else:
                    for k in range(lo, hi):
                        t = q[k] - r[k]
                        u = q[k + half] - r[k + half]
                        m = t * t + u * u
                        w = g / np.sqrt(m) if m != 0 else zero
                        gq[k] -= t * w
                        gr[k] += t * w
                        gq[k + half] -= u * w
                        gr[k + half] += u * w
