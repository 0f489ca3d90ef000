"""Activations quantised row by row in the prologue of a product: what each row is multiplied by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl

if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    X = Any
    Y = Any
    GAIN = Any
    FACTORS = Any
else:
    X = tl.f16["M", "K"] | tl.bf16["M", "K"] | tl.f32["M", "K"]
    Y = tl.f16["M", "N"] | tl.bf16["M", "N"] | tl.f32["M", "N"]
    GAIN = tl.f32["K"] | tl.f16["K"] | tl.bf16["K"]
    FACTORS = tl.f32["M", 2]
LEAST = 1e-5
"""The least greatest magnitude that counts, so that rows of zeros have a scale."""


@tl.jit
def row_factors(x: X, factors: FACTORS, gain: GAIN | None = None, eps: tl.f32 = 1e-8, normalised: bool = False,
                most: float = 127.0, BM: int = 4, BK: int = 512, warps: int = 4) -> None:
    """What ``factors_of`` gives for each row, for a product whose blocks of columns would all compute it."""
    tl.block(warps=warps)
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    whole, scale = factors_of(x, gain, i, eps, normalised, most, BM, BK)
    pair = tl.concatenate([whole[:, None], scale[:, None]], axis=1)
    tl.store(factors, (i, 0), pair)


def factors_of(x: Any, gain: Any, row: Any, eps: Any, normalised: bool, most: float, BM: int,
               BK: int) -> tuple[Any, Any]:
    """For BM rows: what elements are multiplied by before they are rounded, and what a product is divided by after.

    The greatest magnitude of a row becomes ``most``; ``normalised`` of x / √(mean(x²) + eps).
    """
    K = x.shape[1]
    squares, greatest = tl.zeros((BM, BK), tl.f32), tl.zeros((BM, BK), tl.f32)
    for k in tl.range(0, K, BK):
        part = tl.load(x, (row, k), (BM, BK)).to(tl.f32)
        if normalised:
            squares += part * part
        if gain is not None:
            part *= tl.load(gain, k, BK).to(tl.f32)[None, :]
        greatest = tl.maximum(greatest, tl.abs(part))
    amax = tl.max(greatest, axis=1)
    inverse = tl.full((BM,), 1.0, tl.f32)
    if normalised:
        inverse = 1.0 / tl.sqrt(tl.sum(squares, axis=1) / tl.maximum(K, 1).to(tl.f32) + eps)
    scale = most / tl.maximum(amax * inverse, LEAST)
    return inverse * scale, scale


def rows_of_a_tile(m: int) -> int:
    """Rows of a tile of so many activations, which are quantised whether they are there or not."""
    return next((rows for rows in (1, 4, 16) if m <= rows), 64)


def given_or_computed(x: Any, factors: Any, gain: Any, row: Any, eps: Any, normalised: bool, most: float,
                      tile: tuple[int, int]) -> tuple[Any, Any]:
    """The factors of rows from an array, or computed here."""
    BM, BK = tile
    if factors is None:
        return factors_of(x, gain, row, eps, normalised, most, BM, max(BK, 256))
    return tl.load(factors[:, 0], row, BM), tl.load(factors[:, 1], row, BM, other=1.0)


def quantised_tile(x: Any, gain: Any, at: tuple[Any, Any], whole: Any, dtype: tl.DType, tile: tuple[int, int]) -> Any:
    """A tile of x as numbers of ``dtype``: integers to nearest, ties to even, and clamped."""
    part = tl.load(x, at, tile).to(tl.f32)
    if gain is not None:
        part *= tl.load(gain, at[1], tile[1]).to(tl.f32)[None, :]
    part *= whole[:, None]
    if dtype.is_float:
        return part.to(dtype)
    low, high = (float(limit) for limit in (dtype.min_value, dtype.max_value))
    return tl.clamp(tl.round(part), low, high).to(tl.i8)


__all__ = ["FACTORS", "GAIN", "X", "Y", "factors_of", "given_or_computed", "quantised_tile", "row_factors",
           "rows_of_a_tile"]
