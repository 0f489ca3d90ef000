"""The C header compiles without warnings, and launches the blocks and arguments that the runtime launches."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import tilus as tl
from kernels_zoo.gemm.batched_matmul import batched_matmul
from kernels_zoo.gemm.matmul import matmul
from tilus.ir.prepacked import parse_format
from tilus.lowering.schedule.raster import launched_grid
from tilus.runtime.nvidia.header import c_header

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

DRIVER_HEADER = """\
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
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


def launched(tmp_path: Path, header: str, arguments: int, calls: str, options: Sequence[str] = (),
             driver: str = "") -> list[str]:
    """What a program prints that makes ``calls`` against a driver that prints its launches: the first 32 bits of each
    argument, or what the statements ``driver`` print."""
    text = DRIVER_HEADER.replace("  return 0;\n}\n", f"{driver}  return 0;\n}}\n")
    (tmp_path / "cuda.h").write_text(f"#define ARGUMENTS {arguments}\n{text}")
    (tmp_path / "kernel.h").write_text(header)
    (tmp_path / "main.c").write_text(f'#include "kernel.h"\nint main(void) {{\n{calls}\n  return 0;\n}}\n')
    assert COMPILER is not None
    flags = ["-std=c11", *options, "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}"]
    subprocess.run([COMPILER, *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    done = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("m", [1, 128, 1280, 1281, 100_000])
def test_matmul(tmp_path: Path, m: int) -> None:
    compiled = matmul.compile("sm_80", assume="contiguous")
    lines = launched(tmp_path, c_header(compiled, "matmul.cubin"), len(compiled.arguments), f"""
  matmul_kernel kernel = {{0}};
  if (matmul_load(&kernel, "matmul.cubin")) return 1;
  matmul_a a = {{16, {{{m}, 64}}, {{64, 1}}}};
  matmul_b b = {{32, {{64, 300}}, {{300, 1}}}};
  matmul_c c = {{48, {{{m}, 300}}, {{300, 1}}}};
  return matmul_launch(&kernel, NULL, a, b, c);""")
    blocks, _ = launched_grid((-(-m // 128), 3), compiled.metadata["raster"])
    assert lines[0].split() == [str(n) for n in (*blocks, 128)]
    assert [int(n) for n in lines[1].split()] == [16, m, 64, 32, 300, 48, -(-m // 128)]


def test_a_batch_and_an_empty_grid(tmp_path: Path) -> None:
    compiled = batched_matmul.compile("sm_80", BM=64, assume="contiguous")
    name = compiled.name
    calls = "".join(f"""
  {{ {name}_a a = {{16, {{{batch}, 2000, 16}}, {{32000, 16, 1}}}};
    {name}_b b = {{32, {{{batch}, 16, 40}}, {{640, 40, 1}}}};
    {name}_c c = {{48, {{{batch}, 2000, 40}}, {{80000, 40, 1}}}};
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

    compiled = doubled.compile("sm_80", assume="contiguous")
    lines = launched(tmp_path, c_header(compiled, "d.cubin"), len(compiled.arguments), """
  doubled_kernel k = {0};
  if (doubled_load(&k, 0)) return 1;
  doubled_kernel_ array = {16, {300}, {1}};
  return doubled_launch(&k, NULL, array, 5, 7);""")
    assert lines[0] == "3 1 1 128"
    assert lines[1].split() == ["16", "300", "5", "7"]


def test_names_of_the_headers(tmp_path: Path) -> None:
    @tl.jit
    def named(NULL: tl.f32["N"], linux: tl.i32, I: tl.i32, uint8_t: tl.i32, INT32_MAX: tl.i32, restrict: tl.i32,
              CUDA_SUCCESS: tl.i32, cuLaunchKernel: tl.i32, status: tl.i32, min: tl.i32, errno: tl.i32, EOF: tl.i32,
              typeof: tl.i32, status_: tl.i32, argument0: tl.i32, named: tl.i32) -> None:
        i = tl.grid(tl.cdiv(NULL.shape[0], 128))
        total = (linux + I + uint8_t + INT32_MAX + restrict + CUDA_SUCCESS + cuLaunchKernel + status + min + errno + EOF
                 + typeof + status_ + argument0 + named)
        tl.store(NULL, i * 128, tl.load(NULL, i * 128, 128) * total.to(tl.f32))

    compiled = named.compile("sm_80", assume="contiguous")
    numbers = ", ".join(str(n) for n in range(2, 17))
    for options in ([], ["-std=gnu17"]):
        lines = launched(tmp_path, c_header(compiled, "n.cubin"), len(compiled.arguments), f"""
  named_kernel k = {{0}};
  if (named_load(&k, 0)) return 1;
  named_NULL_ array = {{16, {{300}}, {{1}}}};
  return named_launch(&k, NULL, array, {numbers});""", options)
        assert lines[1].split() == ["16", "300", *(str(n) for n in range(2, 17))]


def test_scalars_of_every_type(tmp_path: Path) -> None:
    @tl.jit
    def scalars(y: tl.f64["N"], a: tl.i8, b: tl.u8, c: tl.i16, d: tl.u16, e: tl.i32, f: tl.u32, g: tl.i64, h: tl.u64,
                i: tl.bool, j: tl.f16, k: tl.bf16, l: tl.f32, m: tl.f64) -> None:
        tl.grid(1)
        for n, value in enumerate((a, b, c, d, e, f, g, h, i, j, k, l, m)):
            y[n] = value.to(tl.f64)

    compiled = scalars.compile("sm_80")
    header = c_header(compiled, "s.cubin")
    bits = {"i8": 8, "u8": 8, "i16": 16, "u16": 16, "i32": 32, "u32": 32, "i64": 64, "u64": 64, "bool": 8, "f16": 16,
            "bf16": 16, "f32": 32, "f64": 64, "pointer": 64}
    driver = "".join(f'  unsigned {_UNSIGNED[bits[a.type]]} w{i}; memcpy(&w{i}, arguments[{i}], sizeof w{i}); '
                     f'printf("%llx ", (unsigned long long)w{i});\n' for i, a in enumerate(compiled.arguments))
    lines = launched(tmp_path, header, 0, """
  scalars_kernel s = {0};
  if (scalars_load(&s, 0)) return 1;
  scalars_y y = {64, {16}, {1}};
  return scalars_launch(&s, NULL, y, -3, 200, -300, 60000, -7, 4294967295u, -(INT64_C(1) << 40), UINT64_C(1) << 63,
                        true, 0x3e00, 0x3fc0, 2.5f, 0.1);""", driver=driver)
    found = dict(zip((a.name for a in compiled.arguments), lines[1].split(), strict=True))
    expected = {"a": "fd", "b": "c8", "c": "fed4", "d": "ea60", "e": "fffffff9", "f": "ffffffff",
                "g": "ffffff0000000000", "h": "8000000000000000", "i": "1", "j": "3e00", "k": "3fc0", "l": "40200000",
                "m": "3fb999999999999a"}
    assert {n: found[n] for n in expected} == expected


_UNSIGNED = {8: "char", 16: "short", 32: "int", 64: "long long"}


@tl.jit
def checked(a: tl.f16["M", "K"], b: tl.f32["K", 48], c: tl.f32["M+1"], d: tl.f16["M", "T"], s: tl.f32["R", "K"],
            T: int = 32):
    tl.grid(1)
    tl.store(d, (0, 0), tl.load(a, (0, 0), (16, 32)) + tl.load(b, (0, 0), (16, 32)).to(tl.f16))
    c[0] = s[1, 1]


class Arrays:
    """Arguments of ``checked``, which are right until something is changed."""

    def __init__(self) -> None:
        self.data = {n: 16 * (i + 1) for i, n in enumerate("abcds")}
        self.shape = {"a": [64, 32], "b": [32, 48], "c": [65], "d": [64, 32], "s": [16, 32]}
        self.strides = {"a": [32, 1], "b": [48, 1], "c": [1], "d": [32, 1], "s": [32, 1]}

    def changed(self, name: str, **values: list[int] | int) -> "Arrays":
        for field, value in values.items():
            getattr(self, field)[name] = value
        return self

    def call(self) -> str:
        def struct(n: str) -> str:
            return f"(checked_{n}){{{self.data[n]}, {{{_list(self.shape[n])}}}, {{{_list(self.strides[n])}}}}}"

        return f'printf("status %d\\n", checked_launch(&k, NULL, {", ".join(map(struct, "abcds"))}));'


def _odd() -> Arrays:
    return Arrays().changed("a", shape=[63, 32]).changed("d", shape=[63, 32]).changed("c", shape=[64])


def _list(numbers: list[int]) -> str:
    return ", ".join(f"INT64_C({n})" for n in numbers)


def statuses(tmp_path: Path, assume: str, cases: list[Arrays]) -> list[int]:
    compiled = checked.compile("sm_80", assume=assume)
    lines = launched(tmp_path, c_header(compiled, "c.cubin"), 0, "\n".join(
        ["  checked_kernel k = {0};", "if (checked_load(&k, 0)) return 1;", *(case.call() for case in cases)]))
    found, launches = [], 0
    for line in lines:
        if line.startswith("status"):
            status = int(line.split()[1])
            assert launches == (status == 0)
            found.append(status)
            launches = 0
        elif line:
            launches += 1
    return found


def test_what_the_cubin_assumes_is_checked(tmp_path: Path) -> None:
    bad = {
        "an odd extent": Arrays().changed("s", shape=[999, 32]),
        "an odd extent of two": _odd(),
        "a negative extent": Arrays().changed("s", shape=[-16, 32]),
        "padded rows": Arrays().changed("a", strides=[48, 1]),
        "transposed": Arrays().changed("a", strides=[1, 64]),
        "every second": Arrays().changed("s", strides=[64, 2]),
        "misaligned": Arrays().changed("a", data=24),
        "another constant extent": Arrays().changed("b", shape=[32, 64], strides=[64, 1]),
        "another compile-time extent": Arrays().changed("d", shape=[64, 48], strides=[48, 1]),
        "unequal dimensions": Arrays().changed("b", shape=[48, 48]),
        "an expression": Arrays().changed("c", shape=[64]),
        "large": Arrays().changed("s", shape=[1 << 28, 32]),
        "larger than sums": Arrays().changed("s", shape=[1 << 61, 32]),
    }
    assert statuses(tmp_path, "divisible", [Arrays(), *bad.values(), Arrays()]) == [0] + [1] * len(bad) + [0]


def test_weaker_assumptions_are_checked(tmp_path: Path) -> None:
    padded = _odd().changed("a", strides=[48, 1], data=18)
    assert statuses(tmp_path, "contiguous", [_odd(), padded, _odd().changed("s", strides=[32, 2])]) == [0, 1, 1]
    strided = [padded, padded.changed("s", strides=[0, 1])]
    assert statuses(tmp_path, "strided", strided) == [0, 0]
    assert statuses(tmp_path, "strided", [_odd().changed("s", strides=[32, 2]), _odd().changed("a", data=17)]) == [1, 1]


def test_extents_of_one_and_none_have_no_strides(tmp_path: Path) -> None:
    one = Arrays().changed("s", shape=[16, 32], strides=[32, 1]).changed("c", strides=[7])
    assert statuses(tmp_path, "contiguous", [
        Arrays().changed("s", shape=[1, 32], strides=[99, 1]), Arrays().changed("s", shape=[0, 32], strides=[5, 5]),
        one]) == [0, 0, 1]


@tl.jit
def product(x: tl.f16["M", "K"], w: tl.u4["E", "K", "N"], y: tl.f32["M", "N"], e: tl.i32):
    M, K = x.shape
    i, j = tl.grid(tl.cdiv(M, 16), tl.cdiv(y.shape[1], 64))
    acc = tl.zeros((16, 64), tl.f32)
    for k in tl.range(0, K, 64):
        acc = tl.dot(tl.load(x, (i * 16, k), (16, 64)), tl.load(w[e, :, :], (k, j * 64), (64, 64)).to(tl.f16), acc)
    tl.store(y, (i * 16, j * 64), acc)


def test_prepacked_arrays(tmp_path: Path) -> None:
    """The header has the format as text and says how many bytes an array has; a launch takes its shape row by row."""
    compiled = product.compile("sm_80", assume="contiguous", prepacked=("w",))
    shapes = [(1, 64, 64), (3, 330, 100), (2, 1, 1), (0, 64, 64)]
    sizes = "".join(f'  printf("%d\\n", (int)product_w_bytes((int64_t[]){{{_list(list(s))}}}));\n' for s in shapes)
    lines = launched(tmp_path, c_header(compiled, "p.cubin"), 0, f"""
  puts(product_w_format);
{sizes}
  product_kernel k = {{0}};
  product_x x = {{16, {{7, 330}}, {{330, 1}}}};
  product_w w = {{32, {{3, 330, 100}}, {{33000, 100, 1}}}};
  product_y y = {{48, {{7, 100}}, {{100, 1}}}};
  int status = product_launch(&k, NULL, x, w, y, 1);
  w.shape[0] = w.shape[0] << 16;
  printf("statuses %d %d\\n", status, product_launch(&k, NULL, x, w, y, 1));""")
    format = parse_format(compiled.formats["w"])
    assert lines[0] == str(format)
    assert [int(n) for n in lines[1:5]] == [format.nbytes(s) for s in shapes]
    assert lines[5].split()[-1] == "128"
    assert lines[-1] == "statuses 0 1", "too many elements for offsets of 32 bits"


def test_packed_elements(tmp_path: Path) -> None:
    """Arrays and workspaces whose elements fill no bytes: sizes are counted in bits."""
    @tl.jit
    def packed(w: tl.u3["N"], y: tl.f32["N"]) -> None:
        held = tl.workspace((w.shape[0],), tl.u3)
        i = tl.grid(tl.cdiv(w.shape[0], 128)) * 128
        tl.store(held, i, tl.load(w, i, 128))
        tl.store(y, i, tl.load(held, i, 128).to(tl.f32))

    compiled = packed.compile("sm_80", assume="contiguous")
    calls = "".join(f"""
  {{ packed_w w = {{{at}, {{{n}}}, {{1}}}}; packed_y y = {{64, {{{n}}}, {{1}}}};
    printf("status %d\\n", packed_launch(&k, NULL, w, y)); }}"""
                    for at, n in ((16, 300), (16, 1), (17, 300), (16, 1 << 28), (16, 1 << 30)))
    allocation = """\
static inline CUresult cuMemAllocAsync(CUdeviceptr *p, size_t n, CUstream s) {
  (void)s; printf("bytes %d\\n", (int)n); *p = 256; return 0; }
static inline CUresult cuMemFreeAsync(CUdeviceptr p, CUstream s) { (void)p; (void)s; return 0; }
"""
    header = c_header(compiled, "p.cubin").replace("typedef struct", f"{allocation}\ntypedef struct", 1)
    lines = launched(tmp_path, header, 0, f"  packed_kernel k = {{0}};{calls}")
    assert [line for line in lines if line.startswith("bytes")] == ["bytes 116", "bytes 4", f"bytes {3 << 25}"]
    assert [line for line in lines if line.startswith("status")] == [f"status {n}" for n in (0, 0, 1, 0, 1)]
