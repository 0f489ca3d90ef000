"""How a C program enters a kernel, in LLVM IR: a table of runtime functions that need nothing but the C library.

Blocks run in order on the calling thread, or on threads that the program has: it passes a function that calls another
one ``count`` times, on whatever threads (``tilus_parallel`` in the header), as many as there is work for. Each of those
calls takes blocks until none is left. The pool that the runtime's functions are given is the address of that structure,
0 where there is none.

Blocks that wait for others run on the calling thread in any case: those for which they may wait have run before, so
that a wait which has to wait would do so for ever.
"""

from __future__ import annotations

from tilus.lowering.cpu.state import (
    RUNTIME_ALLOCATE,
    RUNTIME_FREE,
    RUNTIME_POOL,
    RUNTIME_RUN,
    RUNTIME_THREADS,
    RUNTIME_TICK,
    RUNTIME_WAIT,
    STATE_ERROR,
    STATE_NEXT,
    STATE_TOTAL,
    STATE_WAITS,
)
from tilus.runtime.cpu import pool_ir
from tilus.runtime.cpu.wait_ir import DEADLOCK

OUT_OF_MEMORY = -3
"""The status where there is no memory for the frame of a block; beside those of ``wait_ir.py``."""
_TABLE_WORDS = 16


def entry_text(symbol: str) -> str:
    """``int SYMBOL(const int64_t *arguments, const tilus_parallel *parallel)`` calls the module's ``launch`` on packed
    arguments and gives its status: 0, the number of an assertion that failed, :data:`OUT_OF_MEMORY` or ``DEADLOCK``.
    Any number of threads may be in it at once."""
    words = {
        RUNTIME_POOL: "%pool", RUNTIME_RUN: "ptrtoint (ptr @run_blocks to i64)",
        RUNTIME_ALLOCATE: "ptrtoint (ptr @allocate to i64)", RUNTIME_FREE: "ptrtoint (ptr @release to i64)",
        RUNTIME_THREADS: "%threads", RUNTIME_TICK: "%tickword", RUNTIME_WAIT: "ptrtoint (ptr @never to i64)",
    }
    table = "".join(f"  %w{i} = getelementptr i64, ptr %table, i64 {i}\n  store i64 {words.get(i, '0')}, ptr %w{i}\n"
                    for i in range(_TABLE_WORDS))
    return _TEXT.replace("WORTH", str(pool_ir.WORTH_WAKING)) + f"""
define i32 @{symbol}(ptr %arguments, ptr %parallel) nounwind {{
  %table = alloca [{_TABLE_WORDS} x i64], align 16
  %tick = alloca i64
  store i64 0, ptr %tick
  %tickword = ptrtoint ptr %tick to i64
  %pool = ptrtoint ptr %parallel to i64
  %threads = call i64 @threads_of(i64 %pool)
{table}  %status = call i64 @launch(ptr %arguments, ptr %table)
  %short = trunc i64 %status to i32
  ret i32 %short
}}
"""


