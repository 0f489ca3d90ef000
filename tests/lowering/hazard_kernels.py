"""Kernels whose shared memory is synchronised, or, with ``fault``, is not: x and y are arrays of 256 f32."""

from __future__ import annotations

from typing import Any

import tilus as tl

B = 64


@tl.jit
def store_then_load(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.store(s, 0, tl.load(x, 0, B))
    if not fault:
        tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def store_then_store(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """The halves of a buffer, or windows that overlap by one."""
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    start = 31 if fault else 32
    tl.store(s, 0, tl.load(x, 0, 32))
    tl.store(s, start, tl.load(x, start, 32))
    tl.sync()
    tl.store(y, 0, tl.load(s, 0, 32))


@tl.jit
def reused_in_loop(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    for i in tl.range(tl.cdiv(x.shape[0], B)):
        tl.store(s, 0, tl.load(x, i * B, B))
        tl.sync()
        tl.store(y, i * B, tl.load(s))
        if not fault:
            tl.sync()


@tl.jit
def reused_in_while(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    at = x.shape[0] - x.shape[0]
    while at < x.shape[0]:
        tl.store(s, 0, tl.load(x, at, B))
        tl.sync()
        tl.store(y, at, tl.load(s))
        if not fault:
            tl.sync()
        at += B


@tl.jit
def slot_carried(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """Two slots take turns, with one barrier an iteration; the fault reads the slot that is written next."""
    tl.grid(1)
    s = tl.shared((2, B), tl.f32)
    slot = 0
    for i in tl.range(tl.cdiv(x.shape[0], B)):
        tl.store(s[slot], 0, tl.load(x, i * B, B))
        tl.sync()
        tl.store(y, i * B, tl.load(s[slot]))
        slot = slot if fault else (slot + 1) % 2


@tl.jit
def slot_of_tile(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """The slot from the loop's index, which counts elements."""
    tl.grid(1)
    slots = 1 if fault else 2
    s = tl.shared((2, B), tl.f32)
    for at in tl.range(0, x.shape[0], B):
        tl.store(s[at // B % slots], 0, tl.load(x, at, B))
        tl.sync()
        tl.store(y, at, tl.load(s[at // B % slots]))


@tl.jit
def copy_without_wait(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.copy_async(s, x, 0)
    tl.commit()
    if not fault:
        tl.wait(0)
    tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def copy_without_sync(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.copy_async(s, x, 0)
    tl.commit()
    tl.wait(0)
    if not fault:
        tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def copy_in_no_group(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.copy_async(s, x, 0)
    if not fault:
        tl.commit()
    tl.wait(0)
    tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def copy_over_copy(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.copy_async(s, x, 0)
    tl.commit()
    if not fault:
        tl.wait(0)
        tl.sync()
    tl.copy_async(s, x, B)
    tl.commit()
    tl.wait(0)
    tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def copy_over_load(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """The next copy starts while threads may still read."""
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.copy_async(s, x, 0)
    tl.commit()
    for i in tl.range(tl.cdiv(x.shape[0], B)):
        tl.wait(0)
        tl.sync()
        tl.store(y, i * B, tl.load(s))
        if not fault:
            tl.sync()
        tl.copy_async(s, x, (i + 1) * B)
        tl.commit()
    tl.wait(0)


@tl.jit
def ring(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """Three stages; the fault waits for one group too few."""
    tl.grid(1)
    s = tl.shared((3, B), tl.f32)
    for early in tl.static_range(2):
        tl.copy_async(s[early], x, early * B)
        tl.commit()
    for i in tl.range(tl.cdiv(x.shape[0], B)):
        tl.wait(2 if fault else 1)
        tl.sync()
        tl.copy_async(s[(i + 2) % 3], x, (i + 2) * B)
        tl.commit()
        tl.store(y, i * B, tl.load(s[i % 3]))
    tl.wait(0)


@tl.jit
def ring_too_short(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """The slot that is fetched is the one being read where there is a slot too few."""
    tl.grid(1)
    slots = 2 if fault else 3
    s = tl.shared((3, B), tl.f32)
    for early in tl.static_range(2):
        tl.copy_async(s[early], x, early * B)
        tl.commit()
    for i in tl.range(tl.cdiv(x.shape[0], B)):
        tl.wait(1)
        tl.sync()
        tl.store(y, i * B, tl.load(s[i % slots]))
        tl.copy_async(s[(i + 2) % slots], x, (i + 2) * B)
        tl.commit()
    tl.wait(0)


@tl.jit
def conditional_barrier(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.store(s, 0, tl.load(x, 0, B))
    if x.shape[0] > 1000:
        tl.sync()
    if not fault:
        tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def conditional_store(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.store(s, 0, tl.zeros((B,), tl.f32))
    tl.sync()
    if x.shape[0] > 100:
        tl.store(s, 0, tl.load(x, 0, B))
        if not fault:
            tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def rows(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """A row of a tile through a transposed view."""
    tl.grid(1)
    s = tl.shared((B, 4), tl.f32)
    tl.store(s[:, 0:2], (0, 0), tl.load(x, 0, 2 * B).reshape(B, 2))
    tl.store(s[:, 3], 0, tl.zeros((B,), tl.f32))
    if fault:
        tl.store(y, 0, tl.load(s.T[1, :], 0, B))
    tl.sync()
    tl.store(y, 0, tl.load(s.T[3, :], 0, B))


@tl.jit
def element(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """One element, written by one thread and read by all."""
    tl.grid(1)
    s = tl.shared((4,), tl.f32)
    s[2] = x[0]
    if not fault:
        tl.sync()
    tl.store(y, 0, tl.load(x, 0, B) * s[2])


@tl.jit
def counter(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((1,), tl.i32)
    s[0] = 0
    tl.sync()
    tl.atomic_add(s, (0,), 1)
    tl.atomic_add(s, (0,), 2)
    if not fault:
        tl.sync()
    tl.store(y, 0, tl.load(x, 0, B) + s[0].to(tl.f32))


def put(s: Any, x: Any, at: Any) -> None:
    tl.store(s, 0, tl.load(x, at, B))


@tl.jit
def in_helper(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    for i in tl.static_range(2):
        put(s, x, i * B)
        tl.sync()
        tl.store(y, i * B, tl.load(s))
        if not fault:
            tl.sync()


@tl.jit
def after_loop(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.store(s, 0, tl.load(x, 0, B))
    tl.sync()
    for i in tl.range(tl.cdiv(x.shape[0], B)):
        tl.store(y, i * B, tl.load(s))
    if not fault:
        tl.sync()
    tl.store(s, 0, tl.zeros((B,), tl.f32))
    tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def nested_loops(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """The inner loop's last read and the outer loop's next write."""
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    for i in tl.range(tl.cdiv(x.shape[0], B)):
        tl.store(s, 0, tl.load(x, i * B, B))
        tl.sync()
        for j in tl.range(2):
            tl.store(y, j * B, tl.load(s))
        if not fault:
            tl.sync()


@tl.jit
def in_group(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """A group synchronises among its own warps."""
    tl.block(warps=4)
    tl.grid(1)
    s = tl.shared((2, B), tl.f32)
    with tl.group(0, 2):
        tl.store(s[0], 0, tl.load(x, 0, B))
        if not fault:
            tl.sync()
        tl.store(y, 0, tl.load(s[0]))
    with tl.group(2, 2):
        tl.store(s[1], 0, tl.load(x, B, B))
        tl.sync()
        tl.store(y, B, tl.load(s[1]))


@tl.jit
def group_reads_what_the_block_wrote(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    tl.block(warps=4)
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    tl.store(s, 0, tl.load(x, 0, B))
    if not fault:
        tl.sync()
    with tl.group(0, 2):
        tl.store(y, 0, tl.load(s))


@tl.jit
def groups_after_groups(x: tl.f32["N"], y: tl.f32["N"], fault: bool = False) -> None:
    """What other warps wrote takes a barrier of the block, also where all of them have ended."""
    tl.block(warps=4)
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    with tl.group(0, 2):
        tl.store(s, 0, tl.load(x, 0, B))
    if not fault:
        tl.sync()
    tl.store(y, B, tl.load(x, B, B))
    with tl.group(2, 2):
        tl.store(y, 0, tl.load(s))


# -- right, although a coarser look would have doubts


@tl.jit
def barrier_from_the_second_iteration_on(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    for i in tl.range(tl.cdiv(x.shape[0], B)):
        if i > 0:
            tl.sync()
        tl.store(s, 0, tl.load(x, i * B, B))
        tl.sync()
        tl.store(y, i * B, tl.load(s))


@tl.jit
def barrier_under_the_same_condition(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    some = x.shape[0] > 100
    if some:
        tl.store(s, 0, tl.load(x, 0, B))
    if some:
        tl.sync()
    if some:
        tl.store(y, 0, tl.load(s))


@tl.jit
def one_branch_or_the_other(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    if x.shape[0] > 100:
        tl.store(s, 0, tl.load(x, 0, B))
    if x.shape[0] <= 100:
        tl.store(s, 0, tl.zeros((B,), tl.f32))
    tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def fetch_while_there_is_more(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.grid(1)
    s = tl.shared((2, B), tl.f32)
    tl.copy_async(s[0], x, 0)
    tl.commit()
    n = tl.cdiv(x.shape[0], B)
    for i in tl.range(n):
        if i + 1 < n:
            tl.copy_async(s[(i + 1) % 2], x, (i + 1) * B)
            tl.commit()
            tl.wait(1)
        else:
            tl.wait(0)
        tl.sync()
        tl.store(y, i * B, tl.load(s[i % 2]))
        tl.sync()


@tl.jit
def halves_at_a_run_time_place(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.grid(1)
    s = tl.shared((4, B), tl.f32)
    at = x.shape[0] % 3
    tl.store(s[at], 0, tl.load(x, 0, B))
    tl.store(s[at + 1], 0, tl.load(x, B, B))
    tl.sync()
    tl.store(y, 0, tl.load(s[at]) + tl.load(s[at + 1]))


@tl.jit
def handed_over_by_named_barriers(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.block(warps=3)
    tl.grid(1)
    s = tl.shared((2, B), tl.f32)
    full = [tl.named_barrier(1 + n, 3) for n in range(2)]
    empty = [tl.named_barrier(3 + n, 3) for n in range(2)]
    with tl.group(0, 1):
        for i in tl.static_range(4):
            if i > 1:
                empty[i % 2].sync()
            tl.store(s[i % 2], 0, tl.load(x, i * B, B))
            full[i % 2].arrive()
    with tl.group(1, 2):
        for i in tl.static_range(4):
            full[i % 2].sync()
            tl.store(y, i * B, tl.load(s[i % 2]))
            if i < 2:
                empty[i % 2].arrive()


@tl.jit
def same_warps_again(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    """A group's barrier orders what its warps did before, in a group of an earlier operation too."""
    tl.block(warps=4)
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    with tl.group(0, 2):
        tl.copy_async(s, x, 0)
        tl.commit()
    tl.store(y, B, tl.load(x, B, B))
    with tl.group(0, 2):
        tl.wait(0)
        tl.sync()
        tl.store(y, 0, tl.load(s))


@tl.jit
def masks_that_part(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    low = tl.arange(B) < 32
    tl.store(s, 0, tl.load(x, 0, B), mask=low)
    tl.store(s, 0, tl.zeros((B,), tl.f32), mask=~low)
    tl.sync()
    tl.store(y, 0, tl.load(s))


@tl.jit
def some_blocks_skip(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    tl.grid(1)
    s = tl.shared((B,), tl.f32)
    for i in tl.range(tl.cdiv(x.shape[0], B)):
        if i == 1:
            continue
        tl.store(s, 0, tl.load(x, i * B, B))
        tl.sync()
        tl.store(y, i * B, tl.load(s))
        tl.sync()


CODES = {
    store_then_load: "W0707", store_then_store: "W0707", reused_in_loop: "W0707", reused_in_while: "W0707",
    slot_carried: "W0707", slot_of_tile: "W0707", copy_without_wait: "W0708", copy_without_sync: "W0707",
    copy_in_no_group: "W0708", copy_over_copy: "W0708", copy_over_load: "W0707", ring: "W0708",
    ring_too_short: "W0707", conditional_barrier: "W0707", conditional_store: "W0707", rows: "W0707",
    element: "W0707", counter: "W0707", in_helper: "W0707", after_loop: "W0707", nested_loops: "W0707",
    in_group: "W0707", group_reads_what_the_block_wrote: "W0707",
    groups_after_groups: "W0707",
}
"""The kernels with a fault, and what it is."""
CLEAN = (
    barrier_from_the_second_iteration_on, barrier_under_the_same_condition, one_branch_or_the_other,
    fetch_while_there_is_more, halves_at_a_run_time_place, handed_over_by_named_barriers, masks_that_part,
    same_warps_again, some_blocks_skip,
)
