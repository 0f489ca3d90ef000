"""Register conversions of small types: operations of our sequences, and what ptxas makes of them.

    python -m benchmarks.conversions [--target sm_80] [--types f4e2m1,u4] [--all]

For each type and target: the cost an element in order and in any order, instructions of SASS an element of the
latter by both routes, and of the chip's own ``cvt`` where it has one. Nothing is run: a kernel converts some groups and
another one twice as many, and the difference between their instructions, loads and stores left out, is what a group
takes.
"""

from __future__ import annotations

import argparse
import functools

from rich.console import Console
from rich.table import Table

from benchmarks.gpu_code import instructions, opcode
from tilus.codegen.cuda import emit_cuda
from tilus.codegen.llvm.nvptx import emit_ptx
from tilus.ir.attributes import Attributes
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Parameter, Value
from tilus.ir.dtypes import DType, i32, parse_dtype, u32
from tilus.ir.ops import Bitcast, Extract, Pack, PtrAdd, PtrLoad, PtrStore, Yield
from tilus.ir.ops.simt import CvtFp8, SpecialRegister
from tilus.ir.ops.words import Regroup
from tilus.ir.types import PointerType
from tilus.lowering.conversions import convert_words, group_of
from tilus.lowering.conversions.recipes import sources, targets_of
from tilus.lowering.conversions.table import program_for
from tilus.lowering.pipelines import GPU_THREAD_PASSES, run_passes
from tilus.runtime.toolchains.binutils import disassemble
from tilus.runtime.toolchains.nvrtc import cuda_to_ptx
from tilus.runtime.toolchains.ptxas import assemble
from tilus.targets import Feature, get_target

MARKED = ("u4", "i4", "nf4", "f4e2m1", "f6e3m2", "f8e4m3fn", "f8e4m3fin", "u3", "u5", "f5e2m2")
MEMORY = frozenset({"LDG", "STG", "LD", "ST", "LDC", "LDCU", "ULDC", "EXIT", "BRA"})
_GROUPS = 4


def converter(source: DType, target: DType, count: int, where: str, ordered: bool = True,
              native: bool = False) -> Module:
    """A kernel at thread level: each thread of a warp converts ``count`` elements, dense in the words that it reads,
    and writes the words of the result; ``native`` by the chip's ``cvt`` of bytes."""
    inputs, outputs = -(-count * source.bits // 32), count * target.bits // 32
    body = Block()
    x, y = (Value(PointerType(u32, "global"), name=name, owner=body) for name in "xy")
    body.args = [x, y]
    b = Builder(body)
    block = b.binary("mul", b.add(SpecialRegister("ctaid.x")).result, b.const(32, i32))
    thread = b.binary("add", block, b.add(SpecialRegister("tid")).result)

    def row(pointer: Value, length: int) -> Value:
        return b.add(PtrAdd(pointer, b.binary("mul", thread, b.const(length, i32)))).result

    begin, result = row(x, inputs), row(y, outputs)
    read = [b.add(PtrLoad(b.add(PtrAdd(begin, None, i)).result)).result for i in range(inputs)]
    words = b.add(Pack(tuple(read))).result
    if native:
        numbers: Value | None = b.add(CvtFp8(b.add(Regroup(words, source)).result, target)).result
    else:
        numbers = convert_words(b, words, source, count, target, ordered=ordered)
    assert numbers is not None
    stored = b.add(Regroup(numbers, u32)).result if target.bits != 32 else b.add(Bitcast(numbers, u32)).result
    for i in range(outputs):
        b.add(PtrStore(b.add(PtrAdd(result, None, i)).result, b.add(Extract(stored, i)).result))
    b.add(Yield(()))
    function = Function("convert", body, [Parameter("x", "array"), Parameter("y", "array", written=True)],
                        Attributes(warps=1))
    return Module([function], None, "thread", frozenset(), where)


def ptx_of(module: Module, route: str) -> str:
    """The PTX of a thread-level module, which is legalised in place, by a route."""
    target = get_target(module.target)
    run_passes(module, GPU_THREAD_PASSES)
    return emit_ptx(module) if route == "ptx" else cuda_to_ptx(emit_cuda(module), target)


@functools.cache
def sass_per_element(source: DType, target: DType, where: str, route: str, ordered: bool,
                     native: bool = False) -> float:
    """Instructions an element."""
    group = group_of(source, target)
    counts = []
    for groups in (_GROUPS, 2 * _GROUPS):
        ptx = ptx_of(converter(source, target, groups * group, where, ordered, native), route)
        code = instructions(disassemble(assemble(ptx, get_target(where)).cubin))
        counts.append(sum(opcode(text) not in MEMORY for _, text in code))
    return (counts[1] - counts[0]) / (_GROUPS * group)


def row(source: DType, target: DType, where: str) -> list[str] | None:
    """The line of a conversion; None where there is no sequence."""
    ordered, free = (program_for(source, target, o) for o in (True, False))
    if ordered is None or free is None:
        return None
    sass = [sass_per_element(source, target, where, route, False) for route in ("ptx", "cuda")]
    native = "-"
    if source.name in ("f8e4m3fn", "f8e5m2") and target.name == "f16":
        chip = where if get_target(where).has(Feature.CVT_FP8) else "sm_89"
        native = f"{sass_per_element(source, target, chip, 'ptx', False, native=True):.2f} ({chip})"
    return [source.name, target.name, f"{ordered.cost / ordered.elements:.3f}", f"{free.cost / free.elements:.3f}",
            *(f"{s:.3f}" for s in sass), native]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="sm_80")
    parser.add_argument("--types", default=",".join(MARKED))
    parser.add_argument("--to", default="f16", help="f16, bf16, f32 or bytes, or several of them")
    parser.add_argument("--all", action="store_true", help="all types and targets")
    options = parser.parse_args()
    chosen = sources() if options.all else [parse_dtype(name) for name in options.types.split(",")]
    table = Table(title=f"instructions an element, {options.target}")
    for column in ("source", "target", "in order", "any order", "SASS, PTX route", "SASS, CUDA C", "cvt"):
        table.add_column(column)
    for source in chosen:
        for target in targets_of(source):
            if options.all or target.name in options.to.split(","):
                found = row(source, target, options.target)
                table.add_row(*(found or [source.name, target.name, "-", "-", "-", "-", "-"]))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