_TEXT = f"""
declare ptr @malloc(i64)
declare void @free(ptr)
declare ptr @memset(ptr, i32, i64)

define internal i64 @threads_of(i64 %pool) nounwind {{
entry:
  %parallel = inttoptr i64 %pool to ptr
  %none = icmp eq i64 %pool, 0
  br i1 %none, label %alone, label %look
look:
  %run = load ptr, ptr %parallel
  %threadsw = getelementptr i64, ptr %parallel, i64 2
  %threads = load i64, ptr %threadsw
  %few = icmp slt i64 %threads, 1
  %nothing = icmp eq ptr %run, null
  %serial = or i1 %few, %nothing
  %count = select i1 %serial, i64 1, i64 %threads
  ret i64 %count
alone:
  ret i64 1
}}

define internal void @run_blocks(i64 %pool, ptr %function, ptr %state, i64 %blocks, i64 %bytes, i64 %work) nounwind {{
entry:
  %job = alloca [3 x i64], align 16
  store ptr %function, ptr %job
  %statew = getelementptr i64, ptr %job, i64 1
  store ptr %state, ptr %statew
  %bytesw = getelementptr i64, ptr %job, i64 2
  store i64 %bytes, ptr %bytesw
  %threads = call i64 @threads_of(i64 %pool)
  %fewer = icmp slt i64 %blocks, %threads
  %most = select i1 %fewer, i64 %blocks, i64 %threads
  %others = udiv i64 %work, WORTH
  %useful = add i64 %others, 1
  %little = icmp ult i64 %useful, %most
  %count = select i1 %little, i64 %useful, i64 %most
  %one = icmp sle i64 %count, 1
  %waitsw = getelementptr i64, ptr %state, i64 {STATE_WAITS}
  %waits = load i64, ptr %waitsw
  %ordered = icmp ne i64 %waits, 0
  %serial = or i1 %one, %ordered
  br i1 %serial, label %alone, label %together
alone:
  call void @take_blocks(ptr %job, i64 0)
  ret void
together:
  %parallel = inttoptr i64 %pool to ptr
  %run = load ptr, ptr %parallel
  %contextw = getelementptr i64, ptr %parallel, i64 1
  %context = load ptr, ptr %contextw
  call void %run(ptr %context, ptr @take_blocks, ptr %job, i64 %count)
  ret void
}}

; With a frame of its own, unless the others have begun all blocks meanwhile.
define internal void @take_blocks(ptr %job, i64 %index) nounwind {{
entry:
  %function = load ptr, ptr %job
  %statew = getelementptr i64, ptr %job, i64 1
  %state = load ptr, ptr %statew
  %bytesw = getelementptr i64, ptr %job, i64 2
  %bytes = load i64, ptr %bytesw
  %nextw = getelementptr i64, ptr %state, i64 {STATE_NEXT}
  %next = load atomic i64, ptr %nextw monotonic, align 8
  %totalw = getelementptr i64, ptr %state, i64 {STATE_TOTAL}
  %total = load i64, ptr %totalw
  %some = icmp slt i64 %next, %total
  br i1 %some, label %begin, label %done
begin:
  %frame = call i64 @allocate(i64 %bytes, i64 0)
  %failed = icmp eq i64 %frame, 0
  br i1 %failed, label %none, label %work
none:
  %errorw = getelementptr i64, ptr %state, i64 {STATE_ERROR}
  %pair = cmpxchg ptr %errorw, i64 0, i64 {OUT_OF_MEMORY} monotonic monotonic
  br label %done
work:
  %pointer = inttoptr i64 %frame to ptr
  call void %function(ptr %state, ptr %pointer)
  call void @release(i64 %frame)
  br label %done
done:
  ret void
}}

define internal i64 @never(i64 %pool, ptr %state, ptr %frame, ptr %seen, i64 %place, i64 %block, i64 %first) nounwind {{
  %errorw = getelementptr i64, ptr %state, i64 {STATE_ERROR}
  %pair = cmpxchg ptr %errorw, i64 0, i64 {DEADLOCK} monotonic monotonic
  %error = load atomic i64, ptr %errorw monotonic, align 8
  ret i64 %error
}}

; Memory on cache lines of its own, with one more at its end; where it really begins stands before it.
define internal i64 @allocate(i64 %bytes, i64 %zero) nounwind {{
entry:
  %size = add i64 %bytes, 64
  %room = add i64 %size, 72
  %whole = call ptr @malloc(i64 %room)
  %failed = icmp eq ptr %whole, null
  br i1 %failed, label %none, label %align
none:
  ret i64 0
align:
  %address = ptrtoint ptr %whole to i64
  %above = add i64 %address, 71
  %aligned = and i64 %above, -64
  %pointer = inttoptr i64 %aligned to ptr
  %before = getelementptr i64, ptr %pointer, i64 -1
  store ptr %whole, ptr %before
  %clear = icmp ne i64 %zero, 0
  br i1 %clear, label %fill, label %done
fill:
  %same = call ptr @memset(ptr %pointer, i32 0, i64 %size)
  br label %done
done:
  ret i64 %aligned
}}

define internal void @release(i64 %address) nounwind {{
entry:
  %none = icmp eq i64 %address, 0
  br i1 %none, label %done, label %some
some:
  %pointer = inttoptr i64 %address to ptr
  %before = getelementptr i64, ptr %pointer, i64 -1
  %whole = load ptr, ptr %before
  call void @free(ptr %whole)
  br label %done
done:
  ret void
}}
"""

__all__ = ["OUT_OF_MEMORY", "entry_text"]
