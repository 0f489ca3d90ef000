"""An instruction that neither emitter has heard of: its operation and its description are all that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

import tilus as tl
from tilus.codegen import cuda, ptx
from tilus.codegen.cuda.operations import described as described_in_c
from tilus.codegen.llvm import nvptx
from tilus.codegen.llvm.nvptx.operations import described as described_in_llvm
from tilus.codegen.ptx.instruction import Effects, Instruction, Registers
from tilus.ir.core import Module, Operation, Value
from tilus.ir.ops import PtrStore
from tilus.ir.types import Type
from tilus.lowering.pipelines import lower_for_gpu
from tilus.runtime.toolchains.nvrtc import cuda_to_ptx
from tilus.runtime.toolchains.ptxas import assemble
from tilus.targets import get_target


class MovMatrix(Operation):
    """``movmatrix``: an 8×8 matrix of 16-bit elements, transposed."""

    NAME = "movmatrix"
    x: Value

    def infer(self) -> Sequence[Type]:
        return (self.x.type,)


MOVMATRIX = Instruction("movmatrix_trans", "movmatrix.sync.aligned.m8n8.trans.b16 $result, $x;",
                        (Registers("result", "r"),), (Registers("x", "r"),), Effects.CONVERGENT)


@tl.jit
def copies(x: tl.f16["N"], y: tl.f16["N"]):
    i = tl.grid(1)
    tl.store(y, (i * 64,), tl.load(x, (i * 64,), (64,)))


def module_with_movmatrix() -> Module:
    threads = lower_for_gpu(copies.assume("divisible", {}).trace(get_target("sm_80")), "sm_80")
    block = threads.kernels[0].body
    at, store = next((i, op) for i, op in enumerate(block.ops) if isinstance(op, PtrStore))
    moved = MovMatrix(store.value, span=store.span)
    store.map_operands(lambda v: moved.result if v is store.value else v)
    block.ops.insert(at, moved)
    return threads


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    for table, value in ((ptx.DESCRIBED, lambda op: MOVMATRIX), (cuda.HANDLERS, described_in_c),
                         (nvptx.HANDLERS, described_in_llvm)):
        monkeypatch.setitem(cast(dict[Any, Any], table), MovMatrix, value)


@pytest.mark.usefixtures("known")
def test_both_routes_emit_it() -> None:
    target = get_target("sm_80")
    for text in (cuda_to_ptx(cuda.emit_cuda(module_with_movmatrix()), target),
                 nvptx.emit_ptx(module_with_movmatrix())):
        assert text.count("movmatrix.sync.aligned.m8n8.trans.b16") == 1
        assert assemble(text, target).registers > 0


def test_what_nobody_describes_is_refused_by_name() -> None:
    for emit in (cuda.emit_cuda, nvptx.emit_llvm):
        with pytest.raises(tl.TilusError, match="no movmatrix yet"):
            emit(module_with_movmatrix())
