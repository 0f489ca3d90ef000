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
from tilus.ir.dtypes import DType, codebook, from_numpy, integer
from tilus.ir.dtypes import float_ as float
from tilus.lang.builtins import random
from tilus.lang.public import public_names as _public_names
from tilus.lang.values import Tile
from tilus.lang.views import View
from tilus.model.profiling import profile
from tilus.quantization import (
    QuantFormat,
    Quantized,
    dequantize,
    gptq,
    load_weights,
    mxfp4,
    mxfp6e2m3,
    mxfp6e3m2,
    mxfp8e4m3,
    mxfp8e5m2,
    mxint8,
    nvfp4,
    qlora,
    quantize,
    save_weights,
)
from tilus.runtime.fuse import FusedFunction, fuse
from tilus.runtime.gradients import DerivedFunction, grad, value_and_grad, vjp
from tilus.runtime.jit import JitFunction, engine, jit
from tilus.runtime.packed import PackedArray, pack, packed, unpack
from tilus.runtime.prepacked import PrepackedArray, prepack, prepacked, unprepack
from tilus.runtime.threads import get_num_threads, set_num_threads
from tilus.tuning.autotune import AutotunedFunction, autotune
from tilus.tuning.config import Config
from tilus.tuning.switch import tuning

globals().update(_public_names())


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
