"""The launch grid, loops and compile-time checks."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Iterator
from typing import Any

from tilus.ir.ops import Assume, DeviceAssert, GridSize, Print
from tilus.ir.ops.groups import MAX_WARPS
from tilus.lang.builtins.elementwise import where
from tilus.lang.context import current
from tilus.lang.values import Tile, arithmetic, as_index, as_tile, compare, emit, fail, static_shape


def grid(*extents: Any) -> Any:
    """Declares the launch grid (one to three extents, computable at the launch) and gives this block's indices:
    a scalar for one axis, a tuple for more. Once in a kernel, at its top level."""
    context = current()
    indices = context.declare_grid(tuple(as_index(e, "an extent of the grid") for e in extents))
    return indices[0] if len(indices) == 1 else indices


def grid_size(axis: int) -> Tile:
    """The extent of the grid along ``axis`` (i64)."""
    return emit(GridSize(axis, span=current().span))


def block(*, warps: int | None = None, max_registers: int | None = None, cooperative: bool | None = None,
          raster: int | None = None, queues: int | None = None) -> None:
    """Sets the number of warps of a block (default 4), the register limit of a thread, and whether all blocks must be
    resident at once.

    ``raster`` is in how wide groups along the first of several axes of the grid a GPU runs the blocks, so that those
    that run together share what they read; 0 for none. By default products of matrices choose it by their tiles.

    ``queues`` has the vector cores of an NPU take tiles from global memory, and give them back, through queues of the
    library's (``TQue``) with so many buffers each (2: copies run beside vectors) instead of tensors and flags of the
    compiler's; 0, the default, for none. Other targets have no use for it.
    """
    given = {"warps": warps, "max_registers": max_registers, "raster": raster, "queues": queues}
    for name, value in given.items():
        if value is not None:
            static_shape((value,), f"{name} of tl.block", help="it is a compile-time constant: annotate it `int`")
    if warps is not None and not 1 <= operator.index(warps) <= MAX_WARPS:
        raise fail("E0504", f"a block has 1 to {MAX_WARPS} warps, not {warps}")
    if queues is not None:
        _check_queues(operator.index(queues))
    attributes = {**given, "cooperative": cooperative}
    current().declare_block(**{k: v for k, v in attributes.items() if v is not None})


def _check_queues(buffers: int) -> None:
    from tilus.targets.ascend import EVENTS  # for few kernels

    if buffers > EVENTS:
        raise fail("E0504", f"a queue has 1 to {EVENTS} buffers, or there is none (0); not {buffers}")


MAX_UNROLL = 1024
"""Copies of a loop's body beyond which nobody wants to wait for the compiler."""


class range:
    """``for i in tl.range(start, stop, step, stages=, unroll=, prefetch=)``: a run-time loop.

    With ``stages`` > 1 the loads of the loop are pipelined that many iterations deep. With ``unroll`` > 1 that many
    iterations become one, and a second loop does the rest; with ``unroll=True`` all iterations of constant bounds are
    written out. A pipelined loop that does nothing but dots loads their next operands into registers ahead of time;
    ``prefetch=False`` keeps it from that, which saves registers. None of these changes a value.
    """

    def __init__(self, *bounds: Any, stages: int = 0, unroll: int | builtins.bool = 1,
                 prefetch: builtins.bool | None = None) -> None:
        if not 1 <= len(bounds) <= 3:
            raise fail("E0107", f"range takes one to three bounds, not {len(bounds)}")
        start, stop, step = {1: (0, bounds[0], 1), 2: (*bounds, 1)}.get(len(bounds), bounds)
        if isinstance(step, int) and step == 0:
            raise fail("E0107", "the step of a range is 0")
        self.start, self.stop, self.step = start, stop, step
        (self.stages,) = static_shape((stages,), "stages")
        self.unroll = 0 if unroll is True else static_shape((unroll,), "unroll", allow=1)[0]
        if not isinstance(prefetch, (builtins.bool, type(None))):
            raise fail("E0107", f"prefetch is True, False or None, not {prefetch!r}")
        self.prefetch = prefetch
        trips = self.unroll
        if unroll is True:
            if self.stages > 1:
                raise fail("E0107", "a loop that is unrolled whole cannot be pipelined too",
                           help="leave out stages=, or give a factor, e.g. unroll=4")
            if any(isinstance(n, Tile) for n in (start, stop, step)):
                raise fail("E0105", "unroll=True takes constant bounds, and one of these is a run-time value",
                           help="give a factor, e.g. unroll=4")
            for bound in (start, stop, step):
                as_index(bound, "a bound of the range")
            trips = len(builtins.range(start, stop, step))
        if trips > MAX_UNROLL:
            raise fail("E0107", f"unrolling of {trips} iterations: {MAX_UNROLL} is the most")

    @property
    def is_constant(self) -> bool:
        """Whether all bounds are Python integers, or known scalars of the python engine."""
        return not any(isinstance(n, Tile) and current().concrete(n.value) is None
                       for n in (self.start, self.stop, self.step))

    @property
    def is_static(self) -> builtins.bool:
        """Whether all bounds are Python integers."""
        return all(isinstance(n, int) for n in (self.start, self.stop, self.step))

    def __iter__(self) -> Iterator[Tile]:
        """Iteration by Python itself: the python engine, where every bound is known."""
        if not self.is_constant:
            raise fail("E0113", "a range of run-time bounds is iterated over by Python",
                       help="write `for i in range(n):`, with nothing around the range")
        bounds = [operator.index(as_index(b)) for b in (self.start, self.stop, self.step)]
        position = bounds[0]
        while (position < bounds[1]) if bounds[2] > 0 else (position > bounds[1]):
            yield as_index(position)
            position += bounds[2]


    def __reversed__(self) -> Iterator[Tile]:
        raise fail("E0113", "a range of run-time bounds is reversed", help="write range(n - 1, -1, -1)")


