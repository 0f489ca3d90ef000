"""CUDA C to cubin or PTX in this process, by the NVRTC library of the CUDA 13 wheel (of the CUDA 12 wheel for sm_70).

NVRTC itself has no headers but its built-in declarations: vector types, intrinsics and math functions. Where a source
has an #include, the include directory of the CUDA 13 wheels is added; it has cuda_fp16.h, cuda_bf16.h, mma.h, but
neither the C++ standard library nor, for sm_70, a match in the CUDA 12 wheels. Generated code includes nothing.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Sequence

from tilus.codegen.background import interruptible
from tilus.diagnostics import ToolchainError
from tilus.runtime.toolchains.locate import find, locate
from tilus.runtime.toolchains.process import tool_failed
from tilus.runtime.toolchains.ptxas import require_cuda
from tilus.runtime.toolchains.result import CubinResult
from tilus.targets import Target

_COMPILATION_FAILED = 6
_load_lock = threading.Lock()


def compile_cuda(source: str, target: Target, *, name: str = "kernel.cu", options: Sequence[str] = (),
                 max_registers: int | None = None, line_info: bool = False) -> CubinResult:
    """Compile CUDA C to a cubin. Threads may call it at once.

    Args:
        name: what the file is called in messages and line information.
        options: further options of NVRTC, such as ``--fmad=false``.
        max_registers: registers of a thread beyond which ptxas spills.

    Raises:
        ToolchainError: E0901, no NVRTC; E0902, it refuses the source.
    """
    extra = ["--ptxas-options=-v", *options]
    if max_registers is not None:
        extra.append(f"--maxrregcount={max_registers}")
    if line_info:
        extra.append("--generate-line-info")
    data, log = _compile(source, target, name, f"--gpu-architecture={target.name}", extra, "CUBIN")
    return CubinResult(data, log)


def cuda_to_ptx(source: str, target: Target, *, name: str = "kernel.cu", options: Sequence[str] = (),
                line_info: bool = False) -> str:
    """Compile CUDA C to PTX; the arguments and errors are those of ``compile_cuda``."""
    virtual = f"--gpu-architecture={target.name.replace('sm_', 'compute_')}"
    options = [*options, "--generate-line-info"] if line_info else options
    data, _ = _compile(source, target, name, virtual, options, "PTX")
    return data.rstrip(b"\0").decode()


def _compile(source: str, target: Target, name: str, architecture: str, options: Sequence[str],
             product: str) -> tuple[bytes, str]:
    require_cuda(target, "NVRTC")
    return interruptible(lambda: _run(source, target, name, architecture, options, product))


def _run(source: str, target: Target, name: str, architecture: str, options: Sequence[str],
         product: str) -> tuple[bytes, str]:
    library = _library(target.toolkit)
    # --minimal leaves out the texture and runtime declarations, a quarter of the time of a small kernel.
    flags = [architecture, "--minimal", "--std=c++17", *options]
    if "#include" in source and target.toolkit == 13 and (headers := find("headers-13")):
        flags.append(f"--include-path={headers}")
    program = ctypes.c_void_p()
    _check(library, library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None))
    try:
        array = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        status = library.nvrtcCompileProgram(program, len(flags), array)
        log = _text(_buffer(library, program, "ProgramLog"))
        if status == _COMPILATION_FAILED:
            raise tool_failed("nvrtc", status, log)
        _check(library, status, log)
        return _buffer(library, program, product), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _buffer(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, library[f"nvrtcGet{what}Size"](program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, library[f"nvrtcGet{what}"](program, buffer))
    return buffer.raw


def _text(raw: bytes) -> str:
    """A log without the remark that CUDA 12 makes about sm_70, which is compiled by it because of that."""
    lines = raw.rstrip(b"\0").decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.startswith("nvrtc: warning: Architectures prior to"))


def _check(library: ctypes.CDLL, status: int, log: str = "") -> None:
    if status != 0:
        reason: bytes = library.nvrtcGetErrorString(status)
        raise tool_failed("nvrtc", status, log or reason.decode())


def _library(toolkit: int) -> ctypes.CDLL:
    with _load_lock:
        return _load(locate(f"nvrtc-{toolkit}"))


@functools.cache
def _load(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ToolchainError.at("E0902", f"NVRTC could not be loaded: {error}",
                                help="install its wheel again, and run 'tilus doctor'") from error
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library
