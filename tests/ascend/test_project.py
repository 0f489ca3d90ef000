"""The project that a kernel is written as: its host code compiles without warnings against a small stand-in for
AscendCL, whose launches the twin does."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import tilus as tl
from kernels_zoo.attention.flash_attention import case as attention_case
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.checking import Case
from kernels_zoo.elementwise import saxpy
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.gemm import matmul
from tilus.cli.main import cli
from tilus.twin import build

COMPILER = shutil.which("g++")
GOLDEN = Path(__file__).parent.parent / "codegen" / "golden" / "saxpy_ascend"

ACL = r"""
#pragma once
#include <stddef.h>
#include <stdint.h>
typedef int aclError;
typedef void *aclrtStream;
typedef int aclrtMemMallocPolicy, aclrtMemcpyKind, aclrtDevAttr;
enum { ACL_SUCCESS = 0, ACL_ERROR_INVALID_PARAM = 100000, ACL_MEM_MALLOC_HUGE_FIRST = 0, ACL_MEMCPY_HOST_TO_DEVICE = 1,
       ACL_MEMCPY_DEVICE_TO_HOST = 2, ACL_DEV_ATTR_CUBE_CORE_NUM = 102, ACL_DEV_ATTR_VECTOR_CORE_NUM = 201 };
#ifdef __cplusplus
extern "C" {
#endif
aclError aclInit(const char *path);
aclError aclFinalize(void);
aclError aclrtSetDevice(int32_t device);
aclError aclrtResetDevice(int32_t device);
aclError aclrtGetDevice(int32_t *device);
aclError aclrtGetDeviceInfo(uint32_t device, aclrtDevAttr attribute, int64_t *value);
aclError aclrtCreateStream(aclrtStream *stream);
aclError aclrtDestroyStream(aclrtStream stream);
aclError aclrtSynchronizeStream(aclrtStream stream);
aclError aclrtMalloc(void **pointer, size_t size, aclrtMemMallocPolicy policy);
aclError aclrtFree(void *pointer);
aclError aclrtMemcpy(void *to, size_t most, const void *from, size_t size, aclrtMemcpyKind kind);
aclError aclrtMemsetAsync(void *to, size_t most, int32_t value, size_t size, aclrtStream stream);
#ifdef __cplusplus
}
#endif
"""

STAND_IN = r"""
#include <acl/acl.h>
#include <cstdlib>
#include <cstring>
#include <map>
static std::map<void *, size_t> memory;
extern "C" {
aclError aclInit(const char *) { return 0; }
aclError aclFinalize(void) { return memory.empty() ? 0 : 1; }
aclError aclrtSetDevice(int32_t) { return 0; }
aclError aclrtResetDevice(int32_t) { return 0; }
aclError aclrtGetDevice(int32_t *device) { *device = 0; return 0; }
aclError aclrtGetDeviceInfo(uint32_t, aclrtDevAttr attribute, int64_t *value) {
  *value = attribute == ACL_DEV_ATTR_CUBE_CORE_NUM ? 24 : 48;
  return 0;
}
aclError aclrtCreateStream(aclrtStream *stream) { *stream = nullptr; return 0; }
aclError aclrtDestroyStream(aclrtStream) { return 0; }
aclError aclrtSynchronizeStream(aclrtStream) { return 0; }
aclError aclrtMalloc(void **pointer, size_t size, aclrtMemMallocPolicy) {
  *pointer = std::aligned_alloc(512, (size + 511) / 512 * 512);
  memory[*pointer] = size;
  return 0;
}
aclError aclrtFree(void *pointer) { memory.erase(pointer); std::free(pointer); return 0; }
aclError aclrtMemcpy(void *to, size_t most, const void *from, size_t size, aclrtMemcpyKind) {
  if (size > most) return 1;
  std::memcpy(to, from, size);
  return 0;
}
aclError aclrtMemsetAsync(void *to, size_t, int32_t value, size_t size, aclrtStream) {
  std::memset(to, value, size);
  return 0;
}
size_t bytes_behind(void *pointer) {
  auto after = memory.upper_bound(pointer);
  if (after == memory.begin()) return 0;
  --after;
  return after->second - static_cast<size_t>(static_cast<char *>(pointer) - static_cast<char *>(after->first));
}
}
"""
_C_TYPES = {"gm": ctypes.c_void_p, "int64_t": ctypes.c_int64, "float": ctypes.c_float, "int32_t": ctypes.c_int32,
            "half": ctypes.c_uint16}


class Program:
    """The example of a project, compiled into this process; its launches are the twin's.

    Attributes:
        launches: blocks and arguments of each; addresses are left out.
    """

    def __init__(self, folder: Path, compiled: Any) -> None:
        (folder / "acl").mkdir()
        (folder / "acl" / "acl.h").write_text(ACL)
        (folder / "stand_in.cpp").write_text(STAND_IN + _calls_back(compiled))
        compiled.save(folder)
        flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-Dmain=run_example", f"-I{folder}"]
        (folder / "unit.cpp").write_text('#include "stand_in.cpp"\n#include "main.cpp"\n'
                                         'extern "C" int run(int n, char **words) { return run_example(n, words); }\n')
        subprocess.run([COMPILER or "g++", *flags, "unit.cpp", "-o", "example.so"], cwd=folder, check=True)
        self.library = ctypes.CDLL(str(folder / "example.so"))
        self.library.bytes_behind.restype = ctypes.c_size_t
        self.launches: list[tuple[int, list[Any]]] = []
        self.failed: list[Exception] = []
        self.callbacks = [self._callback(compiled, kernel) for kernel in compiled.metadata["kernels"]]

    def _callback(self, compiled: Any, kernel: str) -> Any:
        types, arguments = compiled.parameter_types(kernel), compiled.arguments(kernel)
        program = build(compiled.ascendc, kernel, types)

        def launch(blocks: int, *values: Any) -> None:
            self.launches.append((blocks, [v for v, a in zip(values, arguments, strict=True) if not a.is_address]))
            places = [v for v, a in zip(values, arguments, strict=True) if a.is_address]
            given = [self._array(v, places) if a.is_address else _number(v, a.dtype)
                     for v, a in zip(values, arguments, strict=True)]
            try:
                program.run(given, blocks=blocks, order="late")
            except Exception as error:
                self.failed.append(error)

        callback = ctypes.CFUNCTYPE(None, ctypes.c_uint32, *(_C_TYPES[type_] for type_ in types))(launch)
        ctypes.c_void_p.in_dll(self.library, f"on_{kernel}").value = ctypes.cast(callback, ctypes.c_void_p).value
        return callback

    def _array(self, address: int, places: Sequence[int]) -> Any:
        """The memory from an address to the end of the allocation, or to the next part of it."""
        size = int(self.library.bytes_behind(ctypes.c_void_p(address)))
        size = min([size, *(other - address for other in places if other > address)])
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def run(self, *words: str) -> int:
        given = [b"example", *(word.encode() for word in words)]
        status = int(self.library.run(len(given), (ctypes.c_char_p * len(given))(*given)))
        assert not self.failed
        return status


def _number(value: Any, dtype: tl.DType | None) -> Any:
    """A number as it was passed; those of 16 bits are passed as their bits."""
    return np.uint16(value).view(dtype.numpy) if dtype in (tl.f16, tl.bf16) else value


def _calls_back(compiled: Any) -> str:
    """Definitions of the functions that start kernels: each calls what a pointer points to."""
    from tilus.runtime.ascend.header import c_header

    lines = ["#include <stdbool.h>"]
    text = " ".join(c_header(compiled).split())
    for kernel in compiled.metadata["kernels"]:
        begin = text.index(f"void {kernel}_start(")
        parameters = text[text.index("(", begin) + 1:text.index(");", begin)].split(", ")
        kinds = [p.rsplit(" ", 1)[0] + ("*" if "*" in p.rsplit(" ", 1)[1] else "") for p in parameters]
        names = [p.rsplit(" ", 1)[1].lstrip("*") for p in parameters]
        del kinds[1]
        passed = ", ".join(n for n in names if n != "stream")
        lines += [f'extern "C" {{ void (*on_{kernel})({", ".join(kinds)}); }}',
                  f'extern "C" void {kernel}_start({", ".join(parameters)}) {{ (void)stream; on_{kernel}({passed}); }}']
    return "\n".join([*lines, ""])


def stored(folder: Path, names: Sequence[str], case: Case) -> str:
    """The case as the files that the example reads."""
    folder.mkdir()
    for name, value in zip(names, case.arguments, strict=False):
        np.save(folder / f"{name}.npy", np.asarray(value, np.float32) if isinstance(value, float) else value)
        for output, reference in zip(case.outputs, case.references, strict=True):
            if value is output:
                np.save(folder / f"{name}.expected.npy", np.ascontiguousarray(reference.astype(output.dtype)))
    return str(folder)


pytestmark = pytest.mark.skipif(COMPILER is None, reason="no g++")


@pytest.mark.parametrize(("kernel", "cases"), [
    (matmul.matmul, {
        (150, 140, 100): (2 * 2, [150, 100, 100, 100, 140, 140, 150, 140, 140, 2, 2]),
        (3000, 300, 8): (24, [3000, 8, 8, 8, 300, 300, 3000, 300, 300, 24, 3]),
        (0, 140, 100): None}),
    (saxpy.saxpy, {(1,): (1, None), (70_001,): (48, None), (0,): None}),
], ids=["matmul", "saxpy"])
def test_launches(tmp_path: Path, kernel: tl.JitFunction, cases: dict[Any, Any]) -> None:
    """Grids, blocks and arguments of odd shapes; an empty grid is no launch."""
    module: Any = {"matmul": matmul, "saxpy": saxpy}[kernel.__name__]
    program = Program(tmp_path, kernel.compile("ascend910b", assume="contiguous"))
    for n, (shape, expected) in enumerate(cases.items()):
        program.launches.clear()
        case = module.case(shape, tl.f16) if module is matmul else module.case(shape)
        assert program.run(stored(tmp_path / f"case{n}", kernel.signature.names, case)) == 0
        assert len(program.launches) == (expected is not None)
        if expected is not None:
            blocks, values = program.launches[0]
            assert blocks == expected[0]
            assert expected[1] is None or values == expected[1]


def test_workspaces(tmp_path: Path) -> None:
    """Tiles that the cores of a block hand each other lie in a workspace, for each launched block."""
    compiled = flash_attention_forward.compile("ascend910b", assume="contiguous", D=64, causal=True)
    program = Program(tmp_path, compiled)
    names = flash_attention_forward.signature.names
    for n, shape in enumerate([(1, 130, 200, 2, 1, 64), (1, 5, 0, 1, 1, 64)]):
        case = attention_case(shape, tl.f16, causal=True)
        assert program.run(stored(tmp_path / f"case{n}", names, case)) == 0
    assert [blocks for blocks, _ in program.launches] == [4, 1]


def test_several_kernels(tmp_path: Path) -> None:
    """What a fused function hands from one kernel to the next lies in the workspace too, beside the exchange."""

    @tl.fuse
    def two_products(x: tl.f32["M", "K"], w: tl.f32["K", "N"], v: tl.f32["N", "P"]) -> Any:
        return tl.exp(x @ w) @ v

    program = Program(tmp_path, two_products.compile("ascend910b", assume="contiguous"))
    random = np.random.default_rng(0)
    for n, (rows, k, columns) in enumerate([(70, 30, 50), (0, 30, 50)]):
        x, w, v = (random.standard_normal(s).astype(np.float32) for s in ((rows, k), (k, 130), (130, columns)))
        out = np.full((rows, columns), np.nan, np.float32)
        case = Case((x, w, v, out), (out,), (np.exp(x.astype(float) @ w) @ v,))
        assert program.run(stored(tmp_path / f"case{n}", ("x", "w", "v", "out"), case)) == 0
    assert [blocks for blocks, _ in program.launches] == [2, 1]


def test_names_and_numbers(tmp_path: Path) -> None:
    """Parameters with names that the generated code has, extents by expression, numbers of each kind."""

    @tl.jit
    def names(count: tl.f32["N"], words: tl.f32["N + 1"], stream: tl.i32["N"], launch: tl.i32, workspace0: tl.f16,
              B: int = 512) -> None:
        start = tl.grid(tl.cdiv(count.shape[0], B)) * B
        tl.store(words, start + 1, tl.load(count, start, B) + workspace0.to(tl.f32))
        tl.store(stream, start, tl.load(stream, start, B) + launch)

    program = Program(tmp_path, names.compile("ascend910b", assume="contiguous"))
    x, y, z = np.linspace(-1, 1, 700, dtype=np.float32), np.zeros(701, np.float32), np.arange(700, dtype=np.int32)
    case = Case((x, y, z, np.int32(-3), np.float16(1.5)), (y, z), (np.concatenate([[0], x + 1.5]), z - 3))
    assert program.run(stored(tmp_path / "case", names.signature.names, case)) == 0
    assert [(blocks, values[-3:]) for blocks, values in program.launches] == [(2, [-3, 0x3e00, 2])]


def test_made_up_arrays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = Program(tmp_path, saxpy.saxpy.compile("ascend910b"))
    assert program.run() == 0
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().out.startswith("y:")


def test_other_arrays_than_those_that_were_compiled_for(tmp_path: Path) -> None:
    header = saxpy.saxpy.compile("ascend910b").files("saxpy.cpp")[".h"].decode()
    (tmp_path / "acl").mkdir()
    (tmp_path / "acl" / "acl.h").write_text(ACL)
    (tmp_path / "saxpy.h").write_text(header)
    (tmp_path / "main.c").write_text("""
