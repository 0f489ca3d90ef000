"""What an instruction's description says is what both routes print."""

from __future__ import annotations

import re

import pytest

from tilus.codegen import ptx
from tilus.codegen.cuda.inline_asm import REGISTER_TYPES as C_TYPES
from tilus.codegen.cuda.inline_asm import device_function
from tilus.codegen.llvm.nvptx import inline_asm
from tilus.codegen.llvm.nvptx.assembly import llvm_to_ptx
from tilus.codegen.llvm.text import Emitter, ModuleText
from tilus.codegen.llvm.types import TypeSpeller
from tilus.codegen.ptx import arith
from tilus.codegen.ptx.instruction import Address, Effects, Instruction, Registers, predicated
from tilus.codegen.ptx.sync import read_again
from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import DType, bf16, bool_, f16, f32, f64, i8, i32, parse_dtype, u8, u32, u64
from tilus.ir.ops.simt import (
    Barrier,
    CpAsync,
    CpAsyncCommit,
    CpAsyncWait,
    LdMatrix,
    Mma,
    StMatrix,
    Trap,
    WarpBarrier,
)
from tilus.ir.ops.thread import AtomicLoad, PtrAtomic
from tilus.ir.ops.words import BytePermute, FunnelShift, Lop3
from tilus.ir.types import PointerType, TileType
from tilus.runtime.toolchains.nvrtc import cuda_to_ptx
from tilus.runtime.toolchains.ptxas import assemble
from tilus.targets import get_target


def pointer(space: str, dtype: DType = f16) -> Value:
    return Value(PointerType(dtype, space), owner=Block([]))


def vector(dtype: DType, count: int = 0) -> Value:
    return Value(TileType(dtype, (count,) if count else ()), owner=Block([]))


def of(op: Operation) -> Instruction:
    return ptx.memory.atomic(op) if isinstance(op, PtrAtomic) else ptx.DESCRIBED[type(op)](op)


