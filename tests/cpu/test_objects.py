"""Object files are linked into C programs, which run them on their own threads; NumPy says what has to come out."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.gemm.matmul_split_k import matmul_split_k
from kernels_zoo.normalization.softmax import softmax
from tilus.diagnostics import UnsupportedError, UserError
from tilus.runtime.cpu import pool_ir
from tilus.runtime.cpu.processor import host

Array = np.ndarray[Any, Any]
COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
LEAST = ["x86-64"] if host().architecture == "x86_64" else ["aarch64"]

SUPPORT = """\
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
struct job { void (*body)(void *, int64_t); void *data; int64_t i; };
static void *one(void *p) { struct job *j = p; j->body(j->data, j->i); return NULL; }
static void on_threads(void *context, void (*body)(void *, int64_t), void *data, int64_t count) {
  pthread_t threads[8]; struct job jobs[8];
  *(int64_t *)context = count;
  for (int64_t i = 0; i < count; ++i) {
    jobs[i] = (struct job){body, data, i};
    pthread_create(&threads[i], NULL, one, &jobs[i]);
  }
  for (int64_t i = 0; i < count; ++i) pthread_join(threads[i], NULL);
}
static void *contents(const char *path) {
  FILE *file = fopen(path, "rb");
  fseek(file, 0, SEEK_END); long size = ftell(file); rewind(file);
  char *data = aligned_alloc(64, (size + 127) / 64 * 64);
  if (fread(data, 1, size, file) != (size_t)size) exit(9);
  fclose(file);
  return data;
}
static void keep(const char *path, const void *data, size_t size) {
  FILE *file = fopen(path, "wb"); fwrite(data, 1, size, file); fclose(file);
}
"""


def program(tmp_path: Path, compiled: Any, main: str, extra: str = "") -> list[str]:
    """What a C program prints whose ``main`` is these statements."""
    (tmp_path / "kernel.o").write_bytes(compiled.object)
    (tmp_path / "kernel.h").write_bytes(compiled.files("kernel.o")[".h"])
    text = f'#include "kernel.h"\n{SUPPORT}{extra}int main(void) {{\n{main}\n  return 0;\n}}\n'
    (tmp_path / "main.c").write_text(text)
    assert COMPILER is not None
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    subprocess.run([COMPILER, *flags, "main.c", "kernel.o", "-o", "main", "-pthread", "-lm"], cwd=tmp_path, check=True)
    done = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def struct(name: str, array: Array, data: str) -> str:
    """An array as the header has it; ``data`` points to its first element."""
    strides = ", ".join(str(s // array.itemsize) for s in array.strides)
    return f"({name}){{{data}, {{{', '.join(map(str, array.shape))}}}, {{{strides}}}}}"


def saved(tmp_path: Path, name: str, shape: Sequence[int], padding: int, seed: int = 0) -> Array:
    """Random numbers in a file, with rows that are ``padding`` longer in memory."""
    whole = np.random.default_rng(seed).standard_normal((*shape[:-1], shape[-1] + padding)).astype(np.float32)
    whole.tofile(tmp_path / name)
    return whole[..., : shape[-1]]


CONCURRENT = """\
static float *results[4];
static int statuses[4];
static int64_t counts[4];
static int call(const tilus_parallel *parallel, float *out);
static void *caller(void *p) {
  int64_t i = (int64_t)(intptr_t)p;
  tilus_parallel parallel = {on_threads, &counts[i], i + 1};
  for (int n = 0; n < 5 && !statuses[i]; ++n) statuses[i] = call(i == 1 ? NULL : &parallel, results[i]);
  return NULL;
}
static int all_at_once(size_t size) {
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i) results[i] = calloc(size, 1);
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, caller, (void *)(intptr_t)i);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  for (int i = 0; i < 4; ++i) if (statuses[i] || memcmp(results[i], results[0], size)) return i + 1;
  keep("out", results[0], size);
  return 0;
}
"""


def several(tmp_path: Path, compiled: Any, out: Array, inputs: dict[str, Array], name: str,
            scalars: str = "") -> Array:
    """What a kernel computes that four threads call at once, with 1, 3 and 4 threads, and without any but the own."""
    structs = [struct(f"{name}_{n}", a, n) for n, a in inputs.items()]
    written = compiled.specialisation.parameters[len(inputs)].name
    arguments = ", ".join([*structs, struct(f"{name}_{written}", out, "out")]) + scalars
    call = "".join(f"static float *{n};\n" for n in inputs) + (
        "static int call(const tilus_parallel *parallel, float *out) {\n"
        f"  return {name}_launch(parallel, {arguments});\n}}\n")
    main = "".join(f'  {n} = contents("{n}");\n' for n in inputs)
    rows = out.strides[0] * out.shape[0]
    lines = program(tmp_path, compiled, f'{main}  printf("%d\\n", all_at_once({rows}));\n'
                    '  printf("%d %d\\n", (int)counts[0], (int)counts[3]);', CONCURRENT + call)
    assert lines[0] == "0"
    assert lines[1] == ("0 0" if compiled.metadata["waits"] else "0 4")
    whole = np.fromfile(tmp_path / "out", np.float32).reshape(out.shape[0], -1)
    return whole[:, : out.shape[1]] if out.ndim > 1 else whole[:, 0]


@needs_compiler
@pytest.mark.parametrize("cpu", ["native", *LEAST])
def test_matmul(tmp_path: Path, cpu: str) -> None:
    compiled = matmul.compile("cpu", a=tl.f32, b=tl.f32, c=tl.f32, assume="strided", cpu=cpu, BM=32, BN=64)
    a, b = saved(tmp_path, "a", (77, 51), 5), saved(tmp_path, "b", (51, 131), 3, 1)
    out = np.zeros((77, 140), np.float32)[:, :131]
    found = several(tmp_path, compiled, out, {"a": a, "b": b}, "matmul")
    np.testing.assert_allclose(found, a.astype("d") @ b, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_little_work_takes_no_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_ir, "WORTH_WAKING", 1 << 16)
    compiled = vector_add.compile("cpu", x=tl.f32, y=tl.f32, z=tl.f32, assume="contiguous", symbol="add")
    lines = program(tmp_path, compiled, """
  int64_t count = 0;
  tilus_parallel parallel = {on_threads, &count, 4};
  for (int64_t n = 8192; n <= 8192 << 8; n <<= 8) {
    float *a = calloc(3 * n, 4);
    add_x x = {a, {n}, {1}}; add_y y = {a + n, {n}, {1}}; add_z z = {a + 2 * n, {n}, {1}};
    int status = add_launch(&parallel, x, y, z);
    printf("%d %d\\n", status, (int)count);
  }""")
    assert lines == ["0 0", "0 4"]


@needs_compiler
@pytest.mark.parametrize("cpu", ["native", *LEAST])
def test_softmax(tmp_path: Path, cpu: str) -> None:
    compiled = softmax.compile("cpu", x=tl.f32, y=tl.f32, assume="strided", cpu=cpu, symbol="rows")
    x = saved(tmp_path, "x", (37, 1003), 7)
    found = several(tmp_path, compiled, np.zeros((37, 1004), np.float32)[:, :1003], {"x": x}, "rows")
    e = np.exp(x.astype("d") - x.max(1, keepdims=True))
    np.testing.assert_allclose(found, e / e.sum(1, keepdims=True), rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize("cpu", ["native", *LEAST])
def test_vector_add(tmp_path: Path, cpu: str) -> None:
    compiled = vector_add.compile("cpu", x=tl.f32, y=tl.f32, z=tl.f32, assume="contiguous", cpu=cpu)
    x, y = saved(tmp_path, "x", (100_003,), 0), saved(tmp_path, "y", (100_003,), 0, 1)
    found = several(tmp_path, compiled, np.zeros(100_003, np.float32), {"x": x, "y": y}, "vector_add")
    np.testing.assert_array_equal(found, x + y)


@tl.jit
def checked(x: tl.f32["N"], y: tl.f32["N"], scale: tl.f64, most: tl.i32, flag: tl.bool) -> None:
    held = tl.workspace((x.shape[0],), tl.f32)
    i = tl.grid(tl.cdiv(x.shape[0], 128)) * 128
    tl.device_assert(scale > 0, "the scale is positive")
    v = tl.load(x, i, 128)
    tl.device_assert(tl.all(v.to(tl.i32) <= most), 'no "element" is too great ✓')
    tl.store(held, i, v)
    tl.store(y, i, tl.load(held, i, 128) * scale.to(tl.f32) + tl.where(flag, 1.0, 0.0))


@needs_compiler
def test_checks(tmp_path: Path) -> None:
    """Scalars of several types, a workspace, what is assumed of arrays, and assertions in the launch and in blocks."""
    compiled = checked.compile("cpu", assume="contiguous", cpu="native")
    arguments = [("{300}, {1}", "{300}, {1}", "0.5, 1000, true"), ("{300}, {1}", "{300}, {1}", "-0.5, 1000, true"),
                 ("{300}, {1}", "{300}, {1}", "0.5, 200, true"), ("{300}, {1}", "{300}, {2}", "0.5, 1000, true"),
                 ("{300}, {1}", "{299}, {1}", "0.5, 1000, true"), ("{-1}, {1}", "{-1}, {1}", "0.5, 1000, true"),
                 ("{0}, {1}", "{0}, {1}", "0.5, 1000, false")]
    calls = "".join(f"""
  status = checked_launch(NULL, (checked_x){{x, {x}}}, (checked_y){{y, {y}}}, {scalars});
  puts(checked_message(status));
  if (!status) printf("%g %g\\n", y[0], y[299]);""" for x, y, scalars in arguments)
    lines = program(tmp_path, compiled, f"""
  float *x = malloc(1200), *y = calloc(300, 4);
  for (int i = 0; i < 300; ++i) x[i] = i;
  int status;{calls}
  puts(checked_message(-1));""")
    here = Path(__file__).name
    assert lines[:2] == ["no check has failed", "1 150.5"]
    assert lines[2].startswith(f"the scale is positive ({here}:")
    assert lines[3].startswith(f'no "element" is too great ✓ ({here}:')
    assert lines[4] == "does not hold: y is contiguous"
    assert lines[5] == "does not hold: y.shape[0] and x.shape[0] are both N"
    assert lines[6] == "does not hold: x.shape[0] is not negative"
    assert lines[7:9] == ["no check has failed", "1 150.5"]
    assert lines[9] == "no such status"


@needs_compiler
@pytest.mark.parametrize(("compiler", "options"), [("cc", ["-std=c11"]), ("c++", ["-x", "c++", "-std=c++17"])])
def test_two_kernels_in_one_program(tmp_path: Path, compiler: str, options: list[str]) -> None:
    """Names in object files begin with the symbol; the header serves C++ as well."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    for name, dtype in (("single", tl.f32), ("half", tl.f16)):
        compiled = vector_add.compile("cpu", x=dtype, y=dtype, z=dtype, assume="contiguous", symbol=name)
        (tmp_path / f"{name}.o").write_bytes(compiled.object)
        (tmp_path / f"{name}.h").write_bytes(compiled.files(f"{name}.o")[".h"])
    (tmp_path / "main.c").write_text("""
#include "single.h"
#include "half.h"
#include "single.h"
int main(void) {
  float x[16] = {1}, y[16] = {2}, z[16];
  uint16_t p[16] = {0x3c00}, q[16] = {0x3c00}, r[16];
  single_x a = {x, {16}, {1}}; single_y b = {y, {16}, {1}}; single_z c = {z, {16}, {1}};
  half_x d = {p, {16}, {1}}; half_y e = {q, {16}, {1}}; half_z f = {r, {16}, {1}};
  return single_launch(0, a, b, c) || half_launch(0, d, e, f) || z[0] != 3 || r[0] != 0x4000;
}
""")
    flags = [*options, "-Wall", "-Wextra", "-Werror", "-c", "main.c", "-o", "main.o"]
    subprocess.run([compiler, *flags], cwd=tmp_path, check=True)
    subprocess.run([compiler, "main.o", "single.o", "half.o", "-lm", "-o", "main"], cwd=tmp_path, check=True)
    subprocess.run(["./main"], cwd=tmp_path, check=True)


