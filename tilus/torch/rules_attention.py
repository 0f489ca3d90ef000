"""Attention as one operator."""

from __future__ import annotations

import math

from tilus.ir.dtypes import i64
from tilus.ir.ops import Iota
from tilus.lang.builtins import reduction
from tilus.lang.builtins.elementwise import where
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.context import current
from tilus.lang.values import Tile, emit
from tilus.torch.node import Call, convert, operand
from tilus.torch.registry import PRODUCT, Refused, rule
from tilus.torch.rules_reductions import wide


@rule("_scaled_dot_product_flash_attention_for_cpu", kind=PRODUCT)
def flash_attention(call: Call, q: Tile, k: Tile, v: Tile, dropout: float, is_causal: bool, mask: Tile | None,
                    scale: float | None) -> tuple[Tile, None]:
    """Rows that see no key give 0."""
    if call.uses(1):
        raise Refused("the log-sum-exp of attention, which its gradient needs")
    if dropout:
        raise Refused("attention with dropout")
    return weighed(scores(q, k, mask, is_causal, scale), v), None


def scores(q: Tile, k: Tile, mask: Tile | None, is_causal: bool, scale: float | None) -> Tile:
    """What the softmax is of, with −∞ for keys that are not seen; causal masks are aligned at the top left."""
    dtype = wide(q.dtype)
    found = convert(q @ k.transpose(0, 1, 3, 2), dtype)
    found = found * (FUNCTIONS["rsqrt"](operand(q.shape[-1], dtype)) if scale is None else operand(scale, dtype))
    if is_causal:
        row, column = (emit(Iota(found.shape, axis, i64, span=current().span)) for axis in (2, 3))
        found = where(column <= row, found, -math.inf)
    return found if mask is None else found + convert(mask, dtype)


def weighed(scores: Tile, values: Tile) -> Tile:
    most = reduction.max(scores, 3, keepdims=True)
    weights = FUNCTIONS["exp"](scores - where(most == -math.inf, 0.0, most))
    total = reduction.sum(weights, 3, keepdims=True)
    return (weights / where(total == 0.0, 1.0, total)).to(values.dtype) @ values