SHARED, GLOBAL = pointer("shared"), pointer("global")
E4M3 = parse_dtype("f8e4m3fn")
INSTRUCTIONS: dict[str, list[Instruction]] = {
    "sm_70": [
        of(Mma(vector(f16, 4), vector(f16, 4), vector(f32, 8), (8, 8, 4), order="col.row")),
        of(Mma(vector(f16, 4), vector(f16, 4), vector(f16, 8), (8, 8, 4))),
        of(Barrier()), of(Barrier(3, 64)), of(Barrier(3, 64, arrive=True)), of(WarpBarrier()), of(Trap()),
        *(of(PtrAtomic(kind, pointer(space, dtype), vector(dtype), order=order, scope=scope))
          for kind, dtype, space, order, scope in (
              ("add", f32, "global", "relaxed", "device"), ("add", f64, "shared", "relaxed", "block"),
              ("add", i32, "global", "acq_rel", "system"), ("add", u64, "global", "release", "device"),
              ("add", f16, "global", "relaxed", "device"), ("max", i32, "shared", "acquire", "block"),
              ("min", u32, "global", "relaxed", "device"), ("exchange", f32, "global", "relaxed", "device"),
              ("xor", u64, "global", "relaxed", "device"))),
        of(PtrAtomic("cas", pointer("global", f64), vector(f64), compare=vector(f64))),
        of(AtomicLoad(pointer("global", u32))), of(AtomicLoad(pointer("global", f64), scope="system")),
        of(AtomicLoad(pointer("shared", u32), "relaxed")),
        *(ptx.memory.load("shared", kind, words, bits) for kind, words, bits in (
            ("h", 1, 8), ("h", 1, 16), ("r", 1, 32), ("f", 4, 32), ("r", 2, 32), ("d", 1, 64), ("l", 2, 64))),
        ptx.memory.load("global", "r", 4, 32, True), ptx.memory.store("global", "f", 4, 32),
        *(ptx.memory.store("shared", kind, words, bits) for kind, words, bits in (
            ("h", 1, 8), ("h", 1, 16), ("f", 1, 32), ("r", 4, 32), ("l", 1, 64))),
        arith.approx_unary("ex2", True), arith.approx_unary("rsqrt", False), arith.half_pairs("fma", "f16"),
        of(Lop3(vector(u32), vector(u32), vector(u32), 0xEA)), of(FunnelShift(vector(u32), vector(u32), 7)),
        of(BytePermute(vector(u32), vector(u32), 0x4140)),
        of(BytePermute(vector(u32), vector(u32), control=vector(u32))),
        arith.half_pairs("mul", "f16"), arith.F16_TO_F32, arith.F64_TO_F16, arith.F32_TO_F16, read_again("tid.x"),
    ],
    "sm_80": [
        of(Mma(vector(f16, 8), vector(f16, 4), vector(f32, 4), (16, 8, 16))),
        of(Mma(vector(bf16, 8), vector(bf16, 4), vector(f32, 4), (16, 8, 16))),
        of(Mma(vector(f32, 4), vector(f32, 2), vector(f32, 4), (16, 8, 8), tf32=True)),
        of(Mma(vector(f64, 1), vector(f64, 1), vector(f64, 2), (8, 8, 4))),
        of(Mma(vector(i8, 16), vector(u8, 8), vector(i32, 4), (16, 8, 32))),
        *(of(LdMatrix(SHARED, count, trans)) for count in (1, 2, 4) for trans in (False, True)),
        of(LdMatrix(pointer("shared", f32), 4)), of(CpAsyncCommit()), of(CpAsyncWait(2)),
        *(of(CpAsync(SHARED, GLOBAL, size, predicate)) for size in (4, 16) for predicate in (None, vector(bool_))),
        arith.f32_pair("f16"), arith.f32_pair("bf16"), arith.F32_TO_BF16, arith.half_pairs("fma", "bf16"),
        arith.half_pairs("max", "f16"), arith.half_pairs("min", "bf16"),
    ],
    "sm_90a": [
        *(of(StMatrix(SHARED, vector(f16, 2 * count), count, trans)) for count in (1, 4) for trans in (False, True)),
        of(Mma(vector(E4M3, 16), vector(E4M3, 8), vector(f32, 4), (16, 8, 32))),
        arith.bytes_to_f16("e4m3"), arith.f32_to_bytes("e5m2"), arith.half_pairs("mul", "bf16"),
    ],
}
CASES = [(target, i) for target, found in INSTRUCTIONS.items() for i in found]
LLVM_ONLY = [(target, predicated(i, other)) for target, i in CASES for other in (False, True)
             if any(isinstance(o, Address) for o in i.inputs) and (i.results or not other)]


def count_of(operand: Registers) -> int:
    return max(1, operand.count)


def by_c(instruction: Instruction, target: str) -> str:
    """PTX of a kernel that calls an instruction's function on what it reads, and stores what that gives."""
    several = instruction.registers > 1
    ctype = C_TYPES[instruction.results[0].kind] if instruction.results else ""
    templates, arguments = [], [f"x{i}" for i in range(instruction.registers)] if several else []
    body = [f"{ctype} x{i} = (({ctype}*)out)[{i}];" for i in range(instruction.registers)] if several else []
    for operand in instruction.inputs:
        if isinstance(operand, Address):
            arguments.append("where" if operand.space == "shared" else "out")
            templates += ["0"] if operand.space == "shared" else []
        elif not isinstance(operand, Registers):
            templates.append(str(operand.value))
        elif operand.name != instruction.accumulator:
            kind = C_TYPES[operand.kind]
            arguments += [f"((volatile {kind}*)out)[{i}]" for i in range(count_of(operand))]
    constants = f"<{', '.join(templates)}>" if templates else ""
    call = f"ptx::{instruction.name}{constants}({', '.join(arguments)});"
    if several:
        body += [call, *(f"(({ctype}*)out)[{i}] = x{i};" for i in range(instruction.registers))]
    else:
        body.append(f"*({ctype}*)out = {call}" if instruction.results else call)
    text = "\n".join(body)
    source = (f"namespace ptx {{\n{device_function(instruction, ctype)}\n}}\n"
              f'extern "C" __global__ void f(void* out, unsigned where) {{\n{text}\n}}')
    return cuda_to_ptx(source, get_target(target))


