"""Device-wide primitives of CUB, with their own host code: its launches run on the simulator.

The host code is linked with a small stand-in for the CUDA runtime. It decides how many kernels run, with which grids,
arguments and places in temporary storage; each launch comes back here with the kernel's name and its arguments' bytes.
"""

# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilus import simulator
from tilus.runtime.toolchains.locate import find

RUNTIME = Path(__file__).parent / "host_runtime.cpp"
SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint),
                             ctypes.POINTER(ctypes.c_void_p))
HEADERS = ("device_reduce", "device_scan", "device_radix_sort", "device_histogram", "device_select",
           "device_run_length_encode", "device_segmented_reduce", "device_merge_sort")
# Host functions: name -> the call, of temporary storage t of *b bytes, arrays a and an extent n
CALLS = {
    "reduce_sum": "cub::DeviceReduce::Sum(t, *b, (int*)a[0], (int*)a[1], n)",
    "reduce_max_of_floats": "cub::DeviceReduce::Max(t, *b, (float*)a[0], (float*)a[1], n)",
    "exclusive_sum": "cub::DeviceScan::ExclusiveSum(t, *b, (int*)a[0], (int*)a[1], n)",
    "inclusive_sum_of_doubles": "cub::DeviceScan::InclusiveSum(t, *b, (double*)a[0], (double*)a[1], n)",
    "sort_pairs": "cub::DeviceRadixSort::SortPairs(t, *b, (const unsigned*)a[0], (unsigned*)a[1], (const int*)a[2], (int*)a[3], n)",
    "histogram": "cub::DeviceHistogram::HistogramEven(t, *b, (int*)a[0], (int*)a[1], 65, 0, 256, n)",
    "select_flagged": "cub::DeviceSelect::Flagged(t, *b, (int*)a[0], (char*)a[1], (int*)a[2], (int*)a[3], n)",
    "run_lengths": "cub::DeviceRunLengthEncode::Encode(t, *b, (int*)a[0], (int*)a[1], (int*)a[2], (int*)a[3], n)",
    "segmented_sum": "cub::DeviceSegmentedReduce::Sum(t, *b, (int*)a[0], (int*)a[1], n, (int*)a[2], (int*)a[2] + 1)",
    "merge_sort": "cub::DeviceMergeSort::SortKeys(t, *b, (int*)a[0], n, Less())",
}


@functools.lru_cache(maxsize=4)
def built(arch: str) -> tuple[ctypes.CDLL, simulator.Module]:
    """The host code as a library, and its kernels."""
    number = arch.removeprefix("sm_").rstrip("a")
    text = "".join(f"#include <cub/device/{name}.cuh>\n" for name in HEADERS) + "struct Less { __host__ __device__ bool operator()(int x, int y) const { return x < y; } };\n"
    text += "".join(f'extern "C" int {name}(void* t, size_t* b, void** a, int n) {{ return {call}; }}\n' for name, call in CALLS.items())
    with tempfile.TemporaryDirectory() as folder:
        source, library, ptx = (Path(folder) / name for name in ("calls.cu", "calls.so", "calls.ptx"))
        source.write_text(text, encoding="utf-8")
        kind = f"compute_{arch.removeprefix('sm_')}"
        common = [str(find("nvcc-13")), "-std=c++17", f"-I{find('headers-13')}/cccl", f"-DARCH={number}0", "-gencode",
                  f"arch={kind},code={kind}"]
        for command in ([*common, "-shared", "-Xcompiler", "-fPIC", "-cudart", "none", "-o", str(library), str(source), str(RUNTIME)],
                        [*common, "-ptx", "-lineinfo", "-o", str(ptx), str(source)]):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
            assert done.returncode == 0, done.stderr[-4000:]
        return ctypes.CDLL(str(library)), simulator.load(ptx.read_text(encoding="utf-8"))


def run(call: str, arch: str, arrays: Sequence[np.ndarray], n: int) -> list[simulator.Report]:
    """Call a host function with arrays and an extent; returns the reports of the launches that it made."""
    host, module = built(arch)
    reports: list[simulator.Report] = []
    failures: list[BaseException] = []
    known = list(arrays)

    def launched(entry: bytes, shape: Any, args: Any) -> int:
        try:
            sizes = [variable.bytes for variable, _ in module.program(entry.decode()).decoded.params]
            values = [argument(ctypes.string_at(args[i], size), known) for i, size in enumerate(sizes)]
            reports.append(module.launch(entry.decode(), tuple(shape[:3]), tuple(shape[3:6]), values,
                                         shared_bytes=shape[6], collect=True, max_steps=4_000_000))
        except BaseException as error:
            failures.append(error)
            return 1
        return 0

    callback = SIGNATURE(launched)
    host.tell_launches(callback)
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    size = ctypes.c_size_t(0)
    assert getattr(host, call)(None, ctypes.byref(size), pointers, n) == 0
    temporary = np.full(size.value + 256, 0xA5, "u1")
    start = -temporary.ctypes.data % 256
    known.append(temporary)
    result = getattr(host, call)(ctypes.c_void_p(temporary.ctypes.data + start), ctypes.byref(size), pointers, n)
    if failures:
        raise failures[0]
    assert result == 0
    return reports


def argument(data: bytes, known: Sequence[np.ndarray]) -> Any:
    """The bytes of an argument, with the pointers among them."""
    found = {}
    for offset in range(0, len(data) - 7, 8):
        word = int.from_bytes(data[offset:offset + 8], "little")
        for array in known:
            if array.ctypes.data <= word < array.ctypes.data + max(array.nbytes, 1):
                found[offset] = simulator.Pointer(array, word - array.ctypes.data)
    if len(data) == 8 and found:
        return found[0]
    return simulator.Struct(data, found) if found else data
