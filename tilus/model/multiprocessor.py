"""One multiprocessor, instruction by instruction: when each warp issues what, and what it waits for.

The model follows 'Analyzing Modern NVIDIA GPU cores': a warp belongs to sub-core ``id % 4``, which issues one
instruction a cycle, of the same warp as before where it can, else of the youngest one that is ready. A fixed latency is
what ptxas wrote down as stall cycles; variable ones release scoreboards. Memory requests wait in a queue of four per
sub-core for the path that all share (one request in two cycles, 128 bytes a cycle), then for the bandwidth of L2 and of
memory, of which a multiprocessor has its share. Caches of instructions are not modelled.

Loops are executed for some iterations; the others take as long as the later ones of these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tilus.model.boards import Board
from tilus.model.periods import in_full, periods_of
from tilus.model.sass import NO_BARRIER
from tilus.model.steps import BARRIER, OTHERS, PIPE, QUEUE, REASONS, STALL, Step
from tilus.model.traces import Trace
from tilus.records import field, record

SUB_CORES = 4
QUEUE_LENGTH = 5
"""Memory instructions of a sub-core that wait: four in the queue, one in the latch before it."""
REQUEST = 2.0
"""Cycles between requests on the path that the sub-cores share."""
L2_PORT = 64.0
"""Bytes a cycle that a multiprocessor gets from L2."""
MEETING = 20.0
"""Cycles from the last arrival at a barrier until warps go on."""
NEVER = float("inf")


@record(frozen=True)
class Issue:
    """One instruction of one warp: when the one before it was issued, when it could be, when it was, and what it waited
    for (a number of REASONS)."""

    warp: int
    instruction: int
    since: float
    ready: float
    time: float
    reason: int


@record
class Timing:
    """What a simulation found, in cycles.

    Attributes:
        cycles: until the last block has ended, loops in full.
        loop_cycles: of these, those in loops (of the warp that ends last).
        periods: of an iteration of each loop, by its first instruction.
        waits: of all warps at each instruction, by reason, in what was simulated.
        issues: how often each instruction was issued in that.
        timeline: the issues of what was simulated, where asked for.
    """

    cycles: float
    loop_cycles: float
    periods: dict[int, float]
    waits: dict[int, list[float]]
    issues: dict[int, int]
    timeline: list[Issue] = field(default_factory=list)


class _Warp:
    __slots__ = (
        "block", "boards", "dep", "groups", "index", "items", "last", "loops", "marks", "pending_copy", "place",
        "ready", "reason", "sub", "why",
    )

    def __init__(self, index: int, block: int, trace: Trace) -> None:
        self.index, self.block, self.sub = index, block, index % SUB_CORES
        self.items, self.loops = trace.items, trace.loops
        self.place = 0
        self.ready = self.dep = self.last = 0.0
        self.boards: list[list[float]] = [[] for _ in range(6)]
        self.why = [0] * 6
        self.groups: list[float] = []
        self.pending_copy = 0.0
        self.reason = STALL
        self.marks: list[tuple[int, float]] = []


class Multiprocessor:
    """A simulation of blocks that start together.

    Args:
        steps: of the program.
        blocks: of each block the traces of its warps.
        board: whose clock, caches and memory.
        sharers: how many multiprocessors share L2 and memory.
        timeline: whether issues are kept.
    """

    def __init__(self, steps: Sequence[Step], blocks: Sequence[Sequence[Trace]], board: Board, sharers: int, *,
                 timeline: bool = False) -> None:
        self.steps, self.board = steps, board
        self.warps: list[_Warp] = []
        for number, traces in enumerate(blocks):
            for trace in traces:
                self.warps.append(_Warp(len(self.warps), number, trace))
        self.of_sub: list[list[_Warp]] = [[w for w in self.warps if w.sub == s] for s in range(SUB_CORES)]
        self.of_block = [[w for w in self.warps if w.block == b] for b in range(len(blocks))]
        self.alive = [len(traces) for traces in blocks]
        self.pipes: list[dict[str, float]] = [{} for _ in range(SUB_CORES)]
        self.queues: list[deque[float]] = [deque([0.0] * QUEUE_LENGTH, QUEUE_LENGTH) for _ in range(SUB_CORES)]
        self.issue_free = [0.0] * SUB_CORES
        self.latest: list[_Warp | None] = [None] * SUB_CORES
        self.path_free = self.l2_free = self.memory_free = 0.0
        self.l2_rate = min(L2_PORT, board.l2_bandwidth / sharers)
        self.together = sharers * len(blocks)
        self.memory_rate = min(L2_PORT, board.memory_bytes_per_cycle / sharers)
        self.arrived: dict[tuple[int, int], list[_Warp]] = {}
        self.arrivals: dict[tuple[int, int], int] = {}
        self.waits: dict[int, list[float]] = {}
        self.issues: dict[int, int] = {}
        self.timeline: list[Issue] | None = [] if timeline else None
        self.end = 0.0

    def run(self) -> Timing:
        """Simulate until all warps have ended."""
        for warp in self.warps:
            self._advance(warp)
        subs = range(SUB_CORES)
        chosen = [self._choose(s) for s in subs]
        while True:
            sub = min(subs, key=lambda s: chosen[s][0])
            time, following = chosen[sub]
            if following is None:
                if not self._release_all():
                    break
                chosen = [self._choose(s) for s in subs]
                continue
            if self._issue(following, time):
                chosen = [self._choose(s) for s in subs]
            else:
                chosen[sub] = self._choose(sub)
        return self._result()

    # -- issue

    def _choose(self, sub: int) -> tuple[float, _Warp | None]:
        """The next issue of a sub-core."""
        best, found = NEVER, None
        free, pipes, slot, latest = self.issue_free[sub], self.pipes[sub], self.queues[sub][0], self.latest[sub]
        for warp in self.of_sub[sub]:
            time = warp.dep
            if time is NEVER:
                continue
            use = self.steps[warp.items[warp.place]].use
            busy = pipes.get(use.pipe, 0.0)
            if busy > time:
                time = busy
            if free > time:
                time = free
            if slot > time and use.pipe == "memory":
                time = slot
            if time < best or (time == best and found is not latest):
                best, found = time, warp
        return best, found

    def _issue(self, warp: _Warp, time: float) -> bool:
        """Issue the next instruction of a warp. Gives whether others may now go on earlier."""
        number = warp.items[warp.place]
        step, sub = self.steps[number], warp.sub
        self._account(warp, number, step, time)
        self.issue_free[sub] = time + 1
        self.latest[sub] = warp
        pipe = step.use.pipe
        self.pipes[sub][pipe] = max(self.pipes[sub].get(pipe, 0.0), time) + step.use.interval
        done, read = time + step.latency, time + step.read
        kind = step.kind
        if kind in ("memory", "copy"):
            done, read = self._request(step, sub, time)
        if kind == "copy":
            warp.pending_copy = max(warp.pending_copy, done)
        elif kind == "commit":
            done = max(warp.pending_copy, time + 1)
        elif kind == "group product":
            begins = self.pipes[sub][pipe] - step.use.interval
            done = begins + step.latency
            warp.groups.append(done)
        if step.write_barrier != NO_BARRIER or kind == "commit":
            board = step.write_barrier if step.write_barrier != NO_BARRIER else 0
            self._post(warp, board, done, step.reason, in_order=kind == "commit")
        if step.read_barrier != NO_BARRIER:
            self._post(warp, step.read_barrier, read, step.reason, in_order=False)
        warp.last, warp.ready = time, time + step.stall
        warp.place += 1
        self.end = max(self.end, time + step.stall)
        if kind == "exit":
            warp.place = len(warp.items)
        changed = False
        if kind in ("barrier", "arrive"):
            changed = self._meet(warp, step, time)
        if kind != "barrier":
            self._advance(warp)
        if warp.place >= len(warp.items):
            self.alive[warp.block] -= 1
            changed = self._left(warp, time) or changed
        return changed

    def _post(self, warp: _Warp, board: int, time: float, reason: int, *, in_order: bool) -> None:
        pending = warp.boards[board]
        if in_order and pending:
            time = max(time, pending[-1])
        pending.append(time)
        if time >= max(pending):
            warp.why[board] = reason
        if len(pending) > 64:
            warp.boards[board] = [t for t in pending if t > warp.last]

    def _request(self, step: Step, sub: int, time: float) -> tuple[float, float]:
        """When a request's result is there, and when its operands have been read."""
        cost = step.cost
        assert cost is not None
        begins = max(time, self.path_free)
        self.path_free = begins + max(REQUEST, cost.passes)
        self.queues[sub].append(begins)
        done = begins + step.latency + cost.extra
        if cost.l2_bytes:
            missed = self._beyond(cost.l2_bytes, cost.memory_bytes, begins) + step.latency
            done += cost.beyond * max(0.0, missed - done)
        return done, begins + step.read + cost.extra

    def _beyond(self, l2_bytes: float, memory_bytes: float, begins: float) -> float:
        """When bytes beyond the first level are there, less the latency of that."""
        board = self.board
        self.l2_free = max(self.l2_free, begins) + l2_bytes / self.l2_rate
        time = self.l2_free + board.l2_latency - board.l1_latency
        if memory_bytes:
            self.memory_free = max(self.memory_free, begins) + memory_bytes / self.memory_rate
            # What blocks read together comes from memory once, but all that read it wait for that, since none of them
            # gets ahead of the others.
            share = min(1.0, self.together * memory_bytes / l2_bytes)
            time = max(time, self.memory_free + board.l2_latency - board.l1_latency)
            time += share * (board.memory_latency - board.l2_latency)
        return time

    # -- waiting

    def _advance(self, warp: _Warp) -> None:
        """Take note of marks, and find when the next instruction's operands are there."""
        items = warp.items
        while warp.place < len(items) and items[warp.place] < 0:
            warp.marks.append((items[warp.place], warp.ready))
            warp.place += 1
        if warp.place >= len(items):
            warp.dep = NEVER
            return
        step = self.steps[items[warp.place]]
        time, reason = warp.ready, STALL
        for board in step.waits:
            pending = warp.boards[board]
            if pending:
                latest = max(pending)
                if latest > time:
                    time, reason = latest, warp.why[board]
                warp.boards[board] = []
        if step.kind == "depbar":
            board, allowed = step.threshold
            pending = sorted(warp.boards[board])
            if len(pending) > allowed:
                latest = pending[len(pending) - 1 - allowed]
                if latest > time:
                    time, reason = latest, warp.why[board]
                warp.boards[board] = pending[len(pending) - allowed:]
        elif step.kind == "group wait":
            allowed = step.threshold[1]
            if len(warp.groups) > allowed:
                latest = warp.groups[len(warp.groups) - 1 - allowed]
                if latest > time:
                    time, reason = latest, PIPE
                warp.groups = warp.groups[len(warp.groups) - allowed:]
        warp.dep, warp.reason = time, reason

    def _meet(self, warp: _Warp, step: Step, time: float) -> bool:
        """Arrive at a barrier; where all have, let those that wait go on."""
        key = warp.block, step.threshold[0]
        self.arrivals[key] = self.arrivals.get(key, 0) + 1
        if step.kind == "barrier":
            warp.dep = NEVER
            self.arrived.setdefault(key, []).append(warp)
        wanted = step.threshold[1] or self.alive[warp.block]
        if self.arrivals[key] < min(wanted, self.alive[warp.block]):
            return False
        self._open(key, time)
        return True

    def _open(self, key: tuple[int, int], time: float) -> None:
        self.arrivals.pop(key, None)
        for warp in self.arrived.pop(key, []):
            warp.ready = max(warp.ready, time + MEETING)
            self._advance(warp)
            if warp.dep is not NEVER and warp.dep <= time + MEETING:
                warp.reason = BARRIER
            elif warp.place >= len(warp.items):
                self.alive[warp.block] -= 1

    def _left(self, warp: _Warp, time: float) -> bool:
        """A warp has ended: others no longer wait for it."""
        opened = False
        for key in [k for k in self.arrivals if k[0] == warp.block]:
            if self.alive[warp.block] and self.arrivals[key] >= self.alive[warp.block]:
                self._open(key, time)
                opened = True
        return opened

    def _release_all(self) -> bool:
        """Nobody can go on: warps whose loops were cut to different lengths wait for each other."""
        keys = list(self.arrived)
        for key in keys:
            self._open(key, self.end)
        return bool(keys)

    # -- results

    def _account(self, warp: _Warp, number: int, step: Step, time: float) -> None:
        """Say what the warp has waited for since its last issue."""
        sums = self.waits.get(number)
        if sums is None:
            sums = self.waits[number] = [0.0] * len(REASONS)
            self.issues[number] = 0
        self.issues[number] += 1
        since = warp.last + 1
        ready, dep = min(warp.ready, time), min(warp.dep, time)
        if warp.reason == BARRIER:
            sums[BARRIER] += max(0.0, dep - since)
        else:
            sums[STALL] += max(0.0, ready - since)
            sums[warp.reason] += max(0.0, dep - max(ready, since))
        main = warp.reason if dep > since else OTHERS
        if time > dep:
            busy = self.pipes[warp.sub].get(step.use.pipe, 0.0)
            full = self.queues[warp.sub][0] if step.use.pipe == "memory" else 0.0
            reason = PIPE if busy >= time else QUEUE if full >= time else OTHERS
            sums[reason] += time - dep
            if time - dep > dep - since:
                main = reason
        if self.timeline is not None:
            self.timeline.append(Issue(warp.index, number, warp.last, dep, time, main))

    def _result(self) -> Timing:
        periods = periods_of([(warp.marks, warp.loops) for warp in self.warps])
        longest = in_loops = 0.0
        for warp in self.warps:
            extra, inside = in_full(warp.marks, warp.loops, periods)
            if warp.ready + extra >= longest:
                longest, in_loops = warp.ready + extra, inside
        return Timing(longest, in_loops, periods, self.waits, self.issues, self.timeline or [])


__all__ = ["Issue", "Multiprocessor", "Timing"]
