"""PTX instructions, each described once: its text, its operands in registers and memory, and its effects.

Both routes render these descriptions: as ``asm`` in device functions of CUDA C (``codegen/cuda/inline_asm.py``), and as
calls of inline assembly in LLVM IR (``codegen/llvm/inline_asm.py``). What C has an operator for and LLVM an
instruction or intrinsic is not here.
"""

from __future__ import annotations

from tilus.codegen.ptx import arith, matrix, memory, sync
from tilus.codegen.ptx.instruction import Described, Instruction

DESCRIBED: Described = {
    **arith.DESCRIBED, **matrix.DESCRIBED, **memory.DESCRIBED, **sync.DESCRIBED,
}
"""Operations that are one instruction, and the function that describes it. The operands of the instruction have the
names of the operation's fields, and ``result``."""

__all__ = ["DESCRIBED", "Instruction", "matrix", "memory", "sync"]
