"""What compiled code shares with the runtime: the words of a launch's state, the table of functions, calls of those."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Alloca, Compare, PtrLoad, PtrStore
from tilus.ir.ops.simd import CallPointer, IntToPtr, ReturnIf
from tilus.ir.types import TileType
from tilus.lowering.cpu.emit import Cursor
from tilus.records import record

# Words of the runtime's table of functions, see tilus/runtime/cpu/pool_ir.py.
RUNTIME_POOL, RUNTIME_RUN, RUNTIME_ALLOCATE, RUNTIME_FREE, RUNTIME_PRINT, RUNTIME_THREADS = range(6)
RUNTIME_COOPERATE, RUNTIME_WAIT, RUNTIME_PAUSE, RUNTIME_TICK = range(6, 10)
# Words of the state of a launch.
(STATE_NEXT, STATE_TOTAL, STATE_GRID0, STATE_GRID1, STATE_GRID2, STATE_ARGUMENTS, STATE_ERROR, STATE_CHUNK,
 STATE_RUNTIME, STATE_GENERATION) = range(10)
STATE_ARRIVED = 10  # blocks that have come to a grid barrier, over all barriers
RUNTIME_WORDS = (11, 12)
STATE_WAITS = 13  # whether blocks wait for anything; the words before are the runtime's (wait_ir.py)
STATE_ATOMICS = 14  # one of the following; the runtime puts NO_ATOMICS where it has nothing to give back
STATE_ALONE = 15  # whether the launch has its atomics alone, so that they need not be locked
STATE_TOGETHER = 16  # how many neighbouring blocks are taken together; 0 where none are
STATE_PARTS = 17  # into how many parts each block is divided
STATE_WORDS = 18
# Whether others see the blocks' atomics, and whether a launch that runs on one thread is to have those alone.
NO_ATOMICS, SHARED_ATOMICS, LONE_ATOMICS = range(3)


@record(frozen=True)
class Ticks:
    """Where the ticker counts, and the three words of a core that waits, the last of which is the last count seen."""

    tick: Value
    words: Value


def tick_seen(c: Cursor, state: Value) -> Ticks:
    """At the beginning of a function: the count of ticks now."""
    words = c.b.add(Alloca(i64, 3, 16)).result
    runtime = c.b.add(IntToPtr(c.b.add(PtrLoad(c.offset(state, STATE_RUNTIME))).result, i64)).result
    tick = c.b.add(IntToPtr(c.b.add(PtrLoad(c.offset(runtime, RUNTIME_TICK))).result, i64)).result
    for i in range(2):
        c.b.add(PtrStore(c.offset(words, i), c.const(0)))
    c.b.add(PtrStore(c.offset(words, 2), c.b.add(PtrLoad(tick, volatile=True)).result))
    return Ticks(tick, words)


def pause_if_due(c: Cursor, state: Value, ticks: Ticks, frame: Value | None) -> None:
    """Once a tick: look at signals. Ends the function where the launch has been stopped. ``frame`` is that of the task
    that the code runs in, if it is one."""
    now = c.b.add(PtrLoad(ticks.tick, volatile=True)).result
    last = c.offset(ticks.words, 2)
    due = c.b.add(Compare("ne", now, c.b.add(PtrLoad(last)).result)).result

    def pause() -> None:
        c.b.add(PtrStore(last, now))
        error = call_runtime(c, state, RUNTIME_PAUSE, (state, frame or c.const(0)), returns=True, private=True)
        assert error is not None
        c.b.add(ReturnIf(c.b.add(Compare("ne", error, c.const(0))).result))

    c.branch(due, pause)


def call_runtime(c: Cursor, state: Value, which: int, args: Sequence[Value], *, returns: bool = False,
                 private: bool = False) -> Value | None:
    """Call a function of the runtime's table on its pool and ``args``."""
    runtime = c.b.add(IntToPtr(c.b.add(PtrLoad(c.offset(state, STATE_RUNTIME))).result, i64)).result
    callee = c.b.add(IntToPtr(c.b.add(PtrLoad(c.offset(runtime, which))).result, i64)).result
    pool = c.b.add(PtrLoad(c.offset(runtime, RUNTIME_POOL))).result
    op = c.b.add(CallPointer(callee, (pool, *args), (TileType(i64),) if returns else (), private))
    return op.result if returns else None
