"""Huawei's Ascend NPUs: cores, memories and limits of those that programs of cores are written for.

A core of the 910B is one matrix (cube) core and two vector cores, each with a scalar unit, a program and pipes of its
own.
"""

from __future__ import annotations

LOCAL_MEMORIES = {"ub": 196352, "l1": 524032, "l0a": 65536, "l0b": 65536, "l0c": 131072}
"""Bytes of the local memories that programs may use: the last 256 of the unified buffer and of L1 are reserved."""
LIBRARY_RESERVED = 184 * 1024
"""Where the bytes of the unified buffer begin that some calls of the library use for themselves."""
FLAGS = 6
"""Flags of an ordered pair of pipes; two more are the library's."""
EVENTS = 8
"""Flags of an ordered pair of pipes in all: of each buffer of the queues in one direction, and others."""
CROSS_FLAGS = 16
"""Flags between the cores of a block."""
SLOTS = 2
"""Tiles of a channel between the cores of a block, where there are flags enough."""
VECTOR_CORES = 2
"""Of a matrix core."""
LIBRARY_CALLS = ("Select(", "CreateVecIndex(")
"""Calls that take memory or flags of the library's, which has to be set up for that."""


def is_library_call(form: str) -> bool:
    return form.startswith(LIBRARY_CALLS)
