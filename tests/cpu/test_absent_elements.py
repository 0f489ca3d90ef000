"""Elements beyond an array are the number of its type that is nearest to 0, in products too."""

import numpy as np
import pytest

import tilus as tl

SIGNS = tl.codebook("signs", (0.5, -3.0), bits=1)


@tl.jit
def product(x: SIGNS["M", "K"], y: tl.f32["M", "N"]) -> None:
    tl.grid(1)
    acc = tl.zeros((16, 16), tl.f32)
    for k in tl.range(0, x.shape[1], 16):
        part = tl.load(x, (0, k), (16, 16)).to(tl.f32)
        acc = tl.dot(part, tl.transpose(part), acc)
    tl.store(y, (0, 0), acc)


@tl.fuse
def gram(x):  # type: ignore[no-untyped-def]
    return x.to(tl.f32) @ x.to(tl.f32).T


@pytest.mark.parametrize("engine", ["interpret", "cpu"])
def test_of_a_type_without_zero(engine: str) -> None:
    """The other half of the last step along K is 0.5 times 0.5; a product of whole arrays has no such elements."""
    a = np.where(np.random.default_rng(0).random((5, 21)) < 0.5, 0.5, -3.0).astype(np.float32)
    x, y = tl.pack(a, SIGNS), np.zeros((5, 16), np.float32)
    product.on(engine)(x, y)
    padded = np.full((16, 32), 0.5, np.float32)
    padded[:5, :21] = a
    np.testing.assert_array_equal(y, padded[:5] @ padded.T)
    np.testing.assert_array_equal(gram.on(engine)(x), a @ a.T)