#include "saxpy.h"
static int launches = 0;
void saxpy_start(uint32_t blocks, void *stream, float a, uint8_t *x, int64_t m, uint8_t *y, int64_t n, int64_t grid) {
  launches += blocks == 2 && !stream && a > 1 && x && m == 2000 && y && n == 2000 && grid == 2;
}
aclError aclrtGetDevice(int32_t *device) { *device = 3; return 0; }
aclError aclrtGetDeviceInfo(uint32_t device, aclrtDevAttr attribute, int64_t *value) {
  *value = attribute;
  return device != 3;
}
int main(void) {
  saxpy_x x = {(void *)512, {2000}, {1}}, odd = {(void *)512, {2001}, {1}}, apart = {(void *)512, {2000}, {2}};
  saxpy_y y = {(void *)16, {2000}, {1}}, shorter = {(void *)16, {1984}, {1}}, skewed = {(void *)18, {2000}, {1}};
  const aclError wrong = ACL_ERROR_INVALID_PARAM;
  if (saxpy_launch(2.0f, odd, y, NULL) != wrong || saxpy_launch(2.0f, apart, y, NULL) != wrong) return 1;
  if (saxpy_launch(2.0f, x, shorter, NULL) != wrong || saxpy_launch(2.0f, x, skewed, NULL) != wrong) return 2;
  return saxpy_launch(2.0f, x, y, NULL) != 0 || launches != 1;
}
""")
    subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", "main.c", "-o", "main"],
                   cwd=tmp_path, check=True)
    assert subprocess.run(["./main"], cwd=tmp_path, check=False).returncode == 0


def test_golden() -> None:
    made = saxpy.saxpy.compile("ascend910b").project()
    del made["saxpy.cpp"], made["arrays.h"]
    assert {path.name: path.read_text() for path in GOLDEN.iterdir()} == {n: d.decode() for n, d in made.items()}


def test_command(tmp_path: Path) -> None:
    words = ["compile", "kernels_zoo/elementwise/saxpy.py:saxpy", "--target", "ascend910b", "-o"]
    result = CliRunner().invoke(cli, [*words, str(tmp_path / "a"), "--emit", "ascendc"])
    assert result.exit_code == 0, result.output
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "saxpy.cpp", "saxpy_start.cpp", "saxpy.h", "main.cpp", "arrays.h", "CMakeLists.txt", "README.md"}
    result = CliRunner().invoke(cli, [*words, str(tmp_path / "saxpy.cpp")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "saxpy.cpp").read_text() == (tmp_path / "a" / "saxpy.cpp").read_text()
    result = CliRunner().invoke(cli, [*words, "-"])
    assert result.output.startswith('#include "kernel_operator.h"')


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = vector_add.compile("ascend910b")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(tl.UserError, match=r"cannot make the folder .*file/project': Not a directory"):
        compiled.save(tmp_path / "file" / "project")
    assert (tmp_path / "file").read_text() == "mine"

    def fails(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "project"
    first = compiled.save(folder)[0]
    first.write_text("mine")
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(tl.UserError, match=r"cannot write .*: No space left on device"):
        compiled.save(folder)
    assert first.read_text() == "mine"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