@tl.jit
def chained(x: tl.i32["N"], done: tl.i32["M"], y: tl.i32["N"], behind: tl.i32) -> None:
    """Sums of all blocks up to this one, each by the one before it."""
    b = tl.grid(tl.cdiv(x.shape[0], 64))
    tl.acquire(done, b, behind)
    v = tl.load(x, b * 64, 64)
    total = tl.where(b > 0, y[b * 64 - 1], 0) + tl.sum(v)
    tl.store(y, b * 64, v * 0 + total)
    tl.release(done, b + 1, 1)


@needs_compiler
def test_blocks_that_wait_for_earlier_ones(tmp_path: Path) -> None:
    compiled = chained.compile("cpu", assume="contiguous", cpu="native")
    lines = program(tmp_path, compiled, """
  int32_t x[640], y[640], done[11] = {1}; int64_t count = 0;
  tilus_parallel parallel = {on_threads, &count, 4};
  for (int i = 0; i < 640; ++i) x[i] = i;
  chained_x a = {x, {640}, {1}}; chained_done b = {done, {11}, {1}}; chained_y c = {y, {640}, {1}};
  puts(chained_message(chained_launch(&parallel, a, b, c, 1)));
  printf("%d %d\\n", y[639], (int)count);
  puts(chained_message(chained_launch(&parallel, a, b, c, 2)));""")
    assert lines == ["no check has failed", f"{sum(range(640))} 0", "a block waits for what never comes"]


