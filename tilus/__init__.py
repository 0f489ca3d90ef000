"""tilus: a tile-level language and compiler for GPU and NPU kernels.

>>> import tilus as tl
>>> @tl.jit
... def double(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 1024):
...     i = tl.grid(tl.cdiv(x.shape[0], BLOCK))
...     tl.store(y, i * BLOCK, tl.load(x, i * BLOCK, BLOCK) * 2)
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from tilus._version import __version__
from tilus.diagnostics import TilusError, TilusWarning, UserError
from tilus.diagnostics.entry import public_function as _public_function
from tilus.ir.dtypes import (
    DType,
    bf16,
    f4e2m1,
    f6e2m3,
    f6e3m2,
    f8e4m3fn,
    f8e5m2,
    f16,
    f32,
    f64,
    from_numpy,
    i1,
    i2,
    i3,
    i4,
    i5,
    i6,
    i7,
    i8,
    i16,
    i32,
    i64,
    integer,
    tf32,
    u1,
    u2,
    u3,
    u4,
    u5,
    u6,
    u7,
    u8,
    u16,
    u32,
    u64,
)
from tilus.ir.dtypes import bool_ as bool
from tilus.ir.dtypes import float_ as float
from tilus.lang.builtins import random
from tilus.lang.builtins.control import (
    assume,
    block,
    cdiv,
    device_assert,
    grid,
    grid_size,
    print,
    range,
    static_assert,
    static_range,
    supports,
)
from tilus.lang.builtins.creation import arange, full, iota, ones, scalar, zeros, zeros_like
from tilus.lang.builtins.elementwise import (
    abs,
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    bitcast,
    cast,
    ceil,
    clamp,
    clz,
    copysign,
    cos,
    cosh,
    div,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    floor,
    fma,
    fmod,
    gelu,
    isfinite,
    isinf,
    isnan,
    log,
    log1p,
    log2,
    log10,
    maximum,
    minimum,
    popcount,
    pow,
    rcp,
    relu,
    round,
    rsqrt,
    sigmoid,
    silu,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
    trunc,
    where,
)
from tilus.lang.builtins.functional import map, reduce, scan
from tilus.lang.builtins.layouts import mma
from tilus.lang.builtins.memory import (
    atomic_add,
    atomic_and,
    atomic_cas,
    atomic_exchange,
    atomic_max,
    atomic_min,
    atomic_or,
    atomic_xor,
    commit,
    copy_async,
    gather,
    load,
    may_alias,
    scatter,
    shared,
    store,
    wait,
    workspace,
)
from tilus.lang.builtins.reduction import (
    all,
    any,
    argmax,
    argmin,
    cummax,
    cummin,
    cumprod,
    cumsum,
    dot,
    max,
    mean,
    min,
    prod,
    sum,
    xor_sum,
)
from tilus.lang.builtins.shape import (
    broadcast_to,
    concatenate,
    convert_layout,
    expand_dims,
    insert,
    reshape,
    split,
    squeeze,
    take,
    transpose,
    view,
)
from tilus.lang.builtins.sync import (
    acquire,
    grid_sync,
    group,
    named_barrier,
    release,
    resident_blocks,
    sync,
    wait_until,
)
from tilus.lang.values import Tile
from tilus.lang.views import View
from tilus.runtime.fuse import FusedFunction, fuse
from tilus.runtime.jit import JitFunction, engine, jit

for _name, _value in list(globals().items()):
    if getattr(_value, "__module__", "").startswith("tilus.lang.builtins.") and not isinstance(_value, type):
        globals()[_name] = _public_function(_value)  # outside of a kernel their errors are the user's
del _name, _value


if _TYPE_CHECKING:  # imported where they are asked for
    from tilus import layouts
    from tilus.lang.builtins.layouts import Layout


def __getattr__(name: str) -> object:
    """What is imported where it is asked for; and says what a name of another language is here."""
    if name == "layouts":
        import importlib

        return importlib.import_module("tilus.layouts")
    if name == "Layout":
        from tilus.lang.builtins import layouts as builtins

        return builtins.Layout
    from tilus.lang.foreign_names import HELP

    raise AttributeError(f"module 'tilus' has no attribute {name!r}" + (f": {HELP[name]}" if name in HELP else ""),
                         name=name, obj=__import__("tilus"))
