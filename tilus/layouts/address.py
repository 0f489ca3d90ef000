"""Addresses of vector accesses to shared memory: one run-time base per thread, the rest immediates where possible."""

from __future__ import annotations

from functools import lru_cache

from tilus.layouts.banks import Access
from tilus.layouts.shared import SharedLayout
from tilus.records import record


@record(frozen=True)
class AddressPlan:
    """Access ``i`` of a thread begins at element ``(base ^ xors[i]) + adds[i]``.

    ``base`` is the thread's first address: ``shared.offset(access.layout.thread_index(thread))``. ``adds`` suit the
    immediate of an instruction; each distinct non-zero value of ``xors`` costs one instruction and one register.
    """

    xors: tuple[int, ...]
    adds: tuple[int, ...]

    @property
    def bases(self) -> tuple[int, ...]:
        """The distinct values of ``xors``."""
        return tuple(dict.fromkeys(self.xors))


@lru_cache(maxsize=1024)
def address_plan(shared: SharedLayout, access: Access) -> AddressPlan | None:
    """How the addresses of an access's locals ``0, vector, 2 * vector, …`` follow from the thread's first one.

    None where they differ from thread to thread in a way that needs the whole computation anew. The layout of the
    access must not be larger than ``shared``'s shape.
    """
    import numpy as np

    table = shared.offsets(access.layout.table()[:, ::access.vector])
    period = 1
    if shared.swizzle is not None:
        period = 1 << (shared.swizzle.base + shared.swizzle.shift + shared.swizzle.bits)
    base = table[:, :1]
    low = (table % period) ^ (base % period)
    high = table // period - base // period
    if not ((low == low[0]).all() and (high == high[0]).all()):
        difference = table - base
        if not (difference == difference[0]).all():
            return None
        return AddressPlan((0,) * table.shape[1], tuple(difference[0].tolist()))
    # flipping a bit that is 0 in every thread's base is adding it
    clear = ~int(np.bitwise_or.reduce(base, axis=None))
    xors, adds = low[0] & ~clear, high[0] * period + (low[0] & clear)
    return AddressPlan(tuple(xors.tolist()), tuple(adds.tolist()))
