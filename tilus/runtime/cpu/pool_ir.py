"""The pool of threads in LLVM IR: fork, join and sleep without Python.

The pool is an array of 64-bit words; the functions below are compiled once per process. Worker ``i`` waits for the
epoch word to change, first spinning, then asleep on a condition. The low 16 bits of the epoch say how many workers
may take part, so that the others never look at a job they have no part in. A worker enters a job as long as that is
open, by counting itself; the caller closes it when no block is left to begin, and waits for those that have entered,
not for those that come too late. Only where blocks wait for each other it waits for all. The caller of ``run`` is
worker 0, and goes on where it is: a worker whose core that is moves to the one that the caller has left. A call that
finds the pool in use runs its job alone, with a frame of its own. While jobs run, a ticker changes a word every 50 ms,
by which running code knows that it is time to look at signals (``wait_ir.py``).
"""

from __future__ import annotations

from tilus.runtime.cpu.atomics_ir import ATOMICS, NO_ATOMICS, atomics_text
from tilus.runtime.cpu.frames_ir import frames_text
from tilus.runtime.threads import MAX_THREADS

# Words of the pool. Those that different cores write are on cache lines of their own.
# ENTERED is the number of the job (0 where none is open), above 16 bits for how many workers have entered it, LEFT how
# many of those have left it.
(LOCK, EPOCH, ENTERED, LEFT, FUNCTION, STATE, STOP, SLEEPERS, CAPACITY, WORKERS, SPIN, CALLING, WAKING, MUTEX,
 CONDITION) = (
    0, 8, 16, 17, 24, 25, 26, 32, 40, 41, 42, 43, 44, 48, 56)
# Of launches with too little work to wake workers: when the last one was, and the work of those shortly before it.
LAST, MISSED = 45, 46
TICK, RUNNING, TICKER_ASLEEP, TICK_CONDITION = 64, 72, 73, 74
# The main thread, functions of Python's C interface (0 where there is none), and the exception that they gave.
MAIN, ENSURE, RELEASE, CHECK, FETCH, EXCEPTION = 80, 81, 82, 83, 84, 85
# How many places have been found waiting for ever, and the first of them: number and block.
WAITERS, MAX_WAITERS = 88, 3
WAITS = 13
"""The word of a launch's state that says whether blocks wait for each other (``tilus/lowering/cpu/state.py``)."""
# The core that no worker is kept on (-1 for unknown), and of each worker its thread's number and its core.
FREE_CORE = 95
FRAMES = 96
THREADS = FRAMES + MAX_THREADS
CORES = THREADS + MAX_THREADS
POOL_WORDS = CORES + MAX_THREADS

WORTH_CALLING, WORTH_WAKING = 1 << 13, 1 << 16
"""The work (``tilus/lowering/cpu/work.py``) for each worker that is called, while all are awake and where some sleep:
what the caller saves has to be more than the few or the tens of microseconds until a worker begins. Launches shortly
one after another wake workers that sleep when those microseconds have been missed."""
SHORTLY = 100_000
"""Nanoseconds between launches for which workers stay awake."""
TICK_NANOSECONDS = 50_000_000
MASK_BYTES = 1024
"""Of a set of cores as ``sched_setaffinity`` takes it."""
IDLE_TICKS = 40
"""Ticks without a job after which the ticker sleeps until the next one."""
PAUSE = {
    "x86": 'call void asm sideeffect "pause", "~{memory}"()',
    "arm": 'call void asm sideeffect "yield", "~{memory}"()',
}


def pool_text(architecture: str, linux: bool) -> str:
    """The module's text; ``architecture`` is ``"x86"``, ``"arm"`` or another without a hint for spinning. Threads are
    kept on cores where the system is Linux."""
    pause = PAUSE.get(architecture, "fence seq_cst")
    text = _TEXT + frames_text(linux) + (_MAKE_ROOM if linux else _NO_ROOM)
    return text.replace("PAUSE", pause) + atomics_text(pause)


def _word(index: int) -> str:
    return f"getelementptr i64, ptr %pool, i64 {index}"


