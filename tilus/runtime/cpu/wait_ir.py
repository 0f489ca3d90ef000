"""Waiting, in LLVM IR: signals are looked at, and it is noticed when nobody can go on.

**Signals.** ``pool_poll`` runs Python's signal handlers if it is on the main thread. Where one raises (Ctrl-C), the
exception is kept in the pool and the launch ends: all cores see its error word.

**Deadlock.** A core that waits goes in rounds over what it has: one block, or the tasks on it. The word VERSION of a
launch changes whenever anything begins to wait or ends, after all that it has written before. A core that has gone a
whole round within one version, and found that nothing can go on, counts itself once for that version. When all cores
that have not finished are counted, none of them will ever write again what another one waits for.
"""

from __future__ import annotations

from tilus.runtime.cpu.pool_ir import CHECK, ENSURE, EXCEPTION, FETCH, MAIN, MAX_WAITERS, RELEASE, TICK, WAITERS

# Words of the state of a launch, as in tilus/lowering/cpu/launch.py.
ERROR, VERSION, LIVE, WAITS = 6, 11, 12, 13
DEADLOCK, INTERRUPTED = -1, -2
"""Error words that are no failed checks."""


def _word(base: str, index: int) -> str:
    return f"getelementptr i64, ptr %{base}, i64 {index}"


