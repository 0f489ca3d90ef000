"""Micro-kernels that find out what a board's record has: clock, launches, bandwidths, latencies, rates.

Cycles are those of the multiprocessor's counter, seconds those of events. Times and cycles are null on the simulator.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.device_lab import GpuLab, Lab, Results
from tilus.tuning.devices import DeviceLost

CHAIN = """extern "C" __global__ void chain(float *out, long long *cycles, int turns) {
    float *own = out + blockIdx.x * blockDim.x + threadIdx.x, x = *own;
    long long start = clock64();
    #pragma unroll 1
    for (int i = 0; i < turns; i++) {
        #pragma unroll
        for (int j = 0; j < 64; j++) x = fmaf(x, x, x);
    }
    long long stop = clock64();
    *own = x;
    if (threadIdx.x == 0) cycles[blockIdx.x] = stop - start;
}
"""
COPY = """extern "C" __global__ void copy(const uint4 *x, uint4 *y, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = x[i];
}
"""
READ = """extern "C" __global__ void read_l2(const uint4 *x, unsigned *out, int n, int turns) {
    unsigned found = 0;
    for (int t = 0; t < turns; t++) {
        int block = (blockIdx.x + t * 7) % gridDim.x;
        for (int i = block * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
            uint4 v;
            asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(x + i));
            found ^= v.x ^ v.y ^ v.z ^ v.w;
        }
    }
    if (found == 1) out[0] = found;
}
"""
EMPTY = 'extern "C" __global__ void empty() {}'
CHASE = """__device__ void link(char *memory, int first, int step, int nodes, int stride) {
    for (int i = first; i < nodes; i += step) {
        unsigned next = (1664525u * (unsigned)i + 1013904223u) & (unsigned)(nodes - 1);
        *(char **)(memory + (long long)i * stride) = memory + (long long)next * stride;
    }
}
extern "C" __global__ void prepare(char *memory, int nodes, int stride) {
    link(memory, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x, nodes, stride);
}
extern "C" __global__ void chase(char *memory, char **out, long long *cycles, int warm, int steps, int nodes,
                                 int stride) {
    link(memory, 0, 1, nodes, stride);
    char *p = memory;
    for (int i = 0; i < warm; i++) asm volatile("ld.global.MODE.u64 %0, [%0];" : "+l"(p) :: "memory");
    long long start = clock64();
    #pragma unroll 16
    for (int i = 0; i < steps; i++) asm volatile("ld.global.MODE.u64 %0, [%0];" : "+l"(p) :: "memory");
    long long stop = clock64();
    out[0] = p;
    cycles[0] = stop - start;
}
"""
SHARED = """extern "C" __global__ void banks(unsigned *out, long long *cycles, int stride, int turns) {
    __shared__ unsigned words[1024];
    unsigned at = ((threadIdx.x & 31) * stride & 1023) + ((threadIdx.x & 31) * stride >> 10);
    unsigned p = (unsigned)__cvta_generic_to_shared(&words[at & 1023]);
    words[at & 1023] = p;
    __syncthreads();
    long long start = clock64();
    #pragma unroll 1
    for (int i = 0; i < turns; i++) {
        #pragma unroll
        for (int j = 0; j < 16; j++) asm volatile("ld.shared.u32 %0, [%0];" : "+r"(p) :: "memory");
    }
    long long stop = clock64();
    out[threadIdx.x] = p;
    if (threadIdx.x == 0) cycles[0] = stop - start;
}
"""
RATE = """extern "C" __global__ void rate(TYPE *out, long long *cycles, int turns, int n) {
    TYPE c[8][COUNT] = {};
    long long start = clock64();
    #pragma unroll 1
    for (int i = 0; i < turns; i++) {
        #pragma unroll
        for (int j = 0; j < 8; j++) STATEMENT
    }
    long long stop = clock64();
    TYPE sum = 0;
    #pragma unroll
    for (int j = 0; j < 8; j++)
        #pragma unroll
        for (int k = 0; k < COUNT; k++) sum += c[j][k];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
    if (threadIdx.x == 0) cycles[blockIdx.x] = stop - start;
}
"""
PRODUCTS = {
    "f16": ("m16n8k16.row.col.f32.f16.f16.f32", "float", 80),
    "bf16": ("m16n8k16.row.col.f32.bf16.bf16.f32", "float", 80),
    "f16, summed in f16": ("m16n8k16.row.col.f16.f16.f16.f16", "unsigned", 80),
    "tf32": ("m16n8k8.row.col.f32.tf32.tf32.f32", "float", 80),
    "i8": ("m16n8k32.row.col.s32.s8.s8.s32", "int", 80),
    "f8e4m3": ("m16n8k32.row.col.f32.e4m3.e4m3.f32", "float", 89),
}
"""Forms of mma.sync, the type of a thread's results, and the first architecture that has it."""
WARPS = 16


