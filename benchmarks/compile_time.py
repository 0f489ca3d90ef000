"""Compile times: whole processes against Triton, and what a running process pays.

    python -m benchmarks.compile_time [--peer PYTHON] [--runs 5]

``--peer`` is the interpreter of an environment with Triton (``pip install triton``), which needs no GPU to compile for
a given target. Every run is a new process with an empty cache; medians and ratios are printed. Both packages run from
compiled bytecode, as pip leaves them when it installs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from rich.console import Console
from rich.table import Table

OURS = {
    "matmul": "from kernels_zoo.gemm.matmul import matmul as k\nk.compile(target='sm_80', via='{via}').cubin",
    "vector add": "from kernels_zoo.elementwise.vector_add import vector_add as k\n"
                  "k.compile(target='sm_80', via='{via}').cubin",
}
TRITON = {
    "matmul": '''
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

@triton.jit
def matmul(a, b, c, M, N, K, sa, sb, sc, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    i, j = tl.program_id(0), tl.program_id(1)
    rows, cols, ks = i * BM + tl.arange(0, BM), j * BN + tl.arange(0, BN), tl.arange(0, BK)
    pa, pb = a + rows[:, None] * sa + ks[None, :], b + ks[:, None] * sb + cols[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        x = tl.load(pa, mask=(rows[:, None] < M) & (ks[None, :] < K - k), other=0.0)
        y = tl.load(pb, mask=(ks[:, None] < K - k) & (cols[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc)
        pa += BK
        pb += BK * sb
    tl.store(c + rows[:, None] * sc + cols[None, :], acc.to(tl.float16), mask=(rows[:, None] < M) & (cols[None, :] < N))

names = ["a", "b", "c", "M", "N", "K", "sa", "sb", "sc"]
signature = {n: "*fp16" if n in "abc" else "i32" for n in names}
signature |= {"BM": "constexpr", "BN": "constexpr", "BK": "constexpr"}
attrs = {(i,): [["tt.divisibility", 16]] for i in range(9)}
source = ASTSource(matmul, signature, {"BM": 128, "BN": 128, "BK": 32}, attrs)
triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 4, "num_stages": 3}).asm["cubin"]
''',
    "vector add": '''
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

@triton.jit
def add(x, y, z, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(z + at, tl.load(x + at, mask=at < n) + tl.load(y + at, mask=at < n), mask=at < n)

attrs = {(i,): [["tt.divisibility", 16]] for i in range(4)}
source = ASTSource(add, {"x": "*fp32", "y": "*fp32", "z": "*fp32", "n": "i32", "B": "constexpr"}, {"B": 1024}, attrs)
triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["cubin"]
''',
}
BARS = {"matmul": 0.5, "vector add": 0.25}
IN_PROCESS = '''
import time, numpy as np, tilus as tl
from kernels_zoo.elementwise.saxpy import saxpy
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.gemm.matmul import matmul
x, a = np.ones(4096, np.float32), np.ones((256, 256), np.float32)
saxpy.compile(target="sm_80", via="ptx")
saxpy(1.0, x, np.empty_like(x))
def timed(name, run):
    t = time.perf_counter()
    run()
    print(name, (time.perf_counter() - t) * 1e3)
timed("vector add to cubin", lambda: vector_add.compile(target="sm_80", via="ptx"))
timed("vector add to the CPU", lambda: vector_add(x, x, np.empty_like(x)))
timed("matmul to the CPU", lambda: matmul(a, a, np.empty_like(a)))
'''
LIMITS = {"vector add to cubin": 60.0, "vector add to the CPU": 60.0, "matmul to the CPU": 150.0}
CACHED = '''
import time, numpy as np, tilus as tl
from kernels_zoo.elementwise.saxpy import saxpy
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.gemm.matmul import matmul
x, a, one = np.ones(4096, np.float32), np.ones((256, 256), np.float32), np.ones(1, np.float32)
out, product, out_one = np.empty_like(x), np.empty_like(a), np.empty_like(one)
saxpy.compile(target="sm_80")
saxpy(1.0, x, out)
def timed(name, run):
    t = time.perf_counter()
    run()
    print(name, (time.perf_counter() - t) * 1e3)
timed("vector add for a GPU", lambda: vector_add.compile(target="sm_80"))
timed("vector add for the CPU", lambda: vector_add(x, x, out))
timed("matmul for a GPU", lambda: matmul.compile(target="sm_80"))
timed("matmul for the CPU", lambda: matmul(a, a, product))
def least(run, times):
    found = []
    for _ in range(times):
        t = time.perf_counter()
        run()
        found.append(time.perf_counter() - t)
    return min(found) * 1e6
vector_add(one, one, out_one)
print("warm call on one element", least(lambda: vector_add(one, one, out_one), 20000))
'''
CACHED_LIMITS = {"vector add for a GPU": 15, "vector add for the CPU": 3, "matmul for a GPU": 15,
                 "matmul for the CPU": 3, "warm call on one element": 2}


BYTECODE = tempfile.TemporaryDirectory()


def run(python: str, code: str, times: int = 1) -> tuple[float, str]:
    """Seconds of a new process, and what it printed: the last of ``times`` that share caches, at first empty."""
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "script.py")
        with open(script, "w") as file:
            file.write(code)
        caches = {"TILUS_CACHE_DIR": os.path.join(folder, "tilus"), "TRITON_CACHE_DIR": os.path.join(folder, "triton")}
        environment = {**os.environ, **caches, "PYTHONPATH": os.getcwd() if python == sys.executable else ""}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = BYTECODE.name
        for _ in range(times):
            start = time.perf_counter()
            done = subprocess.run([python, script], env=environment, capture_output=True, text=True, check=False)
            seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="the Python of an environment with Triton")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    table = Table(title=f"whole process, function to cubin, empty cache, median of {options.runs}")
    for column in ("kernel", "cuda ms", "ptx ms", "Triton ms", "ratio (best route)", "bar"):
        table.add_column(column)
    for name, code in OURS.items():
        for via in ("cuda", "ptx"):
            run(sys.executable, code.format(via=via))  # compiles the bytecode
        if options.peer:
            run(options.peer, TRITON[name])
        # interleaved, so that a change in the machine's load touches all alike
        times: dict[str, list[float]] = {"cuda": [], "ptx": [], "peer": []}
        for _ in range(options.runs):
            for via in ("cuda", "ptx"):
                times[via].append(run(sys.executable, code.format(via=via))[0] * 1e3)
            if options.peer:
                times["peer"].append(run(options.peer, TRITON[name])[0] * 1e3)
        cuda, ptx = (statistics.median(times[via]) for via in ("cuda", "ptx"))
        peer = statistics.median(times["peer"]) if times["peer"] else float("nan")
        ratio = f"{min(cuda, ptx) / peer:.2f}"
        table.add_row(name, f"{cuda:.0f}", f"{ptx:.0f}", f"{peer:.0f}", ratio, f"≤ {BARS[name]}")
    Console(width=120).print(table)
    running(options.runs)
    cached(options.runs)


def running(runs: int) -> None:
    """What a running process pays for another kernel, and every process for the import."""
    single = Table(title="in a running process, second kernel; import")
    for column in ("what", "ms", "bar"):
        single.add_column(column)
    found: dict[str, list[float]] = {name: [] for name in LIMITS}
    run(sys.executable, IN_PROCESS)
    for _ in range(runs):
        for line in run(sys.executable, IN_PROCESS)[1].splitlines():
            name, value = line.rsplit(" ", 1)
            found[name].append(float(value))
    for name, values in found.items():
        single.add_row(name, f"{statistics.median(values):.1f}", f"≤ {LIMITS[name]:.0f}")
    bare = statistics.median(run(sys.executable, "pass")[0] for _ in range(runs))
    imported = statistics.median(run(sys.executable, "import tilus")[0] for _ in range(runs))
    single.add_row("import tilus", f"{(imported - bare) * 1e3:.0f}", "≤ 250")
    Console(width=120).print(single)


def cached(runs: int) -> None:
    """Kernels that another process has compiled, tracing included, and calls of one that is loaded."""
    table = Table(title="from the disk cache, in a running process; a warm call")
    for column in ("what", "found", "bar"):
        table.add_column(column)
    found: dict[str, list[float]] = {name: [] for name in CACHED_LIMITS}
    for _ in range(runs):
        for line in run(sys.executable, CACHED, times=2)[1].splitlines():
            name, value = line.rsplit(" ", 1)
            found[name].append(float(value))
    for name, values in found.items():
        unit = "µs" if name.startswith("warm") else "ms"
        table.add_row(name, f"{statistics.median(values):.1f} {unit}", f"≤ {CACHED_LIMITS[name]} {unit}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