def _wake_if_any(condition: int) -> str:
    """The end of a function: wakes those that wait for the condition where ``%any`` is true."""
    return f"""\
  br i1 %any, label %wake, label %done
wake:
  %mutex = {_word(MUTEX)}
  %condition = {_word(condition)}
  %a = call i32 @pthread_mutex_lock(ptr %mutex)
  %b = call i32 @pthread_cond_broadcast(ptr %condition)
  %c = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %done
done:
  ret void"""


_TEXT = f"""
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @pthread_cond_timedwait(ptr, ptr, ptr)
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()
declare ptr @aligned_alloc(i64, i64)
declare void @free(ptr)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define void @pool_init(ptr %pool) {{
  %mutex = {_word(MUTEX)}
  %condition = {_word(CONDITION)}
  %a = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %b = call i32 @pthread_cond_init(ptr %condition, ptr null)
  %ticks = {_word(TICK_CONDITION)}
  %c = call i32 @pthread_cond_init(ptr %ticks, ptr null)
  ret void
}}

define void @pool_wake(ptr %pool) {{
  %sleepers = {_word(SLEEPERS)}
  %count = load atomic i64, ptr %sleepers seq_cst, align 8
  %any = icmp ne i64 %count, 0
{_wake_if_any(CONDITION)}
}}

; Takes the pool for good, where no launch has it: 1, or 0.
define i64 @pool_take(ptr %pool) {{
  %lock = {_word(LOCK)}
  %pair = cmpxchg ptr %lock, i64 0, i64 1 acquire monotonic
  %taken = extractvalue {{ i64, i1 }} %pair, 1
  %one = zext i1 %taken to i64
  ret i64 %one
}}

define void @pool_stop(ptr %pool) {{
  %stop = {_word(STOP)}
  store atomic i64 1, ptr %stop seq_cst, align 8
  %mutex = {_word(MUTEX)}
  %condition = {_word(CONDITION)}
  %a = call i32 @pthread_mutex_lock(ptr %mutex)
  %b = call i32 @pthread_cond_broadcast(ptr %condition)
  %ticks = {_word(TICK_CONDITION)}
  %d = call i32 @pthread_cond_broadcast(ptr %ticks)
  %c = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}}

define void @pool_ticker(ptr %pool) {{
entry:
  %time = alloca [2 x i64]
  %stop = {_word(STOP)}
  %mutex = {_word(MUTEX)}
  %condition = {_word(TICK_CONDITION)}
  %tickw = {_word(TICK)}
  %runningw = {_word(RUNNING)}
  %asleepw = {_word(TICKER_ASLEEP)}
  %a = call i32 @pthread_mutex_lock(ptr %mutex)
  br label %turn
turn:
  %idle = phi i64 [ 0, %entry ], [ 0, %tick ], [ %idle1, %rest ], [ 0, %woken ]
  %s = load atomic i64, ptr %stop seq_cst, align 8
  %stopped = icmp ne i64 %s, 0
  br i1 %stopped, label %leave, label %wait
wait:
  %b = call i32 @clock_gettime(i32 0, ptr %time)
  %nanosw = getelementptr i64, ptr %time, i64 1
  %seconds = load i64, ptr %time
  %nanos = load i64, ptr %nanosw
  %later = add i64 %nanos, {TICK_NANOSECONDS}
  %over = udiv i64 %later, 1000000000
  %within = urem i64 %later, 1000000000
  %seconds1 = add i64 %seconds, %over
  store i64 %seconds1, ptr %time
  store i64 %within, ptr %nanosw
  %c = call i32 @pthread_cond_timedwait(ptr %condition, ptr %mutex, ptr %time)
  %running = load atomic i64, ptr %runningw seq_cst, align 8
  %busy = icmp ne i64 %running, 0
  br i1 %busy, label %tick, label %rest
tick:
  %t = load atomic i64, ptr %tickw monotonic, align 8
  %t1 = add i64 %t, 1
  store atomic i64 %t1, ptr %tickw monotonic, align 8
  br label %turn
rest:
  %idle1 = add i64 %idle, 1
  %long = icmp ugt i64 %idle1, {IDLE_TICKS}
  br i1 %long, label %doze, label %turn
doze:
  store atomic i64 1, ptr %asleepw seq_cst, align 8
  br label %check
check:
  %running2 = load atomic i64, ptr %runningw seq_cst, align 8
  %s2 = load atomic i64, ptr %stop seq_cst, align 8
  %either = or i64 %running2, %s2
  %go = icmp ne i64 %either, 0
  br i1 %go, label %woken, label %sleep
sleep:
  %d = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %check
woken:
  store atomic i64 0, ptr %asleepw seq_cst, align 8
  br label %turn
leave:
  %e = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}}

define internal void @pool_begin(ptr %pool) {{
  %runningw = {_word(RUNNING)}
  %old = atomicrmw add ptr %runningw, i64 1 seq_cst
  %asleepw = {_word(TICKER_ASLEEP)}
  %asleep = load atomic i64, ptr %asleepw seq_cst, align 8
  %any = icmp ne i64 %asleep, 0
{_wake_if_any(TICK_CONDITION)}
}}

define internal void @pool_end(ptr %pool) {{
  %runningw = {_word(RUNNING)}
  %old = atomicrmw sub ptr %runningw, i64 1 seq_cst
  ret void
}}

define void @pool_worker(ptr %pool, i64 %index, i64 %seen0) {{
entry:
  %epoch = {_word(EPOCH)}
  %stop = {_word(STOP)}
  %sleepers = {_word(SLEEPERS)}
  %mutex = {_word(MUTEX)}
  %condition = {_word(CONDITION)}
  %spinw = {_word(SPIN)}
  %framew = getelementptr i64, ptr %pool, i64 {FRAMES}
  %myframe = getelementptr i64, ptr %framew, i64 %index
  %functionw = {_word(FUNCTION)}
  %statew = {_word(STATE)}
  %enteredw = {_word(ENTERED)}
  %leftw = {_word(LEFT)}
  br label %wait
wait:
  %seen = phi i64 [ %seen0, %entry ], [ %now, %next ]
  %limit = load i64, ptr %spinw
  br label %spin
spin:
  %tries = phi i64 [ 0, %wait ], [ %tries1, %again ]
  %e = load atomic i64, ptr %epoch acquire, align 8
  %new = icmp ne i64 %e, %seen
  br i1 %new, label %awake, label %again0
again0:
  %s = load atomic i64, ptr %stop monotonic, align 8
  %stopped = icmp ne i64 %s, 0
  br i1 %stopped, label %leave, label %again1
again1:
  PAUSE
  %tries1 = add i64 %tries, 1
  %tired = icmp ugt i64 %tries1, %limit
  br i1 %tired, label %sleep, label %again
again:
  br label %spin
sleep:
  %m1 = call i32 @pthread_mutex_lock(ptr %mutex)
  %old = atomicrmw add ptr %sleepers, i64 1 seq_cst
  br label %check
check:
  %e2 = load atomic i64, ptr %epoch seq_cst, align 8
  %s2 = load atomic i64, ptr %stop seq_cst, align 8
  %new2 = icmp ne i64 %e2, %seen
  %stop2 = icmp ne i64 %s2, 0
  %go = or i1 %new2, %stop2
  br i1 %go, label %up, label %doze
doze:
  %w = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %check
up:
  %old2 = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  %m2 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br i1 %stop2, label %leave, label %awake
awake:
  %now = phi i64 [ %e, %spin ], [ %e2, %up ]
  %active = and i64 %now, 65535
  %mine = icmp ule i64 %index, %active
  br i1 %mine, label %enter, label %next
enter:
  %job = lshr i64 %now, 16
  %others = load atomic i64, ptr %enteredw monotonic, align 8
  %open = lshr i64 %others, 16
  %still = icmp eq i64 %open, %job
  br i1 %still, label %count, label %next
count:
  %more = add i64 %others, 1
  %pair = cmpxchg ptr %enteredw, i64 %others, i64 %more acq_rel monotonic
  %in = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %in, label %work, label %enter
work:
  %function = load ptr, ptr %functionw
  %state = load ptr, ptr %statew
  %frame = load ptr, ptr %myframe
  call void %function(ptr %state, ptr %frame)
  call void @core_leaves(ptr %state)
  %before = atomicrmw add ptr %leftw, i64 1 release
  br label %next
next:
  br label %wait
leave:
  ret void
}}

; Frees the frames of a pool that no launch has.
define void @pool_release(ptr %pool) {{
entry:
  %framew = getelementptr i64, ptr %pool, i64 {FRAMES}
  %workersw = {_word(WORKERS)}
  %workers = load i64, ptr %workersw
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  %slot = getelementptr i64, ptr %framew, i64 %i
  %frame = load ptr, ptr %slot
  call void @free(ptr %frame)
  store ptr null, ptr %slot
  %i1 = add i64 %i, 1
  %again = icmp ule i64 %i1, %workers
  br i1 %again, label %loop, label %done
done:
  ret void
}}

define internal void @grow(ptr %pool, i64 %bytes) {{
entry:
  %framew = getelementptr i64, ptr %pool, i64 {FRAMES}
  %workersw = {_word(WORKERS)}
  %workers = load i64, ptr %workersw
  %half = lshr i64 %bytes, 1
  %more = add i64 %bytes, %half
  %padded = add i64 %more, 4095
  %rounded = and i64 %padded, -4096
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  %slot = getelementptr i64, ptr %framew, i64 %i
  %old = load ptr, ptr %slot
  call void @free(ptr %old)
  %new = call ptr @new_frame(i64 %rounded)
  store ptr %new, ptr %slot
  %i1 = add i64 %i, 1
  %again = icmp ule i64 %i1, %workers
  br i1 %again, label %loop, label %done
done:
  %capacityw = {_word(CAPACITY)}
  store i64 %rounded, ptr %capacityw
  ret void
}}

define internal void @alone(ptr %function, ptr %state, i64 %bytes) {{
  %padded = add i64 %bytes, 4159
  %rounded = and i64 %padded, -64
  %frame = call ptr @aligned_alloc(i64 64, i64 %rounded)
  call void %function(ptr %state, ptr %frame)
  call void @free(ptr %frame)
  ret void
}}

; The work of the launches up to this one that came shortly one after another and found workers asleep, each with too
; little work to wake them: together they may be worth it.
define internal i64 @missed_work(ptr %pool, i64 %work) {{
  %time = alloca [2 x i64]
  %a = call i32 @clock_gettime(i32 1, ptr %time)
  %nanosw = getelementptr i64, ptr %time, i64 1
  %seconds = load i64, ptr %time
  %nanos = load i64, ptr %nanosw
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %nanos
  %lastw = {_word(LAST)}
  %last = load i64, ptr %lastw
  store i64 %now, ptr %lastw
  %gap = sub i64 %now, %last
  %near = icmp ult i64 %gap, {SHORTLY}
  %missedw = {_word(MISSED)}
  %old = load i64, ptr %missedw
  %before = select i1 %near, i64 %old, i64 0
  %sum = add i64 %before, %work
  store i64 %sum, ptr %missedw
  ret i64 %sum
}}

define void @pool_run(ptr %pool, ptr %function, ptr %state, i64 %blocks, i64 %bytes, i64 %work) {{
entry:
  call void @pool_begin(ptr %pool)
  %atomicsw = getelementptr i64, ptr %state, i64 {ATOMICS}
  %lock = {_word(LOCK)}
  %pair = cmpxchg ptr %lock, i64 0, i64 1 acquire monotonic
  %taken = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %taken, label %owner, label %busy
busy:
  call void @core_count(ptr %state, i64 1)
  %atomics0 = load i64, ptr %atomicsw
  %plain0 = icmp eq i64 %atomics0, {NO_ATOMICS}
  br i1 %plain0, label %apart, label %enter0
enter0:
  %stopped0 = call i64 @atomics_begin(ptr %pool, ptr %state, i1 true)
  %goes0 = icmp eq i64 %stopped0, 0
  br i1 %goes0, label %apart, label %end
apart:
  call void @alone(ptr %function, ptr %state, i64 %bytes)
  br label %ended
owner:
  %capacityw = {_word(CAPACITY)}
  %capacity = load i64, ptr %capacityw
  %enough = icmp uge i64 %capacity, %bytes
  br i1 %enough, label %ready, label %small
small:
  call void @grow(ptr %pool, i64 %bytes)
  br label %ready
ready:
  %workersw = {_word(WORKERS)}
  %workers = load i64, ptr %workersw
  %others = sub i64 %blocks, 1
  %fewer = icmp ult i64 %others, %workers
  %most = select i1 %fewer, i64 %others, i64 %workers
  %sleepersw = {_word(SLEEPERS)}
  %sleepers = load atomic i64, ptr %sleepersw monotonic, align 8
  %asleep = icmp ne i64 %sleepers, 0
  %callingw = {_word(CALLING)}
  %calling = load i64, ptr %callingw
  %wakingw = {_word(WAKING)}
  %waking = load i64, ptr %wakingw
  %called = udiv i64 %work, %calling
  %woken = udiv i64 %work, %waking
  %some = icmp ne i64 %called, 0
  %few = icmp eq i64 %woken, 0
  %between = and i1 %some, %few
  %doubtful = and i1 %between, %asleep
  br i1 %doubtful, label %weigh, label %decide
weigh:
  %missed = call i64 @missed_work(ptr %pool, i64 %work)
  %twice = shl i64 %waking, 1
  %due = icmp uge i64 %missed, %twice
  %rest = select i1 %due, i64 0, i64 %missed
  %missedw = {_word(MISSED)}
  store i64 %rest, ptr %missedw
  br label %decide
decide:
  %wakes = phi i1 [ false, %ready ], [ %due, %weigh ]
  %up = xor i1 %asleep, true
  %calls = or i1 %up, %wakes
  %useful = select i1 %calls, i64 %called, i64 %woken
  %little = icmp ult i64 %useful, %most
  %active = select i1 %little, i64 %useful, i64 %most
  %framew = getelementptr i64, ptr %pool, i64 {FRAMES}
  %frame = load ptr, ptr %framew
  %cores = add i64 %active, 1
  call void @core_count(ptr %state, i64 %cores)
  %single = icmp eq i64 %active, 0
  %atomics = load i64, ptr %atomicsw
  %plain = icmp eq i64 %atomics, {NO_ATOMICS}
  br i1 %plain, label %go, label %enter
enter:
  %stopped = call i64 @atomics_begin(ptr %pool, ptr %state, i1 %single)
  %goes = icmp eq i64 %stopped, 0
  br i1 %goes, label %go, label %release
go:
  br i1 %single, label %solo, label %fork
solo:
  call void %function(ptr %state, ptr %frame)
  br label %release
fork:
  %functionw = {_word(FUNCTION)}
  %statew = {_word(STATE)}
  %enteredw = {_word(ENTERED)}
  %leftw = {_word(LEFT)}
  %epoch = {_word(EPOCH)}
  call void @make_room(ptr %pool)
  store ptr %function, ptr %functionw
  store ptr %state, ptr %statew
  store atomic i64 0, ptr %leftw monotonic, align 8
  %e = load atomic i64, ptr %epoch monotonic, align 8
  %count = lshr i64 %e, 16
  %count1 = add i64 %count, 1
  %high = shl i64 %count1, 16
  %e1 = or i64 %high, %active
  store atomic i64 %high, ptr %enteredw release, align 8
  store atomic i64 %e1, ptr %epoch seq_cst, align 8
  call void @pool_wake(ptr %pool)
  call void %function(ptr %state, ptr %frame)
  call void @core_leaves(ptr %state)
  %waitsw = getelementptr i64, ptr %state, i64 {WAITS}
  %waits = load i64, ptr %waitsw
  %wanted = icmp ne i64 %waits, 0
  br i1 %wanted, label %join, label %close
close:
  %last = atomicrmw xchg ptr %enteredw, i64 0 acq_rel
  %entered = and i64 %last, 65535
  br label %join
join:
  %party = phi i64 [ %active, %fork ], [ %entered, %close ], [ %party, %still ], [ %party, %yield ]
  %tries = phi i64 [ 0, %fork ], [ 0, %close ], [ %tries1, %still ], [ 0, %yield ]
  %seen = phi i64 [ 0, %fork ], [ 0, %close ], [ %seen, %still ], [ %tick, %yield ]
  %left = load atomic i64, ptr %leftw acquire, align 8
  %all = icmp eq i64 %left, %party
  br i1 %all, label %release, label %still0
still0:
  PAUSE
  %tries1 = add i64 %tries, 1
  %long = icmp ugt i64 %tries1, 20000
  br i1 %long, label %yield, label %still
still:
  br label %join
yield:
  %tick = call i64 @poll_if_due(ptr %pool, ptr %state, i64 %seen)
  %y = call i32 @sched_yield()
  br label %join
release:
  store atomic i64 0, ptr %lock release, align 8
  br label %ended
ended:
  %left1 = load i64, ptr %atomicsw
  %nothing = icmp eq i64 %left1, {NO_ATOMICS}
  br i1 %nothing, label %end, label %leave
leave:
  call void @atomics_end(ptr %state)
  br label %end
end:
  call void @pool_end(ptr %pool)
  ret void
}}

define i64 @pool_allocate(i64 %bytes, i64 %zero) {{
  %padded = add i64 %bytes, 127
  %rounded = and i64 %padded, -64
  %pointer = call ptr @aligned_alloc(i64 64, i64 %rounded)
  %there = icmp ne ptr %pointer, null
  %wanted = icmp ne i64 %zero, 0
  %clear = and i1 %there, %wanted
  br i1 %clear, label %fill, label %done
fill:
  call void @llvm.memset.p0.i64(ptr %pointer, i8 0, i64 %rounded, i1 false)
  br label %done
done:
  %address = ptrtoint ptr %pointer to i64
  ret i64 %address
}}

define void @pool_free(i64 %address) {{
  %pointer = inttoptr i64 %address to ptr
  call void @free(ptr %pointer)
  ret void
}}
"""

