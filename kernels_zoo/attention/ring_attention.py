"""Ring attention (Liu, Zaharia and Abbeel, 2023): attention over sequences of which each of R ranks holds a part.

Queries stay where they are. Keys and values go round: at each of R steps a rank attends to the part that it has, while
that is on its way to the next rank. What a step gives, o₂ and lse₂, is merged into what is known so far:

    lse = ln(exp(lse₁) + exp(lse₂))        o = exp(lse₁ − lse) o₁ + exp(lse₂ − lse) o₂

A sequence is cut into 2R chunks, of which rank r holds those numbered r and 2R − 1 − r (the "zigzag" order). Under a
causal mask every rank then has as much to do, and no step but that with its own part takes a mask: of an earlier rank's
part all queries see the first chunk whole and none the second; of a later rank's, the second half of the queries sees
all.

In the backward pass the sums of dk and dv travel with their keys and values, and are home after R steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.attention.flash_attention_backward import gradients_into, row_numbers
from kernels_zoo.attention.forms import Form
from kernels_zoo.attention.online_softmax import INFINITY, LN_2, LOG2_E
from kernels_zoo.checking import Array, Case, normal, relative_error, report, wide
from kernels_zoo.communication.communicator import Communicator, on_threads

SHAPES = [(1, 1, 1, 64), (2, 129, 4, 64), (1, 64, 2, 59), (0, 8, 1, 64), (1, 0, 1, 64)]
if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    SUMS = Any
    ROWS = Any
else:
    SUMS = tl.f32["B", "S", "H", "E"]
    ROWS = tl.f32["B", "H", "S"]


@tl.jit
def attention_accumulate(o: SUMS, lse: ROWS, part: SUMS, part_lse: ROWS, E: int = 64, BM: int = 32,
                         warps: int = 4) -> None:
    """Merges a part's output and log-sum-exp into ``o`` and ``lse``. Of rows that have seen no key it is +inf."""
    B, S, H, _ = o.shape
    tl.block(warps=warps)
    tile, h, b = tl.grid(tl.cdiv(S, BM), H, B)
    start = tile * BM
    one, other = (tl.load(x[b, h, :], start, BM) for x in (lse, part_lse))
    one, other = (tl.where(x == INFINITY, -INFINITY, x) for x in (one, other))
    top = tl.maximum(one, other)
    seen = top > -INFINITY
    top = tl.where(seen, top, 0.0)
    weight, weight_of_part = (tl.exp2((x - top) * LOG2_E, approximate=True) for x in (one, other))
    total = tl.where(seen, weight + weight_of_part, 1.0)
    x, y = (tl.load(a[b, :, h, :], (start, 0), (BM, E)) for a in (o, part))
    tl.store(o[b, :, h, :], (start, 0), x * (weight / total)[:, None] + y * (weight_of_part / total)[:, None])
    tl.store(lse[b, h, :], start, tl.where(seen, top + tl.log2(total, approximate=True) * LN_2, INFINITY))


