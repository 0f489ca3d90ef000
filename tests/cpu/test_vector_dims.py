"""Along which dimension tiles go by vectors."""

from __future__ import annotations

import numpy as np

import tilus as tl


@tl.jit
def affine(x: tl.f32["M", "N"], a: tl.f32["M"], b: tl.f32["M"], c: tl.f32["M"], d: tl.f32["M"], y: tl.f32["M", "N"]):
    i = tl.grid(tl.cdiv(x.shape[0], 4)) * 4
    e, f, g, h = (tl.load(v, i, 4)[:, None] for v in (a, b, c, d))
    for j in tl.range(0, x.shape[1], 256):
        tl.store(y, (i, j), ((tl.load(x, (i, j), (4, 256)) - e) * f + g) * h)


def test_rows_go_by_vectors_however_many_numbers_there_are_for_each() -> None:
    rng = np.random.default_rng(0)
    x, vectors = rng.standard_normal((8, 512), np.float32), rng.standard_normal((4, 8), np.float32)
    y = np.empty_like(x)
    affine.on("cpu")(x, *vectors, y)
    e, f, g, h = (v[:, None].astype("d") for v in vectors)
    np.testing.assert_allclose(y, ((x - e) * f + g) * h, rtol=1e-5, atol=1e-6)
    # Along columns elements would be gathered and scattered one by one.
    assert "extractelement <4 x float>" not in affine.compile("cpu", assume="contiguous").llvm
