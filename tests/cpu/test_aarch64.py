"""What the lowering makes for AArch64: LLVM takes it, and it has nothing of x86."""

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.matmul import matmul
from tests.cpu.elf import architecture, undefined
from tests.fuzz.emitted import fused_module
from tests.fuzz.generator import generate
from tests.fuzz.harness import load_kernel, make_arguments
from tests.zoo.test_zoo import CASES, KERNELS, module_of, variants
from tilus.codegen.llvm.host import emit_functions
from tilus.ir.core import Module
from tilus.lowering.pipelines import CPU, lower_for_host, run_passes
from tilus.runtime.cpu.llvm import compile_object
from tilus.runtime.cpu.processor import processor

SYSTEM = "aarch64-unknown-linux-gnu"
LIBRARY = {"memset", "memcpy", "memmove"}
"""What LLVM may call: the C library, and nothing of a compiler's own."""


def compiled(module: Module, cpu: str = "neoverse-n1") -> bytes:
    """The object of a traced module."""
    chosen = processor(cpu, SYSTEM)
    run_passes(module, CPU.tile)
    text = emit_functions(lower_for_host(module, chosen.machine).functions)
    assert "x86" not in text
    code = compile_object(text, chosen, linked=True)
    assert architecture(code) == "aarch64"
    assert undefined(code) <= LIBRARY
    return code


def module_for(kernel: Any, arguments: list[Any], constants: dict[str, Any]) -> Module:
    module: Module = kernel.prepared("cpu", tuple(arguments), constants).specialisation.trace()
    return module


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
def test_zoo(name: str, dtype: tl.DType) -> None:
    module = module_of(name)
    for keywords in variants(name):
        case = module.case(module.SHAPES[3], dtype, **keywords)
        compiled(module_for(getattr(module, KERNELS[name]), case.arguments, case.constants))


def test_the_least_processor() -> None:
    for dtype in (tl.f16, tl.bf16, tl.f32):
        module = matmul.assume("contiguous", {"a": dtype, "b": dtype, "c": dtype}).trace()
        compiled(module, "generic")


@pytest.mark.sweep
@pytest.mark.parametrize(("a", "b"), [(tl.i8, tl.i8), (tl.u8, tl.i8), (tl.i8, tl.u8), (tl.u8, tl.u8)], ids=str)
@pytest.mark.parametrize("rows", [16, 64])
def test_products_of_bytes(a: tl.DType, b: tl.DType, rows: int) -> None:
    @tl.jit
    def product(x: a["M", "K"], w: b["K", "N"], y: tl.i32["M", "N"]) -> None:
        i, j = tl.grid(tl.cdiv(x.shape[0], rows), tl.cdiv(y.shape[1], 64))
        acc = tl.zeros((rows, 64), tl.i32)
        for k in tl.range(0, x.shape[1], 32):
            acc = tl.dot(tl.load(x, (i * rows, k), (rows, 32)), tl.load(w, (k, j * 64), (32, 64)), acc)
        tl.store(y, (i * rows, j * 64), acc)

    compiled(product.assume("contiguous", {}).trace())


@pytest.mark.sweep
@pytest.mark.parametrize("stored", [tl.u4, tl.i4, tl.f4e2m1, tl.nf4, tl.u3, tl.f8e4m3fn], ids=str)
@pytest.mark.parametrize("prepacked", [False, True])
def test_products_with_packed_weights(stored: tl.DType, prepacked: bool) -> None:
    @tl.jit
    def product(x: tl.f16["M", "K"], w: stored["K", "N"], y: tl.f16["M", "N"]) -> None:
        i, j = tl.grid(tl.cdiv(x.shape[0], 16), tl.cdiv(y.shape[1], 64))
        acc = tl.zeros((16, 64), tl.f32)
        for k in tl.range(0, x.shape[1], 32):
            part = tl.load(w, (k, j * 64), (32, 64)).to(tl.f16)
            acc = tl.dot(tl.load(x, (i * 16, k), (16, 32)), part, acc)
        tl.store(y, (i * 16, j * 64), acc.to(tl.f16))

    compiled(product.assume("divisible", {}, ("w",) if prepacked else ()).trace())


@tl.jit
def grid_barrier(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.block(cooperative=True)
    i = tl.grid(tl.cdiv(x.shape[0], 64)) * 64
    tl.store(y, i, tl.load(x, i, 64))
    tl.grid_sync()
    tl.print("{}", tl.sum(tl.load(y, 0, 64)))


@tl.jit
def atomics(x: tl.i32["N"], y: tl.i32["N"], z: tl.f32["N"]) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], 64)) * 64
    values = tl.load(x, i, 64)
    tl.atomic_add(y, (values,), values)
    tl.store(z, i, tl.gather(z, (values,)) + tl.exp(values.to(tl.f32)))
    tl.device_assert(tl.all(values > 0))


@pytest.mark.parametrize("kernel", [grid_barrier, atomics], ids=lambda kernel: str(kernel.__name__))
def test_waiting_and_atomics(kernel: Any) -> None:
    compiled(kernel.assume("contiguous", {}).trace())


@pytest.mark.sweep(keep=9)
@pytest.mark.parametrize("seed", range(30))
def test_random_programs(seed: int) -> None:
    program = generate(seed)
    kernel = load_kernel(program)
    arguments, _ = make_arguments(program)
    with np.errstate(all="ignore"):
        module = fused_module(kernel, arguments) if program.fused else module_for(kernel, arguments, {})
    compiled(module)
