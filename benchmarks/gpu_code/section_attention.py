"""Sections B and C: attention forward and backward, over head dimensions, tiles, warps, types and targets."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.gpu_code import kernels_attention as kernels
from benchmarks.gpu_code.cases import Case, Peer, Work
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.attention.flash_attention_backward import attention_backward_keys, attention_backward_queries

LENGTH = 256
LOG2_E = math.log2(math.e)


def scores(bm: int, bn: int, causal: bool) -> int:
    """Of the tiles that a head visits."""
    return sum(bm * -(-min(LENGTH, first + bm) // bn) * bn if causal else bm * LENGTH for first in range(0, LENGTH, bm))


def forward(dtype: Any, d: int, tile: tuple[int, int, int], causal: bool) -> Work:
    """Two heads of attention over (1, sequence, heads, D)."""
    bm, bn, warps = tile
    heads = 2
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, LENGTH, heads, d)).astype(dtype) for _ in range(3))
    (o, lse), (theirs, sums) = ((np.zeros_like(q), np.zeros((1, heads, LENGTH), np.float32)) for _ in range(2))
    peer = Peer("forward", {"q": q, "k": k, "v": v, "o": theirs, "lse": sums, "length": LENGTH, "heads": heads,
                            "batch_stride": LENGTH * heads * d, "stride": heads * d, "scale": LOG2_E / d**0.5},
                {"D": d, "P": 1 << (d - 1).bit_length(), "BM": bm, "BN": bn, "CAUSAL": causal},
                (LENGTH // bm, heads, 1), warps, 2, (theirs,))
    return Work(flash_attention_forward, (q, k, v, o, lse),
                {"D": d, "BM": bm, "BN": bn, "warps": warps, "causal": causal}, (o,), 2 * bm * bn * d,
                2 * heads * d * scores(bm, bn, causal), peer,
                warps=warps)


def backward_arrays(d: int) -> tuple[Any, ...]:
    """q, k, v, do, lse2, delta of two heads over (heads, sequence, D), the gradients to write, and the peer's."""
    heads, rng = 2, np.random.default_rng(0)
    given = [rng.standard_normal((heads, LENGTH, d)).astype(np.float16) for _ in range(4)]
    lse2 = np.full((heads, LENGTH), 12.0, np.float32) + rng.standard_normal((heads, LENGTH)).astype(np.float32)
    delta = rng.standard_normal((heads, LENGTH)).astype(np.float32)
    return (*given, lse2, delta, *(np.zeros((heads, LENGTH, d), np.float16) for _ in range(4)))


def backward(part: str, d: int, tile: tuple[int, int, int], turned: bool = False) -> Work:
    """What is written down first: dk and dv (four products a tile), or dq (three). ``tile``: queries, keys, warps."""
    bm, bn, warps = tile
    q, k, v, do, lse2, delta, g0, g1, t0, t1 = backward_arrays(d)
    ours, theirs = ([g0, g1], [t0, t1]) if part == "keys" else ([g0], [t0])
    names = ["dk", "dv"] if part == "keys" else ["dq"]
    scale = LOG2_E / d**0.5
    arguments = {"q": q, "k": k, "v": v, "do": do, "lse2": lse2, "delta": delta,
                 **dict(zip(names, theirs, strict=True)), "head_stride": LENGTH * d, "stride": d, "length": LENGTH,
                 "scale": scale}
    peer = Peer(part, arguments, {"D": d, "BM": bm, "BN": bn}, (LENGTH // (bn if part == "keys" else bm), 2), warps, 2,
                theirs)
    kernel = kernels.queries if part == "queries" else kernels.turned_keys if turned else kernels.keys
    dots = 4 if part == "keys" else 3
    return Work(kernel, (q, k, v, do, lse2, delta, *ours, scale), {"D": d, "BM": bm, "BN": bn, "warps": warps}, ours,
                dots * bm * bn * d, dots * 2 * LENGTH**2 * d, peer, warps=warps)


def zoo_backward(part: str, d: int, tile: tuple[int, int, int], causal: bool) -> Work:
    """The zoo's kernels on the same arrays, beside the peer where that is not causal."""
    bm, bn, warps = tile
    plain = backward(part, d, tile)
    assert plain.peer is not None
    q, k, v, do = (np.ascontiguousarray(a.transpose(1, 0, 2))[None] for a in plain.arguments[:4])
    lse2, delta = (a[None] for a in plain.arguments[4:6])
    outputs = [np.zeros_like(q) for _ in plain.outputs]
    constants: dict[str, Any] = {"D": d, "BM": bm, "BN": bn, "warps": warps, "causal": causal}
    kernel = attention_backward_keys if part == "keys" else attention_backward_queries
    peer = None if causal else Peer(plain.peer.kernel, plain.peer.arguments, plain.peer.constants, plain.peer.grid,
                                    warps, 2)
    return Work(kernel, (q, k, v, do, lse2, delta, *outputs), constants, outputs, plain.unit, peer=peer, warps=warps)


SHAPES: list[tuple[int, tuple[int, int, int]]] = [
    (32, (64, 64, 4)), (32, (64, 64, 8)), (64, (64, 64, 4)), (64, (64, 64, 8)), (64, (128, 64, 4)), (64, (128, 64, 8)),
    (80, (128, 64, 4)), (96, (128, 64, 4)), (128, (64, 64, 4)), (128, (128, 64, 4)), (128, (128, 64, 8)),
    (192, (64, 64, 8)), (256, (64, 64, 8)), (256, (64, 32, 4)),
]


def _name(d: int, tile: tuple[int, int, int], causal: bool) -> str:
    return f"d{d} {tile[0]}×{tile[1]} {tile[2]}w{' causal' if causal else ''}"


def cases() -> Iterator[Case]:
    def attention(dtype: Any, d: int, tile: tuple[int, int, int], causal: bool, target: str) -> Case:
        return Case("B", f"attention {np.dtype(dtype).name.replace('float', 'f')} {_name(d, tile, causal)}", target,
                    functools.partial(forward, dtype, d, tile, causal))

    for d, tile in SHAPES:
        yield from (attention(np.float16, d, tile, causal, "sm_80") for causal in (False, True))
    for target in ("sm_75", "sm_86", "sm_89", "sm_90a", "sm_120a"):
        tile = (64, 64, 4) if target == "sm_75" else (128, 64, 4)
        yield attention(np.float16, 64, tile, False, target)
        yield attention(np.float16, 128, (64, 64, 4), False, target)
    yield attention(ml_dtypes.bfloat16, 64, (128, 64, 4), False, "sm_80")
    yield attention(ml_dtypes.bfloat16, 128, (128, 64, 8), True, "sm_80")
    for part, d, tile in (("keys", 64, (64, 64, 4)), ("keys", 128, (64, 128, 8)), ("keys", 128, (32, 128, 4)),
                          ("queries", 64, (64, 64, 4)), ("queries", 128, (128, 64, 8))):
        name = f"{part} {_name(d, tile, False)}"
        yield Case("C", f"backward {name}", "sm_80", functools.partial(backward, part, d, tile))
        if part == "keys":
            yield Case("C", f"backward {name}, turned", "sm_80", functools.partial(backward, part, d, tile, True))
        for causal in (False, True):
            yield Case("C", f"zoo's {part} {_name(d, tile, causal)}", "sm_80",
                       functools.partial(zoo_backward, part, d, tile, causal))
    for target in ("sm_86", "sm_90a"):
        yield Case("C", "backward keys d64 64×64 4w", target, functools.partial(backward, "keys", 64, (64, 64, 4)))


__all__ = ["cases"]
