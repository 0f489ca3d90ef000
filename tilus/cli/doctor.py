"""``tilus doctor``: uses every tool once and says which of them work."""

from __future__ import annotations

import enum
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from tilus._version import __version__
from tilus.diagnostics import TilusError, ToolchainError
from tilus.runtime.cache import Cache, cache_directory, key_of
from tilus.runtime.cubin import read_cubin
from tilus.runtime.toolchains import binutils, locate, nvcc, nvrtc, ptxas
from tilus.targets import TARGETS, Target


class Status(enum.Enum):
    WORKS = "works"
    ABSENT = "absent"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """Something tilus uses; what is optional may be absent."""

    name: str
    run: Callable[[], str]
    optional: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a check went, with a detail to show, in ``seconds``."""

    name: str
    status: Status
    detail: str
    seconds: float


class Absent(Exception):
    """Something optional is not here."""


@click.command("doctor")
def command() -> None:
    """Check the toolchain by using it; exit with 1 if something needed does not work."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    outcomes = [perform(check) for check in checks()]
    table = Table(title=f"tilus {__version__}, Python {sys.version.split()[0]}", title_justify="left")
    for column in ("what", "state", "ms", "detail"):
        table.add_column(column, justify="right" if column == "ms" else "left", overflow="fold")
    colors = {Status.WORKS: "green", Status.ABSENT: "yellow", Status.FAILED: "red"}
    for outcome in outcomes:
        state = f"[{colors[outcome.status]}]{outcome.status.value}"
        table.add_row(outcome.name, state, f"{outcome.seconds * 1e3:.0f}", escape(outcome.detail))
    Console().print(table)
    failed = [outcome.name for outcome in outcomes if outcome.status is Status.FAILED]
    if failed:
        raise click.ClickException(f"not working: {', '.join(failed)}")


def perform(check: Check) -> Outcome:
    """Run a check; whatever it raises becomes its outcome."""
    start = time.perf_counter()
    try:
        detail, status = check.run(), Status.WORKS
    except Absent as reason:
        detail, status = str(reason), Status.ABSENT
    except TilusError as error:
        first = error.diagnostics[0]
        detail = " ".join(filter(None, [first.message, *first.notes, first.help]))
        missing = first.code == "E0901" and check.optional
        status = Status.ABSENT if missing else Status.FAILED
    except Exception as error:
        # A diagnosis must not end with the first thing that is broken, however it breaks.
        detail, status = f"{type(error).__name__}: {error}", Status.FAILED
    return Outcome(check.name, status, detail, time.perf_counter() - start)


def checks() -> Iterator[Check]:
    """Every check, in the order in which they are shown."""
    yield Check("cache", _cache)
    yield Check("LLVM for this CPU", _llvm_host)
    for target in TARGETS.values():
        if target.is_cuda:
            yield from _target_checks(target)
    yield Check("nvdisasm", _nvdisasm)
    yield Check("cuobjdump", _cuobjdump)
    yield Check("nvcc", _nvcc, optional=True)
    yield Check("GPU", _gpu, optional=True)
    yield Check("C++ for the twin of Ascend", _twin, optional=True)


def _target_checks(target: Target) -> Iterator[Check]:
    yield Check(f"LLVM, ptxas: {target}", lambda: _ptx_route(target))
    yield Check(f"NVRTC: {target}", lambda: _cuda_route(target))


_CUDA = 'extern "C" __global__ void store(int* p) { p[threadIdx.x] = 1; }'

_STORE = """
target triple = "nvptx64-nvidia-cuda"
define ptx_kernel void @store(ptr addrspace(1) %p) {
  store i32 1, ptr addrspace(1) %p
  ret void
}
"""

_ADD = """
define i64 @add(i64 %a, i64 %b) {
  %sum = add i64 %a, %b
  ret i64 %sum
}
"""


def _cache() -> str:
    path = cache_directory()
    cache = Cache(path)
    key = key_of(["doctor"])
    cache.put(key, {"x": b"y"})
    if cache.get(key) is None:
        raise Absent(f"{path} cannot be written to; kernels are compiled anew in every process")
    stats = cache.stats()
    return f"{path}, {stats.entries} entries, {stats.bytes / 2**20:.1f} MiB"


def _llvm_host() -> str:
    import ctypes

    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    module = llvm.parse_assembly(_ADD)
    with llvm.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        add = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(engine.get_function_address("add"))
        if add(40, 2) != 42:
            raise ArithmeticError("40 + 2 is not 42 in compiled code")
    version = ".".join(map(str, llvm.llvm_version_info))
    return f"LLVM {version}, llvmlite {locate.version('llvmlite')}, {llvm.get_host_cpu_name()}"


def _ptx_route(target: Target) -> str:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    features = "+ptx{}{}".format(*target.ptx_version)
    backend = llvm.Target.from_triple("nvptx64-nvidia-cuda")
    machine = backend.create_target_machine(cpu=target.name, features=features)
    ptx = machine.emit_assembly(llvm.parse_assembly(_STORE))
    result = ptxas.assemble(ptx, target)
    return f"{_package(f'ptxas-{target.toolkit}')}, {_kernel_of(result.cubin, target)}"


def _cuda_route(target: Target) -> str:
    result = nvrtc.compile_cuda(_CUDA, target)
    return f"{_package(f'nvrtc-{target.toolkit}')}, {_kernel_of(result.cubin, target)}"


def _nvdisasm() -> str:
    sass = binutils.disassemble(_example())
    if "STG" not in sass:
        raise ValueError("no store in the disassembly of a kernel that stores")
    return _package("nvdisasm-13")


def _cuobjdump() -> str:
    if "store" not in binutils.cuobjdump_usage(_example()):
        raise ValueError("a kernel is missing from the list of resources")
    return _package("cuobjdump-13")


def _nvcc() -> str:
    nvcc.compile_cuda(_CUDA, TARGETS["sm_80"])
    return _package("nvcc-13")


def _gpu() -> str:
    from tilus.runtime.nvidia.driver import driver

    try:
        names = driver().devices()
    except ToolchainError as error:
        raise Absent(f"{error.diagnostics[0].message}; kernels compile, but run on the CPU only") from None
    return ", ".join(names)


def _twin() -> str:
    import ctypes
    import subprocess
    import tempfile

    from tilus.twin.compiler import CompilerError, find_compiler

    try:
        command = find_compiler()
    except CompilerError as reason:
        raise Absent(str(reason)) from None
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "twice.cpp"
        source.write_text('extern "C" int twice(int x) { return 2 * x; }')
        library = source.with_suffix(".so")
        subprocess.run([*command, "-std=c++17", "-fPIC", "-shared", str(source), "-o", str(library)], check=True)
        if ctypes.CDLL(str(library)).twice(21) != 42:
            raise ArithmeticError("2 * 21 is not 42 in compiled code")
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    return f"{' '.join(command)}, {version.splitlines()[0]}"


def _example() -> bytes:
    return nvrtc.compile_cuda(_CUDA, TARGETS["sm_80"]).cubin


def _kernel_of(cubin: bytes, target: Target) -> str:
    found = read_cubin(cubin)
    if found.arch != target.arch or "store" not in found.kernels:
        raise ValueError(f"the cubin is for sm_{found.arch} and has the kernels {list(found.kernels)}")
    return f"{len(cubin)} bytes"


def _package(name: str) -> str:
    package = locate.TOOLS[name].package
    return f"{package} {locate.version(package)}"
