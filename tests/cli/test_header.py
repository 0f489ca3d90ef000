"""The C header compiles without warnings, and launches the blocks and arguments that the runtime launches."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import tilus as tl
from kernels_zoo.gemm.batched_matmul import batched_matmul
from kernels_zoo.gemm.matmul import matmul
from tilus.lowering.raster import launched_grid
from tilus.runtime.header import c_header

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

DRIVER_HEADER = """\
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef int CUresult; typedef void *CUmodule, *CUfunction, *CUstream; typedef unsigned long long CUdeviceptr;
enum { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8 };
static inline CUresult cuModuleLoad(CUmodule *m, const char *path) { (void)m; (void)path; return 0; }
static inline CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *n) {
  (void)f; (void)m; (void)n; return 0; }
static inline CUresult cuFuncSetAttribute(CUfunction f, int a, int v) { (void)f; (void)a; (void)v; return 0; }
static inline CUresult cuLaunchKernel(CUfunction f, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty,
                                      unsigned tz, unsigned shared, CUstream s, void **arguments, void **extra) {
  (void)f; (void)s; (void)extra; (void)ty; (void)tz; (void)shared;
  printf("%u %u %u %u\\n", x, y, z, tx);
  for (int i = 0; i < ARGUMENTS; ++i) printf("%d ", *(int *)arguments[i]);
  return 0;
}
"""


def launched(tmp_path: Path, header: str, arguments: int, calls: str) -> list[str]:
    """What a program prints that makes ``calls`` against a driver that prints its launches."""
    (tmp_path / "cuda.h").write_text(f"#define ARGUMENTS {arguments}\n{DRIVER_HEADER}")
    (tmp_path / "kernel.h").write_text(header)
    (tmp_path / "main.c").write_text(f'#include "kernel.h"\nint main(void) {{\n{calls}\n  return 0;\n}}\n')
    assert COMPILER is not None
    subprocess.run([COMPILER, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", "main.c", "-o", "main"],
                   cwd=tmp_path, check=True)
    done = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("m", [1, 128, 1280, 1281, 100_000])
def test_matmul(tmp_path: Path, m: int) -> None:
    compiled = matmul.compile("sm_80")
    lines = launched(tmp_path, c_header(compiled, "matmul.cubin"), len(compiled.arguments), f"""
  matmul_kernel kernel = {{0}};
  if (matmul_load(&kernel, "matmul.cubin")) return 1;
  matmul_a a = {{1, {{{m}, 64}}, {{64, 1}}}};
  matmul_b b = {{2, {{64, 300}}, {{300, 1}}}};
  matmul_c c = {{3, {{{m}, 300}}, {{300, 1}}}};
  return matmul_launch(&kernel, NULL, a, b, c);""")
    blocks, _ = launched_grid((-(-m // 128), 3), compiled.metadata["raster"])
    assert lines[0].split() == [str(n) for n in (*blocks, 128)]
    assert [int(n) for n in lines[1].split()] == [1, m, 64, 2, 300, 3, -(-m // 128)]


def test_a_batch_and_an_empty_grid(tmp_path: Path) -> None:
    compiled = batched_matmul.compile("sm_80", BM=64)
    name = compiled.name
    calls = "".join(f"""
  {{ {name}_a a = {{1, {{{batch}, 2000, 16}}, {{32000, 16, 1}}}};
    {name}_b b = {{2, {{{batch}, 16, 40}}, {{640, 40, 1}}}};
    {name}_c c = {{3, {{{batch}, 2000, 40}}, {{80000, 40, 1}}}};
    if ({name}_launch(&kernel, NULL, a, b, c)) return 1;
    puts(""); }}""" for batch in (3, 0))
    lines = launched(tmp_path, c_header(compiled, "b.cubin"), len(compiled.arguments),
                     f"  {name}_kernel kernel = {{0}};\n  if ({name}_load(&kernel, 0)) return 1;{calls}")
    rows = -(-2000 // 64)
    blocks, groups = launched_grid((rows, 1, 3), compiled.metadata["raster"])
    assert lines[0].split()[:3] == [str(n) for n in blocks]
    assert lines[1].split()[-2:] == [str(rows), str(groups)]
    assert lines[2:] == [""], "nothing is launched for no batches"


def test_names_that_c_has_for_itself(tmp_path: Path) -> None:
    @tl.jit
    def doubled(kernel: tl.f32["N"], int: tl.i32, v3: tl.i32) -> None:
        i = tl.grid(tl.cdiv(kernel.shape[0], 128))
        tl.store(kernel, (i * 128,), tl.load(kernel, (i * 128,), (128,)) * int.to(tl.f32) + v3.to(tl.f32))

    compiled = doubled.compile("sm_80")
    lines = launched(tmp_path, c_header(compiled, "d.cubin"), len(compiled.arguments), """
  doubled_kernel k = {0};
  if (doubled_load(&k, 0)) return 1;
  doubled_kernel_ array = {1, {300}, {1}};
  return doubled_launch(&k, NULL, array, 5, 7);""")
    assert lines[0] == "3 1 1 128"
    assert lines[1].split() == ["1", "300", "5", "7"]