_NO_ROOM = """
define internal void @make_room(ptr %pool) {
  ret void
}
"""

_MAKE_ROOM = f"""
declare i32 @sched_getcpu()
declare i32 @sched_setaffinity(i32, i64, ptr)

define internal void @make_room(ptr %pool) {{
entry:
  %freew = {_word(FREE_CORE)}
  %free = load i64, ptr %freew
  %here32 = call i32 @sched_getcpu()
  %here = sext i32 %here32 to i64
  %same = icmp eq i64 %here, %free
  %known = icmp ult i64 %free, {8 * MASK_BYTES}
  %no = xor i1 %known, true
  %nothing = or i1 %same, %no
  br i1 %nothing, label %done, label %look
look:
  %workersw = {_word(WORKERS)}
  %workers = load i64, ptr %workersw
  %corew = {_word(CORES)}
  br label %turn
turn:
  %i = phi i64 [ 1, %look ], [ %i1, %other ]
  %more = icmp ule i64 %i, %workers
  br i1 %more, label %compare, label %done
compare:
  %mine = getelementptr i64, ptr %corew, i64 %i
  %core = load i64, ptr %mine
  %meets = icmp eq i64 %core, %here
  br i1 %meets, label %move, label %other
other:
  %i1 = add i64 %i, 1
  br label %turn
move:
  %mask = alloca [{MASK_BYTES} x i8], align 8
  call void @llvm.memset.p0.i64(ptr %mask, i8 0, i64 {MASK_BYTES}, i1 false)
  %word = lshr i64 %free, 6
  %place = getelementptr i64, ptr %mask, i64 %word
  %within = and i64 %free, 63
  %bit = shl i64 1, %within
  store i64 %bit, ptr %place
  %threadw = {_word(THREADS)}
  %slot = getelementptr i64, ptr %threadw, i64 %i
  %thread = load i64, ptr %slot
  %number = trunc i64 %thread to i32
  %failed = call i32 @sched_setaffinity(i32 %number, i64 {MASK_BYTES}, ptr %mask)
  %moved = icmp eq i32 %failed, 0
  br i1 %moved, label %note, label %done
note:
  store i64 %free, ptr %mine
  store i64 %here, ptr %freew
  br label %done
done:
  ret void
}}
"""
