"""What random fused functions are made of: for each operation how parameters are drawn, what it is in NumPy (f64), and
in a fused function.

Values are ``exact`` where f32 holds them as f64 does: those that inputs have, moved, compared or put in order. Only
such decide (in comparisons, orders, places of extrema), since elsewhere rounding would.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tilus as tl

Shape = tuple[int, ...]
Array = Any
Parameters = tuple[Any, ...]
MOST = 4096
"""Elements of a value."""


class Value(NamedTuple):
    """What is known of a value when a program is drawn."""

    shape: Shape
    exact: bool


class Drawn(NamedTuple):
    """``operands`` are numbers of values, ``parameters`` constants; ``exact`` is the result's."""

    operands: tuple[int, ...]
    parameters: Parameters
    exact: bool = False


class Operation(NamedTuple):
    """``draw`` gives None where no values fit."""

    draw: Callable[[random.Random, list[Value]], Drawn | None]
    numpy: Callable[..., Array]
    fused: Callable[..., Any]


OPERATIONS: dict[str, Operation] = {}


def chosen(rng: random.Random, values: list[Value], fits: Callable[[Value], bool] = lambda v: True) -> int | None:
    """The number of a value, rather a late one."""
    found = [i for i, v in enumerate(values) if fits(v)]
    return rng.choice(found[-4:] if rng.random() < 0.7 else found) if found else None


def filled(v: Value) -> bool:
    return len(v.shape) > 0 and math.prod(v.shape) > 0


# -- elementwise

UNARY: dict[str, tuple[Callable[[Array], Array], Callable[[Any], Any], bool]] = {
    "tanh": (np.tanh, tl.tanh, False), "abs": (np.abs, tl.abs, True), "neg": (lambda x: -x, lambda x: -x, True),
    "relu": (lambda x: np.maximum(x, 0), tl.relu, True), "sin": (np.sin, tl.sin, False),
    "exp": (lambda x: np.exp(-np.abs(x)), lambda x: tl.exp(-tl.abs(x)), False),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), tl.sigmoid, False),
    "sqrt": (lambda x: np.sqrt(1 + x * x), lambda x: tl.sqrt(1 + x * x), False),
}


def draw_unary(keeps: bool) -> Callable[[random.Random, list[Value]], Drawn | None]:
    def draw(rng: random.Random, values: list[Value]) -> Drawn | None:
        i = chosen(rng, values)
        return None if i is None else Drawn((i,), (), keeps and values[i].exact)

    return draw


for name, (plain, ours, keeps) in UNARY.items():
    OPERATIONS[name] = Operation(draw_unary(keeps), plain, ours)


def draw_pair(keeps: bool, exact: bool = False) -> Callable[[random.Random, list[Value]], Drawn | None]:
    """Two values that broadcast."""
    def draw(rng: random.Random, values: list[Value]) -> Drawn | None:
        i = chosen(rng, values, lambda v: v.exact or not exact)
        if i is None:
            return None
        first = values[i]

        def fits(v: Value) -> bool:
            try:
                shape = np.broadcast_shapes(first.shape, v.shape)
            except ValueError:
                return False
            return math.prod(shape) <= MOST and (v.exact or not exact)

        j = chosen(rng, values, fits)
        pair = (i, j) if rng.random() < 0.5 else (j, i)
        return None if j is None else Drawn(pair, (), keeps and first.exact and values[j].exact)  # type: ignore[arg-type]

    return draw


BINARY: dict[str, tuple[Callable[..., Array], Callable[..., Any], bool, bool]] = {
    "add": (lambda x, y: x + y, lambda x, y: x + y, False, False),
    "sub": (lambda x, y: x - y, lambda x, y: x - y, False, False),
    "mul": (lambda x, y: x * np.tanh(y), lambda x, y: x * tl.tanh(y), False, False),
    "div": (lambda x, y: x / (1 + y * y), lambda x, y: x / (1 + y * y), False, False),
    "maximum": (np.maximum, tl.maximum, True, False), "minimum": (np.minimum, tl.minimum, True, False),
    "where": (lambda x, y: np.where(x > y, x, 0.5 * y), lambda x, y: tl.where(x > y, x, 0.5 * y), True, True),
    "count": (lambda x, y: ((x > y) & ~(x > 1)).astype("d"), lambda x, y: ((x > y) & ~(x > 1)).to(tl.f32), True, True),
}
for name, (plain, ours, keeps, exact) in BINARY.items():
    OPERATIONS[name] = Operation(draw_pair(keeps, exact), plain, ours)


