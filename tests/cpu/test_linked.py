"""Kernels of the zoo, called by C programs: here, and for AArch64 where there is an emulator and a compiler for it."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import relative_error
from tests.cpu.linked import call_linked
from tests.fuzz.generator import generate
from tests.fuzz.harness import compare, load_kernel, run
from tests.zoo.test_zoo import KERNELS, dtypes_of, module_of, size_of
from tilus.diagnostics import UnsupportedError

LARGEST = 9000
CROSS_COMPILER = shutil.which("aarch64-linux-gnu-gcc")
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
emulated = pytest.mark.skipif(CROSS_COMPILER is None or EMULATOR is None, reason="no compiler or emulator for AArch64")


def call_zoo(name: str, directory: Path, cpu: str | None, triple: str | None, compiler: list[str],
             runner: list[str]) -> None:
    """The largest small call of each type."""
    module = module_of(name)
    for dtype in dtypes_of(name):
        sizes = {shape: size_of(module.case(shape, dtype)) for shape in module.SHAPES}
        case = module.case(max((s for s, n in sizes.items() if n <= LARGEST), key=sizes.__getitem__), dtype)
        call_linked(getattr(module, KERNELS[name]), case.arguments, case.constants, directory, cpu, triple, compiler,
                    runner)
        for output, reference in zip(case.outputs, case.references, strict=True):
            assert relative_error(output, reference) <= case.tolerance, dtype


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("name", KERNELS)
def test_zoo(name: str, tmp_path: Path) -> None:
    call_zoo(name, tmp_path, "native", None, ["cc"], [])


@tl.jit
def product(x: tl.f32["M", "K"], w: tl.u4["K", "N"], y: tl.f32["M", "N"]) -> None:
    i, j = tl.grid(tl.cdiv(x.shape[0], 16), tl.cdiv(y.shape[1], 64))
    acc = tl.zeros((16, 64), tl.f32)
    for k in tl.range(0, x.shape[1], 64):
        part = tl.load(w, (k, j * 64), (64, 64)).to(tl.f32)
        acc = tl.dot(tl.load(x, (i * 16, k), (16, 64)), part, acc)
    tl.store(y, (i * 16, j * 64), acc)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("prepacked", [False, True])
def test_packed_arrays(prepacked: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((33, 130)).astype(np.float32), rng.integers(0, 16, (130, 100)).astype(np.float32)
    y, stored = np.zeros((33, 100), np.float32), tl.pack(w, tl.u4)
    if prepacked:
        stored = tl.prepack(stored, for_=product, parameter="w", target="cpu")
    call_linked(product, [x, stored, y], {}, tmp_path, "native", None, ["cc", "-Wall", "-Wextra", "-Werror"])
    np.testing.assert_allclose(y, x.astype("d") @ w, rtol=1e-4, atol=1e-3)


@emulated
@pytest.mark.parametrize("name", KERNELS)
def test_zoo_on_aarch64(name: str, tmp_path: Path) -> None:
    call_zoo(name, tmp_path, "neoverse-n1", "aarch64-unknown-linux-gnu", [str(CROSS_COMPILER), "-static"],
             [str(EMULATOR)])


@pytest.mark.parametrize(("a", "b"), [(tl.i8, tl.i8), (tl.u8, tl.i8), (tl.i8, tl.u8), (tl.u8, tl.u8)], ids=str)
@pytest.mark.parametrize("cpu", ["generic", "neoverse-n1", "neoverse-v1"])
@emulated
def test_products_of_bytes_on_aarch64(cpu: str, a: tl.DType, b: tl.DType, tmp_path: Path) -> None:
    """To the bit; half of the numbers are the extremes of their types."""
    @tl.jit
    def bytes_product(x: a["M", "K"], w: b["K", "N"], y: tl.i32["M", "N"]) -> None:
        i, j = tl.grid(tl.cdiv(x.shape[0], 32), tl.cdiv(y.shape[1], 32))
        acc = tl.zeros((32, 32), tl.i32)
        for k in tl.range(0, x.shape[1], 32):
            acc = tl.dot(tl.load(x, (i * 32, k), (32, 32)), tl.load(w, (k, j * 32), (32, 32)), acc)
        tl.store(y, (i * 32, j * 32), acc)

    rng = np.random.default_rng(0)
    for m, n, k in ((45, 37, 71), (3, 40, 70)):
        x, w = (np.where(rng.random(s) < 0.5, rng.choice([t.min_value, t.max_value], s), rng.integers(0, 99, s))
                .astype(t.numpy) for t, s in ((a, (m, k)), (b, (k, n))))
        y = np.zeros((m, n), np.int32)
        call_linked(bytes_product, [x, w, y], {}, tmp_path, cpu, "aarch64-unknown-linux-gnu",
                    [str(CROSS_COMPILER), "-static"], [str(EMULATOR)])
        np.testing.assert_array_equal(y, x.astype("q") @ w.astype("q"))


@emulated
@pytest.mark.parametrize("seed", range(800_000, 800_020))
def test_random_programs_on_aarch64(seed: int, tmp_path: Path) -> None:
    program = generate(seed)
    if program.fused:
        pytest.skip("a fused function")
    kernel = load_kernel(program)
    wanted = run(program, kernel.on("interpret"))
    try:
        found = run(program, lambda *arguments: call_linked(
            kernel, arguments, {}, tmp_path, "neoverse-n1", "aarch64-unknown-linux-gnu",
            [str(CROSS_COMPILER), "-static"], [str(EMULATOR)]))
    except UnsupportedError:
        pytest.skip("nothing for an object file")
    assert compare(wanted, found) is None
