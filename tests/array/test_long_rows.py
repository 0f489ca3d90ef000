"""Rows that are reduced several times: kept in one tile where they fit a long one, and walked along where not."""

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.ir.ops import Load
from tilus.lowering.array import tile_arrays
from tilus.lowering.array.tiles import CPU_TILES, GPU_TILES, TileTable


@tl.fuse
def softmax(x):
    e = tl.exp(x - tl.max(x, axis=-1, keepdims=True))
    return e / tl.sum(e, axis=-1, keepdims=True)


@tl.fuse
def normalised(x, w):
    d = x - tl.mean(x, axis=-1, keepdims=True)
    return d * tl.rsqrt(tl.mean(d * d, axis=-1, keepdims=True) + 1e-5) * w


def expected(x: Any, w: Any) -> tuple[Any, Any]:
    x = x.astype("d")
    e, d = np.exp(x - x.max(-1, keepdims=True)), x - x.mean(-1, keepdims=True)
    return e / e.sum(-1, keepdims=True), d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-5) * w


@pytest.mark.parametrize("columns", [1025, 2048, 2049, 5003, 16384, 16385, 40000])
@pytest.mark.parametrize("rows", [1, 7])
def test_rows_of_any_length(rows: int, columns: int) -> None:
    rng = np.random.default_rng(columns)
    x, w = rng.standard_normal((rows, columns)).astype("f"), rng.standard_normal(columns).astype("f")
    for found, wanted in zip((softmax.on("cpu")(x), normalised.on("cpu")(x, w)), expected(x, w), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tiles", "longest"), [(CPU_TILES, 16384), (GPU_TILES, 1024)])
def test_the_longest_tile(tiles: TileTable, longest: int) -> None:
    """Rows that it holds are loaded once for all that is done with them."""
    module = tile_arrays(softmax.array_module(x=tl.f32["M", "N"]), tiles=tiles)
    loads = [op.result.tile.shape[-1] for op in module.kernels[0].walk() if isinstance(op, Load)]
    assert max(loads) == longest
    assert loads.count(longest) == (1 if longest > 1024 else 3)
