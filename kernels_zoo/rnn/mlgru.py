"""The MLGRU of language models without matrix products (Zhu et al., 2024): a recurrence without recurrent weights.

f = l + (1 − l) σ(f̂), h' = f h + (1 − f) silu(î), where l is a lower bound of what is kept, of layers beyond the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels_zoo.rnn.cells import MLGRU
from kernels_zoo.rnn.recurrent import Tape, report, rnn, rnn_backward

if TYPE_CHECKING:
    from kernels_zoo.checking import Array


def mlgru(gates: Array, lower: Array | None = None, initial: Array | None = None, tape: bool = False,
          engine: str | None = None) -> tuple[Array, Array, Tape | None]:
    """h (B, T, D), the state after the last step, (B, D), f32, and with ``tape`` what :func:`mlgru_backward` needs.

    ``gates`` (B, T, 2, D) has f̂ and î, in one type of f16, bf16 and f32; ``lower`` (D,) is l, and ``initial`` (B, D)
    the state before the first step, each 0 where None.
    """
    import numpy as np

    d = gates.shape[3]
    bias = np.zeros((MLGRU.gates, 1, d), gates.dtype)
    if lower is not None:
        bias[0, 0] = lower
    given = None if initial is None else initial[None, :, None]
    h, final, kept = rnn(MLGRU, gates[:, :, :, None], np.empty((0, 1, d, d), gates.dtype), bias, given, tape,
                         engine=engine)
    return h[:, :, 0], final[0, :, 0], kept


def mlgru_backward(gates: Array, tape: Tape, dh: Array, final: Array | None = None, engine: str | None = None
                   ) -> tuple[Array, Array, Array]:
    """The gradients of ``gates``, ``lower`` and ``initial``, from those of h and of the last state."""
    import numpy as np

    d = gates.shape[3]
    given = None if final is None else final[None, :, None]
    of_gates, _, bias, initial = rnn_backward(MLGRU, gates[:, :, :, None], np.empty((0, 1, d, d), gates.dtype), tape,
                                              dh[:, :, None], given, engine=engine)
    return of_gates[:, :, :, 0], bias[0, 0], initial[0, :, 0]


def main() -> None:
    report(MLGRU)


if __name__ == "__main__":
    main()
