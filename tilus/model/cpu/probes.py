"""Micro-benchmarks of a core: short loops of one kind of instruction, and reads of memory of various sizes.

Each is a function of LLVM IR ``f(pointer, count, number)`` that runs its body ``count`` times. The numbers that it
works on are arguments, so that nothing is folded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

CHAINS = 8
"""Independent chains in a loop: more than a latency's worth of instructions on two ports."""


def _loop(name: str, init: Sequence[tuple[str, str]], body: str, last: Sequence[str]) -> str:
    """A loop over ``%k`` below ``%n`` with carried values ``%c0, %c1, …`` of type and first value ``init``."""
    phis = "".join(f"  %c{i} = phi {t} [ {x}, %entry ], [ {y}, %loop ]\n"
                   for i, ((t, x), y) in enumerate(zip(init, last, strict=True)))
    ends = "".join(f"  store volatile {t} {y}, ptr %p, align 4\n"
                   for (t, _), y in zip(init, last, strict=True))
    return (f"define i64 @{name}(ptr %p, i64 %n, i64 %m) {{\nentry:\n  br label %loop\nloop:\n"
            f"  %k = phi i64 [ 0, %entry ], [ %k1, %loop ]\n{phis}{body}  %k1 = add i64 %k, 1\n"
            f"  %go = icmp ult i64 %k1, %n\n  br i1 %go, label %loop, label %end\nend:\n{ends}  ret i64 0\n}}\n")


def _chains(name: str, ty: str, zero: str, line: Callable[[str], str], depth: int, count: int = CHAINS) -> str:
    """``count`` chains, each of ``depth`` operations; ``line`` gives the operation on a value."""
    body, last = [], []
    for i in range(count):
        value = f"%c{i}"
        for d in range(depth):
            body.append(f"  %x{i}_{d} = {line(value)}\n")
            value = f"%x{i}_{d}"
        last.append(value)
    return _loop(name, [(ty, zero)] * count, "".join(body), last)


def _memory(name: str, ty: str, count: int, size: int, store: bool) -> str:
    body = ""
    for i in range(count):
        body += f"  %q{i} = getelementptr i8, ptr %p, i64 {i * size}\n"
        if store:
            body += f"  store volatile {ty} zeroinitializer, ptr %q{i}, align 4\n"
        else:
            body += f"  %l{i} = load volatile {ty}, ptr %q{i}, align 4\n"
    return _loop(name, [], body, [])


def _read(ty: str, size: int) -> str:
    """Sums the ``%n`` bytes from ``%p`` on, ``%m`` times."""
    body, ends = "", "".join(f"  store volatile {ty} %d{i}, ptr %p, align 4\n" for i in range(4))
    phis = "".join(f"  %c{i} = phi {ty} [ zeroinitializer, %turn ], [ %d{i}, %loop ]\n" for i in range(4))
    for i in range(4):
        body += (f"  %g{i} = getelementptr i8, ptr %p, i64 %k\n  %h{i} = getelementptr i8, ptr %g{i}, i64 {i * size}\n"
                 f"  %l{i} = load {ty}, ptr %h{i}, align 4\n  %d{i} = fadd {ty} %c{i}, %l{i}\n")
    return ("define i64 @read(ptr %p, i64 %n, i64 %m) {\nentry:\n  br label %turn\nturn:\n"
            "  %t = phi i64 [ 0, %entry ], [ %t1, %done ]\n  br label %loop\nloop:\n"
            f"  %k = phi i64 [ 0, %turn ], [ %k1, %loop ]\n{phis}{body}  %k1 = add i64 %k, {4 * size}\n"
            "  %go = icmp ult i64 %k1, %n\n  br i1 %go, label %loop, label %done\ndone:\n"
            f"{ends}  %t1 = add i64 %t, 1\n  %more = icmp ult i64 %t1, %m\n  br i1 %more, label %turn, label %end\n"
            "end:\n  ret i64 0\n}\n")


SINGLE_STRIDE = 4096 + 64
"""Bytes from one line to the next, for reads that no prefetching helps."""

_SINGLE = f"""define i64 @single(ptr %p, i64 %n, i64 %m) {{
entry:
  %all = mul i64 %n, %m
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %k1, %loop ]
  %q = phi i64 [ 0, %entry ], [ %q1, %loop ]
  %c = phi float [ 0.0, %entry ], [ %d, %loop ]
  %g = getelementptr i8, ptr %p, i64 %q
  %l = load float, ptr %g, align 4
  %d = fadd float %c, %l
  %a = add i64 %q, {SINGLE_STRIDE}
  %over = icmp uge i64 %a, %n
  %b = sub i64 %a, %n
  %q1 = select i1 %over, i64 %b, i64 %a
  %k1 = add i64 %k, 64
  %go = icmp ult i64 %k1, %all
  br i1 %go, label %loop, label %end
end:
  store volatile float %d, ptr %p, align 4
  ret i64 0
}}
"""


