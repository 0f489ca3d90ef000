"""The limits of a target, as numbers that constraints speak of."""

from __future__ import annotations

from tilus.targets import Target

LIMITS = (
    "warp_size", "max_threads_per_block", "max_threads_per_sm", "max_blocks_per_sm", "registers_per_sm",
    "max_registers_per_thread", "shared_per_block", "shared_per_block_optin", "shared_per_sm", "max_cluster_size",
    "sm_count",
)
"""Fields of :class:`~tilus.targets.Target`."""


def limits_of(target: Target) -> dict[str, int]:
    """The limits that a target has. Those that it has not, as the CPU has none of registers, are missing: constraints
    that speak of them do not count there."""
    found = {name: int(getattr(target, name)) for name in LIMITS}
    return {name: limit for name, limit in found.items() if limit}
