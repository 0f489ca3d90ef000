"""Which launches of this process have atomics that other blocks see, in LLVM IR.

One word says how many of them are in progress; or, where one has them alone, the thread that this one runs on, as a
negative number. Such a launch needs no locked instructions. Others that come meanwhile wait for its end, and look at
signals while they do; it waits for nobody itself. A launch that a signal's handler starts on its thread does not wait:
between two of its atomics it is as good as ended.
"""

from __future__ import annotations

# Words of the state of a launch, and what ATOMICS may be, as in tilus/lowering/cpu/state.py.
ERROR, ATOMICS, ALONE = 6, 14, 15
NO_ATOMICS, SHARED_ATOMICS, LONE_ATOMICS = range(3)
ATTEMPTS = 200
"""Turns of waiting between two in which other threads may have the core."""


def atomics_text(pause: str) -> str:
    """The functions; ``pause`` is the hint for spinning."""
    return _TEXT.replace("PAUSE", pause)


def _state(index: int) -> str:
    return f"getelementptr i64, ptr %state, i64 {index}"


_TEXT = f"""
@atomics = internal global i64 0, align 64

; In the child of a fork there are none of the other threads.
define void @atomics_forget() {{
  store atomic i64 0, ptr @atomics seq_cst, align 8
  ret void
}}

; Before the blocks of a launch that has atomics, which run on a single thread or not. Gives 0, or the launch's error
; where that came while it waited: then nothing may run.
define internal i64 @atomics_begin(ptr %pool, ptr %state, i1 %single) {{
entry:
  %kindw = {_state(ATOMICS)}
  %errorw = {_state(ERROR)}
  %self = call i64 @pthread_self()
  %mine = sub i64 0, %self
  %kind = load i64, ptr %kindw
  %lone = icmp eq i64 %kind, {LONE_ATOMICS}
  %may = and i1 %lone, %single
  br i1 %may, label %take, label %look
take:
  %pair = cmpxchg ptr @atomics, i64 0, i64 %mine acquire monotonic
  %taken = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %taken, label %alone, label %look
alone:
  %alonew = {_state(ALONE)}
  store i64 1, ptr %alonew
  ret i64 0
look:
  %tries = phi i64 [ 0, %entry ], [ 0, %take ], [ %tries, %count ], [ %tries1, %wait ], [ 0, %yield ]
  %seen = phi i64 [ 0, %entry ], [ 0, %take ], [ %seen, %count ], [ %seen, %wait ], [ %tick, %yield ]
  %now = load atomic i64, ptr @atomics monotonic, align 8
  %several = icmp sge i64 %now, 0
  br i1 %several, label %count, label %compare
count:
  %more = add i64 %now, 1
  %pair1 = cmpxchg ptr @atomics, i64 %now, i64 %more acquire monotonic
  %counted = extractvalue {{ i64, i1 }} %pair1, 1
  br i1 %counted, label %shared, label %look
shared:
  ret i64 0
compare:
  %within = icmp eq i64 %now, %mine
  br i1 %within, label %nothing, label %wait
nothing:
  store i64 {NO_ATOMICS}, ptr %kindw
  ret i64 0
wait:
  PAUSE
  %tries1 = add i64 %tries, 1
  %long = icmp ugt i64 %tries1, {ATTEMPTS}
  br i1 %long, label %poll, label %look
poll:
  %tick = call i64 @poll_if_due(ptr %pool, ptr %state, i64 %seen)
  %error = load atomic i64, ptr %errorw seq_cst, align 8
  %failed = icmp ne i64 %error, 0
  br i1 %failed, label %leave, label %yield
yield:
  %y = call i32 @sched_yield()
  br label %look
leave:
  store i64 {NO_ATOMICS}, ptr %kindw
  ret i64 %error
}}

; After them. What is not as the launch has left it is that of a child that the process has forked meanwhile.
define internal void @atomics_end(ptr %state) {{
entry:
  %alonew = {_state(ALONE)}
  %alone = load i64, ptr %alonew
  %lone = icmp ne i64 %alone, 0
  br i1 %lone, label %free, label %look
free:
  %self = call i64 @pthread_self()
  %mine = sub i64 0, %self
  %pair = cmpxchg ptr @atomics, i64 %mine, i64 0 release monotonic
  ret void
look:
  %now = load atomic i64, ptr @atomics monotonic, align 8
  %counted = icmp sgt i64 %now, 0
  br i1 %counted, label %less, label %done
less:
  %fewer = sub i64 %now, 1
  %pair1 = cmpxchg ptr @atomics, i64 %now, i64 %fewer release monotonic
  %gone = extractvalue {{ i64, i1 }} %pair1, 1
  br i1 %gone, label %done, label %look
done:
  ret void
}}
"""

__all__ = ["ATOMICS", "NO_ATOMICS", "atomics_text"]