def text(vector_bytes: int, fma: bool) -> str:
    """The module, for registers of that many bytes; without ``fma`` multiplications stand for multiply-adds, which
    LLVM would call a library for."""
    lanes = vector_bytes // 4
    vector = f"<{lanes} x float>"
    declared = f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})\n"
    splat = (f"  %s = sitofp i64 %m to float\n  %v0 = insertelement {vector} poison, float %s, i64 0\n"
             f"  %v = shufflevector {vector} %v0, {vector} poison, <{lanes} x i32> zeroinitializer\n")

    rotation = f"<{lanes} x i32> <{', '.join(f'i32 {(i + 1) % lanes}' for i in range(lanes))}>"

    def multiply_add(x: str) -> str:
        if not fma:
            return f"fmul {vector} {x}, %v"
        return f"call {vector} @llvm.fma.v{lanes}f32({vector} {x}, {vector} %v, {vector} %v)"

    def rotated(x: str) -> str:
        return f"shufflevector {vector} {x}, {vector} poison, {rotation}"

    def with_splat(code: str) -> str:
        return code.replace("entry:\n", "entry:\n" + splat, 1)

    return "".join([
        declared, _SINGLE, _read(vector, vector_bytes),
        _chains("latency", "i64", "%m", lambda x: f"mul i64 {x}, {x}", PROBES["latency"], 1),
        _chains("scalar", "i64", "%m", lambda x: f"xor i64 {x}, %k", 1, PROBES["scalar"]),
        with_splat(_chains("fma", vector, "%v", multiply_add, 1, PROBES["fma"])),
        with_splat(_chains("fma_latency", vector, "%v", multiply_add, PROBES["fma_latency"], 1)),
        with_splat(_chains("add_latency", vector, "%v", lambda x: f"fadd {vector} {x}, %v", PROBES["add_latency"], 1)),
        with_splat(_chains("scalar_add_latency", "float", "%s", lambda x: f"fadd float {x}, %s",
                           PROBES["scalar_add_latency"], 1)),
        with_splat(_chains("shuffle", vector, "%v", rotated, 1, PROBES["shuffle"])),
        with_splat(_chains("divide", vector, "%v", lambda x: f"fdiv {vector} {x}, %v", 1, PROBES["divide"])),
        _memory("loads", vector, PROBES["loads"], vector_bytes, False),
        _memory("stores", vector, PROBES["stores"], vector_bytes, True),
    ])


PROBES = {"latency": 16, "scalar": 12, "fma": 12, "divide": 4, "loads": 16, "stores": 16,
          "add_latency": 8, "fma_latency": 8, "scalar_add_latency": 8, "shuffle": 8}
"""How many instructions of its kind the body of a loop has."""
RATES = ("fma", "loads", "stores", "scalar", "divide", "shuffle")
"""What tells how often each port can be used."""
LATENCIES = ("scalar_add_latency", "add_latency", "fma_latency")
MULTIPLY_LATENCY = 3
"""Cycles from one integer multiplication to one that needs it, on all cores of note: what the clock is told by."""
READ_BYTES, TURNS = 16 << 20, 8


class Probes:
    """The compiled micro-benchmarks."""

    def __init__(self, vector_bytes: int, threads: int) -> None:
        from tilus.runtime.cpu.llvm import LoadedObject, compile_object, function, machine

        self.threads, self.vector_bytes = threads, vector_bytes
        self._object = LoadedObject(compile_object(text(vector_bytes, machine().fma)))
        self._functions = {name: function(self._object.address(name), ctypes.c_int64, *[ctypes.c_int64] * 3)
                           for name in (*PROBES, "read", "single")}

    def seconds(self, name: str, count: int, address: int) -> float:
        """Of a body, the least of some runs."""
        run = self._functions[name]
        best = float("inf")
        for _ in range(TURNS):
            started = time.perf_counter()
            run(address, count, 1)
            best = min(best, time.perf_counter() - started)
        return best / count

    def per_byte(self, name: str, buffers: Sequence[Any], size: int, threads: int) -> float:
        """Seconds for a byte of buffers of ``size`` bytes that ``threads`` cores read at once, one each: as long as
        the slowest takes."""
        run, repeats = self._functions[name], max(1, READ_BYTES // size)
        best = float("inf")
        for _ in range(TURNS):
            taken = _together(lambda buffer: run(buffer.ctypes.data, size, repeats), buffers[:threads])
            best = min(best, taken / (repeats * size))
        return best


@contextlib.contextmanager
def on_core(place: int) -> Iterator[None]:
    """Keep the calling thread on one of the cores that it may run on, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[place % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _together(work: Callable[[Any], None], items: Sequence[Any]) -> float:
    """Seconds that the slowest of threads takes, one for each item, which begin at once."""
    barrier = threading.Barrier(len(items))
    taken = [0.0] * len(items)

    def run(place: int) -> None:
        with on_core(place):
            barrier.wait()
            started = time.perf_counter()
            work(items[place])
            taken[place] = time.perf_counter() - started

    workers = [threading.Thread(target=run, args=(i,)) for i in range(1, len(items))]
    for worker in workers:  # before this thread is kept on a core, which they would inherit
        worker.start()
    run(0)
    for worker in workers:
        worker.join()
    return max(taken)


__all__ = ["LATENCIES", "MULTIPLY_LATENCY", "PROBES", "RATES", "Probes", "on_core"]
