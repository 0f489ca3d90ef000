"""Tasks that can be suspended, in LLVM IR: each block of a cooperative launch runs on a stack of its own.

A fiber is a piece of memory: nine words that describe it, its frame, and its stack. A core starts its share of the
blocks, since all cores of such a launch come, each block until it first waits, and then resumes its own in turn until
all are done; it starts others where there are still any. The word before a frame is the address of its fiber. After a
round in which no fiber has moved the core says so (``wait_ir.py``), and lets other threads run if that goes on for
long, since waits between cores are mostly short; where it is itself a fiber, with groups of a block as its tasks, it
lets others run.
"""

from __future__ import annotations

from tilus.runtime.cpu.pool_ir import PAUSE, TICK
from tilus.runtime.cpu.wait_ir import LIVE

STACK_BYTES = 256 << 10
# Words of a fiber: stack pointers of the fiber and of its core, whether it is done, the next one, what it runs.
SP, CORE_SP, DONE, NEXT, STATE, ENTER, INDEX, FRAME, MOVED = range(9)
PATIENCE = 2000
"""Rounds in which no fiber has moved, after which a core lets other threads of the system run."""
HEADER_BYTES = 192
"""The nine words, and the word before the frame, at the end."""

_SWITCH_X86 = [
    ".text", ".globl tilus_switch", "tilus_switch:", "pushq %rbp", "pushq %rbx", "pushq %r12", "pushq %r13",
    "pushq %r14", "pushq %r15", "movq %rsp, (%rdi)", "movq (%rsi), %rsp", "popq %r15", "popq %r14", "popq %r13",
    "popq %r12", "popq %rbx", "popq %rbp", "retq", ".globl tilus_start", "tilus_start:", "movq %r12, %rdi",
    "callq *%r13", "ud2",
]
_SWITCH_ARM = [
    ".text", ".globl tilus_switch", "tilus_switch:", "sub sp, sp, #160", "stp x19, x20, [sp, #0]",
    "stp x21, x22, [sp, #16]", "stp x23, x24, [sp, #32]", "stp x25, x26, [sp, #48]", "stp x27, x28, [sp, #64]",
    "stp x29, x30, [sp, #80]", "stp d8, d9, [sp, #96]", "stp d10, d11, [sp, #112]", "stp d12, d13, [sp, #128]",
    "stp d14, d15, [sp, #144]", "mov x9, sp", "str x9, [x0]", "ldr x9, [x1]", "mov sp, x9", "ldp x19, x20, [sp, #0]",
    "ldp x21, x22, [sp, #16]", "ldp x23, x24, [sp, #32]", "ldp x25, x26, [sp, #48]", "ldp x27, x28, [sp, #64]",
    "ldp x29, x30, [sp, #80]", "ldp d8, d9, [sp, #96]", "ldp d10, d11, [sp, #112]", "ldp d12, d13, [sp, #128]",
    "ldp d14, d15, [sp, #144]", "add sp, sp, #160", "ret", ".globl tilus_start", "tilus_start:", "mov x0, x19",
    "blr x20", "brk #0",
]
# Bytes that a suspended stack holds, and where the registers with the entry, the fiber and the return address are.
_LAYOUT = {"x86": (72, 16, 24, 48), "arm": (160, 8, 0, 88)}


def fiber_text(architecture: str) -> str:
    """The functions ``cooperate(pool, launch, state, enter, bytes, outer)`` and ``task_yields(frame, moved)``; nothing
    for processors whose switch of stacks is not known."""
    if architecture not in _LAYOUT:
        return ""
    size, entry, fiber, back = _LAYOUT[architecture]
    lines = _SWITCH_X86 if architecture == "x86" else _SWITCH_ARM
    assembly = "\n".join(f'module asm "{line}"' for line in lines)
    return assembly + _TEXT.format(size=size, entry=entry, fiber=fiber, back=back, stack=STACK_BYTES,
                                   header=HEADER_BYTES, tick=TICK, live=LIVE, patience=PATIENCE,
                                   pause=PAUSE[architecture])