def chunks(length: int, rank: int, size: int) -> tuple[slice, slice]:
    """The two parts of a sequence that a rank holds."""
    bounds = [length * i // (2 * size) for i in range(2 * size + 1)]
    first, second = rank, 2 * size - 1 - rank
    return slice(bounds[first], bounds[first + 1]), slice(bounds[second], bounds[second + 1])


def rows_of_rank(lengths: Sequence[int], rank: int, size: int) -> Array:
    """Which rows a rank holds, of sequences that lie one after another."""
    import numpy as np

    starts = np.cumsum([0, *lengths])
    found = [np.arange(start + part.start, start + part.stop) for start, length in zip(starts, lengths, strict=False)
             for part in chunks(length, rank, size)]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def step_form(lengths: Sequence[int], rank: int, source: int, size: int, causal: bool) -> Form:
    """What queries of ``rank`` see of the part of ``source``. Where that is not all of it, a sequence is taken for two,
    one without keys for queries that see none, or one without queries for keys that none sees."""
    import numpy as np

    of_queries, of_keys = [0], [0]
    for length in lengths:
        q, k = ([c.stop - c.start for c in chunks(length, r, size)] for r in (rank, source))
        pairs = [(sum(q), sum(k))]
        if causal and source < rank:
            pairs = [(sum(q), k[0]), (0, k[1])]
        elif causal and source > rank:
            pairs = [(q[0], 0), (q[1], sum(k))]
        of_queries += [n for n, _ in pairs]
        of_keys += [n for _, n in pairs]
    offsets = (np.cumsum(x, dtype=np.int32) for x in (of_queries, of_keys))
    return Form(causal and source == rank, q_offsets=next(offsets), k_offsets=next(offsets))


class Ring:
    """Arrays (1, rows, …) that go from rank to rank, with the rows that each rank holds."""

    def __init__(self, communicator: Communicator, lengths: Sequence[int], *arrays: Array) -> None:
        self.communicator, self.arrays = communicator, arrays
        size = communicator.size
        self.rows = [len(rows_of_rank(lengths, r, size)) for r in range(size)]
        self.source = communicator.rank
        """Whose arrays these are."""
        self.coming: tuple[Array, ...] = ()
        self.operation: Any = None

    def pass_on(self) -> None:
        """Begin to send the arrays to the next rank, and to receive those of the one before."""
        import numpy as np

        rows = self.rows[(self.source - 1) % len(self.rows)]
        self.coming = tuple(np.empty((1, rows, *x.shape[2:]), x.dtype) for x in self.arrays)
        self.operation = self.communicator.shift(self.arrays, self.coming)

    def receive(self) -> None:
        """Have those that were coming."""
        self.communicator.wait(self.operation)
        self.arrays, self.source = self.coming, (self.source - 1) % len(self.rows)


def ring_attention(q: Array, k: Array, v: Array, lengths: Sequence[int], communicator: Communicator,
                   causal: bool = False, engine: str | None = None, **tiles: int) -> tuple[Array, Array]:
    """The output (1, rows, H, E), in the type of ``q``, and the log-sum-exp (1, H, rows), f32, of the rows that this
    rank holds (:func:`rows_of_rank`) of sequences of ``lengths``.

    ``q`` is (1, rows, H, D), ``k`` (1, rows, Hk, D), ``v`` (1, rows, Hk, E), all of f16, bf16 or f32. ``engine`` is
    where to compute, as in ``kernel.on(engine)``; ``tiles`` are BM, BN, stages and warps.
    """
    import numpy as np

    rank, size, (_, rows, h, d), e = communicator.rank, communicator.size, q.shape, v.shape[3]
    ring = Ring(communicator, lengths, *map(np.ascontiguousarray, (k, v)))
    if q.shape[:2] != (1, ring.rows[rank]) or k.shape[:2] != q.shape[:2]:
        raise ValueError(f"rank {rank} of {size} holds {ring.rows[rank]} rows of these sequences, "
                         f"and was given queries {q.shape} and keys {k.shape}")
    forward, accumulate = (x.on(engine) if engine else x for x in (flash_attention_forward, attention_accumulate))
    o, lse = np.empty((1, rows, h, e), np.float32), np.empty((1, h, rows), np.float32)
    part, part_lse = np.empty_like(o), np.empty_like(lse)
    for step in range(size):
        if step < size - 1:
            ring.pass_on()
        form = step_form(lengths, rank, ring.source, size, causal)
        outputs = (part, part_lse) if step else (o, lse)
        forward(q, *ring.arrays, *outputs, D=d, E=e, **form.constants(), **form.lengths(), **tiles)
        if step:
            accumulate(o, lse, part, part_lse, E=e)
        if step < size - 1:
            ring.receive()
    return o.astype(q.dtype), lse


def ring_attention_backward(q: Array, k: Array, v: Array, o: Array, lse: Array, do: Array, lengths: Sequence[int],
                            communicator: Communicator, causal: bool = False, engine: str | None = None,
                            **tiles: int) -> tuple[Array, Array, Array]:
    """The gradients (dq, dk, dv) of the rows that this rank holds, where ``do`` is that of its outputs ``o``; these and
    ``lse`` are what :func:`ring_attention` has given."""
    import numpy as np

    rank, size = communicator.rank, communicator.size
    ring = Ring(communicator, lengths, *map(np.ascontiguousarray, (k, v)))
    sums = Ring(communicator, lengths, *(np.zeros(x.shape, np.float32) for x in (k, v)))
    dq, rows = np.zeros(q.shape, np.float32), row_numbers(o, lse, do, engine)
    for step in range(size):
        if step < size - 1:
            ring.pass_on()
        gq, gk, gv = (np.empty(x.shape, np.float32) for x in (q, *ring.arrays))
        (keys, values), form = ring.arrays, step_form(lengths, rank, ring.source, size, causal)
        gradients_into((gq, gk, gv), q, keys, values, do, rows, form, None, engine, True, **tiles)
        dq += gq
        if step:
            sums.receive()                                         # those of the keys that are here now
        for total, part in zip(sums.arrays, (gk, gv), strict=True):
            total += part
        sums.pass_on()
        if step < size - 1:
            ring.receive()
    sums.receive()
    dk, dv = sums.arrays
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)