def by_llvm(instruction: Instruction, target: str) -> str:
    module = ModuleText()
    e = Emitter(module, TypeSpeller(spaces=inline_asm.SPACES))
    operands: dict[str, list[str]] = {}
    for operand in instruction.inputs:
        if isinstance(operand, Address):
            operands[operand.name] = ["%where" if operand.space == "shared" else "%out"]
        elif isinstance(operand, Registers):
            kind = inline_asm.REGISTER_TYPES[operand.kind]
            operands[operand.name] = [e.op(f"load volatile {kind}, ptr addrspace(1) %out")
                                      for _ in range(count_of(operand))]
    results = inline_asm.emit(e, instruction, operands)
    for result in results:
        kind = inline_asm.REGISTER_TYPES[instruction.results[0].kind]
        e.do(f"store volatile {kind} {result}, ptr addrspace(1) %out")
    lines = "\n".join(e.lines)
    text = (f'target triple = "nvptx64-nvidia-cuda"\ndefine ptx_kernel void @f(ptr addrspace(1) %out, ptr addrspace(3) '
            f"%where) {{\nentry:\n{lines}\nret void\n}}\nattributes #0 = {{ convergent nounwind }}\n"
            "attributes #1 = { nounwind memory(none) }\n")
    return llvm_to_ptx(text, get_target(target))


def inlined(text: str) -> list[str]:
    """The inline assembly of a kernel, without the names of registers and offsets of 0."""
    parts = re.findall(r"// begin inline asm\n(.*?)// end inline asm", text, re.DOTALL)
    words = [re.sub(r"\s+", " ", p).strip() for p in parts]
    return [re.sub(r"%(?!tid)\w+", "%", w).replace(" + 0]", "]").replace("+0]", "]") for w in words]


@pytest.mark.sweep(keep=53)
@pytest.mark.parametrize(("target", "instruction"), CASES, ids=lambda x: x if isinstance(x, str) else x.name)
def test_both_routes_print_one_instruction_that_ptxas_takes(target: str, instruction: Instruction) -> None:
    texts = [by_c(instruction, target), by_llvm(instruction, target)]
    for text in texts:
        assemble(text, get_target(target))
    from_c, from_llvm = (inlined(t) for t in texts)
    assert len(from_c) == len(from_llvm) == 1
    if any(isinstance(o, Registers) and o.kind == "b" for o in instruction.inputs):  # C has no registers for predicates
        assert re.sub(r"\{ \.reg .*?, 0; | \}", "", from_c[0]).replace("predicate", "%") == from_llvm[0]
    else:
        assert from_c == from_llvm


@pytest.mark.parametrize(("target", "instruction"), LLVM_ONLY, ids=lambda x: x if isinstance(x, str) else x.name)
def test_ptxas_takes_what_has_a_predicate(target: str, instruction: Instruction) -> None:
    text = by_llvm(instruction, target)
    assemble(text, get_target(target))
    (only,) = inlined(text)
    assert only.count("mov.") == instruction.registers
    assert re.search(r"@% \w", only)


def test_effects_of_instructions() -> None:
    """What may be moved or dropped: loads of what nobody writes, arithmetic; not what warps do together."""
    assert of(Mma(vector(f16, 8), vector(f16, 4), vector(f32, 4), (16, 8, 16))).effects is Effects.CONVERGENT
    assert ptx.memory.load("global", "r", 1, 32, True).effects is Effects.NONE
    assert ptx.memory.load("global", "r", 1, 32).effects is Effects.MEMORY
    assert arith.half_pairs("add", "f16").effects is Effects.NONE
    assert predicated(of(LdMatrix(SHARED, 4))).effects is Effects.MEMORY


def test_equal_operations_have_one_description() -> None:
    one, other = (of(LdMatrix(pointer("shared"), 4, True)) for _ in range(2))
    assert one is other
    assert of(LdMatrix(SHARED, 4, True)) is not of(LdMatrix(SHARED, 4, False))
    assert predicated(one) is predicated(other)
