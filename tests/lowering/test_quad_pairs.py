"""Dots on Volta: ``mma.sync.m8n8k4``, whose operands threads read from shared memory in vectors."""

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.gemm.matmul import matmul
from tests.lowering.test_simt import compare
from tilus import simulator
from tilus.runtime import cubin

HMMA_884 = 0x236
"""The lowest twelve bits of the instruction in sm_70's machine code."""


def product(turned_a, turned_b, dtype, accumulator):
    """c = a b, where a comes as (K, M) and b as (N, K) if ``turned``."""

    @tl.jit
    def kernel(a: dtype["P", "Q"], b: dtype["R", "S"], c: accumulator["M", "N"], BM: int = 64, BN: int = 64,
               BK: int = 32, stages: int = 2, warps: int = 4):
        tl.block(warps=warps)
        i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
        acc = tl.zeros((BM, BN), accumulator)
        for k in tl.range(0, a.shape[0 if turned_a else 1], BK, stages=stages):
            if turned_a:
                x = tl.load(a, (k, i * BM), (BK, BM)).T
            else:
                x = tl.load(a, (i * BM, k), (BM, BK))
            if turned_b:
                y = tl.load(b, (j * BN, k), (BN, BK)).T
            else:
                y = tl.load(b, (k, j * BN), (BK, BN))
            acc = tl.dot(x, y, acc)
        tl.store(c, (i * BM, j * BN), acc)

    return kernel


def operands(shape, turned_a, turned_b, dtype, accumulator):
    m, n, k = shape
    rng = np.random.default_rng(1)
    a, b = ((rng.standard_normal(s) / 2).astype(dtype.numpy) for s in ((m, k), (k, n)))
    if turned_a:
        a = np.ascontiguousarray(a.T)
    if turned_b:
        b = np.ascontiguousarray(b.T)
    return a, b, np.zeros((m, n), accumulator.numpy)


ORDERS = ("nn", "nt", "tn", "tt")
CASES = [((64, 64, 32, 4), order, accumulator) for order in ORDERS for accumulator in (tl.f32, tl.f16)]
CASES += [((16, 64, 32, 4), "nn", tl.f32), ((16, 64, 32, 4), "tt", tl.f16), ((16, 16, 16, 1), "nt", tl.f32),
          ((48, 80, 24, 4), "tn", tl.f32), ((48, 80, 24, 4), "nt", tl.f16), ((1, 64, 6, 2), "nn", tl.f32)]
"""Rows, columns and depth of a block's tiles, and its warps; which operands are turned; the type of the sums."""


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize(("tile", "order", "accumulator"), CASES, ids=str)
def test_products(tile, order, accumulator, via):
    bm, bn, bk, warps = tile
    turned = [letter == "t" for letter in order]
    kernel = product(*turned, tl.f16, accumulator)
    constants = {"BM": bm, "BN": bn, "BK": bk, "warps": warps}
    for shape, stages in (((bm, bn, 2 * bk), 3), ((bm + 5, 2 * bn - 3, 3 * bk + 7), 1)):
        compare(kernel, lambda shape=shape: operands(shape, *turned, tl.f16, accumulator), f"simulate:sm_70:{via}",
                tolerance=2e-6 if accumulator is tl.f32 else 3e-3, stages=stages, **constants)
    ptx = kernel.compile("sm_70", via, **constants).ptx
    assert "mma.sync.aligned.m8n8k4" in ptx
    assert "fma.rn.f32" not in ptx


@pytest.mark.sweep(keep=6)
@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("order", ORDERS)
def test_operands_are_read_without_conflicts(order, via, monkeypatch):
    """All registers of operands come by loads of 128 bits, each of which takes the four passes that it needs."""
    turned = [letter == "t" for letter in order]
    reports = []

    def launch(*args, _launch=simulator.launch, **keywords):
        reports.append(_launch(*args, **keywords))
        return reports[-1]

    monkeypatch.setattr(simulator, "launch", launch)
    given = operands((64, 64, 64), *turned, tl.f16, tl.f32)
    product(*turned, tl.f16, tl.f32).on(f"simulate:sm_70:{via}")(*given)
    loads = [s for s in reports[-1].sites if s.opcode.startswith("ld.shared")]
    assert loads
    assert all(".v4." in s.opcode and s.units == s.ideal == 4 * s.requests for s in loads)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize(("dtype", "accumulator"), [(tl.bf16, tl.f32), (tl.f32, tl.f32), (tl.i8, tl.i32)], ids=str)
def test_other_types_are_multiplied_and_added(dtype, accumulator, via):
    ptx = product(False, True, dtype, accumulator).compile("sm_70", via).ptx
    assert "mma.sync" not in ptx


def machine_instructions(binary, opcode):
    """How many instructions of a cubin's code have an opcode."""
    text = [s for s in cubin._sections(binary) if s.name.startswith(".text.")]
    words = np.concatenate([np.frombuffer(s.of(binary), "<u8")[::2] for s in text])
    return int((words & 0xFFF == opcode).sum())


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize(("kernel", "products"), [(matmul, 128 * 4), (flash_attention_forward, 128 * 2)], ids=str)
def test_machine_code(kernel, products, via):
    """A product of a warp's quad pairs is four instructions: of three unrolled tiles and the tail's, of two loops."""
    compiled = kernel.compile("sm_70", via)
    assert compiled.metadata["spill_stores"] == compiled.metadata["local_bytes"] == 0
    assert compiled.ptx.count("mma.sync.aligned.m8n8k4") >= (products if via == "ptx" else 1)
    assert machine_instructions(compiled.cubin, HMMA_884) == 4 * products