@tl.jit
def counted(x: tl.i32["N"], counts: tl.i32["K"], B: int = 128) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    tl.atomic_add(counts, tl.load(x, i, B), 1, mask=i + tl.arange(B) < x.shape[0])


@needs_compiler
def test_atomics_of_launches_at_once(tmp_path: Path) -> None:
    compiled = counted.compile("cpu", assume="contiguous", cpu="native")
    lines = program(tmp_path, compiled, """
  int64_t at; pthread_t threads[3];
  for (int i = 0; i < 10000; ++i) x[i] = i % 5;
  for (int i = 0; i < 3; ++i) pthread_create(&threads[i], NULL, many, NULL);
  for (int i = 0; i < 3; ++i) pthread_join(threads[i], NULL);
  for (at = 0; at < 4; ++at) printf("%d ", counts[at]);
  puts("");""", """
static int32_t x[10000], counts[4];
static void *many(void *nothing) {
  int64_t count; tilus_parallel parallel = {on_threads, &count, 4};
  for (int i = 0; i < 200; ++i)
    if (counted_launch(&parallel, (counted_x){x, {10000}, {1}}, (counted_counts){counts, {4}, {1}})) exit(1);
  return nothing;
}
""")
    assert lines == ["1200000 " * 4]


@tl.fuse
def standardised(x, w):  # type: ignore[no-untyped-def]
    h = x @ w
    return (h - tl.mean(h, axis=1, keepdims=True)) * tl.rsqrt(tl.mean(h * h))


