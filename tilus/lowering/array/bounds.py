"""Bounds of extents, by which tile sizes fit the arrays of a call: a specialisation is for extents up to a power of two
each, as far as a tile is not full anyway."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tilus.ir.core import Function, Module, Parameter
from tilus.ir.types import Extent, extents_of
from tilus.lowering.array.collapse import Collapsed, collapse_axes
from tilus.lowering.array.equal import share_equal_values
from tilus.lowering.array.nested import join_nested_reductions
from tilus.lowering.array.online import recognise_attention
from tilus.lowering.array.regroup import copy_strided_arrays
from tilus.lowering.array.sink import sink_regroups
from tilus.lowering.array.spread import spread_reductions
from tilus.lowering.array.tiles import bound_of, limit_before

Factors = tuple[Extent, ...]
"""An extent as a product."""


def collapse(function: Function, inputs: Sequence[Parameter], outputs: Sequence[Parameter]) -> Collapsed:
    """What is done to an array-level function before it is tiled, in place."""
    share_equal_values(function)
    recognise_attention(function)
    sink_regroups(function, inputs)
    copy_strided_arrays(function, inputs)
    join_nested_reductions(function)
    spread_reductions(function)
    return collapse_axes(function, inputs, outputs)


class TiledExtents:
    """The symbols on which the tile sizes of an array-level module depend, for arrays that the parameters describe."""

    def __init__(self, module: Module, inputs: Sequence[Parameter], outputs: Sequence[Parameter]) -> None:
        (function,) = module.kernels
        products = collapse(function, inputs, outputs).products
        values = [*function.body.args, *(r for op in function.body.ops for r in op.results)]
        symbols: set[Extent | None] = {name for name, *_ in function.attributes.sizes}
        symbols |= {p.dims[d] for p in inputs for d in range(len(p.dims))}
        pairs = dict.fromkeys(extents_of(v.tile)[-2:] for v in values if v.tile.rank)
        self.pairs = [tuple((str(n), products.get(str(n), (n,))) for n in pair) for pair in pairs
                      if all(isinstance(n, int) or n in products or n in symbols for n in pair)]

    def bounds(self, values: Mapping[str, int]) -> dict[str, int]:
        """The bounds of those symbols whose values (and the values of whose factors) are small."""
        found: dict[str, int] = {}
        for *before, (name, factors) in self.pairs:
            last = bound_of(_value(factors, values))
            if last is not None:
                found[name] = last
            for name, factors in before:
                bound = bound_of(_value(factors, values), limit_before(last))
                if bound is not None:
                    found[name] = max(found.get(name, 0), bound)
        return found


def _value(factors: Factors, values: Mapping[str, int]) -> int:
    return math.prod(n if isinstance(n, int) else values[n] for n in factors)


__all__ = ["TiledExtents", "collapse"]