def reference(q: Array, k: Array, v: Array, lengths: Sequence[int], causal: bool = False) -> tuple[Array, Array]:
    """Output and log-sum-exp of whole sequences, one after another, by the definition, in the arrays' type."""
    import numpy as np

    (_, rows, h, _), e = q.shape, v.shape[3]
    o, lse = np.zeros((1, rows, h, e), q.dtype), np.zeros((1, h, rows), q.dtype)
    starts = np.cumsum([0, *lengths])
    for one in map(slice, starts[:-1], starts[1:]):
        o[:, one], lse[:, :, one] = flash_attention.reference(q[:, one], k[:, one], v[:, one], causal)
    return o, lse


def on_ranks(size: int, q: Array, k: Array, v: Array, lengths: Sequence[int], causal: bool = False,
             engine: str | None = None, **tiles: int) -> tuple[Array, Array]:
    """What so many ranks, threads of this process, make of whole sequences together."""
    import numpy as np

    def work(communicator: Communicator) -> tuple[Array, Array]:
        rows = rows_of_rank(lengths, communicator.rank, size)
        return ring_attention(q[:, rows], k[:, rows], v[:, rows], lengths, communicator, causal, engine, **tiles)

    o, lse = np.empty((*q.shape[:3], v.shape[3]), q.dtype), np.empty((1, q.shape[2], q.shape[1]), np.float32)
    for rank, (part, sums) in enumerate(on_threads(size, work)):
        rows = rows_of_rank(lengths, rank, size)
        o[:, rows], lse[:, :, rows] = part, sums
    return o, lse


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f32, seed: int = 0) -> Case:
    """Of :func:`attention_accumulate`; ``shape`` is (B, S, H, E). In either part one row in four has seen no key."""
    import numpy as np

    batch, rows, h, e = shape
    rng = np.random.default_rng(seed)
    o, part = (normal(rng, shape, dtype) for _ in range(2))
    lse, part_lse = (normal(rng, (batch, h, rows), dtype) for _ in range(2))
    for x, sums in ((o, lse), (part, part_lse)):
        nothing = np.less(rng.random(sums.shape), 0.25)
        sums[nothing], x[np.moveaxis(nothing, 1, 2)] = np.inf, 0
    weights = [np.where(np.isinf(x), 0.0, np.exp(wide(x))) for x in (lse, part_lse)]
    total = weights[0] + weights[1]
    with np.errstate(divide="ignore"):
        exact_lse = np.where(total > 0, np.log(total), np.inf)
    shares = [np.moveaxis(w / np.where(total > 0, total, 1.0), 1, 2)[..., None] for w in weights]
    return Case((o, lse, part, part_lse), (o, lse), (wide(o) * shares[0] + wide(part) * shares[1], exact_lse), {"E": e})


def main() -> None:
    import numpy as np

    report(attention_accumulate, SHAPES, case)
    rng, lengths = np.random.default_rng(0), (301, 0, 128, 5)
    q, k, v = (normal(rng, (1, sum(lengths), h, 64), tl.f32) for h in (4, 2, 2))
    for causal in (False, True):
        exact = reference(wide(q), wide(k), wide(v), lengths, causal)[0]
        for size in (1, 2, 4):
            error = relative_error(on_ranks(size, q, k, v, lengths, causal)[0], exact)
            print(f"ring attention, {size} ranks{', causal' if causal else ''}: relative error {error:.1e}")


if __name__ == "__main__":
    main()
