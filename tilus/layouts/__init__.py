"""The layout algebra: which thread and register, which shared or global address holds which element of a tile."""

from tilus.layouts.blocked import blocked
from tilus.layouts.modes import Mode
from tilus.layouts.register import (
    RegisterLayout,
    RegisterSlice,
    Term,
    column_local,
    column_spatial,
    concatenate,
    local,
    replicated,
    spatial,
)

__all__ = [
    "Mode",
    "RegisterLayout",
    "RegisterSlice",
    "Term",
    "blocked",
    "column_local",
    "column_spatial",
    "concatenate",
    "local",
    "replicated",
    "spatial",
]
