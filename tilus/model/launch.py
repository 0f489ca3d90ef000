"""One launch of a kernel: everything that its code reads besides memory."""

from __future__ import annotations

from tilus.records import record


@record(frozen=True)
class ArrayAt:
    """An array in the made-up address space of a launch."""

    name: str
    address: int
    bytes: int
    element_bits: int


@record(frozen=True)
class Launch:
    """One launch.

    Attributes:
        program: the kernel's name.
        grid, block: blocks and threads along x, y and z.
        shared: bytes of a block's shared memory, static and dynamic.
        parameters: the parameters as they lie in the constant bank.
        arrays: where the arrays are.
        cluster: blocks of a cluster along x, y and z.
    """

    program: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    parameters: bytes
    arrays: tuple[ArrayAt, ...] = ()
    cluster: tuple[int, int, int] = (1, 1, 1)


__all__ = ["ArrayAt", "Launch"]
