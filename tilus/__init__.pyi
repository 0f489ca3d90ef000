"""What type checkers see of tilus. Made by `python -m tools.stub > tilus/__init__.pyi`.

Element types are of type Any, so that annotations such as `tl.f16["M", "K"]` pass; functions have their own types.
"""

import builtins
from typing import Any

from tilus import layouts as layouts
from tilus._version import __version__ as __version__
from tilus.diagnostics import TilusError as TilusError
from tilus.diagnostics import TilusWarning as TilusWarning
from tilus.diagnostics import UserError as UserError
from tilus.ir.dtypes import DType as DType
from tilus.ir.dtypes import bool_ as bool
from tilus.ir.dtypes import codebook as codebook
from tilus.ir.dtypes import float_ as float
from tilus.ir.dtypes import from_numpy as from_numpy
from tilus.ir.dtypes import integer as integer
from tilus.lang.builtins import random as random
from tilus.lang.builtins.control import assume as assume
from tilus.lang.builtins.control import block as block
from tilus.lang.builtins.control import cdiv as cdiv
from tilus.lang.builtins.control import device_assert as device_assert
from tilus.lang.builtins.control import grid as grid
from tilus.lang.builtins.control import grid_size as grid_size
from tilus.lang.builtins.control import print as print
from tilus.lang.builtins.control import range as range
from tilus.lang.builtins.control import static_assert as static_assert
from tilus.lang.builtins.control import static_range as static_range
from tilus.lang.builtins.control import supports as supports
from tilus.lang.builtins.control import target as target
from tilus.lang.builtins.convolutions import convolution as convolution
from tilus.lang.builtins.creation import arange as arange
from tilus.lang.builtins.creation import full as full
from tilus.lang.builtins.creation import iota as iota
from tilus.lang.builtins.creation import ones as ones
from tilus.lang.builtins.creation import scalar as scalar
from tilus.lang.builtins.creation import zeros as zeros
from tilus.lang.builtins.creation import zeros_like as zeros_like
from tilus.lang.builtins.elementwise import abs as abs
from tilus.lang.builtins.elementwise import atan2 as atan2
from tilus.lang.builtins.elementwise import bitcast as bitcast
from tilus.lang.builtins.elementwise import cast as cast
from tilus.lang.builtins.elementwise import clamp as clamp
from tilus.lang.builtins.elementwise import clz as clz
from tilus.lang.builtins.elementwise import copysign as copysign
from tilus.lang.builtins.elementwise import div as div
from tilus.lang.builtins.elementwise import fma as fma
from tilus.lang.builtins.elementwise import fmod as fmod
from tilus.lang.builtins.elementwise import gelu as gelu
from tilus.lang.builtins.elementwise import maximum as maximum
from tilus.lang.builtins.elementwise import minimum as minimum
from tilus.lang.builtins.elementwise import popcount as popcount
from tilus.lang.builtins.elementwise import pow as pow
from tilus.lang.builtins.elementwise import relu as relu
from tilus.lang.builtins.elementwise import silu as silu
from tilus.lang.builtins.elementwise import where as where
from tilus.lang.builtins.functional import map as map
from tilus.lang.builtins.functional import reduce as reduce
from tilus.lang.builtins.functional import scan as scan
from tilus.lang.builtins.functions import precision_of as precision_of
from tilus.lang.builtins.layouts import Layout as Layout
from tilus.lang.builtins.layouts import mma as mma
from tilus.lang.builtins.memory import atomic_add as atomic_add
from tilus.lang.builtins.memory import atomic_and as atomic_and
from tilus.lang.builtins.memory import atomic_cas as atomic_cas
from tilus.lang.builtins.memory import atomic_exchange as atomic_exchange
from tilus.lang.builtins.memory import atomic_max as atomic_max
from tilus.lang.builtins.memory import atomic_min as atomic_min
from tilus.lang.builtins.memory import atomic_or as atomic_or
from tilus.lang.builtins.memory import atomic_xor as atomic_xor
from tilus.lang.builtins.memory import commit as commit
from tilus.lang.builtins.memory import copy_async as copy_async
from tilus.lang.builtins.memory import gather as gather
from tilus.lang.builtins.memory import load as load
from tilus.lang.builtins.memory import may_alias as may_alias
from tilus.lang.builtins.memory import scatter as scatter
from tilus.lang.builtins.memory import shared as shared
from tilus.lang.builtins.memory import store as store
from tilus.lang.builtins.memory import wait as wait
from tilus.lang.builtins.memory import workspace as workspace
from tilus.lang.builtins.ordering import argsort as argsort
from tilus.lang.builtins.ordering import sort as sort
from tilus.lang.builtins.ordering import topk as topk
from tilus.lang.builtins.reduction import all as all
from tilus.lang.builtins.reduction import any as any
from tilus.lang.builtins.reduction import argmax as argmax
from tilus.lang.builtins.reduction import argmin as argmin
from tilus.lang.builtins.reduction import count_along as count_along
from tilus.lang.builtins.reduction import cummax as cummax
from tilus.lang.builtins.reduction import cummin as cummin
from tilus.lang.builtins.reduction import cumprod as cumprod
from tilus.lang.builtins.reduction import cumsum as cumsum
from tilus.lang.builtins.reduction import dot as dot
from tilus.lang.builtins.reduction import einsum as einsum
from tilus.lang.builtins.reduction import max as max
from tilus.lang.builtins.reduction import mean as mean
from tilus.lang.builtins.reduction import min as min
from tilus.lang.builtins.reduction import prod as prod
from tilus.lang.builtins.reduction import sum as sum
from tilus.lang.builtins.reduction import without_axes as without_axes
from tilus.lang.builtins.reduction import xor_sum as xor_sum
from tilus.lang.builtins.scaled import dot_scaled as dot_scaled
from tilus.lang.builtins.shape import broadcast_to as broadcast_to
from tilus.lang.builtins.shape import concatenate as concatenate
from tilus.lang.builtins.shape import convert_layout as convert_layout
from tilus.lang.builtins.shape import expand_dims as expand_dims
from tilus.lang.builtins.shape import flip as flip
from tilus.lang.builtins.shape import insert as insert
from tilus.lang.builtins.shape import pad as pad
from tilus.lang.builtins.shape import repeat as repeat
from tilus.lang.builtins.shape import reshape as reshape
from tilus.lang.builtins.shape import roll as roll
from tilus.lang.builtins.shape import scatter_add as scatter_add
from tilus.lang.builtins.shape import split as split
from tilus.lang.builtins.shape import squeeze as squeeze
from tilus.lang.builtins.shape import stack as stack
from tilus.lang.builtins.shape import take as take
from tilus.lang.builtins.shape import transpose as transpose
from tilus.lang.builtins.shape import view as view
from tilus.lang.builtins.shape import windows as windows
from tilus.lang.builtins.sparse import dot_sparse as dot_sparse
from tilus.lang.builtins.statistics import log_softmax as log_softmax
from tilus.lang.builtins.statistics import logsumexp as logsumexp
from tilus.lang.builtins.statistics import softmax as softmax
from tilus.lang.builtins.statistics import std as std
from tilus.lang.builtins.statistics import var as var
from tilus.lang.builtins.sync import acquire as acquire
from tilus.lang.builtins.sync import grid_sync as grid_sync
from tilus.lang.builtins.sync import group as group
from tilus.lang.builtins.sync import named_barrier as named_barrier
from tilus.lang.builtins.sync import release as release
from tilus.lang.builtins.sync import resident_blocks as resident_blocks
from tilus.lang.builtins.sync import sync as sync
from tilus.lang.builtins.sync import wait_until as wait_until
from tilus.lang.values import Tile as Tile
from tilus.lang.views import View as View
from tilus.model.profiling import profile as profile
from tilus.quantization import QuantFormat as QuantFormat
from tilus.quantization import Quantized as Quantized
from tilus.quantization import dequantize as dequantize
from tilus.quantization import gptq as gptq
from tilus.quantization import load_weights as load_weights
from tilus.quantization import mxfp4 as mxfp4
from tilus.quantization import mxfp6e2m3 as mxfp6e2m3
from tilus.quantization import mxfp6e3m2 as mxfp6e3m2
from tilus.quantization import mxfp8e4m3 as mxfp8e4m3
from tilus.quantization import mxfp8e5m2 as mxfp8e5m2
from tilus.quantization import mxint8 as mxint8
from tilus.quantization import nvfp4 as nvfp4
from tilus.quantization import qlora as qlora
from tilus.quantization import quantize as quantize
from tilus.quantization import save_weights as save_weights
from tilus.runtime.fuse import FusedFunction as FusedFunction
from tilus.runtime.fuse import fuse as fuse
from tilus.runtime.gradients import DerivedFunction as DerivedFunction
from tilus.runtime.gradients import grad as grad
from tilus.runtime.gradients import value_and_grad as value_and_grad
from tilus.runtime.gradients import vjp as vjp
from tilus.runtime.jit import JitFunction as JitFunction
from tilus.runtime.jit import engine as engine
from tilus.runtime.jit import jit as jit
from tilus.runtime.packed import PackedArray as PackedArray
from tilus.runtime.packed import pack as pack
from tilus.runtime.packed import packed as packed
from tilus.runtime.packed import unpack as unpack
from tilus.runtime.prepacked import PrepackedArray as PrepackedArray
from tilus.runtime.prepacked import prepack as prepack
from tilus.runtime.prepacked import prepacked as prepacked
from tilus.runtime.prepacked import unprepack as unprepack
from tilus.runtime.threads import get_num_threads as get_num_threads
from tilus.runtime.threads import set_num_threads as set_num_threads
from tilus.tuning.autotune import AutotunedFunction as AutotunedFunction
from tilus.tuning.autotune import autotune as autotune
from tilus.tuning.config import Config as Config
from tilus.tuning.switch import tuning as tuning

