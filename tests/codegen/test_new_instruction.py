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


class ReverseBits(Operation):
    """``brev``: the bits of a register in reverse."""

    NAME = "reverse_bits"
    x: Value

    def infer(self) -> Sequence[Type]:
        return (self.x.type,)


BREV = Instruction("brev", "brev.b32 $result, $x;", (Registers("result", "r"),), (Registers("x", "r"),), Effects.NONE)


@tl.jit
def copies(x: tl.f16["N"], y: tl.f16["N"]):
    i = tl.grid(1)
    tl.store(y, (i * 64,), tl.load(x, (i * 64,), (64,)))


def module_with_brev() -> Module:
    threads = lower_for_gpu(copies.assume("divisible", {}).trace(get_target("sm_80")), "sm_80")
    block = threads.kernels[0].body
    at, store = next((i, op) for i, op in enumerate(block.ops) if isinstance(op, PtrStore))
    moved = ReverseBits(store.value, span=store.span)
    store.map_operands(lambda v: moved.result if v is store.value else v)
    block.ops.insert(at, moved)
    return threads


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    for table, value in ((ptx.DESCRIBED, lambda op: BREV), (cuda.HANDLERS, described_in_c),
                         (nvptx.HANDLERS, described_in_llvm)):
        monkeypatch.setitem(cast(dict[Any, Any], table), ReverseBits, value)


@pytest.mark.usefixtures("known")
def test_both_routes_emit_it() -> None:
    target = get_target("sm_80")
    for text in (cuda_to_ptx(cuda.emit_cuda(module_with_brev()), target),
                 nvptx.emit_ptx(module_with_brev())):
        assert text.count("brev.b32") == 1
        assert assemble(text, target).registers > 0


def test_what_nobody_describes_is_refused_by_name() -> None:
    for emit in (cuda.emit_cuda, nvptx.emit_llvm):
        with pytest.raises(tl.TilusError, match="no reverse_bits yet"):
            emit(module_with_brev())