def micro(lab: Lab, found: Results) -> None:
    """All of them; those for which there is no time are missing, those that fail have their errors."""
    parts: dict[str, Callable[[Lab, Results], dict[str, Any]]] = {
        "clock": clock, "launch": launch, "copy": copy, "l2": read_l2, "latency": latencies, "shared": banks,
        "products": products, "special": special_functions}
    for name, part in parts.items():
        if lab.left < 1:
            break
        if name in found:
            continue
        try:
            found[name] = part(lab, found)
        except DeviceLost as error:
            found[name] = {"error": str(error)}
            raise
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
        found.save()


class Counted:
    """An array of cycles."""

    def __init__(self, lab: Lab, count: int) -> None:
        self.lab, self.array = lab, lab.upload(np.zeros(count, np.int64))

    @property
    def cycles(self) -> float | None:
        """The median; None on the simulator."""
        return float(np.median(self.lab.download(self.array))) if isinstance(self.lab, GpuLab) else None


def per(cycles: float | None, count: float) -> float | None:
    return None if cycles is None else cycles / count


def seconds(timing: dict[str, Any] | None) -> float | None:
    return None if timing is None else float(timing["seconds"])


def rate(amount: float, timing: dict[str, Any] | None) -> float | None:
    """So much in a second."""
    return None if timing is None else amount / float(timing["seconds"])


def clock(lab: Lab, _: Results) -> dict[str, Any]:
    """Cycles of a dependent multiply-add, 4 on all boards since Volta, and the clock while all sub-cores do them."""
    turns = 1 if lab.small else 100_000
    out, cycles = lab.upload(np.zeros(512 * lab.blocks, np.float32)), Counted(lab, lab.blocks)
    run = lab.kernel(CHAIN, "chain")
    timing = lab.time(lambda: run((lab.blocks,), (512,), (out, cycles.array, turns)))
    total, took = cycles.cycles, seconds(timing)
    return {"ghz": None if total is None or took is None else total / took * 1e-9,
            "multiply_add_cycles": per(total, 64 * turns), "timing": timing}


def launch(lab: Lab, _: Results) -> dict[str, Any]:
    """Seconds from one kernel to the next in a stream."""
    count, run = 2 if lab.small else 100, lab.kernel(EMPTY, "empty")

    def several() -> None:
        for _ in range(count):
            run((1,), (32,), ())

    return {"seconds": per(seconds(lab.time(several)), count)}