WAIT_TEXT = f"""
declare i64 @pthread_self()

define i64 @pool_poll(ptr %pool, ptr %state) {{
entry:
  %errorw = {_word("state", ERROR)}
  %mainw = {_word("pool", MAIN)}
  %main = load i64, ptr %mainw
  %self = call i64 @pthread_self()
  %here = icmp eq i64 %self, %main
  %checkw = {_word("pool", CHECK)}
  %check = load ptr, ptr %checkw
  %there = icmp ne ptr %check, null
  %both = and i1 %here, %there
  br i1 %both, label %look, label %done
look:
  %ensurew = {_word("pool", ENSURE)}
  %ensure = load ptr, ptr %ensurew
  %lock = call i32 %ensure()
  %raised = call i32 %check()
  %some = icmp ne i32 %raised, 0
  br i1 %some, label %fetch, label %release
fetch:
  %fetchw = {_word("pool", FETCH)}
  %get = load ptr, ptr %fetchw
  %type = {_word("pool", EXCEPTION)}
  %value = {_word("pool", EXCEPTION + 1)}
  %trace = {_word("pool", EXCEPTION + 2)}
  call void %get(ptr %type, ptr %value, ptr %trace)
  store atomic i64 {INTERRUPTED}, ptr %errorw seq_cst, align 8
  br label %release
release:
  %releasew = {_word("pool", RELEASE)}
  %put = load ptr, ptr %releasew
  call void %put(i32 %lock)
  br label %done
done:
  %error = load atomic i64, ptr %errorw seq_cst, align 8
  ret i64 %error
}}

define i64 @poll_if_due(ptr %pool, ptr %state, i64 %seen) {{
  %tickw = {_word("pool", TICK)}
  %tick = load atomic i64, ptr %tickw monotonic, align 8
  %due = icmp ne i64 %tick, %seen
  br i1 %due, label %poll, label %done
poll:
  %e = call i64 @pool_poll(ptr %pool, ptr %state)
  br label %done
done:
  ret i64 %tick
}}

define void @core_count(ptr %state, i64 %cores) {{
  %livew = {_word("state", LIVE)}
  store atomic i64 %cores, ptr %livew seq_cst, align 8
  ret void
}}

define internal void @new_version(ptr %state) {{
entry:
  %versionw = {_word("state", VERSION)}
  br label %again
again:
  %old = load atomic i64, ptr %versionw seq_cst, align 8
  %full = or i64 %old, 65535
  %next = add i64 %full, 1
  %pair = cmpxchg ptr %versionw, i64 %old, i64 %next seq_cst seq_cst
  %taken = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %taken, label %done, label %again
done:
  ret void
}}

define void @core_leaves(ptr %state) {{
  %waitsw = {_word("state", WAITS)}
  %waits = load i64, ptr %waitsw
  %any = icmp ne i64 %waits, 0
  br i1 %any, label %leave, label %done
leave:
  call void @new_version(ptr %state)
  %livew = {_word("state", LIVE)}
  %old = atomicrmw sub ptr %livew, i64 1 seq_cst
  call void @new_version(ptr %state)
  br label %done
done:
  ret void
}}

; After a round in which nothing could go on. seen[0]: one more than the version that the round began in;
; seen[1]: one more than the version that the core is counted for.
define void @core_is_stuck(ptr %state, ptr %seen) {{
entry:
  %versionw = {_word("state", VERSION)}
  %word = load atomic i64, ptr %versionw seq_cst, align 8
  %version = lshr i64 %word, 16
  %mark = add i64 %version, 1
  %countedw = getelementptr i64, ptr %seen, i64 1
  %began = load i64, ptr %seen
  %counted = load i64, ptr %countedw
  store i64 %mark, ptr %seen
  %same = icmp eq i64 %began, %mark
  %fresh = icmp ne i64 %counted, %mark
  %both = and i1 %same, %fresh
  br i1 %both, label %count, label %done
count:
  %more = add i64 %word, 1
  %pair = cmpxchg ptr %versionw, i64 %word, i64 %more seq_cst seq_cst
  %taken = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %taken, label %compare, label %done
compare:
  store i64 %mark, ptr %countedw
  %stuck = and i64 %more, 65535
  %livew = {_word("state", LIVE)}
  %live = load atomic i64, ptr %livew seq_cst, align 8
  %all = icmp uge i64 %stuck, %live
  br i1 %all, label %dead, label %done
dead:
  %errorw = {_word("state", ERROR)}
  %set = cmpxchg ptr %errorw, i64 0, i64 {DEADLOCK} seq_cst seq_cst
  br label %done
done:
  ret void
}}

define internal void @record_waiter(ptr %pool, i64 %place, i64 %block) {{
  %countw = {_word("pool", WAITERS)}
  %i = atomicrmw add ptr %countw, i64 1 seq_cst
  %room = icmp ult i64 %i, {MAX_WAITERS}
  br i1 %room, label %store, label %done
store:
  %twice = mul i64 %i, 2
  %at = add i64 %twice, {WAITERS + 1}
  %w = getelementptr i64, ptr %pool, i64 %at
  store i64 %place, ptr %w
  %w1 = getelementptr i64, ptr %w, i64 1
  store i64 %block, ptr %w1
  br label %done
done:
  ret void
}}

; One turn of waiting; what is waited for has just been found not to hold, for the first time if first is 1.
; frame is that of the task that waits (null: the core itself), seen three words of a core that waits itself.
define i64 @pool_wait(ptr %pool, ptr %state, ptr %frame, ptr %seen, i64 %place, i64 %block, i64 %first) {{
entry:
  %errorw = {_word("state", ERROR)}
  %begins = icmp ne i64 %first, 0
  br i1 %begins, label %begin, label %turn
begin:
  call void @new_version(ptr %state)
  br label %turn
turn:
  %task = icmp ne ptr %frame, null
  br i1 %task, label %switch, label %core
switch:
  call void @task_yields(ptr %frame, i64 %first)
  br label %look
core:
  br i1 %begins, label %forget, label %stuck
forget:
  store i64 0, ptr %seen
  br label %stuck
stuck:
  call void @core_is_stuck(ptr %state, ptr %seen)
  %tickw = getelementptr i64, ptr %seen, i64 2
  %tick = load i64, ptr %tickw
  %tick1 = call i64 @poll_if_due(ptr %pool, ptr %state, i64 %tick)
  store i64 %tick1, ptr %tickw
  %y = call i32 @sched_yield()
  br label %look
look:
  %error = load atomic i64, ptr %errorw seq_cst, align 8
  %dead = icmp eq i64 %error, {DEADLOCK}
  br i1 %dead, label %record, label %done
record:
  call void @record_waiter(ptr %pool, i64 %place, i64 %block)
  br label %done
done:
  ret i64 %error
}}

; At a loop of a block where a tick has passed: a task lets its core look at signals, on the core's own stack.
define i64 @pool_pause(ptr %pool, ptr %state, ptr %frame) {{
  %task = icmp ne ptr %frame, null
  br i1 %task, label %switch, label %core
switch:
  call void @task_yields(ptr %frame, i64 1)
  %errorw = {_word("state", ERROR)}
  %error = load atomic i64, ptr %errorw seq_cst, align 8
  ret i64 %error
core:
  %e = call i64 @pool_poll(ptr %pool, ptr %state)
  ret i64 %e
}}
"""

NO_TASKS = "define void @task_yields(ptr %frame, i64 %moved) { ret void }\n"
"""Where no stacks are switched."""
