"""The numbers of stochastic rounding: ``tl.random.rand(seed, i)`` for the element i, computed by the CPU engine."""

# f32["N"] names a dimension; type checkers take the string for a forward reference.
# mypy: disable-error-code="attr-defined, name-defined, valid-type"

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.ir.dtypes import f32, i64, u64
from tilus.lang.builtins.control import cdiv, grid
from tilus.lang.builtins.creation import arange
from tilus.lang.builtins.memory import store
from tilus.lang.builtins.random import rand
from tilus.runtime.jit import jit

BLOCK = 1024


@jit
def uniform(seed: u64, first: i64, out: f32["N"], BLOCK: int = BLOCK) -> None:  # noqa: F821, UP037
    i = grid(cdiv(out.shape[0], BLOCK))
    index = arange(BLOCK).to(i64) + (first + i * BLOCK)
    store(out, i * BLOCK, rand(seed, index))


@functools.cache
def _kernel() -> Any:
    return uniform.on("cpu")


class Uniform:
    """Numbers in [0, 1), multiples of 2^-24, for runs of at most ``most`` elements."""

    def __init__(self, seed: int, most: int) -> None:
        self.seed = seed
        # Whole blocks, so that one specialisation of the kernel does for all lengths.
        self.numbers = np.empty(-(-most // BLOCK) * BLOCK, np.float32)

    def __call__(self, start: int, count: int) -> npt.NDArray[Any]:
        """Those of the elements from ``start`` on, until the next call."""
        _kernel()(self.seed, start, self.numbers[: -(-count // BLOCK) * BLOCK])
        return self.numbers[:count]


__all__ = ["Uniform"]