# -- reductions and scans


def draw_axis(keeps: bool, exact: bool = False, least: int = 1) -> Callable[[random.Random, list[Value]], Drawn | None]:
    def draw(rng: random.Random, values: list[Value]) -> Drawn | None:
        i = chosen(rng, values, lambda v: filled(v) and len(v.shape) >= least and (v.exact or not exact))
        if i is None:
            return None
        axis = rng.randrange(len(values[i].shape))
        return Drawn((i,), (axis, rng.random() < 0.5), keeps and values[i].exact)

    return draw


def fused_softmax(x: Any, axis: int, _: bool) -> Any:
    weights = tl.exp(x - tl.max(x, axis=axis, keepdims=True))
    return weights / tl.sum(weights, axis=axis, keepdims=True)


def plain_softmax(x: Array, axis: int, _: bool) -> Array:
    weights = np.exp(x - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


OPERATIONS.update({
    "sum": Operation(draw_axis(False), lambda x, a, k: x.sum(a, keepdims=k) / x.shape[a],
                     lambda x, a, k: tl.mean(x, axis=a, keepdims=k)),
    "max": Operation(draw_axis(True), lambda x, a, k: x.max(a, keepdims=k),
                     lambda x, a, k: tl.max(x, axis=a, keepdims=k)),
    "min": Operation(draw_axis(True), lambda x, a, k: x.min(a, keepdims=k),
                     lambda x, a, k: tl.min(x, axis=a, keepdims=k)),
    "argmax": Operation(draw_axis(True, True), lambda x, a, k: x.argmax(a, keepdims=k) / 8.0,
                        lambda x, a, k: tl.argmax(x, axis=a, keepdims=k).to(tl.f32) / 8.0),
    "variance": Operation(draw_axis(False), lambda x, a, k: x.var(a, keepdims=True),
                          lambda x, a, k: tl.mean((x - tl.mean(x, axis=a, keepdims=True)) ** 2, axis=a, keepdims=True)),
    "softmax": Operation(draw_axis(False), plain_softmax, fused_softmax),
    "cumsum": Operation(draw_axis(False), lambda x, a, k: x.cumsum(a) / x.shape[a],
                        lambda x, a, k: tl.cumsum(x, axis=a) / x.shape[a]),
    "total": Operation(draw_axis(False), lambda x, a, k: np.mean(x), lambda x, a, k: tl.mean(x)),
    "sort": Operation(draw_axis(True, True), lambda x, a, k: np.sort(x, a) if k else -np.sort(-x, a),
                      lambda x, a, k: tl.sort(x, axis=a, descending=not k)),
    "argsort": Operation(draw_axis(True, True), lambda x, a, k: np.argsort(x, a, kind="stable") / 8.0,
                         lambda x, a, k: tl.argsort(x, axis=a).to(tl.f32) / 8.0),
})


# -- moves


def draw_order(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: len(v.shape) > 1)
    if i is None:
        return None
    order = list(range(len(values[i].shape)))
    rng.shuffle(order)
    return Drawn((i,), (tuple(order),), values[i].exact)


def draw_slice(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: filled(v) and max(v.shape) > 1)
    if i is None:
        return None
    axis = rng.choice([d for d, n in enumerate(values[i].shape) if n > 1])
    n = values[i].shape[axis]
    start = rng.randrange(n)
    step = rng.choice((1, 1, 2, 3, -1, -2))
    stop = rng.randrange(start + 1, n + 1) if step > 0 else rng.choice([None, *range(start)])
    if len(range(n)[start:stop:step]) < 2:
        return None  # an extent that happens to be 1 does not broadcast
    return Drawn((i,), (axis, start, stop, step), values[i].exact)


def sliced(x: Any, axis: int, start: int, stop: int | None, step: int) -> Any:
    return x[(slice(None),) * axis + (slice(start, stop, step),)]


def draw_index(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: filled(v) and len(v.shape) > 1)
    if i is None:
        return None
    axis = rng.randrange(len(values[i].shape))
    return Drawn((i,), (axis, rng.randrange(values[i].shape[axis])), values[i].exact)


def draw_pad(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: len(v.shape) > 0 and math.prod(v.shape) < MOST // 4)
    if i is None:
        return None
    widths = tuple((rng.randrange(3), rng.randrange(3)) for _ in values[i].shape)
    return Drawn((i,), (widths, rng.choice((0.0, 0.0, -1.5))), values[i].exact)


def draw_join(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: len(v.shape) > 0 and math.prod(v.shape) <= MOST // 2)
    if i is None:
        return None
    axis, shape = rng.randrange(len(values[i].shape)), values[i].shape

    def fits(v: Value) -> bool:
        return len(v.shape) == len(shape) and math.prod(v.shape) <= MOST // 2 and all(
            n == m or d == axis for d, (n, m) in enumerate(zip(v.shape, shape, strict=True)))

    j = chosen(rng, values, fits)
    return None if j is None else Drawn((i, j), (axis,), values[i].exact and values[j].exact)


def draw_reshape(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, filled)
    if i is None:
        return None
    left, shape = math.prod(values[i].shape), list[int]()
    while left > 1 and len(shape) < 3:
        divisors = [d for d in range(2, left + 1) if left % d == 0]
        shape.append(rng.choice(divisors))
        left //= shape[-1]
    if left > 1:
        shape[-1] *= left
    rng.shuffle(shape)
    return Drawn((i,), (tuple(shape) or (1,),), values[i].exact)


def draw_windows(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: filled(v) and max(v.shape) > 2)
    if i is None:
        return None
    axis = rng.choice([d for d, n in enumerate(values[i].shape) if n > 2])
    size, stride, dilation = rng.randrange(1, 4), rng.choice((1, 1, 2)), rng.choice((1, 1, 2))
    if dilation * (size - 1) + 1 + stride > values[i].shape[axis]:
        return None  # one window at most
    kind = rng.choice(("max", "mean"))
    return Drawn((i,), (axis, size, stride, dilation, kind), kind == "max" and values[i].exact)


def plain_windows(x: Array, axis: int, size: int, stride: int, dilation: int, kind: str) -> Array:
    reach = dilation * (size - 1) + 1
    found = np.lib.stride_tricks.sliding_window_view(x, reach, axis)
    return getattr(np.moveaxis(np.moveaxis(found, axis, 0)[::stride], 0, axis)[..., ::dilation], kind)(-1)


def fused_windows(x: Any, axis: int, size: int, stride: int, dilation: int, kind: str) -> Any:
    found = tl.windows(x, size, axis, stride=stride, dilation=dilation)
    return (tl.max if kind == "max" else tl.mean)(found, axis=len(found.shape) - 1)


OPERATIONS.update({
    "transpose": Operation(draw_order, lambda x, order: x.transpose(order), lambda x, order: x.transpose(*order)),
    "slice": Operation(draw_slice, sliced, sliced),
    "index": Operation(draw_index, lambda x, a, i: x.take(i, a), lambda x, a, i: x[(slice(None),) * a + (i,)]),
    "pad": Operation(draw_pad, lambda x, widths, value: np.pad(x, widths, constant_values=value), tl.pad),
    "join": Operation(draw_join, lambda x, y, axis: np.concatenate([x, y], axis),
                      lambda x, y, axis: tl.concatenate([x, y], axis)),
    "reshape": Operation(draw_reshape, lambda x, shape: x.reshape(shape), lambda x, shape: x.reshape(*shape)),
    "windows": Operation(draw_windows, plain_windows, fused_windows),
    "flip": Operation(draw_axis(True), lambda x, a, _: np.flip(x, a), lambda x, a, _: tl.flip(x, a)),
})


# -- products


def draw_product(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: len(v.shape) >= 2 and filled(v))
    if i is None:
        return None
    first = values[i].shape
    j = chosen(rng, values, lambda v: len(v.shape) == 2 and filled(v) and first[-1] in v.shape)
    if j is None:
        return None
    turned = values[j].shape[0] != first[-1]
    columns = values[j].shape[0 if turned else 1]
    return Drawn((i, j), (turned,)) if math.prod(first[:-1]) * columns <= MOST else None


def product(x: Any, y: Any, turned: bool) -> Any:
    return x @ (y.transpose(1, 0) if turned else y) / x.shape[-1]


def draw_attention(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: len(v.shape) == 2 and filled(v))
    if i is None:
        return None
    j = chosen(rng, values, lambda v: len(v.shape) == 2 and v.shape[1] == values[i].shape[1] and filled(v))
    return None if j is None else Drawn((i, j), (rng.random() < 0.5,))


def fused_attention(q: Any, k: Any, causal: bool) -> Any:
    scores = q @ k.transpose(1, 0) / 3
    if causal:
        scores = tl.where(tl.arange(k.shape[0])[None, :] <= tl.arange(q.shape[0])[:, None], scores, float("-inf"))
    return fused_softmax(scores, 1, True) @ k


def plain_attention(q: Array, k: Array, causal: bool) -> Array:
    scores = q @ k.T / 3
    if causal:
        scores = np.where(np.arange(len(k)) <= np.arange(len(q))[:, None], scores, -np.inf)
    return plain_softmax(scores, 1, True) @ k


def draw_einsum(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: len(v.shape) == 3 and filled(v))
    if i is None:
        return None
    j = chosen(rng, values, lambda v: len(v.shape) == 3 and v.shape[:2] == values[i].shape[:2] and filled(v))
    spec = rng.choice(("abc,abd->acd", "abc,abd->dc", "abc,abd->bcd"))
    if j is None or math.prod((*values[i].shape, values[j].shape[2])) > 8 * MOST:
        return None
    return Drawn((i, j), (spec,))


OPERATIONS.update({
    "product": Operation(draw_product, product, product),
    "attention": Operation(draw_attention, plain_attention, fused_attention),
    "einsum": Operation(draw_einsum, lambda x, y, spec: np.einsum(spec, x, y) / 8,
                        lambda x, y, spec: tl.einsum(spec, x, y) / 8),
})


# -- at indices


def draw_places(rng: random.Random, values: list[Value]) -> Drawn | None:
    i = chosen(rng, values, lambda v: filled(v) and len(v.shape) == 2)
    if i is None:
        return None
    j = chosen(rng, values, lambda v: len(v.shape) == 1 and v.exact and filled(v))
    return None if j is None or math.prod(values[i].shape) * values[j].shape[0] > 8 * MOST else Drawn(
        (i, j), (), values[i].exact)


def plain_rows(x: Array, at: Array) -> Array:
    return x[(np.abs(np.round(at * 16)) % len(x)).astype(int)]


def fused_rows(x: Any, at: Any) -> Any:
    return x[tl.abs(tl.round(at * 16)).to(tl.i64) % x.shape[0]]


def plain_scatter(x: Array, at: Array) -> Array:
    found = x.copy()
    np.add.at(found, (np.abs(np.round(at * 16)) % len(x)).astype(int), 0.25)
    return found


def fused_scatter(x: Any, at: Any) -> Any:
    return tl.scatter_add(x, tl.abs(tl.round(at * 16)).to(tl.i64) % x.shape[0], 0.25)


OPERATIONS.update({
    "rows": Operation(draw_places, plain_rows, fused_rows),
    "scatter": Operation(lambda rng, values: d and d._replace(exact=False) if (d := draw_places(rng, values)) else None,
                         plain_scatter, fused_scatter),
})

__all__ = ["OPERATIONS", "Array", "Drawn", "Operation", "Value"]
