"""How a recurrent layer is spread over a GPU so that its recurrent weights stay on the chip (FlashRNN: Pöppel, Beck and
Hochreiter, 2024).

One cooperative kernel runs all steps. In each, every head multiplies its state h of (B, D) by weights R of (D, gates ·
D), or on the way back the gradients of the gates, of (B, gates · D), by its transposition. R is cut into tiles of 16
along the depth (the D of the state) and of ``tile_gate`` along the columns (the gates); an instruction multiplies one
by 16 · ``tile_batch`` numbers of the state. Blocks share the gates and the depth of a head; within a
block warps do, and the batch as well. What a warp needs of R lies in its registers as far as they go, the rest in
shared memory.
"""

from __future__ import annotations

from tilus.targets import Target, get_target
from tilus.tuning.system import System, interval
from tilus.tuning.targets import limits_of

SHAPES = [(16, 48), (32, 24), (64, 12), (128, 6), (256, 3), (768, 1)]
"""The paper's head dimensions and numbers of heads."""

MODEL = """
tile_batch in [8, 16, 32]; tile_batch * tile_gate == 256;

blocks_gate * warps_gate * tiles_gate * tile_gate == columns;
blocks_depth * warps_depth * tiles_depth * 16 == depth;
warps_batch * tiles_batch == cdiv(B, tile_batch);
register_tiles + shared_tiles == tiles_gate * tiles_depth;
in_registers == IN_REGISTERS; in_registers <= gates * D * D;
D % blocks_gate == 0;

N * blocks_gate * blocks_depth <= sm_count;
warps_gate * warps_depth * warps_batch * warp_size <= max_threads_per_block;

REGISTERS <= max_registers_per_thread;
cdiv(REGISTERS, 8) * 8 * warps_gate * warps_depth * warps_batch * warp_size <= registers_per_sm;

2 * 16 * tile_gate * shared_tiles * warps_gate * warps_depth
  + 2 * tile_batch * cdiv(B, tile_batch) * (state // blocks_depth)
  + 4 * tile_batch * cdiv(B, tile_batch) * (columns // blocks_gate) * (warps_depth - 1) <= shared_per_block_optin
"""
"""Shared memory holds, besides tiles of R, the state in 16 bits and the partial sums of all warps along the depth but
one, in 32. Registers come in units of 8 a thread."""

REGISTERS = "(register_tiles * tile_gate // 4 + 8 * tiles_batch + tile_batch // 4 + others)"
"""Of a thread: its part of the tiles of R, an accumulator for every tile of the batch, a fragment of the state, and
others for addresses and the gates' arithmetic: 40, on the way back 160."""

IN_REGISTERS = "(16 * tile_gate * register_tiles * warps_gate * warps_depth * blocks_gate * blocks_depth)"
"""Elements of a head's R that are in registers, of ``gates * D * D``."""


WHOLE = "; blocks_depth == 1; warps_depth == 1"
"""The tilings of kernels in which no sum is divided, as those of :mod:`fused`."""


def tilings(D: int, N: int, B: int = 16, gates: int = 4, target: str | Target = "sm_80", *, back: bool = False,
            whole: bool = False) -> System:
    """The tilings of N heads of dimension D, a multiple of 16, on a target's board, for a batch of B. ``back``: of the
    backward pass; ``whole``: those that do not divide the depth, and take the gates one by one.

    Raises:
        UserError: E0501, unknown target.
    """
    counts = ("blocks_gate", "blocks_depth", "tile_batch", "tile_gate", "warps_gate", "warps_depth", "warps_batch",
              "tiles_gate", "tiles_depth", "tiles_batch")
    variables = {**dict.fromkeys(counts, interval(1)), "register_tiles": interval(0), "shared_tiles": interval(0),
                 "in_registers": interval(0)}
    model = MODEL.replace("IN_REGISTERS", IN_REGISTERS).replace("REGISTERS", REGISTERS) + (WHOLE if whole else "")
    columns, depth = (D, gates * D) if back else (gates * D, D)
    known = {"D": D, "N": N, "B": B, "gates": gates, "columns": columns, "depth": depth,
             "state": D if whole else depth, "others": 160 if back else 40}
    return System(variables, model, {**known, **limits_of(get_target(target))})


def tiling(D: int, N: int, B: int = 16, gates: int = 4, target: str | Target = "sm_80", *, back: bool = False,
           whole: bool = False) -> dict[str, int]:
    """The tiling that holds the largest part of R in registers; of several the one with the most blocks.

    Raises:
        UserError: E1104, there is none: the heads are too many or too large for the target.
    """
    return tilings(D, N, B, gates, target, back=back, whole=whole).largest("in_registers")


def share_in_registers(found: dict[str, int]) -> float:
    """The part of R that a tiling holds in registers."""
    return found["register_tiles"] / (found["register_tiles"] + found["shared_tiles"])


def main() -> None:
    for target in ("sm_80", "sm_86", "sm_90"):
        for D, N in SHAPES:
            found = tiling(D, N, target=target)
            blocks = N * found["blocks_gate"] * found["blocks_depth"]
            warps = found["warps_gate"] * found["warps_depth"] * found["warps_batch"]
            share = share_in_registers(found)
            print(f"{target} D={D} N={N}: {blocks} blocks of {warps} warps, {share:.0%} of R in registers")


if __name__ == "__main__":
    main()