bf16: Any
f4e2m1: Any
f6e2m3: Any
f6e3m2: Any
f8e4m3fn: Any
f8e5m2: Any
f8e8m0fnu: Any
f16: Any
f32: Any
f64: Any
i1: Any
i2: Any
i3: Any
i4: Any
i5: Any
i6: Any
i7: Any
i8: Any
i16: Any
i32: Any
i64: Any
nf4: Any
ternary: Any
tf32: Any
u1: Any
u2: Any
u3: Any
u4: Any
u5: Any
u6: Any
u7: Any
u8: Any
u16: Any
u32: Any
u64: Any

def acos(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Arc cosine, in radians. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def acosh(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Inverse hyperbolic cosine. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def asin(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Arc sine, in radians. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def asinh(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Inverse hyperbolic sine. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def atan(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Arc tangent, in radians. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def atanh(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Inverse hyperbolic tangent. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def ceil(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Least integer not below x, as a float. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def cos(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Cosine of radians. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def cosh(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Hyperbolic cosine. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def erf(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Error function. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def erfc(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Complementary error function 1 - erf(x). Integers are converted to f32. ``precision``: as of ``tl.div``."""

def exp(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """e to the power x. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def exp2(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """2 to the power x. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def expm1(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """exp(x) - 1, accurate near 0. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def floor(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Greatest integer not above x, as a float. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def isfinite(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Whether x is neither a NaN nor an infinity. Integers are converted to f32."""

def isinf(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Whether x is an infinity. Integers are converted to f32."""

def isnan(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Whether x is a NaN. Integers are converted to f32."""

def log(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Natural logarithm. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def log1p(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """log(1 + x), accurate near 0. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def log2(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Logarithm to base 2. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def log10(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Logarithm to base 10. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def rcp(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """1 / x. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def round(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Nearest integer, ties to even, as a float. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def rsqrt(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """1 / sqrt(x). Integers are converted to f32. ``precision``: as of ``tl.div``."""

def sigmoid(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """1 / (1 + exp(-x)). Integers are converted to f32. ``precision``: as of ``tl.div``."""

def sin(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Sine of radians. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def sinh(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Hyperbolic sine. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def sqrt(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Square root, correctly rounded. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def tan(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Tangent of radians. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def tanh(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Hyperbolic tangent. Integers are converted to f32. ``precision``: as of ``tl.div``."""

def trunc(x: Any, *, approximate: builtins.bool = False, precision: DType | None = None) -> Tile:
    """Integer part, as a float. Integers are converted to f32. ``precision``: as of ``tl.div``."""
