"""Random layouts of mixed radix, and the plain meaning of a layout as a dictionary."""

from __future__ import annotations

import itertools
import math

from hypothesis import strategies as st

from tilus.layouts import Mode, RegisterLayout, SharedLayout, Swizzle


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


@st.composite
def shared_layouts(draw: st.DrawFn, max_rank: int = 3) -> SharedLayout:
    """Compact or padded strides in any order, digits split over the dimensions, often with a swizzle."""
    rank = draw(st.integers(1, max_rank))
    places = draw(st.lists(st.tuples(st.integers(0, rank - 1), st.sampled_from((2, 2, 4, 3))), max_size=5))
    modes: list[list[tuple[int, int]]] = [[] for _ in range(rank)]
    reach = 1
    for d, size in places:
        modes[d].insert(draw(st.integers(0, len(modes[d]))), (size, reach))
        reach = reach * size + draw(st.sampled_from((0, 0, 0, 1, 4)))
    shape = [math.prod(size for size, _ in digits) for digits in modes]
    swizzle = None
    if draw(st.booleans()):
        bits = draw(st.integers(1, 3))
        swizzle = Swizzle(bits, draw(st.integers(0, 2)), bits + draw(st.integers(0, 2)))
    return SharedLayout(shape, modes, swizzle, base=draw(st.sampled_from((0, 0, 0, 2))))
