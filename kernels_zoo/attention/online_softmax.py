"""The inner step of FlashAttention (Dao, 2023): one tile of keys and values, for some rows of queries.

Of each row three things are known of the keys so far: m, the greatest score, l, the sum of exp(score − m), and acc, the
sum of the values by these weights. A further tile with scores s makes of them

    m' = max(m, max s)      p = exp(s − m')      l' = l exp(m − m') + Σ p      acc' = acc exp(m − m') + p v

and acc / l is the output, m + ln l the log-sum-exp. Exponentials are to base 2, of scores times ``scale``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tilus as tl

LOG2_E, LN_2 = math.log2(math.e), math.log(2)
INFINITY = float("inf")
LOWEST = -1e38                                                     # below every score, and finite when scaled
State = tuple[tl.Tile, tl.Tile, tl.Tile]
Edit = Callable[[tl.Tile], tl.Tile]


def begin(rows: int, columns: int) -> State:
    """m, l and acc of no keys."""
    return tl.full((rows,), LOWEST, tl.f32), tl.zeros((rows,), tl.f32), tl.zeros((rows, columns), tl.f32)


def attend(state: State, x: tl.Tile, keys: Callable[[], tl.Tile], values: Callable[[], tl.Tile], scale: float,
           scores: Edit | None = None, weights: Edit | None = None) -> State:
    """One tile of keys and values, as loaded by these functions, for the queries ``x``. ``scores`` changes the products
    (−inf: the query does not see the key), ``weights`` the weights of values, which l is the sum of before that."""
    m, l, acc = state
    s = tl.dot(x, keys().T)
    if scores is not None:
        s = scores(s)
    top = tl.maximum(m, tl.max(s, axis=1))
    p = tl.exp2(s * scale - (top * scale)[:, None], approximate=True)
    shrink = tl.exp2((m - top) * scale, approximate=True)
    l = l * shrink + tl.sum(p, axis=1)
    if weights is not None:
        p = weights(p)
    y = values()
    acc = tl.dot(p.to(y.dtype), y, acc * shrink[:, None])
    return top, l, acc


def with_sink(state: State, sink: tl.Tile, scale: float) -> State:
    """A key of the score ``sink``, a natural one, whose value is 0."""
    m, l, acc = state
    sink = sink * (LOG2_E / scale)
    top = tl.maximum(m, sink)
    shrink = tl.exp2((m - top) * scale, approximate=True)
    return top, l * shrink + tl.exp2((sink - top) * scale, approximate=True), acc * shrink[:, None]


def finish(state: State, scale: float, nothing: tl.Tile | float = INFINITY) -> tuple[tl.Tile, tl.Tile]:
    """The output and the log-sum-exp; ``nothing`` is that of a row that sees no key, whose output is 0."""
    m, l, acc = state
    empty = l == 0.0
    out = acc * tl.rcp(tl.where(empty, 1.0, l), approximate=True)[:, None]
    return out, tl.where(empty, nothing, (m * scale + tl.log2(l, approximate=True)) * LN_2)
