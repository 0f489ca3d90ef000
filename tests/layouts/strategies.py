"""Random layouts of mixed radix, and the plain meaning of a layout as a dictionary."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from tilus.layouts import Mode, RegisterLayout


@st.composite
def register_layouts(draw: st.DrawFn, rank: int | None = None, max_size: int = 96, replication: bool = True,
                     sizes: tuple[int, ...] = (2, 2, 2, 3, 4, 5)) -> RegisterLayout:
    """Any layout: random digits per dimension, each in a random place of the thread or the local number."""
    rank = draw(st.integers(1, 3)) if rank is None else rank
    shape = [1] * rank
    threads: list[Mode] = []
    locals_: list[Mode] = []
    total = 1
    for _ in range(draw(st.integers(0, 6))):
        size, d = draw(st.sampled_from(sizes)), draw(st.integers(0, rank - 1))
        if total * size > max_size:
            break
        total *= size
        target = threads if draw(st.booleans()) else locals_
        target.insert(draw(st.integers(0, len(target))), Mode(size, d, shape[d]))
        shape[d] *= size
    if replication and draw(st.booleans()):
        threads.insert(draw(st.integers(0, len(threads))), Mode(draw(st.sampled_from((2, 3))), -1, 0))
    return RegisterLayout(shape, threads, locals_)


def meaning(layout: RegisterLayout) -> dict[tuple[int, int], tuple[int, ...]]:
    """The function itself, from the digits, written without the layout's own queries."""
    result = {}
    for t, l in itertools.product(range(layout.num_threads), range(layout.num_locals)):
        index = [0] * len(layout.shape)
        for number, modes in ((t, layout.thread_modes), (l, layout.local_modes)):
            for mode in reversed(modes):
                number, digit = divmod(number, mode.size)
                if mode.dim >= 0:
                    index[mode.dim] += digit * mode.stride
        result[t, l] = tuple(index)
    return result