def copy(lab: Lab, _: Results) -> dict[str, Any]:
    """Bytes that are read and written in a second, by the bytes of an array."""
    sizes = [4096] if lab.small else [1 << n for n in (18, 20, 22, 24, 26, 28, 30)]
    run, found = lab.kernel(COPY, "copy"), {}
    x, y = lab.empty(sizes[-1]), lab.empty(sizes[-1])
    for size in sizes:
        blocks = max(1, min(8 * lab.blocks, size // 16 // 256))
        timing = lab.time(lambda size=size, blocks=blocks: run((blocks,), (256,), (x, y, size // 16)))
        found[str(size)] = {"bytes_per_second": rate(2 * size, timing), "timing": timing}
    return {"by_size": found}


def read_l2(lab: Lab, known: Results) -> dict[str, Any]:
    """Bytes a cycle that all multiprocessors together read from L2: a quarter of it, again and again."""
    size, turns = (4096, 2) if lab.small else (1 << (lab.l2 // 4).bit_length() - 1, 100)
    x, out, run = lab.empty(size), lab.upload(np.zeros(1, np.uint32)), lab.kernel(READ, "read_l2")
    grid = 2 * lab.blocks if not lab.small else 1
    timing = lab.time(lambda: run((grid,), (1024 if not lab.small else 128,), (x, out, size // 16, turns)))
    each, ghz = rate(size * turns, timing), known.get("clock", {}).get("ghz")
    return {"bytes": size, "bytes_per_second": each, "bytes_per_cycle": each / ghz * 1e-9 if each and ghz else None}


def latencies(lab: Lab, _: Results) -> dict[str, Any]:
    """Cycles of a load that depends on the one before, by where it finds its data."""
    cases = {"l1": ("ca", 128, 64, True), "l2": ("cg", 4096, 256, True),
             "memory": ("cg", 1 << (4 * lab.l2 // 512).bit_length() - 1, 512, False)}
    found = {}
    for name, (mode, nodes, stride, warm) in cases.items():
        source, steps = CHASE.replace("MODE", mode), 16 if lab.small else 4096
        nodes = 16 if lab.small else nodes
        run, memory = lab.kernel(source, "chase"), lab.empty(nodes * stride)
        out, cycles = lab.upload(np.zeros(1, np.uint64)), Counted(lab, 1)
        if not lab.small:
            lab.kernel(source, "prepare")((lab.blocks,), (256,), (memory, nodes, stride))
        # Addresses on the simulator are those of one launch, so that the kernel links the nodes itself.
        numbers = (nodes if warm else 0, steps, nodes if lab.small else 0, stride)
        lab.time(lambda: run((1,), (1,), (memory, out, cycles.array, *numbers)))  # noqa: B023  (called at once)
        found[name] = {"cycles": per(cycles.cycles, steps), "bytes": nodes * stride}
    return found


def banks(lab: Lab, _: Results) -> dict[str, Any]:
    """Cycles of a multiprocessor for a request of shared memory, by the degree of its bank conflict."""
    turns, warps, run, found = 1 if lab.small else 200, 1 if lab.small else WARPS, lab.kernel(SHARED, "banks"), {}
    for stride in (1, 2, 4, 8, 16, 32):
        out, cycles = lab.upload(np.zeros(1024, np.uint32)), Counted(lab, 1)
        lab.time(lambda: run((1,), (32 * warps,), (out, cycles.array, stride, turns)))  # noqa: B023  (called at once)
        found[str(stride)] = per(cycles.cycles, 16 * turns * warps)
    return {"cycles_by_degree": found}


def products(lab: Lab, _: Results) -> dict[str, Any]:
    """What tensor cores reach by mma.sync: multiply-adds a cycle and multiprocessor, operations a second."""
    return dict(_products(lab))


def _products(lab: Lab) -> Iterator[tuple[str, Any]]:
    for name, (form, type_, first) in PRODUCTS.items():
        if lab.target.arch < first:
            continue
        count = 2 if form.endswith(".f16") else 4
        m, n, k = (int(part) for part in form.split(".")[0].replace("n", " ").replace("k", " ")[1:].split())
        letter = "f" if type_ == "float" else "r"
        sums = ", ".join(f"%{i}" for i in range(count))
        operands = ", ".join(f'"+{letter}"(c[j][{i}])' for i in range(count))
        statement = (f'asm volatile("mma.sync.aligned.{form} {{{sums}}}, {{%{count}, %{count}, %{count}, %{count}}}, '
                     f'{{%{count}, %{count}}}, {{{sums}}};" : {operands} : "r"(n));')
        found = _rate(lab, statement, type_, count)
        work = 8 * WARPS * m * n * k * found["turns"]
        yield name, {"multiply_adds_per_cycle": None if found["cycles"] is None else work / found["cycles"],
                     "operations_per_second": rate(2.0 * work * lab.blocks, found["timing"]),
                     "ghz": found["ghz"]}


def special_functions(lab: Lab, _: Results) -> dict[str, Any]:
    """Results of ex2.approx a cycle and multiprocessor."""
    found = _rate(lab, 'asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(c[j][0]));', "float", 1)
    work = 8 * WARPS * 32 * found["turns"]
    return {"ex2_per_cycle": None if found["cycles"] is None else work / found["cycles"]}


def _rate(lab: Lab, statement: str, type_: str, count: int) -> dict[str, Any]:
    """Cycles of a loop over eight independent copies of a statement, on all multiprocessors."""
    turns = 1 if lab.small else 20_000
    source = RATE.replace("STATEMENT", statement).replace("TYPE", type_).replace("COUNT", str(count))
    out, cycles = lab.upload(np.zeros(512 * lab.blocks, np.float32)), Counted(lab, lab.blocks)
    run = lab.kernel(source, "rate")
    timing = lab.time(lambda: run((lab.blocks,), (32 * WARPS,), (out, cycles.array, turns, 0)))
    total, took = cycles.cycles, seconds(timing)
    return {"turns": turns, "cycles": total, "timing": timing,
            "ghz": None if total is None or took is None else total / took * 1e-9}


def clock_under_load(found: dict[str, Any]) -> float | None:
    """The clock that the record of a board has, GHz: the median of those of the micro-kernels that load all of it."""
    clocks = [found.get("clock", {}).get("ghz")]
    clocks += [row.get("ghz") for row in found.get("products", {}).values() if isinstance(row, dict)]
    known = [clock for clock in clocks if clock]
    return statistics.median(known) if known else None
