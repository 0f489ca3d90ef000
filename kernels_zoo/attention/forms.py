"""What attention can be beside softmax(q kᵀ / √D) v: the forms that the forward and backward pass have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernels_zoo.attention.arrays import variant_arrays
from kernels_zoo.checking import Array


@dataclass(frozen=True, eq=False)
class Form:
    """One form of attention.

    Attributes:
        causal: queries see keys up to their own position; the last query stands at the last key.
        left, right: queries see so many keys before and after their own position; −1: all.
        score, mask: functions as in :mod:`variants`, and ``arrays`` that they are given.
        sinks: (H,), f32: the score of one more key of each head, whose value is 0.
        dropout: the part of the weights that is left out, chosen by ``seed``; the others grow by 1 / (1 − dropout).
        q_offsets, k_offsets: (sequences + 1,), i32, from 0: sequences of different lengths lie one after another in
            arrays (1, total, H, D), each from one offset to the next.
    """

    causal: bool = False
    left: int = -1
    right: int = -1
    score: Any = None
    mask: Any = None
    arrays: tuple[Array, ...] = ()
    sinks: Array | None = None
    dropout: float = 0.0
    seed: int = 0
    q_offsets: Array | None = None
    k_offsets: Array | None = None

    def constants(self) -> dict[str, Any]:
        """Keyword arguments of all kernels."""
        return {"score": self.score, "mask": self.mask, "causal": self.causal, "left": self.left, "right": self.right,
                "dropout": self.dropout, "seed": self.seed if self.dropout else None, **variant_arrays(self.arrays)}

    def lengths(self, of_keys: bool = False) -> dict[str, Any]:
        """The arguments for sequences of different lengths. ``of_keys``: blocks are for tiles of keys, not queries."""
        if self.q_offsets is None or self.k_offsets is None:
            return {}
        offsets = self.k_offsets if of_keys else self.q_offsets
        longest = int((offsets[1:] - offsets[:-1]).max(initial=0))
        return {"q_offsets": self.q_offsets, "k_offsets": self.k_offsets, "longest": longest}