@needs_compiler
def test_fused_functions(tmp_path: Path) -> None:
    """Several kernels, with what one leaves for the next."""
    compiled = standardised.compile("cpu", x=tl.f32["M", "K"], w=tl.f32["K", "N"], assume="contiguous", cpu="native")
    x, w = saved(tmp_path, "x", (70, 45), 0), saved(tmp_path, "w", (45, 91), 0, 1)
    found = several(tmp_path, compiled, np.zeros((70, 91), np.float32), {"x": x, "w": w}, "standardised")
    h = x.astype("d") @ w
    expected = (h - h.mean(1, keepdims=True)) / np.sqrt((h * h).mean())
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@tl.jit
def hungry(x: tl.f32["N"], y: tl.f32["N"], times: tl.i64) -> None:
    held = tl.workspace((x.shape[0] * times,), tl.f32, zero=True)
    i = tl.grid(tl.cdiv(x.shape[0], 128)) * 128
    tl.store(held, i, tl.load(x, i, 128))
    tl.store(y, i, tl.load(held, i, 128))


@needs_compiler
def test_too_large_a_workspace(tmp_path: Path) -> None:
    x, y = np.ones(300, np.float32), np.zeros(300, np.float32)
    hungry.on("cpu")(x, y, 2)
    assert y.sum() == 300
    with pytest.raises(UserError, match="there is no memory for a workspace"):
        hungry.on("cpu")(x, y, 1 << 44)
    lines = program(tmp_path, hungry.compile("cpu", assume="contiguous", cpu="native"), """
  float x[300] = {1}, y[300];
  hungry_x a = {x, {300}, {1}}; hungry_y b = {y, {300}, {1}};
  puts(hungry_message(hungry_launch(NULL, a, b, 2)));
  puts(hungry_message(hungry_launch(NULL, a, b, INT64_C(1) << 44)));""")
    assert lines[0] == "no check has failed"
    assert lines[1].startswith("there is no memory for a workspace (")


