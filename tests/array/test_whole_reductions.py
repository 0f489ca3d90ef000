"""Reductions of whole arrays to one number, spread over blocks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.interp import evaluate_launch
from tilus.ir.ops.array import PartialReduce

ENGINES = ("cpu", "interpret", "simulate:sm_80:ptx", "simulate:sm_80:cuda")
SHAPES = ((100, 70), (1, 5000), (3000, 1), (1, 1), (7, 2111), (0, 5), (5, 0))
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[np.ndarray], Any]]] = {
    "sum": (lambda x: tl.sum(x), lambda x: x.sum()),
    "mean of squares": (lambda x: tl.mean(x * x), lambda x: (x * x).mean()),
    "maximum": (lambda x: tl.max(x), lambda x: x.max()),
    "product": (lambda x: tl.prod(x * 0.001 + 1), lambda x: (x * 0.001 + 1).prod()),
    "any": (lambda x: tl.any(x > 3), lambda x: (x > 3).any()),
    "normalised": (lambda x: x / tl.sqrt(tl.sum(x * x) + 1e-9), lambda x: x / np.sqrt((x * x).sum() + 1e-9)),
    "two": (lambda x: tl.sum(x) * tl.sum(x * x), lambda x: x.sum() * (x * x).sum()),
    "one of another": (lambda x: tl.sum(tl.exp(x - tl.max(x))), lambda x: np.exp(x - x.max()).sum()),
    "of rows": (lambda x: tl.mean(tl.max(x, axis=1)), lambda x: x.max(1).mean()),
    "of roots of rows": (lambda x: tl.sum(tl.sqrt(tl.sum(x * x, axis=1))), lambda x: np.sqrt((x * x).sum(1)).sum()),
    "transposed": (lambda x: tl.sum(x.T * 2), lambda x: (x * 2).sum()),
    "of a product": (lambda x: tl.sum(x @ x.T), lambda x: (x @ x.T).sum()),
}
OF_NOTHING = ("sum", "product", "any", "two")
"""Those that have a value for an empty array."""


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name: str, engine: str) -> None:
    ours, numpys = FUNCTIONS[name]
    for shape in SHAPES:
        if (0 in shape and name not in OF_NOTHING) or (name == "of a product" and max(shape) > 100):
            continue
        x = np.random.default_rng(0).standard_normal(shape)
        found = tl.fuse(ours).on(engine)(x.astype(np.float32))
        np.testing.assert_allclose(found, numpys(x), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["f2", "i1", "f8"])
def test_other_element_types(dtype: str) -> None:
    x = (np.arange(30000) % 5 - 1).astype(dtype).reshape(100, 300)
    for engine in ENGINES:
        found = tl.fuse(lambda x: tl.sum(x)).on(engine)(x)
        assert float(found) == x.astype(np.float64).sum()


@pytest.mark.parametrize("extents", [(1, 1), (3, 100_000), (100_000, 3), (4096, 4096), (0, 7)])
def test_blocks(extents: tuple[int, int]) -> None:
    """As many as there is work for, and one number of each in the workspace."""
    function = tl.fuse(lambda x: tl.mean(x * x))
    compiled = function.compile("sm_80", x=tl.f32["M", "N"], assume="contiguous")
    launch = compiled.launch_module.launch
    assert launch is not None
    grids, workspaces = [], []

    class Given:
        def __init__(self, *shape: int) -> None:
            self.shape, self.strides = shape, (shape[-1], 1)[-len(shape):]

    evaluate_launch(launch, [Given(*extents), Given(1)],
                    allocate=lambda shape, dtype, zero: workspaces.append(shape) or Given(*shape),
                    start=lambda name, grid, args: grids.append(grid), resident_blocks=lambda: 1)
    elements = extents[0] * extents[1]
    (parts,) = workspaces[0]
    assert grids == [(parts,), (1,)]
    assert 1 <= parts <= 1024
    assert elements < 50_000 or parts >= 16
    assert elements > 16_000 or parts == 1


def test_as_text() -> None:
    from tilus.ir.parser import parse_module
    from tilus.ir.printer import print_module
    from tilus.lowering.array.spread import spread_reductions

    module = tl.fuse(lambda x: tl.sum(x)).array_module(x=tl.f32["M", "N"])
    spread_reductions(module.kernels[0])
    (partial,) = [op for op in module.kernels[0].walk() if isinstance(op, PartialReduce)]
    assert partial.result.tile.shape == ("parts0",)
    text = print_module(module)
    assert print_module(parse_module(text)) == text
    small = tl.fuse(lambda x: tl.sum(x)).array_module(x=tl.f32[8, 16])
    spread_reductions(small.kernels[0])
    assert not any(isinstance(op, PartialReduce) for op in small.kernels[0].walk())


@tl.fuse
def of_the_same(x):
    """Several reductions of one array along one dimension."""
    return tl.max(x, axis=1, propagate_nan=True) + tl.sum(x * x, axis=1), tl.min(x, axis=1) * tl.sum(x, axis=1)


@pytest.mark.parametrize("engine", ["interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda"])
def test_several_of_the_same_elements(engine: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 3000), np.float32)
    x[1, 7] = np.nan
    most, least = of_the_same.on(engine)(x)
    wide = x.astype("d")
    np.testing.assert_allclose(most, wide.max(1) + (wide * wide).sum(1), rtol=1e-6)
    np.testing.assert_allclose(least, np.nanmin(wide, 1) * wide.sum(1), rtol=1e-3)
