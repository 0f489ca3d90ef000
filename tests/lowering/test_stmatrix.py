"""Fragments of dots are stored to shared memory by ``stmatrix`` where the target has it and the layouts allow."""

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.matmul import matmul
from tests.lowering.test_emitted_loops import mnemonics, starting
from tests.lowering.test_simt import compare
from tilus import simulator


def product(output, turned=False):
    """c = a b (or its transpose) in another type: the accumulators are converted and staged through shared memory."""

    @tl.jit
    def kernel(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: output["P", "Q"], BM: int = 64, BN: int = 64,
               warps: int = 4):
        tl.block(warps=warps)
        i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[1], BN))
        acc = tl.zeros((BM, BN), tl.f32)
        for k in tl.range(0, a.shape[1], 32):
            acc = tl.dot(tl.load(a, (i * BM, k), (BM, 32)), tl.load(b, (k, j * BN), (32, BN)), acc)
        if turned:
            tl.store(c, (j * BN, i * BM), acc.to(output).T)
        else:
            tl.store(c, (i * BM, j * BN), acc.to(output))

    return kernel


@tl.jit
def named(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f16["M", "N"], K: int = 32):
    """The result goes to shared memory that the kernel names, whole and in parts, and from there to the array."""
    M, N, SLOTS = 64, 64, 2
    tl.grid(1)
    tile = tl.dot(tl.load(a, (0, 0), (M, K)), tl.load(b, (0, 0), (K, N))).to(tl.f16)
    s = tl.shared((SLOTS, M, N), tl.f16)
    for slot in range(SLOTS):
        tl.store(s[slot, :, :], (0, 0), tile)
    tl.sync()
    tl.store(c, (0, 0), tl.load(s[SLOTS - 1, :, :], (0, 0), (M, N)))


@tl.jit
def masked(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f16["M", "N"], K: int = 32):
    """Stores under a mask, and of tiles in part outside of the view, are stores of elements."""
    M, N = 64, 64
    tl.grid(1)
    tile = tl.dot(tl.load(a, (0, 0), (M, K)), tl.load(b, (0, 0), (K, N))).to(tl.f16)
    s = tl.shared((M, N), tl.f16)
    tl.store(s, (0, 0), tl.zeros((M, N), tl.f16))
    tl.sync()
    tl.store(s, (0, 0), tile, mask=tl.arange(M)[:, None] > tl.arange(N)[None, :])
    tl.sync()
    tl.store(c, (0, 0), tl.load(s, (0, 0), (M, N)))


def given(m, n, k, output, turned=False):
    rng = np.random.default_rng(2)
    a, b = ((rng.standard_normal(s) / 2).astype(np.float16) for s in ((m, k), (k, n)))
    return a, b, np.zeros((n, m) if turned else (m, n), output.numpy)


def instructions(kernel, via, target="sm_90a", **constants):
    """How many stmatrix, and how many other stores of less than 128 bits to shared memory, the PTX has."""
    ptx = kernel.compile(target, via, **constants).ptx
    return ptx.count("stmatrix.sync"), ptx.count("st.shared") - ptx.count("st.shared.v4")


TILES = [(64, 64, 4), (128, 32, 4), (16, 64, 2), (16, 24, 1), (48, 80, 4)]
"""Rows and columns of a block's tile, and its warps."""


@pytest.mark.sweep
@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize(("target", "output"), [("sm_90a", tl.f16), ("sm_120a", tl.bf16)], ids=str)
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_staged_stores(tile, output, target, via):
    bm, bn, warps = tile
    kernel, constants = product(output), {"BM": bm, "BN": bn, "warps": warps}
    shape = (bm + 3, 2 * bn - 5, 40)
    tolerance = 1e-3 if output is tl.f16 else 8e-3
    compare(kernel, lambda: given(*shape, output), f"simulate:{target}:{via}", tolerance=tolerance, **constants)
    matrices, others = instructions(kernel, via, **constants)
    assert bool(matrices) == (bm * bn >= 1024)  # smaller tiles are stored as they are
    assert others == 0


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_transposed_stores(via):
    kernel = product(tl.f16, turned=True)
    compare(kernel, lambda: given(64, 128, 64, tl.f16, turned=True), f"simulate:sm_90a:{via}", tolerance=1e-3)
    assert ".trans.shared.b16 [" in kernel.compile("sm_90a", via).ptx
    assert instructions(kernel, via)[1] == 0


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_named_memory(via):
    compare(named, lambda: given(64, 64, 32, tl.f16), f"simulate:sm_90a:{via}", tolerance=1e-3)
    matrices, others = instructions(named, via)
    assert matrices
    assert others == 0


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_masked_stores(via):
    compare(masked, lambda: given(64, 64, 32, tl.f16), f"simulate:sm_90a:{via}", tolerance=1e-3)
    assert instructions(masked, via)[1]


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize(("target", "output"), [("sm_90a", tl.f32), ("sm_80", tl.f16)], ids=str)
def test_what_does_not_fit_is_stored_in_vectors(target, output, via):
    """Accumulators of 32 bits are no rows of such matrices; before sm_90 there is no such instruction."""
    kernel = product(output)
    compare(kernel, lambda: given(64, 64, 64, output), f"simulate:{target}:{via}", tolerance=1e-3)
    matrices, others = instructions(kernel, via, target)
    assert matrices == 0
    assert others


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_machine_code(via):
    """128×128 in f16 by four warps: sixteen instructions of four matrices."""
    counts = mnemonics([line.split("*/", 1)[1] for line in matmul.compile("sm_90a", via).sass().splitlines()
                        if "STS" in line])
    assert counts["STSM.16.M88.4"] == 16
    assert starting(counts, "STS.") == counts["STS"] == 0
    assert matmul.compile("sm_80", via).sass().count("STSM") == 0


@pytest.mark.parametrize("via", ["cuda", "ptx"])
@pytest.mark.parametrize("turned", [False, True])
def test_without_bank_conflicts(turned, via, monkeypatch):
    reports = []

    def launch(*args, _launch=simulator.launch, **keywords):
        reports.append(_launch(*args, **keywords))
        return reports[-1]

    monkeypatch.setattr(simulator, "launch", launch)
    product(tl.f16, turned).on(f"simulate:sm_90a:{via}")(*given(64, 64, 64, tl.f16, turned))
    stores = [s for s in reports[-1].sites if s.opcode.startswith("stmatrix")]
    assert stores
    assert all(s.units == s.ideal for s in stores)
    assert reports[-1].bank_conflicts == 0