@tl.jit
def meeting(x: tl.f32["N"]) -> None:
    tl.block(cooperative=True)
    tl.grid(2)
    tl.grid_sync()
    x[0] = 1.0


@tl.jit
def handing_over(x: tl.f32["N"]) -> None:
    tl.grid(1)
    tl.block(warps=2)
    first = tl.named_barrier(1, 2)
    with tl.group(0, 1):
        first.arrive()
    with tl.group(1, 1):
        first.sync()
        x[0] = 1.0


@needs_compiler
def test_matmul_split_k(tmp_path: Path) -> None:
    """Blocks that wait, and workspaces."""
    compiled = matmul_split_k.compile("cpu", a=tl.f32, b=tl.f32, c=tl.f32, assume="strided", cpu="native", BM=32, BN=32)
    a, b = saved(tmp_path, "a", (40, 301), 2), saved(tmp_path, "b", (301, 50), 1, 1)
    found = several(tmp_path, compiled, np.zeros((40, 52), np.float32)[:, :50], {"a": a, "b": b}, "matmul_split_k",
                    ", 3")
    np.testing.assert_allclose(found, a.astype("d") @ b, rtol=1e-4, atol=1e-4)


def test_what_object_files_cannot_have() -> None:
    @tl.jit
    def printing(x: tl.f32["N"]) -> None:
        tl.grid(1)
        tl.print("{}", tl.load(x, 0, 16))

    with pytest.raises(UnsupportedError, match="a kernel in an object file cannot print"):
        printing.compile("cpu", cpu="native")
    with pytest.raises(UnsupportedError, match="the blocks of meeting are cooperative"):
        meeting.compile("cpu", cpu="native")
    with pytest.raises(UnsupportedError, match="groups in an object file cannot wait for barrier 1"):
        handing_over.compile("cpu", cpu="native")
    with pytest.raises(UserError, match="cpu, triple and symbol are for the target 'cpu'"):
        vector_add.compile("sm_80", x=tl.f32, y=tl.f32, z=tl.f32, cpu="native")
