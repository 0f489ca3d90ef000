"""All operations, by level: importing this module declares them."""

from tilus.ir.ops.arith import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Const,
    Fma,
    Iota,
    MulHi,
    Philox,
    Select,
    Unary,
)
from tilus.ir.ops.control import For, If, While, Yield
from tilus.ir.ops.memory import (
    AllocShared,
    Atomic,
    CollapseView,
    CommitAsync,
    CopyAsync,
    Dim,
    Gather,
    GatherAsync,
    Load,
    PermuteView,
    Scatter,
    Store,
    Stride,
    Subview,
    WaitAsync,
)
from tilus.ir.ops.reduction import Dot, Map, Reduce, ReduceWith, Scan, ScanWith
from tilus.ir.ops.shape import Concat, ConvertLayout, Insert, Reshape, Slice, Take, Transpose, View
from tilus.ir.ops.sync import (
    Assume,
    DeviceAssert,
    GridIndex,
    GridSize,
    GridSync,
    Group,
    Launch,
    NamedBarrier,
    Print,
    ResidentBlocks,
    Sync,
    WaitUntil,
    Workspace,
)
from tilus.ir.ops.thread import (
    Alloca,
    Extract,
    MaskedLoad,
    MaskedStore,
    Pack,
    PtrAdd,
    PtrCast,
    PtrLoad,
    PtrStore,
    Shuffle,
)

__all__ = [
    "AllocShared", "Alloca", "Assume", "Atomic", "Binary", "Bitcast", "Broadcast", "Cast",
    "CollapseView", "CommitAsync", "Compare", "Concat", "Const", "ConvertLayout", "CopyAsync", "DeviceAssert", "Dim",
    "Dot", "Extract", "Fma", "For", "Gather", "GatherAsync", "GridIndex", "GridSize", "GridSync", "Group", "If",
    "Insert", "Iota", "Launch", "Load", "Map", "MaskedLoad", "MaskedStore", "MulHi", "NamedBarrier", "Pack",
    "PermuteView", "Philox", "Print", "PtrAdd", "PtrCast", "PtrLoad", "PtrStore", "Reduce", "ReduceWith", "Reshape",
    "ResidentBlocks", "Scan", "ScanWith", "Scatter", "Select", "Shuffle", "Slice", "Store", "Stride", "Subview", "Sync",
    "Take", "Transpose", "Unary", "View", "WaitAsync", "WaitUntil", "While", "Workspace", "Yield",
]
