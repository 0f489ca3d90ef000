"""Variants of attention: functions that kernels are given as compile-time constants.

A score function ``score(s, b, h, q_index, k_index, *arrays)`` gives other scores for a tile of scores q·k / √D, a mask
``mask(b, h, q_index, k_index, *arrays)`` says which keys are seen. ``q_index`` is a column of positions, ``k_index`` a
row, ``h`` a number, or like ``q_index`` where heads share a tile. Positions are the keys': the last query stands at the
last key, so that query i is at i + Sk − Sq. ``arrays`` are up to three that the call gives; functions read them by
``tl.gather``, and by an index what does not depend on the head. Kernels are compiled anew for each function that is not
equal to an earlier one: those with numbers are frozen data classes.

A score function that is not s + something has a method ``slope(s, b, h, q_index, k_index, *arrays)``, its derivative by
s, for the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tilus as tl
from kernels_zoo.attention.online_softmax import LOG2_E


def causal(b: Any, h: Any, q_index: Any, k_index: Any, *arrays: Any) -> Any:
    return k_index <= q_index


@dataclass(frozen=True)
class Window:
    """Keys from ``left`` before to ``right`` after the query."""

    left: int
    right: int

    def __call__(self, b: Any, h: Any, q_index: Any, k_index: Any, *arrays: Any) -> Any:
        return (k_index >= q_index - self.left) & (k_index <= q_index + self.right)


def prefix_lm(b: Any, h: Any, q_index: Any, k_index: Any, prefix: Any) -> Any:
    """All see the first ``prefix[b]`` (B,) keys; what follows is causal."""
    return (k_index < prefix[b]) | (k_index <= q_index)


def same_document(b: Any, h: Any, q_index: Any, k_index: Any, document: Any) -> Any:
    """Causal within documents: ``document`` (B, Sk) has the number of each position's."""
    of_query, of_key = (tl.gather(document[b, :], (index,)) for index in (q_index, k_index))
    return (of_query == of_key) & (k_index <= q_index)


def tree(b: Any, h: Any, q_index: Any, k_index: Any, ancestors: Any, context: Any) -> Any:
    """The last queries are nodes of a tree: they see the first ``context[b]`` (B,) keys, and of the nodes, which
    follow, those whose bits are set in ``ancestors`` (B, nodes, words), u32."""
    node = tl.maximum(k_index - context[b], 0)
    words = tl.gather(ancestors[b, :, :], (q_index - context[b], node // 32))
    return (k_index < context[b]) | ((words >> (node % 32).to(tl.u32)) & 1 != 0)


def alibi(s: Any, b: Any, h: Any, q_index: Any, k_index: Any, slopes: Any) -> Any:
    """Scores fall by ``slopes[h]`` (H,) a position of distance."""
    return s - tl.gather(slopes, (h,)) * tl.abs(q_index - k_index)


def biased(s: Any, b: Any, h: Any, q_index: Any, k_index: Any, bias: Any) -> Any:
    """``bias`` (B, H, Sq, Sk) is added; its extents of 1 are broadcast before the call (``np.broadcast_to``)."""
    row = q_index - (bias.shape[3] - bias.shape[2])
    return s + tl.gather(bias, (b, h, row, k_index)).to(tl.f32)


@dataclass(frozen=True)
class Softcap:
    """Scores stay between −limit and limit: limit tanh(s / limit)."""

    limit: float

    def tanh(self, s: Any) -> Any:
        """1 − 2 / (1 + e^2x): as exact as f32, but near 0, where the score's error is what it is elsewhere."""
        power = tl.exp2(s * (2 * LOG2_E / self.limit), approximate=True)
        return 1.0 - 2.0 * tl.rcp(1.0 + power, approximate=True)

    def __call__(self, s: Any, b: Any, h: Any, q_index: Any, k_index: Any, *arrays: Any) -> Any:
        return self.tanh(s) * self.limit

    def slope(self, s: Any, b: Any, h: Any, q_index: Any, k_index: Any, *arrays: Any) -> Any:
        capped = self.tanh(s)
        return 1.0 - capped * capped