_TEXT = """
declare void @tilus_switch(ptr, ptr)
declare void @tilus_start()

define internal void @fiber_main(ptr %f) {{
  %statep = getelementptr i64, ptr %f, i64 4
  %enterp = getelementptr i64, ptr %f, i64 5
  %indexp = getelementptr i64, ptr %f, i64 6
  %framep = getelementptr i64, ptr %f, i64 7
  %state = load ptr, ptr %statep
  %enter = load ptr, ptr %enterp
  %index = load i64, ptr %indexp
  %frame = load ptr, ptr %framep
  call void %enter(ptr %state, ptr %frame, i64 %index)
  %donep = getelementptr i64, ptr %f, i64 2
  store i64 1, ptr %donep
  %movedp = getelementptr i64, ptr %f, i64 8
  store i64 1, ptr %movedp
  %core = getelementptr i64, ptr %f, i64 1
  call void @tilus_switch(ptr %f, ptr %core)
  unreachable
}}

define void @task_yields(ptr %frame, i64 %moved) {{
  %slot = getelementptr i8, ptr %frame, i64 -8
  %f = load ptr, ptr %slot
  %movedp = getelementptr i64, ptr %f, i64 8
  store i64 %moved, ptr %movedp
  %core = getelementptr i64, ptr %f, i64 1
  call void @tilus_switch(ptr %f, ptr %core)
  ret void
}}

define internal ptr @fiber_new(ptr %state, ptr %enter, i64 %index, i64 %bytes) {{
  %room = add i64 %bytes, {header}
  %whole = add i64 %room, {stack}
  %padded = add i64 %whole, 8191
  %total = and i64 %padded, -4096
  %f = call ptr @aligned_alloc(i64 4096, i64 %total)
  %donep = getelementptr i64, ptr %f, i64 2
  store i64 0, ptr %donep
  %statep = getelementptr i64, ptr %f, i64 4
  store ptr %state, ptr %statep
  %enterp = getelementptr i64, ptr %f, i64 5
  store ptr %enter, ptr %enterp
  %indexp = getelementptr i64, ptr %f, i64 6
  store i64 %index, ptr %indexp
  %frame = getelementptr i8, ptr %f, i64 {header}
  %framep = getelementptr i64, ptr %f, i64 7
  store ptr %frame, ptr %framep
  %self = getelementptr i8, ptr %frame, i64 -8
  store ptr %f, ptr %self
  %top = getelementptr i8, ptr %f, i64 %total
  %sp = getelementptr i8, ptr %top, i64 -{size}
  store ptr %sp, ptr %f
  %e = getelementptr i8, ptr %sp, i64 {entry}
  store ptr @fiber_main, ptr %e
  %a = getelementptr i8, ptr %sp, i64 {fiber}
  store ptr %f, ptr %a
  %r = getelementptr i8, ptr %sp, i64 {back}
  store ptr @tilus_start, ptr %r
  ret ptr %f
}}

define void @cooperate(ptr %pool, ptr %launch, ptr %state, ptr %enter, i64 %bytes, ptr %outer) {{
entry:
  %list = alloca ptr
  %seen = alloca [3 x i64]
  %spins = alloca i64
  store i64 0, ptr %spins
  store ptr null, ptr %list
  call void @llvm.memset.p0.i64(ptr %seen, i8 0, i64 24, i1 false)
  %errorp = getelementptr i64, ptr %launch, i64 6
  %tickp = getelementptr i64, ptr %seen, i64 2
  %tickw = getelementptr i64, ptr %pool, i64 {tick}
  %tick = load atomic i64, ptr %tickw monotonic, align 8
  store i64 %tick, ptr %tickp
  %totalp = getelementptr i64, ptr %state, i64 1
  %total = load i64, ptr %totalp
  %nested = icmp ne ptr %outer, null
  %livep = getelementptr i64, ptr %launch, i64 {live}
  %cores = load atomic i64, ptr %livep monotonic, align 8
  %rest0 = add i64 %total, %cores
  %rest1 = sub i64 %rest0, 1
  %part = udiv i64 %rest1, %cores
  %blocks = icmp eq ptr %state, %launch
  %share = select i1 %blocks, i64 %part, i64 %total
  br label %take
take:
  %begun = phi i64 [ 0, %entry ], [ %begun1, %begin ], [ 0, %finished ]
  call void @cooperate_poll(ptr %pool, ptr %launch, ptr %tickp, ptr %outer)
  %error = load atomic i64, ptr %errorp monotonic, align 8
  %sound = icmp eq i64 %error, 0
  %less = icmp ult i64 %begun, %share
  %may = and i1 %sound, %less
  br i1 %may, label %next, label %round
next:
  %index = atomicrmw add ptr %state, i64 1 monotonic
  %more = icmp slt i64 %index, %total
  br i1 %more, label %begin, label %round
begin:
  %begun1 = add i64 %begun, 1
  %new = call ptr @fiber_new(ptr %state, ptr %enter, i64 %index, i64 %bytes)
  %newnext = getelementptr i64, ptr %new, i64 3
  %head = load ptr, ptr %list
  store ptr %head, ptr %newnext
  store ptr %new, ptr %list
  %newcore = getelementptr i64, ptr %new, i64 1
  call void @tilus_switch(ptr %newcore, ptr %new)
  br label %take
round:
  %moved0 = phi i64 [ 1, %take ], [ 1, %next ], [ %any, %moves ], [ 0, %spin ], [ 0, %give ], [ 0, %others ]
  %first = load ptr, ptr %list
  %none = icmp eq ptr %first, null
  br i1 %none, label %finished, label %visit
visit:
  %link = phi ptr [ %list, %round ], [ %link2, %advance ]
  %any = phi i64 [ 0, %round ], [ %any2, %advance ]
  %f = load ptr, ptr %link
  %end = icmp eq ptr %f, null
  br i1 %end, label %rest, label %look
look:
  %donep = getelementptr i64, ptr %f, i64 2
  %done = load i64, ptr %donep
  %isdone = icmp ne i64 %done, 0
  %nextp = getelementptr i64, ptr %f, i64 3
  br i1 %isdone, label %remove, label %resume
remove:
  %following = load ptr, ptr %nextp
  store ptr %following, ptr %link
  call void @new_version(ptr %launch)
  call void @free(ptr %f)
  br label %advance
resume:
  %core = getelementptr i64, ptr %f, i64 1
  call void @tilus_switch(ptr %core, ptr %f)
  %movedp = getelementptr i64, ptr %f, i64 8
  %moved = load i64, ptr %movedp
  %any1 = or i64 %any, %moved
  br label %advance
advance:
  %link2 = phi ptr [ %link, %remove ], [ %nextp, %resume ]
  %any2 = phi i64 [ 1, %remove ], [ %any1, %resume ]
  br label %visit
rest:
  call void @cooperate_poll(ptr %pool, ptr %launch, ptr %tickp, ptr %outer)
  %still = icmp eq i64 %any, 0
  br i1 %still, label %idle, label %moves
moves:
  store i64 0, ptr %spins
  br label %round
idle:
  br i1 %nested, label %others, label %stuck
others:
  call void @task_yields(ptr %outer, i64 %moved0)
  br label %round
stuck:
  call void @core_is_stuck(ptr %launch, ptr %seen)
  %spun = load i64, ptr %spins
  %spun1 = add i64 %spun, 1
  store i64 %spun1, ptr %spins
  %long = icmp ugt i64 %spun1, {patience}
  br i1 %long, label %give, label %spin
spin:
  {pause}
  br label %round
give:
  %y = call i32 @sched_yield()
  br label %round
finished:
  %indexn = load atomic i64, ptr %state monotonic, align 8
  %others0 = icmp slt i64 %indexn, %total
  %errorn = load atomic i64, ptr %errorp monotonic, align 8
  %soundn = icmp eq i64 %errorn, 0
  %goes = and i1 %others0, %soundn
  br i1 %goes, label %take, label %left
left:
  ret void
}}

define internal void @cooperate_poll(ptr %pool, ptr %launch, ptr %tickp, ptr %outer) {{
entry:
  %seen = load i64, ptr %tickp
  %nested = icmp ne ptr %outer, null
  br i1 %nested, label %ask, label %poll
ask:
  %tickw = getelementptr i64, ptr %pool, i64 {tick}
  %tick = load atomic i64, ptr %tickw monotonic, align 8
  %due = icmp ne i64 %tick, %seen
  br i1 %due, label %yield, label %done
yield:
  call void @task_yields(ptr %outer, i64 1)
  br label %done
poll:
  %polled = call i64 @poll_if_due(ptr %pool, ptr %launch, i64 %seen)
  br label %done
done:
  %now = phi i64 [ %tick, %ask ], [ %tick, %yield ], [ %polled, %poll ]
  store i64 %now, ptr %tickp
  ret void
}}
"""