class static_range:
    """``for i in tl.static_range(n)``: unrolled at compile time; ``i`` is a Python int."""

    def __init__(self, *bounds: Any) -> None:
        self.values = builtins.range(*static_shape(bounds, "tl.static_range", allow=-(1 << 62),
                                                   help="a loop over run-time bounds is tl.range"))

    def __iter__(self) -> Iterator[int]:
        return iter(self.values)


def cdiv(a: Any, b: Any) -> Any:
    """The ceiling of the exact quotient of two integers, of any signs; it wraps where the type cannot hold it, and is 0
    for a run-time divisor of 0.

    Raises:
        UserError: an operand is no integer (E0201), or a compile-time divisor is 0 (E0205).
    """
    for operand in (a, b):
        if not (operand.dtype.is_int if isinstance(operand, Tile) else isinstance(operand, int)):
            name = operand.dtype if isinstance(operand, Tile) else type(operand).__name__
            raise fail("E0201", f"tl.cdiv takes integers, not {name}", help="for floats: tl.ceil(a / b)")
    if not isinstance(b, Tile) and b == 0:
        raise fail("E0205", "tl.cdiv by 0")
    if not isinstance(a, Tile) and not isinstance(b, Tile):
        return -(-a // b)
    quotient, rest = arithmetic("floordiv", a, b), arithmetic("mod", a, b)
    exact = compare("eq", rest, 0)
    if isinstance(b, Tile):
        exact = exact | compare("eq", b, 0)
    return where(exact, quotient, arithmetic("add", quotient, 1))


def supports(operation: Callable[..., Any]) -> bool:
    """Whether the target has the instruction that an operation of the language names, e.g. ``tl.copy_async``; a
    compile-time value. The engines of the host run every operation, by its meaning."""
    if not getattr(operation, "__module__", "").startswith("tilus.lang."):
        name = getattr(operation, "__qualname__", operation)
        raise fail("E0107", f"tl.supports takes an operation such as tl.copy_async, not {name!r}")
    target = current().target
    return target is None or target.supports(operation.__name__)


def target() -> str:
    """The name of the target that the kernel is compiled for, such as ``"sm_80"``, a compile-time value; ``"cpu"`` on
    all engines of the host."""
    found = current().target
    return found.name if found is not None else "cpu"


def static_assert(condition: Any, message: str = "") -> None:
    """Fails the compilation where a compile-time condition does not hold."""
    if isinstance(condition, Tile) and current().concrete(condition.value) is None:
        raise fail("E0105", "the condition of static_assert is a run-time value", help="use tl.device_assert")
    if not condition:
        raise fail("E0108", f"static assertion failed{': ' + message if message else ''}")


def device_assert(condition: Any, message: str = "") -> None:
    """Ends the kernel with an error where the bool (scalar or tile) does not hold at run time."""
    tile = as_tile(condition)
    if not tile.dtype.is_bool:
        raise fail("E0201", f"the condition of device_assert is {tile.dtype}, not bool")
    current().emit(DeviceAssert(tile.value, message, span=current().span))


def assume(condition: Any) -> None:
    """Promises that a scalar condition holds; the compiler may rely on it."""
    tile = as_tile(condition)
    if not tile.dtype.is_bool or tile.shape:
        raise fail("E0201", f"tl.assume takes a scalar bool, not {tile.value.type}")
    current().emit(Assume(tile.value, span=current().span))


def print(*values: Any) -> None:
    """Prints values from the kernel: strings as they are, scalars and tiles formatted."""
    parts, operands = [], []
    for value in values:
        if isinstance(value, Tile):
            parts.append("{}")
            operands.append(value.value)
        else:
            parts.append(str(value).replace("{", "{{").replace("}", "}}"))
    current().emit(Print(" ".join(parts), tuple(operands), span=current().span))
