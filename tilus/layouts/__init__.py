"""The layout algebra: which thread and register, which shared or global address holds which element of a tile."""

from tilus.layouts.address import AddressPlan, address_plan
from tilus.layouts.banks import Access, access_of, bank_conflicts, choose_swizzle, wavefronts
from tilus.layouts.blocked import blocked
from tilus.layouts.convert import (
    Identity,
    MatrixTransposition,
    Plan,
    RegisterPermutation,
    SharedPlan,
    plan_conversion,
    relative,
)
from tilus.layouts.modes import Mode
from tilus.layouts.packed import byte_layout, tile_for, unify
from tilus.layouts.parse import parse_layout
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
from tilus.layouts.shared import SharedLayout, Swizzle, column_major, row_major, strided_order
from tilus.layouts.shuffle import BitMap, Round, ShufflePlan
from tilus.layouts.strided import GlobalLayout, Linear

__all__ = [
    "Access",
    "AddressPlan",
    "BitMap",
    "GlobalLayout",
    "Identity",
    "Linear",
    "MatrixTransposition",
    "Mode",
    "Plan",
    "RegisterLayout",
    "RegisterPermutation",
    "RegisterSlice",
    "Round",
    "SharedLayout",
    "SharedPlan",
    "ShufflePlan",
    "Swizzle",
    "Term",
    "access_of",
    "address_plan",
    "bank_conflicts",
    "blocked",
    "byte_layout",
    "choose_swizzle",
    "column_local",
    "column_major",
    "column_spatial",
    "concatenate",
    "local",
    "parse_layout",
    "plan_conversion",
    "relative",
    "replicated",
    "row_major",
    "spatial",
    "strided_order",
    "tile_for",
    "unify",
    "wavefronts",
]
