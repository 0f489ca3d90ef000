"""Imports every file of operations, so that the instruction table is complete."""

from __future__ import annotations


def load_operations() -> None:
    """Fill the instruction table."""
    from tilus.simulator import (  # noqa: F401
        ops_async,
        ops_async_store,
        ops_atomic,
        ops_barrier,
        ops_bits,
        ops_bulk,
        ops_calls,
        ops_convert,
        ops_float,
        ops_half,
        ops_heap,
        ops_integer,
        ops_launch_control,
        ops_logic,
        ops_matrix,
        ops_mbarrier,
        ops_memory,
        ops_mma,
        ops_mma_scaled,
        ops_mma_sparse,
        ops_stack,
        ops_tcgen05,
        ops_tcgen05_mma,
        ops_tensormap,
        ops_texture,
        ops_video,
        ops_warp,
        ops_wgmma,
        ops_wmma,
    )
